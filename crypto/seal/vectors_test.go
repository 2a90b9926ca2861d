package seal

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

var update = flag.Bool("update", false, "rewrite the vectors under testdata")

// The files under testdata/vectors are for readers in any language. Byte
// strings are in hexadecimal. "expect" is "success", or what a reader has to
// report when it refuses: the names in docs/sealed-format.md.
//
// -update makes the cases that a file lacks and keeps those that it has. What is
// random in them comes from a fixed seed (but for RSA), and is never made again:
// Go does not promise to use randomness in the same way for ever. What each test
// run checks is that the files open, that all that is not random in them is
// computed alike, and that no case is missing.
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

// vectors checks what is in the file, after -update has added what build makes
// besides.
func vectors[V interface{ id() vectorCase }](t *testing.T, name string, build func() []V, check func(*testing.T, V)) {
	t.Helper()
	testKeys()
	cryptotest.SetGlobalRandom(t, 1)
	built := build()
	for i, v := range built {
		if slices.ContainsFunc(built[:i], func(b V) bool { return b.id().Name == v.id().Name }) {
			t.Fatalf("two cases of %s are called %q", name, v.id().Name)
		}
	}
	path := filepath.Join("testdata", "vectors", name)
	kept := readVectors[V](t, path)
	if *update {
		for i, b := range built {
			if k := slices.IndexFunc(kept, func(v V) bool { return v.id() == b.id() }); k >= 0 {
				built[i] = kept[k]
			}
		}
		kept = built
		data, err := json.MarshalIndent(kept, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.EqualFunc(built, kept, func(a, b V) bool { return a.id() == b.id() }) {
		t.Errorf("%s holds other cases than this code makes; a released format never changes: give the new one a new label", path)
	}
	for _, v := range kept {
		check(t, v)
	}
}

// readVectors returns what is in a file, nothing if -update is about to make it.
func readVectors[V any](t *testing.T, path string) (kept []V) {
	t.Helper()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&kept); err != nil {
		t.Fatal(err)
	}
	return kept
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
		for i, u := range smallOrder {
			bad(fmt.Sprint("x25519 of small order ", i), []byte{0, 0x20}, u)
		}
		bad("x25519 that is p", []byte{0, 0x20, 0xed}, bytes.Repeat([]byte{0xff}, 30), []byte{0x7f})
		bad("x25519 with the top bit", []byte{0, 0x20}, bytes.Repeat([]byte{9}, 31), []byte{0x89})
		hybrid := vectorKey(MLKEM768X25519).Public().Bytes()
		bad("hybrid with a weak x25519 half", hybrid[:len(hybrid)-32], make([]byte, 32))
		bad("hybrid with a coefficient of 4095", hybrid[:2], []byte{0xff, 0xff}, hybrid[4:])
		bad("hybrid cut", hybrid[:len(hybrid)-1])
		small := rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 65537}
		bad("rsa of 2,048 bits", []byte{0xff, 0x01}, must(x509.MarshalPKIXPublicKey(&small)))
		bad("rsa with a byte after", testKeys()[RSAOAEP].Public().Bytes(), []byte{0})
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

// fingerprintVector is what people compare of a key, of those that sign too.
type fingerprintVector struct {
	vectorCase
	Algorithm   string   `json:"algorithm"`
	Public      hexBytes `json:"public"`
	Fingerprint string   `json:"fingerprint"`
}

func TestVectorsFingerprint(t *testing.T) {
	vectors(t, "fingerprint.json", func() (out []fingerprintVector) {
		add := func(algorithm string, public []byte) {
			out = append(out, fingerprintVector{success(algorithm), algorithm, public, Fingerprint(algorithm, public)})
		}
		add(sign.Ed25519, testWorker.Public().Bytes())
		add(sign.RSAPSS, testKeys()[RSAOAEP].Public().Bytes()[2:])
		for _, kem := range hpkeKEMs {
			add(kem.String(), vectorKey(kem).Public().Bytes()[2:])
		}
		return out
	}, func(t *testing.T, v fingerprintVector) {
		if got := Fingerprint(v.Algorithm, v.Public); got != v.Fingerprint {
			t.Errorf("%s: %s", v.Name, got)
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
// A long box is given by its hash, and a long one to refuse by the chunks that
// are put behind the prefix instead of 0, 1, 2 and so on.
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
	Chunks    []int    `json:"chunks,omitempty"`
}

// bytes is the box to refuse.
func (v boxVector) bytes() []byte {
	if v.Chunks == nil {
		return v.Box
	}
	prefix := [boxPrefix]byte(v.Prefix)
	whole := box([32]byte(v.Key), prefix, v.AAD, bytes.Repeat(v.Piece, v.Times))
	chunks := slices.Collect(slices.Chunk(whole[boxPrefix:], sealedChunk))
	out := prefix[:]
	for _, i := range v.Chunks {
		out = append(out, chunks[i]...)
	}
	return out
}

func TestVectorsBox(t *testing.T) {
	key, aad := fill32(0x0b), []byte("associated data")
	vectors(t, "box.json", func() (out []boxVector) {
		good := func(name, piece string, times int) {
			prefix := [boxPrefix]byte([]byte("nineteen bytes, all"))
			b := box(key, prefix, aad, bytes.Repeat([]byte(piece), times))
			sum := sha256.Sum256(b)
			v := boxVector{success(name), key[:], aad, prefix[:], hexBytes(piece), times, len(b), nil, sum[:], nil}
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
		short := newAEAD(key).Seal(make([]byte, boxPrefix), notLast.at(0, false), plain[:100], aad)
		bad("a short chunk before the last", "box", newAEAD(key).Seal(short, notLast.at(1, true), plain[100:], aad))
		moved := func(name string, chunks ...int) {
			out = append(out, boxVector{vectorCase: vectorCase{name, "box"}, Key: key[:], AAD: aad,
				Prefix: hexBytes("nineteen bytes, all"), Piece: hexBytes("0123456789"), Times: 15000, Chunks: chunks})
		}
		moved("the first chunk missing", 1, 2)
		moved("a chunk missing", 0, 2)
		moved("the last chunk missing", 0, 1)
		moved("a chunk doubled", 0, 1, 1, 2)
		moved("the last chunk doubled", 0, 1, 2, 2)
		moved("chunks swapped", 1, 0, 2)
		return out
	}, func(t *testing.T, v boxVector) {
		if v.Expect != "success" {
			_, err := OpenBox([32]byte(v.Key), v.AAD, v.bytes())
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
