package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

var update = flag.Bool("update", false, "rewrite the vectors under testdata")

// The files under testdata/vectors are for readers in any language. Byte
// strings are in hexadecimal. "expect" is "success", or what a reader has to
// report when it refuses: the names in docs/sealed-format.md.
//
// Everything random in them comes from a fixed seed when -update makes them
// (but for RSA), and is never made again otherwise: Go does not promise to use
// randomness in the same way for ever. What each test run checks is that the
// files open, that all that is not random in them is computed alike, and that
// no case is missing.
//
// testdata/vectors/verify.mjs reads them without Go.

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

var outcomes = map[string]error{
	"header": ErrHeader, "suite": ErrSuite, "assignment": ErrAssignment, "commit": ErrCommit, "payload_mismatch": ErrPayloadMismatch,
	"submitter": ErrSubmitter, "submission": ErrSubmission, "box": ErrBox, "padding": ErrPadding, "key": ErrKey,
	"key_unknown": ErrKeyUnknown, "wrap": ErrWrap, "unwrap": ErrUnwrap, "bundle": ErrBundle, "bundle_time": ErrBundleTime,
	"bundle_replayed": ErrBundleReplayed, "part_replayed": ErrPartReplayed, "part_gap": ErrPartGap, "part_ended": ErrPartEnded,
	"t_commit": ErrTCommit, "result_mismatch": ErrResultMismatch,
}

func (c vectorCase) check(t *testing.T, err error) {
	t.Helper()
	if c.Expect == "success" && err != nil || c.Expect != "success" && !errors.Is(err, outcomes[c.Expect]) || outcomes[c.Expect] == nil && c.Expect != "success" {
		t.Errorf("%s: %v, want %s", c.Name, err, c.Expect)
	}
}

type vectorCase struct {
	Name   string `json:"name"`
	Expect string `json:"expect"`
}

func (c vectorCase) id() vectorCase { return c }

// vectors writes what build makes, with -update, and checks what is in the file.
func vectors[V interface{ id() vectorCase }](t *testing.T, name string, build func() []V, check func(*testing.T, V)) {
	t.Helper()
	testKeys()
	cryptotest.SetGlobalRandom(t, 1)
	built := build()
	path := filepath.Join("testdata", "vectors", name)
	if *update {
		data, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var kept []V
	if err := dec.Decode(&kept); err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(built, kept, func(a, b V) bool { return a.id() == b.id() }) {
		t.Errorf("%s holds other cases than this code makes; a released format never changes: give the new one a new label", path)
	}
	for _, v := range kept {
		check(t, v)
	}
}

func same[T ~[]byte](t *testing.T, what string, got []byte, want T) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %x, want %x", what, got, []byte(want))
	}
}

func success(name string) vectorCase { return vectorCase{name, "success"} }

// vectorKey returns a private key that is the same in every run.
func vectorKey(kem KEM) *PrivateKey {
	sk := bytes.Repeat([]byte{0x40}, 32) // as clamped as X25519 wants it
	key, err := ParsePrivateKey(append([]byte{byte(kem >> 8), byte(kem)}, sk...))
	if err != nil {
		panic(err)
	}
	return key
}

var vectorCEK = CEK{fill32(0xce)}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type keyVector struct {
	vectorCase
	Private     hexBytes `json:"private,omitempty"` // uint16_be(kem_id) || sk
	Public      hexBytes `json:"public"`            // uint16_be(kem_id) || pk
	KeyID       hexBytes `json:"key_id,omitempty"`
	Text        string   `json:"text,omitempty"`
	Fingerprint string   `json:"fingerprint,omitempty"`
}

func TestVectorsKey(t *testing.T) {
	vectors(t, "key.json", func() (out []keyVector) {
		good := func(name string, key *PrivateKey) {
			public := key.Public()
			id := public.ID()
			out = append(out, keyVector{success(name), key.Bytes(), public.Bytes(), id[:], public.String(), public.Fingerprint()})
		}
		good("mlkem768-x25519", vectorKey(MLKEM768X25519))
		good("x25519", vectorKey(X25519))
		good("rsa-oaep-sha256", testKeys()[RSAOAEP])
		bad := func(name string, public ...[]byte) {
			out = append(out, keyVector{vectorCase: vectorCase{name, "key"}, Public: slices.Concat(public...)})
		}
		bad("nothing")
		bad("unknown KEM", []byte{0, 0x10}, bytes.Repeat([]byte{9}, 32))
		bad("x25519 of 31 bytes", []byte{0, 0x20}, bytes.Repeat([]byte{9}, 31))
		bad("x25519 of 33 bytes", []byte{0, 0x20}, bytes.Repeat([]byte{9}, 33))
		for _, u := range smallOrder {
			bad("x25519 of small order", []byte{0, 0x20}, u)
		}
		bad("x25519 that is p", []byte{0, 0x20, 0xed}, bytes.Repeat([]byte{0xff}, 30), []byte{0x7f})
		bad("x25519 with the top bit", []byte{0, 0x20}, bytes.Repeat([]byte{9}, 31), []byte{0x89})
		hybrid := vectorKey(MLKEM768X25519).Public().Bytes()
		bad("hybrid with a weak x25519 half", hybrid[:len(hybrid)-32], make([]byte, 32))
		bad("hybrid with a coefficient of 4095", hybrid[:2], []byte{0xff, 0xff}, hybrid[4:])
		bad("hybrid cut", hybrid[:len(hybrid)-1])
		return out
	}, func(t *testing.T, v keyVector) {
		public, err := ParsePublicKey(v.Public)
		v.check(t, err)
		if err != nil {
			return
		}
		id := public.ID()
		same(t, "key ID", id[:], v.KeyID)
		if public.String() != v.Text || public.Fingerprint() != v.Fingerprint {
			t.Errorf("%s: %s, %s", v.Name, public, public.Fingerprint())
		}
		if key, err := ParsePrivateKey(v.Private); err != nil || !key.Public().Equal(public) {
			t.Errorf("%s: the private key is another's, %v", v.Name, err)
		}
	})
}

type headerVector struct {
	vectorCase
	Queue        hexBytes `json:"queue_id,omitempty"`
	Job          hexBytes `json:"job_id,omitempty"`
	Submitter    hexBytes `json:"submitter,omitempty"`
	Kind         string   `json:"kind,omitempty"`
	Model        string   `json:"model,omitempty"`
	Chars        uint32   `json:"chars,omitempty"`
	PromptBytes  uint64   `json:"prompt_bytes,omitempty"`
	Privacy      string   `json:"privacy,omitempty"`
	Custody      string   `json:"custody,omitempty"`
	Comparator   string   `json:"comparator,omitempty"`
	ClassOptions hexBytes `json:"class_options,omitempty"`
	ResultKey    hexBytes `json:"result_pk,omitempty"`
	Commit       hexBytes `json:"commit,omitempty"`
	Header       hexBytes `json:"header"`
	SHA256       hexBytes `json:"sha256,omitempty"`
}

func vectorHeader() Header {
	h := testHeader()
	h.ResultKey, h.Chars, h.PromptBytes = vectorKey(X25519).Public(), 5, 6
	h.Commit = vectorCEK.derive(h.Job, infoCommit)
	return h
}

func TestVectorsHeader(t *testing.T) {
	vectors(t, "header.json", func() (out []headerVector) {
		good := func(name string, change func(*Header)) {
			h := vectorHeader()
			change(&h)
			b := must(h.Encode())
			sum := HeaderHash(b)
			out = append(out, headerVector{success(name), h.Queue[:], h.Job[:], h.Submitter[:], h.Kind, h.Model, h.Chars, h.PromptBytes,
				h.Privacy, h.Custody, h.Comparator, h.ClassOptions[:], h.ResultKey.Bytes(), h.Commit[:], b, sum[:]})
		}
		good("public, escrow", func(*Header) {})
		good("private, sealed, hybrid", func(h *Header) {
			h.Privacy, h.Custody, h.ResultKey = Private, Sealed, vectorKey(MLKEM768X25519).Public()
		})
		good("transit, no model, no options", func(h *Header) { h.Custody, h.Model, h.ClassOptions = Transit, "", [32]byte{} })
		good("texts of other alphabets", func(h *Header) { h.Kind, h.Model, h.Comparator = "ВИД", "モデル", "é" })
		fields := fieldsOf(t, must(vectorHeader().Encode()))
		bad := func(name, expect string, i int, field string) {
			changed := slices.Clone(fields)
			changed[i] = []byte(field)
			out = append(out, headerVector{vectorCase: vectorCase{name, expect}, Header: lp.Append(nil, changed...)})
		}
		bad("another format", "header", 0, "consign/payload/v2")
		bad("another suite", "suite", 1, "AES-256-GCM")
		bad("queue of 31 bytes", "header", 2, strings.Repeat("q", 31))
		bad("job of zeros", "header", 3, strings.Repeat("\x00", 16))
		bad("no kind", "header", 5, "")
		bad("model that is not UTF-8", "header", 6, "\xff")
		bad("model of 1,025 bytes", "header", 6, strings.Repeat("m", 1025))
		bad("chars of eight bytes", "header", 7, "\x00\x00\x00\x00\x00\x00\x00\x05")
		bad("more chars than bytes", "header", 7, "\x00\x00\x00\x07")
		bad("fewer chars than fit", "header", 7, "\x00\x00\x00\x01")
		bad("privacy in lower case", "header", 9, "public")
		bad("custody plain", "header", 10, "plain")
		bad("no comparator", "header", 11, "")
		bad("result key of small order", "header", 13, "\x00\x20"+strings.Repeat("\x00", 32))
		bad("result key of RSA's KEM", "header", 13, "\xff\x01")
		whole := must(vectorHeader().Encode())
		raw := func(name string, b []byte) {
			out = append(out, headerVector{vectorCase: vectorCase{name, "header"}, Header: b})
		}
		raw("empty", nil)
		raw("a byte after", append(slices.Clone(whole), 0))
		raw("an empty field after", lp.Append(slices.Clone(whole), nil))
		raw("cut", whole[:len(whole)-1])
		raw("a length of 2^64-1", append(lp.Append(nil, fields[:2]...), bytes.Repeat([]byte{0xff}, 8)...))
		return out
	}, func(t *testing.T, v headerVector) {
		h, err := ParseHeader(v.Header)
		v.check(t, err)
		if err != nil {
			return
		}
		sum := HeaderHash(v.Header)
		same(t, "hash", sum[:], v.SHA256)
		want := Header{[32]byte(v.Queue), [16]byte(v.Job), [32]byte(v.Submitter), v.Kind, v.Model, v.Chars, v.PromptBytes, v.Privacy,
			v.Custody, v.Comparator, [32]byte(v.ClassOptions), must(ParsePublicKey(v.ResultKey)), [32]byte(v.Commit)}
		same(t, "header", must(want.Encode()), v.Header)
		same(t, "again", must(h.Encode()), v.Header)
	})
}

// boxVector is a box, with its message as a piece and how often it is repeated.
// A long box is given by its hash.
type boxVector struct {
	vectorCase
	Key       hexBytes `json:"key"`
	AAD       hexBytes `json:"aad"`
	Prefix    hexBytes `json:"prefix,omitempty"` // of a success: the 19 random bytes
	Piece     hexBytes `json:"piece,omitempty"`
	Times     int      `json:"times,omitempty"`
	BoxLength int      `json:"box_length,omitempty"`
	Box       hexBytes `json:"box,omitempty"`
	SHA256    hexBytes `json:"box_sha256,omitempty"`
}

func TestVectorsBox(t *testing.T) {
	key, aad := fill32(0x0b), []byte("associated data")
	vectors(t, "box.json", func() (out []boxVector) {
		good := func(name, piece string, times int) {
			prefix := [boxPrefix]byte([]byte("nineteen bytes, all"))
			b := box(key, prefix, aad, bytes.Repeat([]byte(piece), times))
			sum := sha256.Sum256(b)
			v := boxVector{success(name), key[:], aad, prefix[:], hexBytes(piece), times, len(b), nil, sum[:]}
			if len(b) < 1024 {
				v.Box = b
			}
			out = append(out, v)
		}
		good("empty", "", 0)
		good("five bytes", "hello", 1)
		good("the most in 256", "x", 248)
		good("the least in 272", "x", 249)
		good("one chunk, exactly", "ab", 32764)
		good("one byte more", "x", 65529)
		good("three chunks", "0123456789", 15000)
		bad := func(name, expect string, b []byte) {
			out = append(out, boxVector{vectorCase: vectorCase{name, expect}, Key: key[:], AAD: aad, Box: b})
		}
		five := box(key, [boxPrefix]byte{}, aad, []byte("hello"))
		bad("nothing", "box", nil)
		bad("less than a nonce", "box", five[:18])
		bad("no chunk", "box", five[:19])
		bad("cut", "box", five[:len(five)-1])
		bad("a byte after", "box", append(slices.Clone(five), 0))
		bad("altered", "box", append(slices.Clone(five[:len(five)-1]), five[len(five)-1]^1))
		bad("other associated data", "box", box(key, [boxPrefix]byte{}, nil, []byte("hello")))
		notLast := newNonce(make([]byte, boxPrefix))
		plain := append(lp.Append(nil, []byte("hello")), make([]byte, 256-13)...)
		bad("no final chunk", "box", newAEAD(key).Seal(make([]byte, boxPrefix), notLast.at(0, false), plain, aad))
		bad("an empty chunk", "box", sealChunks(key, aad, nil))
		bad("shorter than 256", "padding", sealChunks(key, aad, plain[:255]))
		bad("longer than 256", "padding", sealChunks(key, aad, append(slices.Clone(plain), make([]byte, 16)...)))
		plain[255] = 1
		bad("the last byte not zero", "padding", sealChunks(key, aad, plain))
		plain[0], plain[255] = 1, 0
		bad("a length past the end", "padding", sealChunks(key, aad, plain))
		return out
	}, func(t *testing.T, v boxVector) {
		if v.Expect != "success" {
			_, err := OpenBox([32]byte(v.Key), v.AAD, v.Box)
			v.check(t, err)
			return
		}
		m := bytes.Repeat(v.Piece, v.Times)
		b := box([32]byte(v.Key), [boxPrefix]byte(v.Prefix), v.AAD, m)
		sum := sha256.Sum256(b)
		same(t, v.Name, sum[:], v.SHA256)
		if v.Box != nil {
			same(t, v.Name, b, v.Box)
		}
		got, err := OpenBox([32]byte(v.Key), v.AAD, b)
		v.check(t, err)
		same(t, v.Name, got, m)
		if len(b) != v.BoxLength || len(b) != BoxSize(len(m)) {
			t.Errorf("%s: %d bytes", v.Name, len(b))
		}
	})
}

type payloadVector struct {
	vectorCase
	Queue       hexBytes   `json:"queue_id"`
	Job         hexBytes   `json:"job_id"`
	Kind        string     `json:"kind"`
	Model       string     `json:"model"`
	Chars       uint32     `json:"chars"`
	Custody     string     `json:"custody"`
	Comparator  string     `json:"comparator"`
	CEK         hexBytes   `json:"cek"`
	KPayload    hexBytes   `json:"k_payload,omitempty"`
	KCommit     hexBytes   `json:"k_commit,omitempty"`
	KCompare    hexBytes   `json:"k_compare,omitempty"`
	Pinned      []hexBytes `json:"pinned,omitempty"`
	Signature   hexBytes   `json:"signature,omitempty"`
	SignedBytes hexBytes   `json:"signed_bytes,omitempty"`
	Header      hexBytes   `json:"header"`
	Ciphertext  hexBytes   `json:"ciphertext"`
	Payload     hexBytes   `json:"payload,omitempty"`
}

func TestVectorsPayload(t *testing.T) {
	vectors(t, "payload.json", func() (out []payloadVector) {
		add := func(name, expect, privacy, payload string, change func(*payloadVector)) {
			h := vectorHeader()
			h.Privacy = privacy
			header, ciphertext, err := SealPayload(h, vectorCEK, []byte(payload))
			if err != nil {
				t.Fatal(err)
			}
			v := payloadVector{vectorCase: vectorCase{name, expect}, Queue: h.Queue[:], Job: h.Job[:], Kind: h.Kind, Model: h.Model,
				Chars: uint32(Chars([]byte(payload))), Custody: h.Custody, Comparator: h.Comparator, CEK: vectorCEK.Bytes(),
				Header: header, Ciphertext: ciphertext}
			if privacy == Private {
				v.Pinned = []hexBytes{h.Submitter[:]}
				v.Signature = must(SignSubmission(testSubmitter, header, ciphertext))
				v.SignedBytes = SubmissionMessage(header, ciphertext)
			}
			change(&v)
			if expect == "success" {
				for key, info := range map[*hexBytes]string{&v.KPayload: infoPayload, &v.KCommit: infoCommit, &v.KCompare: infoCompare} {
					k := vectorCEK.derive(h.Job, info)
					*key = k[:]
				}
				v.Payload = hexBytes(payload)
			}
			out = append(out, v)
		}
		same := func(*payloadVector) {}
		add("public", "success", Public, "zwölf Bytes", same)
		add("private", "success", Private, "hello", same)
		add("empty", "success", Public, "", same)
		add("not UTF-8", "success", Public, "\xff\xe2\x82 \xf0\x9f\x98\x82 \xed\xa0\x80 \xc0\x80", same)
		add("another job", "assignment", Public, "hello", func(v *payloadVector) { v.Job = hexBytes(bytes.Repeat([]byte{9}, 16)) })
		add("another model", "assignment", Public, "hello", func(v *payloadVector) { v.Model = "phi" })
		add("other chars", "assignment", Public, "hello", func(v *payloadVector) { v.Chars = 6 })
		add("a submitter that is not pinned", "submitter", Private, "hello", func(v *payloadVector) { v.Pinned = nil })
		add("no signature", "submission", Private, "hello", func(v *payloadVector) { v.Signature = nil })
		add("a signature over another ciphertext", "submission", Private, "hello", func(v *payloadVector) {
			v.Signature = must(testSubmitter.Sign(SubmissionMessage(v.Header, nil)))
		})
		add("another key", "commit", Public, "hello", func(v *payloadVector) { v.CEK = bytes.Repeat([]byte{1}, 32) })
		add("a ciphertext under two keys", "commit", Public, "hello", func(v *payloadVector) {
			two := CEK{fill32(2)}
			h := vectorHeader()
			v.Ciphertext = twoKeyBox(t, vectorCEK.derive(h.Job, infoPayload), two.derive(h.Job, infoPayload), v.Header, []byte("hello"))
			v.CEK = two.Bytes()
		})
		add("altered", "box", Public, "hello", func(v *payloadVector) { v.Ciphertext[30] ^= 1 })
		add("another header's ciphertext", "box", Public, "hello", func(v *payloadVector) {
			h := vectorHeader()
			h.ClassOptions = fill32(9)
			_, v.Ciphertext, _ = SealPayload(h, vectorCEK, []byte("hello"))
		})
		add("fewer characters than declared", "payload_mismatch", Public, "hello", func(v *payloadVector) {
			v.Ciphertext = Box(vectorCEK.derive([16]byte(v.Job), infoPayload), v.Header, []byte("h\u00e9l\u00f8"))
		})
		add("more bytes than declared", "payload_mismatch", Public, "hello", func(v *payloadVector) {
			v.Ciphertext = Box(vectorCEK.derive([16]byte(v.Job), infoPayload), v.Header, []byte("hell\u00f8"))
		})
		return out
	}, func(t *testing.T, v payloadVector) {
		cek := must(ParseCEK(v.CEK))
		_, payload, err := OpenPayload(v.Header, v.Ciphertext, cek, Assignment{Queue: [32]byte(v.Queue), Job: [16]byte(v.Job), Kind: v.Kind,
			Model: v.Model, Chars: v.Chars, Custody: v.Custody, Comparator: v.Comparator, Signature: v.Signature,
			Pinned: func(k [32]byte) bool {
				return slices.ContainsFunc(v.Pinned, func(p hexBytes) bool { return bytes.Equal(p, k[:]) })
			}})
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, payload, v.Payload)
		for info, want := range map[string]hexBytes{infoPayload: v.KPayload, infoCommit: v.KCommit, infoCompare: v.KCompare} {
			key := cek.derive([16]byte(v.Job), info)
			same(t, info, key[:], want)
		}
		if v.SignedBytes != nil {
			same(t, v.Name, SubmissionMessage(v.Header, v.Ciphertext), v.SignedBytes)
		}
	})
}

type wrapVector struct {
	vectorCase
	Purpose string     `json:"purpose"`
	Job     hexBytes   `json:"job_id"`
	Worker  hexBytes   `json:"worker_id,omitempty"`
	Claim   hexBytes   `json:"claim_id,omitempty"`
	Header  hexBytes   `json:"h_hash"`
	Private []hexBytes `json:"private"` // the keys at hand
	Info    hexBytes   `json:"info,omitempty"`
	Wrap    hexBytes   `json:"wrap"`
	CEK     hexBytes   `json:"cek,omitempty"`
}

func (v wrapVector) purpose() Purpose {
	job, h := [16]byte(v.Job), [32]byte(v.Header)
	switch v.Purpose {
	case "vault":
		return VaultWrap{job, h}
	case "claim":
		return ClaimWrap{job, [32]byte(v.Worker), [16]byte(v.Claim), h}
	default:
		return DirectWrap{job, [32]byte(v.Worker), h}
	}
}

func TestVectorsWrap(t *testing.T) {
	vectors(t, "wrap.json", func() (out []wrapVector) {
		keys := []*PrivateKey{vectorKey(MLKEM768X25519), vectorKey(X25519), testKeys()[RSAOAEP]}
		make := func(key *PrivateKey, name, expect, purpose string, change func(*wrapVector)) {
			v := wrapVector{vectorCase: vectorCase{key.Public().KEM().String() + ": " + name, expect}, Purpose: purpose,
				Job: bytes.Repeat([]byte{1}, 16), Header: bytes.Repeat([]byte{2}, 32), Private: []hexBytes{key.Bytes()}}
			if purpose != "vault" {
				v.Worker = bytes.Repeat([]byte{3}, 32)
			}
			if purpose == "claim" {
				v.Claim = bytes.Repeat([]byte{4}, 16)
			}
			v.Wrap = must(Wrap(key.Public(), v.purpose(), vectorCEK))
			if expect == "success" {
				v.Info, v.CEK = v.purpose().info(key.Public().ID()), vectorCEK.Bytes()
			}
			change(&v)
			out = append(out, v)
		}
		for _, key := range keys {
			for _, purpose := range []string{"vault", "claim", "direct"} {
				make(key, purpose, "success", purpose, func(*wrapVector) {})
			}
			make(key, "vault as direct", "unwrap", "vault", func(v *wrapVector) { v.Purpose, v.Worker = "direct", bytes.Repeat([]byte{3}, 32) })
			make(key, "another claim", "unwrap", "claim", func(v *wrapVector) { v.Claim = bytes.Repeat([]byte{9}, 16) })
			make(key, "altered", "unwrap", "claim", func(v *wrapVector) { v.Wrap[len(v.Wrap)-1] ^= 1 })
			make(key, "a byte after", "wrap", "claim", func(v *wrapVector) { v.Wrap = append(v.Wrap, 0) })
			make(key, "cut", "wrap", "claim", func(v *wrapVector) { v.Wrap = v.Wrap[:len(v.Wrap)-1] })
			make(key, "no key at hand", "key_unknown", "claim", func(v *wrapVector) { v.Private = []hexBytes{} })
		}
		make(keys[1], "to another key", "key_unknown", "claim", func(v *wrapVector) { v.Private = []hexBytes{keys[0].Bytes()} })
		make(keys[1], "several keys at hand", "success", "claim", func(v *wrapVector) { v.Private = []hexBytes{keys[0].Bytes(), keys[1].Bytes()} })
		return out
	}, func(t *testing.T, v wrapVector) {
		var keys []*PrivateKey
		for _, b := range v.Private {
			keys = append(keys, must(ParsePrivateKey(b)))
		}
		cek, err := Unwrap(v.purpose(), v.Wrap, keys...)
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, cek.Bytes(), v.CEK)
		fields := fieldsOf(t, v.Wrap)
		same(t, v.Name+" info", v.purpose().info([16]byte(fields[2])), v.Info)
	})
}

type resultVector struct {
	vectorCase
	Queue     hexBytes `json:"queue_id"`
	Job       hexBytes `json:"job_id"`
	Worker    hexBytes `json:"worker_id"`
	Claim     hexBytes `json:"claim_id"`
	Input     hexBytes `json:"input_hash"`
	Private   hexBytes `json:"private"`
	Info      hexBytes `json:"info,omitempty"`
	Sealed    hexBytes `json:"sealed"`
	ResultKey hexBytes `json:"result_key,omitempty"` // exported
	Result    hexBytes `json:"result,omitempty"`
}

func (v resultVector) info() ResultInfo {
	return ResultInfo{[32]byte(v.Queue), [16]byte(v.Job), [32]byte(v.Worker), [16]byte(v.Claim), [32]byte(v.Input)}
}

func vectorResult(c vectorCase, kem KEM) resultVector {
	i := testInfo()
	return resultVector{vectorCase: c, Queue: i.Queue[:], Job: i.Job[:], Worker: i.Worker[:], Claim: i.Claim[:], Input: i.Input[:],
		Private: vectorKey(kem).Bytes()}
}

func TestVectorsResult(t *testing.T) {
	vectors(t, "result.json", func() (out []resultVector) {
		for _, kem := range hpkeKEMs {
			add := func(name, expect, result string, change func(*resultVector)) {
				v := vectorResult(vectorCase{kem.String() + ": " + name, expect}, kem)
				key := vectorKey(kem)
				v.Sealed = must(SealResult(key.Public(), v.info(), []byte(result)))
				if expect == "success" {
					resultKey := must(RevealResultKey(key, v.info(), v.Sealed))
					v.Info, v.ResultKey, v.Result = v.info().bytes(), resultKey[:], hexBytes(result)
				}
				change(&v)
				out = append(out, v)
			}
			add("a result", "success", "the result", func(*resultVector) {})
			add("empty", "success", "", func(*resultVector) {})
			add("another claim", "box", "x", func(v *resultVector) { v.Claim = bytes.Repeat([]byte{9}, 16) })
			add("another worker", "box", "x", func(v *resultVector) { v.Worker = bytes.Repeat([]byte{9}, 32) })
			add("another input", "box", "x", func(v *resultVector) { v.Input = bytes.Repeat([]byte{9}, 32) })
			add("altered", "box", "x", func(v *resultVector) { v.Sealed[len(v.Sealed)-1] ^= 1 })
			add("another enc", "box", "x", func(v *resultVector) { v.Sealed[5] ^= 1 })
			add("cut in enc", "box", "x", func(v *resultVector) { v.Sealed = v.Sealed[:31] })
			add("a byte after", "box", "x", func(v *resultVector) { v.Sealed = append(v.Sealed, 0) })
		}
		return out
	}, func(t *testing.T, v resultVector) {
		key := must(ParsePrivateKey(v.Private))
		result, err := OpenResult(key, v.info(), v.Sealed)
		v.check(t, err)
		if err != nil {
			return
		}
		same(t, v.Name, result, v.Result)
		same(t, v.Name, v.info().bytes(), v.Info)
		resultKey := must(RevealResultKey(key, v.info(), v.Sealed))
		same(t, v.Name, resultKey[:], v.ResultKey)
	})
}

// partVector is what an opener gets, in order, and what each comes to.
type partVector struct {
	resultVector
	PartKey hexBytes  `json:"part_key"`
	Parts   []onePart `json:"parts"`
}

type onePart struct {
	Expect  string   `json:"expect"`
	Part    hexBytes `json:"part"`
	Last    bool     `json:"last,omitempty"`
	Message hexBytes `json:"message,omitempty"`
}

func TestVectorsPart(t *testing.T) {
	vectors(t, "part.json", func() (out []partVector) {
		for _, kem := range hpkeKEMs {
			v := partVector{resultVector: vectorResult(success(kem.String()), kem)}
			v.Info = v.info().bytes()
			s := must(NewPartSealer(vectorKey(kem).Public(), v.info()))
			v.PartKey = slices.Clone(s.key[:])
			var parts [][]byte
			messages := []string{"one", "", "three"}
			for i, m := range messages {
				parts = append(parts, must(s.Seal([]byte(m), i == 2)))
			}
			lastIs1 := slices.Clone(parts[1])
			lastIs1[8] = 1
			renamed := slices.Clone(parts[2])
			renamed[7] = 1
			late := slices.Clone(parts[2])
			late[7] = 3
			good := func(i int) {
				v.Parts = append(v.Parts, onePart{"success", parts[i], i == 2, hexBytes(messages[i])})
			}
			bad := func(expect string, part []byte) { v.Parts = append(v.Parts, onePart{Expect: expect, Part: part}) }
			bad("box", nil)
			bad("part_gap", parts[1])
			good(0)
			bad("part_replayed", parts[0])
			bad("part_gap", parts[2])
			bad("box", lastIs1)
			bad("box", renamed)
			good(1)
			good(2)
			bad("part_replayed", parts[2])
			bad("part_ended", late)
			out = append(out, v)
		}
		return out
	}, func(t *testing.T, v partVector) {
		o := must(NewPartOpener(must(ParsePrivateKey(v.Private)), v.info()))
		for _, p := range v.Parts {
			m, last, err := o.Open(p.Part)
			vectorCase{v.Name, p.Expect}.check(t, err)
			if !bytes.Equal(m, p.Message) || last != p.Last {
				t.Errorf("%s: %q, %v", v.Name, m, last)
			}
		}
		same(t, v.Name, o.key[:], v.PartKey)
		same(t, v.Name, o.context, v.Info)
	})
}

type compareVector struct {
	vectorCase
	CEK          hexBytes `json:"cek"`
	Job          hexBytes `json:"job_id"`
	Comparator   string   `json:"comparator"`
	ClassOptions hexBytes `json:"class_options"`
	Canonical    hexBytes `json:"canonical"`
	Sketch       hexBytes `json:"sketch,omitempty"`
	SketchKey    hexBytes `json:"sketch_key"`
	T            hexBytes `json:"t"`
	R            hexBytes `json:"r"`
	TCommit      hexBytes `json:"t_commit"`
}

func TestVectorsCompare(t *testing.T) {
	vectors(t, "compare.json", func() (out []compareVector) {
		add := func(name, expect, canonical, sketch string, change func(*compareVector)) {
			h := vectorHeader()
			c := must(NewComparison(vectorCEK, h, []byte(canonical), []byte(sketch)))
			key, commit := must(SketchKey(vectorCEK, h)), c.Commit()
			v := compareVector{vectorCase{name, expect}, vectorCEK.Bytes(), h.Job[:], h.Comparator, h.ClassOptions[:], hexBytes(canonical),
				hexBytes(sketch), key[:], c.T[:], c.R[:], commit[:]}
			change(&v)
			out = append(out, v)
		}
		add("exact", "success", "the result", "", func(*compareVector) {})
		add("empty", "success", "", "", func(*compareVector) {})
		add("with a sketch", "success", "the result", strings.Repeat("sk", 128), func(*compareVector) {})
		add("another result", "result_mismatch", "the result", "", func(v *compareVector) { v.Canonical = hexBytes("a result") })
		add("another sketch", "result_mismatch", "the result", "sk", func(v *compareVector) { v.Sketch = hexBytes("ks") })
		add("another comparator", "result_mismatch", "the result", "", func(v *compareVector) { v.Comparator = "text" })
		add("another r", "t_commit", "the result", "", func(v *compareVector) { v.R = bytes.Repeat([]byte{9}, 32) })
		return out
	}, func(t *testing.T, v compareVector) {
		cek := must(ParseCEK(v.CEK))
		h := vectorHeader()
		h.Job, h.Comparator, h.ClassOptions = [16]byte(v.Job), v.Comparator, [32]byte(v.ClassOptions)
		h.Commit = cek.derive(h.Job, infoCommit)
		c := Comparison{[32]byte(v.T), [32]byte(v.R), v.Sketch}
		v.check(t, c.VerifyResult([32]byte(v.TCommit), cek, h, v.Canonical, v.Sketch))
		key := must(SketchKey(cek, h))
		same(t, v.Name, key[:], v.SketchKey)
	})
}

type bundleVector struct {
	vectorCase
	Worker   sign.PublicKey `json:"worker"`
	Now      int64          `json:"now"`
	Highest  int64          `json:"highest"`
	Envelope sign.Envelope  `json:"envelope"`
	Body     string         `json:"body,omitempty"`
}

func TestVectorsBundle(t *testing.T) {
	vectors(t, "bundle.json", func() (out []bundleVector) {
		b := testBundle()
		b.Keys = []PublicKey{vectorKey(MLKEM768X25519).Public(), vectorKey(X25519).Public()}
		add := func(name, expect string, e sign.Envelope, change func(*bundleVector)) {
			v := bundleVector{vectorCase{name, expect}, testWorker.Public(), testNow.UnixMicro(), 7, e, ""}
			if expect == "success" {
				v.Body = string(e.Payload)
			}
			change(&v)
			out = append(out, v)
		}
		same := func(*bundleVector) {}
		good := must(SignBundle(testWorker, b))
		add("two keys", "success", good, same)
		add("a first bundle", "success", good, func(v *bundleVector) { v.Highest = 0 })
		add("the last microsecond", "success", good, func(v *bundleVector) { v.Now += int64(MaxBundleAge/time.Microsecond) - 1 })
		add("too early", "bundle_time", good, func(v *bundleVector) { v.Now-- })
		add("too late", "bundle_time", good, func(v *bundleVector) { v.Now += int64(MaxBundleAge / time.Microsecond) })
		add("replayed", "bundle_replayed", good, func(v *bundleVector) { v.Highest = 8 })
		add("another worker's key", "bundle", good, func(v *bundleVector) { v.Worker = testSubmitter.Public() })
		add("another type", "bundle", must(sign.SignEnvelope(testWorker, "text/plain", good.Payload)), same)
		twice := good
		twice.Signatures = slices.Repeat(good.Signatures, 2)
		add("two signatures", "bundle", twice, same)
		body := func(name, old, new string) {
			text := strings.Replace(string(good.Payload), old, new, 1)
			if text == string(good.Payload) {
				t.Fatal("no ", old)
			}
			add(name, "bundle", must(sign.SignEnvelope(testWorker, BundleType, []byte(text))), same)
		}
		body("another worker", `"worker_id":"`+hex.EncodeToString(b.Worker[:1]), `"worker_id":"00`)
		body("a month and a microsecond", `,"not_before":`+ // one earlier
			string(must(json.Marshal(b.NotBefore.UnixMicro()))), `,"not_before":`+string(must(json.Marshal(b.NotBefore.UnixMicro()-1))))
		body("seq 0", `"seq":7`, `"seq":0`)
		body("whitespace", `,"seq"`, `, "seq"`)
		body("unknown key", `,"seq"`, `,"rank":1,"seq"`)
		body("duplicate key", `,"seq":7`, `,"seq":7,"seq":7`)
		body("a key twice", b.Keys[1].String(), b.Keys[1].String()+`","`+b.Keys[1].String())
		body("a weak key", b.Keys[1].String(), "x25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		return out
	}, func(t *testing.T, v bundleVector) {
		b, err := VerifyBundle(v.Envelope, v.Worker, time.UnixMicro(v.Now), v.Highest)
		v.check(t, err)
		if err == nil {
			same(t, v.Name, must(b.body()), []byte(v.Body))
		}
	})
}
