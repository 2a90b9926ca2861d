package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

var testWorker = sign.FromEd25519Seed(fill32(0x77))

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func testBundle() Bundle {
	return Bundle{Worker: testWorker.Public().ID(), Seq: 7, NotBefore: testNow, NotAfter: testNow.Add(MaxBundleAge),
		Keys: []PublicKey{testKeys()[MLKEM768X25519].Public(), testKeys()[X25519].Public(), testKeys()[RSAOAEP].Public()}}
}

func TestBundle(t *testing.T) {
	e, err := SignBundle(testWorker, testBundle())
	if err != nil {
		t.Fatal(err)
	}
	for _, highest := range []int64{0, 6, 7} {
		b, err := VerifyBundle(e, testWorker.Public(), testNow, highest)
		if err != nil {
			t.Fatal(err)
		}
		if b.Worker != testBundle().Worker || b.Seq != 7 || !b.NotBefore.Equal(testNow) || !b.NotAfter.Equal(testNow.Add(MaxBundleAge)) ||
			!slices.EqualFunc(b.Keys, testBundle().Keys, PublicKey.Equal) {
			t.Errorf("came back as %+v", b)
		}
	}
	// Times between microseconds are cut, not refused.
	b := testBundle()
	b.NotBefore, b.NotAfter = b.NotBefore.Add(999), b.NotAfter.Add(999)
	if e, err = SignBundle(testWorker, b); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyBundle(e, testWorker.Public(), testNow, 0); err != nil {
		t.Error(err)
	}
}

// A bundle of the worker zero has no signer, not even the empty identity.
func TestBundleOfNobody(t *testing.T) {
	b := testBundle()
	b.Worker = [32]byte{}
	if _, err := SignBundle(new(sign.Identity), b); !errors.Is(err, ErrBundle) {
		t.Errorf("signed: %v", err)
	}
}

func TestVerifyBundleTime(t *testing.T) {
	e, err := SignBundle(testWorker, testBundle())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		now     time.Time
		highest int64
		want    error
	}{
		{testNow.Add(-time.Microsecond), 0, ErrBundleTime},
		{testNow, 0, nil},
		{testNow.Add(MaxBundleAge - time.Microsecond), 0, nil},
		{testNow.Add(MaxBundleAge), 0, ErrBundleTime},
		{testNow, 8, ErrBundleReplayed},
		{testNow, maxSeq, ErrBundleReplayed},
	} {
		if _, err := VerifyBundle(e, testWorker.Public(), tc.now, tc.highest); !errors.Is(err, tc.want) {
			t.Errorf("at %v with %d seen: %v, want %v", tc.now, tc.highest, err, tc.want)
		}
	}
}

func TestSignBundleRefuses(t *testing.T) {
	rsaWorker, err := sign.ParseIdentity(testKeys()[RSAOAEP].Bytes()[2:])
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]func(*Bundle) *sign.Identity{
		"another worker":      func(b *Bundle) *sign.Identity { b.Worker[0]++; return testWorker },
		"another signer":      func(*Bundle) *sign.Identity { return testSubmitter },
		"no seq":              func(b *Bundle) *sign.Identity { b.Seq = 0; return testWorker },
		"seq too large":       func(b *Bundle) *sign.Identity { b.Seq = maxSeq + 1; return testWorker },
		"ends as it starts":   func(b *Bundle) *sign.Identity { b.NotAfter = b.NotBefore; return testWorker },
		"ends a moment later": func(b *Bundle) *sign.Identity { b.NotAfter = b.NotBefore.Add(1); return testWorker },
		"too old":             func(b *Bundle) *sign.Identity { b.NotAfter = b.NotAfter.Add(time.Microsecond); return testWorker },
		"no times": func(b *Bundle) *sign.Identity {
			b.NotBefore, b.NotAfter = time.Time{}, time.Time{}.Add(1e9)
			return testWorker
		},
		"ends after 2^53 microseconds": func(b *Bundle) *sign.Identity {
			b.NotBefore, b.NotAfter = time.UnixMicro(maxSeq), time.UnixMicro(maxSeq+1)
			return testWorker
		},
		"no keys":      func(b *Bundle) *sign.Identity { b.Keys = nil; return testWorker },
		"an empty key": func(b *Bundle) *sign.Identity { b.Keys[1] = PublicKey{}; return testWorker },
		"a key twice":  func(b *Bundle) *sign.Identity { b.Keys[2] = b.Keys[0]; return testWorker },
		"too many keys": func(b *Bundle) *sign.Identity {
			for range MaxBundleKeys {
				key, err := GenerateKey(X25519)
				if err != nil {
					t.Fatal(err)
				}
				b.Keys = append(b.Keys, key.Public())
			}
			return testWorker
		},
		"the signing key": func(b *Bundle) *sign.Identity { b.Worker = rsaWorker.Public().ID(); return rsaWorker },
	} {
		b := testBundle()
		b.Keys = slices.Clone(b.Keys)
		id := tc(&b)
		if _, err := SignBundle(id, b); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %v", name, err)
		}
		// Signed all the same, it is not believed.
		body, err := b.body()
		if err != nil {
			t.Fatal(err)
		}
		e, err := sign.SignEnvelope(id, BundleType, body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyBundle(e, id.Public(), testNow, 0); !errors.Is(err, ErrBundle) {
			t.Errorf("%s, verified: %v", name, err)
		}
	}
}

func TestVerifyBundleRefuses(t *testing.T) {
	good, err := SignBundle(testWorker, testBundle())
	if err != nil {
		t.Fatal(err)
	}
	public := testWorker.Public()
	other := good
	other.PayloadType = "application/vnd.consign.record+json"
	twice := good
	twice.Signatures = slices.Repeat(good.Signatures, 2)
	none := good
	none.Signatures = nil
	for name, tc := range map[string]struct {
		e    sign.Envelope
		key  sign.PublicKey
		want error
	}{
		"another key":    {good, testSubmitter.Public(), sign.ErrSignature},
		"no key":         {good, sign.PublicKey{}, sign.ErrSignature},
		"another type":   {other, public, sign.ErrType},
		"two signatures": {twice, public, ErrBundle},
		"no signature":   {none, public, ErrBundle},
	} {
		if _, err := VerifyBundle(tc.e, tc.key, testNow, 0); !errors.Is(err, tc.want) || !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %v", name, err)
		}
	}

	text := string(good.Payload)
	keys := text[strings.Index(text, `"keys"`):strings.Index(text, `"not_after"`)]
	for name, body := range map[string]string{
		"nothing":         "",
		"null":            "null",
		"an array":        "[]",
		"whitespace":      " " + text,
		"a byte after":    text + "\n",
		"two":             text + text,
		"unknown key":     strings.Replace(text, `"seq"`, `"more":1,"seq"`, 1),
		"duplicate key":   strings.Replace(text, `"seq":7`, `"seq":7,"seq":7`, 1),
		"another case":    strings.Replace(text, `"seq"`, `"Seq"`, 1),
		"another order":   strings.Replace(strings.Replace(text, keys, "", 1), `"seq"`, keys+`"seq"`, 1),
		"another format":  strings.Replace(text, bundleFormat, "consign/keys/v2", 1),
		"float":           strings.Replace(text, `"seq":7`, `"seq":7.0`, 1),
		"text for number": strings.Replace(text, `"seq":7`, `"seq":"7"`, 1),
		"null for number": strings.Replace(text, `"seq":7`, `"seq":null`, 1),
		"escape":          strings.Replace(text, "consign/keys", `consign\/keys`, 1),
		"upper case hex":  strings.Replace(text, fmt.Sprintf("%x", testBundle().Worker), fmt.Sprintf("%X", testBundle().Worker), 1),
		"short worker_id": strings.Replace(text, fmt.Sprintf("%x", testBundle().Worker), "00", 1),
		"bad key":         strings.Replace(text, "x25519:", "x25519:A", 1),
		"missing key":     strings.Replace(text, keys, "", 1),
		"too long":        text + strings.Repeat(" ", maxBundle),
	} {
		if body == text {
			t.Fatal(name, " changes nothing")
		}
		e, err := sign.SignEnvelope(testWorker, BundleType, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := VerifyBundle(e, public, testNow, 0); !errors.Is(err, ErrBundle) || !reflect.DeepEqual(b, Bundle{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	b := testBundle()
	b.Keys = b.Keys[1:2] // the short one: a long seed is slow to fuzz
	e, err := SignBundle(testWorker, b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Payload)
	f.Add([]byte(`{"format":"consign/keys/v1","keys":[],"not_after":0,"not_before":0,"seq":0,"worker_id":""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseBundle(body)
		if err != nil {
			if !errors.Is(err, ErrBundle) {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := b.body(); err != nil || !bytes.Equal(again, body) || !json.Valid(body) {
			t.Errorf("%q came back as %q, %v", body, again, err)
		}
	})
}
