package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/consignq/consign/internal/lp"
)

func TestComparison(t *testing.T) {
	cek := NewCEK()
	h := testHeader()
	h.Commit = cek.derive(h.Job, infoCommit)
	make := func(canonical, sketch string) Comparison {
		t.Helper()
		c, err := NewComparison(cek, h, []byte(canonical), []byte(sketch))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, sketch := range []string{"", "sketch"} {
		c := make("result", sketch)
		if again := make("result", sketch); again.T != c.T || again.R == c.R || again.Commit() == c.Commit() {
			t.Error("equal results have an equal T, a new r, and another commitment")
		}
		if make("resulT", sketch).T == c.T || make("result", sketch+"x").T == c.T {
			t.Error("another result or sketch has the same T")
		}
		if err := c.Verify(c.Commit()); err != nil {
			t.Error(err)
		}
		verify := func(name string, want error, c Comparison, tCommit [32]byte, cek CEK, h Header, canonical, sketch string) {
			t.Helper()
			if err := c.VerifyResult(tCommit, cek, h, []byte(canonical), []byte(sketch)); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		verify("good", nil, c, c.Commit(), cek, h, "result", sketch)
		verify("another result", ErrResultMismatch, c, c.Commit(), cek, h, "result ", sketch)
		verify("another sketch", ErrResultMismatch, c, c.Commit(), cek, h, "result", sketch+" ")
		verify("another key", ErrCommit, c, c.Commit(), NewCEK(), h, "result", sketch)
		verify("another commitment", ErrTCommit, c, fill32(1), cek, h, "result", sketch)
		other := c
		other.R[0] ^= 1
		verify("another r", ErrTCommit, other, c.Commit(), cek, h, "result", sketch)
		other = c
		other.T[0] ^= 1
		verify("another T", ErrTCommit, other, c.Commit(), cek, h, "result", sketch)
		verify("another T, committed to", ErrResultMismatch, other, other.Commit(), cek, h, "result", sketch)
		changed := h
		changed.Comparator = "numeric"
		verify("another comparator", ErrResultMismatch, c, c.Commit(), cek, changed, "result", sketch)
		changed = h
		changed.ClassOptions[0] ^= 1
		verify("other class options", ErrResultMismatch, c, c.Commit(), cek, changed, "result", sketch)
		changed = h
		changed.Job[0] ^= 1
		verify("another job", ErrCommit, c, c.Commit(), cek, changed, "result", sketch)
	}

	// As FORMATS.md says it, done over.
	key := cek.derive(h.Job, "consign/key/compare/v1")
	m := hmac.New(sha256.New, key[:])
	m.Write(lp.Append(nil, []byte("consign/compare/v1"), []byte("exact"), h.ClassOptions[:], []byte("result")))
	plain := make("result", "")
	if plain.T != [32]byte(m.Sum(nil)) {
		t.Error("T differs")
	}
	if make("result", "s").T != sha256.Sum256(lp.Append(nil, plain.T[:], []byte("s"))) {
		t.Error("T with a sketch differs")
	}
	if _, err := NewComparison(NewCEK(), h, nil, nil); !errors.Is(err, ErrCommit) {
		t.Errorf("another key: %v", err)
	}
	sketchKey, err := SketchKey(cek, h)
	if err != nil || sketchKey == key || sketchKey == plain.T {
		t.Errorf("sketch key: %v", err)
	}
	if _, err := SketchKey(NewCEK(), h); !errors.Is(err, ErrCommit) {
		t.Errorf("another key: %v", err)
	}
}

// A worker that had one result compared and delivered another is caught by the
// submitter, and the proof holds for a judge who trusts neither.
func TestReveal(t *testing.T) {
	key := testKeys()[X25519]
	s := sealTest(t, testHeader(), []byte("prompt"))
	h, _, err := OpenPayload(s.header, s.ciphertext, s.cek, s.assignment)
	if err != nil {
		t.Fatal(err)
	}
	info := ResultInfo{Queue: h.Queue, Job: h.Job, Worker: fill32(3), Claim: fill16(4), Input: InputHash(s.header, s.ciphertext)}
	result, err := SealResult(h.ResultKey, info, []byte("delivered"))
	if err != nil {
		t.Fatal(err)
	}
	compared, err := NewComparison(s.cek, h, []byte("compared"), nil)
	if err != nil {
		t.Fatal(err)
	}
	tCommit := compared.Commit() // in the signed record, with SHA-256(result)

	resultKey, err := RevealResultKey(key, info, result)
	if err != nil {
		t.Fatal(err)
	}
	revealed, err := ParseCEK(s.cek.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	judged, _, err := OpenRevealedPayload(s.header, s.ciphertext, revealed)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := OpenRevealedResult(judged.ResultKey.KEM(), resultKey, info, result)
	if err != nil {
		t.Fatal(err)
	}
	if err := compared.VerifyResult(tCommit, revealed, judged, opened, nil); !errors.Is(err, ErrResultMismatch) {
		t.Errorf("the judge finds %v", err)
	}
}
