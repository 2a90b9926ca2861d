package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/chacha20"

	"github.com/consignq/consign/crypto/sign"
)

// The keys of the tests, made once. The RSA key takes seconds to make, so it is
// the one of the vectors.
var testKeys = sync.OnceValue(func() map[KEM]*PrivateKey {
	return map[KEM]*PrivateKey{MLKEM768X25519: must(GenerateKey(MLKEM768X25519)), X25519: must(GenerateKey(X25519)), RSAOAEP: rsaTestKey()}
})

func rsaTestKey() *PrivateKey {
	var vectors []keyVector
	data, err := os.ReadFile("testdata/vectors/key.json")
	if err == nil {
		err = json.Unmarshal(data, &vectors)
	}
	for _, v := range vectors {
		if key, err := ParsePrivateKey(v.Private); err == nil && key.Public().KEM() == RSAOAEP {
			return key
		}
	}
	if err != nil && !*update {
		panic(err)
	}
	return must(GenerateRSA(3072))
}

func fill16(b byte) [16]byte { return [16]byte(bytes.Repeat([]byte{b}, 16)) }
func fill32(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }

var testSubmitter = sign.FromEd25519Seed(fill32(0x51))

func testHeader() Header {
	return Header{Queue: fill32(1), Job: fill16(2), Submitter: testSubmitter.Public().ID(), Kind: "LLM_INFER", Model: "llama3.1:8b",
		Privacy: Public, Custody: Escrow, Comparator: "exact", ClassOptions: fill32(4), ResultKey: testKeys()[X25519].Public()}
}

// sealed is a payload as it travels, with all that a worker needs to open it.
type sealed struct {
	header, ciphertext []byte
	cek                CEK
	assignment         Assignment
}

func sealTest(t *testing.T, h Header, payload []byte) sealed {
	t.Helper()
	s := sealed{cek: NewCEK()}
	var err error
	if s.header, s.ciphertext, err = SealPayload(h, s.cek, payload); err != nil {
		t.Fatal(err)
	}
	s.assignment = Assignment{Queue: h.Queue, Job: h.Job, Kind: h.Kind, Model: h.Model, Chars: uint32(Chars(payload)),
		Custody: h.Custody, Comparator: h.Comparator}
	if h.Privacy == Private {
		if s.assignment.Signature, err = SignSubmission(testSubmitter, s.header, s.ciphertext); err != nil {
			t.Fatal(err)
		}
		s.assignment.Pinned = func(k [32]byte) bool { return k == testSubmitter.Public().ID() }
	}
	return s
}

func (s sealed) open() ([]byte, error) {
	h, payload, err := OpenPayload(s.header, s.ciphertext, s.cek, s.assignment)
	if err != nil && (payload != nil || h != Header{}) {
		return nil, fmt.Errorf("released something beside the error %w", err)
	}
	return payload, err
}

func TestPayload(t *testing.T) {
	for _, privacy := range []string{Public, Private} {
		for _, payload := range []string{"", "x", "zwölf Zeichen", "\xff\xe2\x82 no UTF-8", strings.Repeat("long ", 50000)} {
			h := testHeader()
			h.Privacy = privacy
			s := sealTest(t, h, []byte(payload))
			got, err := s.open()
			if err != nil || string(got) != payload {
				t.Errorf("%s %.10q: %.10q, %v", privacy, payload, got, err)
			}
			back, revealed, err := OpenRevealedPayload(s.header, s.ciphertext, s.cek)
			if err != nil || string(revealed) != payload || back.PromptBytes != uint64(len(payload)) {
				t.Errorf("revealed %.10q, %v", revealed, err)
			}
			if len(s.ciphertext) != BoxSize(len(payload)) {
				t.Errorf("%d bytes, want %d", len(s.ciphertext), BoxSize(len(payload)))
			}
		}
	}
	if n := Chars([]byte("\xff\xe2\x82 é")); n != 5 {
		t.Errorf("%d characters", n)
	}
}

// Each thing that a worker checks, alone wrong, is refused by its own name.
func TestOpenPayloadRefuses(t *testing.T) {
	h := testHeader()
	h.Privacy = Private
	good := sealTest(t, h, []byte("hello"))
	other := testHeader()
	other.Privacy, other.Model = Private, "another"
	stranger := sign.FromEd25519Seed(fill32(9))
	for name, tc := range map[string]struct {
		change func(*sealed)
		want   error
	}{
		"queue":          {func(s *sealed) { s.assignment.Queue[0]++ }, ErrAssignment},
		"job":            {func(s *sealed) { s.assignment.Job[0]++ }, ErrAssignment},
		"kind":           {func(s *sealed) { s.assignment.Kind = "TASK" }, ErrAssignment},
		"model":          {func(s *sealed) { s.assignment.Model = "" }, ErrAssignment},
		"chars":          {func(s *sealed) { s.assignment.Chars++ }, ErrAssignment},
		"custody":        {func(s *sealed) { s.assignment.Custody = Sealed }, ErrAssignment},
		"comparator":     {func(s *sealed) { s.assignment.Comparator = "none" }, ErrAssignment},
		"no pins":        {func(s *sealed) { s.assignment.Pinned = nil }, ErrSubmitter},
		"another pinned": {func(s *sealed) { s.assignment.Pinned = func([32]byte) bool { return false } }, ErrSubmitter},
		"no signature":   {func(s *sealed) { s.assignment.Signature = nil }, ErrSubmission},
		"another's signature": {func(s *sealed) {
			s.assignment.Signature, _ = stranger.Sign(SubmissionMessage(s.header, s.ciphertext))
		}, ErrSubmission},
		"signature of another header": {func(s *sealed) {
			s.assignment.Signature, _ = testSubmitter.Sign(SubmissionMessage(nil, s.ciphertext))
		}, ErrSubmission},
		"signature of another ciphertext": {func(s *sealed) { s.ciphertext[40] ^= 1 }, ErrSubmission},
		"another key":                     {func(s *sealed) { s.cek = NewCEK() }, ErrCommit},
		"no key":                          {func(s *sealed) { s.cek = CEK{} }, ErrCommit},
		"no header":                       {func(s *sealed) { s.header = nil }, ErrHeader},
	} {
		s := good
		s.ciphertext = slices.Clone(good.ciphertext)
		tc.change(&s)
		if _, err := s.open(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}

	// A PUBLIC job needs no signature; its box is bound to its header all the
	// same, of which one byte that nothing else checks was changed.
	s := sealTest(t, testHeader(), []byte("hello"))
	altered := slices.Clone(s.header)
	at := bytes.Index(altered, bytes.Repeat([]byte{4}, 32)) // the class options
	altered[at] ^= 1
	s.header = altered
	if _, err := s.open(); !errors.Is(err, ErrBox) {
		t.Errorf("another header: %v", err)
	}
}

// The payload is counted, both ways, whatever the header says and although the
// ciphertext is authentic under it.
func TestPayloadMismatch(t *testing.T) {
	for name, tc := range map[string]struct {
		payload     string
		chars       uint32
		promptBytes uint64
	}{
		"too short":      {"hell", 5, 5},
		"too long":       {"hello!", 5, 5},
		"other chars":    {"hällo", 5, 6},
		"no such chars":  {"hällo", 6, 6},
		"fewer, as many": {"ab\u00e9", 4, 4},
	} {
		cek := NewCEK()
		h := testHeader()
		h.Chars, h.PromptBytes, h.Commit = tc.chars, tc.promptBytes, cek.derive(h.Job, infoCommit)
		header, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		ciphertext := Box(cek.derive(h.Job, infoPayload), header, []byte(tc.payload))
		want := ErrPayloadMismatch
		if name == "other chars" {
			want = nil // 5 characters in 6 bytes is what it is
		}
		if _, _, err := OpenRevealedPayload(header, ciphertext, cek); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealPayloadRefuses(t *testing.T) {
	if _, _, err := SealPayload(testHeader(), CEK{}, nil); !errors.Is(err, ErrKey) {
		t.Errorf("no key: %v", err)
	}
	h := testHeader()
	h.Kind = ""
	if _, _, err := SealPayload(h, NewCEK(), nil); !errors.Is(err, ErrHeader) {
		t.Errorf("no kind: %v", err)
	}
	// What SealPayload fills in is not the caller's to choose.
	h = testHeader()
	h.Chars, h.PromptBytes, h.Commit = 77, 99, fill32(7)
	s := sealTest(t, h, []byte("hello"))
	if back, err := ParseHeader(s.header); err != nil || back.Chars != 5 || back.PromptBytes != 5 || back.Commit == h.Commit {
		t.Errorf("%+v, %v", back, err)
	}
}

// A ciphertext can be made that opens under two keys, since Poly1305 is no
// collision-resistant hash. The commitment lets only one of them through.
func TestTwoKeys(t *testing.T) {
	h := testHeader()
	one, two := NewCEK(), NewCEK()
	h.Commit = one.derive(h.Job, infoCommit)
	h.Chars, h.PromptBytes = 5, 5
	header, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	key1, key2 := one.derive(h.Job, infoPayload), two.derive(h.Job, infoPayload)
	ciphertext := twoKeyBox(t, key1, key2, header, []byte("hello"))
	for _, key := range [][32]byte{key1, key2} { // the bare cipher takes both
		nonce := newNonce(ciphertext[:boxPrefix])
		if _, err := newAEAD(key).Open(nil, nonce.at(0, true), ciphertext[boxPrefix:], header); err != nil {
			t.Fatal("the collision does not work: ", err)
		}
	}
	if _, _, err := OpenRevealedPayload(header, ciphertext, two); !errors.Is(err, ErrCommit) {
		t.Errorf("under the second key: %v", err)
	}
	// (Under the first it is authentic, committed to, and badly padded: the
	// forger had to spend two blocks of the padding on the collision.)
	if _, _, err := OpenRevealedPayload(header, ciphertext, one); !errors.Is(err, ErrPadding) {
		t.Errorf("under the first key: %v", err)
	}
}

// twoKeyBox makes a box of one chunk whose tag is right under both keys. It
// seals m under the first and solves for the last two blocks of ciphertext: a
// linear system modulo 2^130-5 (Dodis, Grubbs, Ristenpart, Woodage 2018).
func twoKeyBox(t *testing.T, key1, key2 [32]byte, aad, m []byte) []byte {
	t.Helper()
	b := Box(key1, aad, m)
	nonce := newNonce(b[:boxPrefix])
	ct := b[boxPrefix : len(b)-16]
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	two128 := new(big.Int).Lsh(big.NewInt(1), 128)
	little := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	blocks := func(ct []byte) (out [][]byte) { // the message of Poly1305, RFC 8439 section 2.8
		pad := func(b []byte) []byte { return append(slices.Clone(b), make([]byte, (16-len(b)%16)%16)...) }
		all := slices.Concat(pad(aad), pad(ct), binaryLE(len(aad)), binaryLE(len(ct)))
		for chunk := range slices.Chunk(all, 16) {
			out = append(out, chunk)
		}
		return out
	}
	type side struct{ a, d, b, s *big.Int } // tag = (a x + d y + b mod p) + s
	makeSide := func(key [32]byte) side {
		r, s := polyKey(t, key, nonce.at(0, true))
		for _, i := range []int{3, 7, 11, 15} {
			r[i] &= 15
		}
		for _, i := range []int{4, 8, 12} {
			r[i] &= 252
		}
		rr := little(r)
		zero := slices.Clone(ct)
		clear(zero[len(zero)-32:])
		sum := new(big.Int)
		list := blocks(zero)
		for i, block := range list {
			if i == len(list)-3 || i == len(list)-2 {
				block = nil // the unknowns, with their 2^128
			} else {
				block = append(slices.Clone(block), 1)
			}
			sum.Add(sum, little(block)).Mul(sum, rr).Mod(sum, p)
		}
		r2 := new(big.Int).Exp(rr, big.NewInt(2), p)
		r3 := new(big.Int).Exp(rr, big.NewInt(3), p)
		return side{a: r3, d: r2, b: sum, s: little(s)}
	}
	one, two := makeSide(key1), makeSide(key2)
	det := new(big.Int).Sub(new(big.Int).Mul(one.a, two.d), new(big.Int).Mul(two.a, one.d))
	inverse := det.ModInverse(det.Mod(det, p), p)
	for guess := range int64(4096) {
		tag := sha256.Sum256([]byte{byte(guess), byte(guess >> 8)})
		target := little(tag[:16])
		want := func(s side) *big.Int { // of a x + d y
			v := new(big.Int).Sub(target, s.s)
			v.Mod(v, two128)
			return v.Sub(v, s.b).Mod(v, p)
		}
		w1, w2 := want(one), want(two)
		x := new(big.Int).Sub(new(big.Int).Mul(w1, two.d), new(big.Int).Mul(w2, one.d))
		x.Mul(x, inverse).Mod(x, p)
		y := new(big.Int).Sub(new(big.Int).Mul(one.a, w2), new(big.Int).Mul(two.a, w1))
		y.Mul(y, inverse).Mod(y, p)
		x.Sub(x, two128)
		y.Sub(y, two128)
		if x.Sign() < 0 || y.Sign() < 0 || x.Cmp(two128) >= 0 || y.Cmp(two128) >= 0 {
			continue // not blocks of 16 bytes
		}
		out := slices.Clone(b)
		put := func(dst []byte, v *big.Int) {
			v.FillBytes(dst)
			slices.Reverse(dst)
		}
		n := len(out)
		put(out[n-48:n-32], x)
		put(out[n-32:n-16], y)
		copy(out[n-16:], tag[:16])
		return out
	}
	t.Fatal("no collision found")
	return nil
}

func binaryLE(n int) []byte {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	return b
}

// A content key and a private key do not print, in any way that fmt knows.
func TestSecretsDoNotPrint(t *testing.T) {
	cek := NewCEK()
	key := testKeys()[X25519]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%t"} {
		for name, secret := range map[string]struct {
			value any
			bytes []byte
		}{"CEK": {cek, cek.Bytes()}, "*CEK": {&cek, cek.Bytes()}, "private key": {key, key.Bytes()[2:]}} {
			got := strings.ToLower(fmt.Sprintf(verb, secret.value))
			for _, leak := range []string{fmt.Sprintf("%x", secret.bytes[8:12]), strings.Trim(fmt.Sprint(secret.bytes[8:12]), "[]"),
				strings.ToLower(string(secret.bytes[8:12]))} {
				if strings.Contains(got, leak) {
					t.Errorf("%s of a %s prints it", verb, name)
				}
			}
		}
	}
	if b, err := json.Marshal(struct{ K CEK }{cek}); err != nil || string(b) != `{"K":{}}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	if _, err := ParseCEK(make([]byte, 32)); !errors.Is(err, ErrKey) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := ParseCEK(make([]byte, 31)); !errors.Is(err, ErrKey) {
		t.Errorf("31 bytes: %v", err)
	}
	if back, err := ParseCEK(cek.Bytes()); err != nil || back != cek {
		t.Errorf("round trip: %v", err)
	}
}

func TestSubmission(t *testing.T) {
	s := sealTest(t, testHeader(), []byte("x"))
	if _, err := SignSubmission(sign.Generate(), s.header, s.ciphertext); !errors.Is(err, ErrSubmission) {
		t.Errorf("another identity: %v", err)
	}
	if _, err := SignSubmission(testSubmitter, nil, nil); !errors.Is(err, ErrHeader) {
		t.Errorf("no header: %v", err)
	}
	rsaIdentity, err := sign.ParseIdentity(testKeys()[RSAOAEP].Bytes()[2:])
	if err != nil {
		t.Fatal(err)
	}
	h := testHeader()
	h.Submitter = rsaIdentity.Public().ID()
	s = sealTest(t, h, []byte("x"))
	if _, err := SignSubmission(rsaIdentity, s.header, s.ciphertext); !errors.Is(err, ErrSubmission) {
		t.Errorf("an RSA identity: %v", err)
	}
	// An ID that is no ed25519 key signs nothing, though it is pinned.
	h = testHeader()
	h.Privacy, h.Submitter = Private, [32]byte{1}
	cek := NewCEK()
	header, ciphertext, err := SealPayload(h, cek, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := Assignment{Queue: h.Queue, Job: h.Job, Kind: h.Kind, Model: h.Model, Custody: h.Custody, Comparator: h.Comparator,
		Signature: make([]byte, 64), Pinned: func([32]byte) bool { return true }}
	if _, _, err := OpenPayload(header, ciphertext, cek, a); !errors.Is(err, ErrSubmission) {
		t.Errorf("a submitter of small order: %v", err)
	}
}

// polyKey returns r and s of XChaCha20-Poly1305's one-time key.
func polyKey(t *testing.T, key [32]byte, nonce []byte) (r, s []byte) {
	t.Helper()
	sub, err := chacha20.HChaCha20(key[:], nonce[:16])
	if err != nil {
		t.Fatal(err)
	}
	stream, err := chacha20.NewUnauthenticatedCipher(sub, append(make([]byte, 4), nonce[16:]...))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 32)
	stream.XORKeyStream(b, b)
	return b[:16], b[16:]
}
