package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/consignq/consign/internal/lp"
)

// Comparison lets a coordinator compare results that it cannot read. The worker
// signs Commit in its record and sends the rest beside it, to the coordinator
// and, with the result, to the submitter; no other worker and no log gets it.
//
// It is blind only to who does not have the content key. Even then it tells
// which results agree, and a sketch how similar they are.
type Comparison struct {
	T      [32]byte // keyed by the job: equal results have an equal T
	R      [32]byte // random, so that Commit does not tell T
	Sketch []byte   // of a comparator by similarity; nil: none
}

// NewComparison returns the comparison value of a result, in the canonical form
// that the header's comparator gives it:
//
//	T = HMAC-SHA256(K_compare, LP("consign/compare/v1") LP(comparator)
//	                           LP(class options digest) LP(canonical result))
//
// or, with a sketch, SHA-256(LP(T) LP(sketch)). It wraps ErrCommit if the key
// is not the header's.
func NewComparison(cek CEK, h Header, canonical, sketch []byte) (Comparison, error) {
	t, err := compareValue(cek, &h, canonical, sketch)
	if err != nil {
		return Comparison{}, err
	}
	c := Comparison{T: t, Sketch: sketch}
	_, _ = rand.Read(c.R[:]) // never fails: crypto/rand crashes the program instead
	return c, nil
}

// SketchKey returns the key of the function that hides what a sketch is made
// of: HMAC-SHA256(K_compare, LP("consign/sketch/v1")). It wraps ErrCommit if the
// content key is not the header's.
func SketchKey(cek CEK, h Header) ([32]byte, error) {
	if err := cek.Check(h); err != nil {
		return [32]byte{}, err
	}
	return mac(cek.derive(h.Job, infoCompare), lp.Append(nil, []byte("consign/sketch/v1"))), nil
}

// Commit returns the record's t_commit:
//
//	SHA-256(LP("consign/t-commit/v1") LP(T) LP(r))
func (c Comparison) Commit() [32]byte {
	return sha256.Sum256(lp.Append(nil, []byte("consign/t-commit/v1"), c.T[:], c.R[:]))
}

// Verify wraps ErrTCommit if a record's t_commit is another than Commit.
func (c Comparison) Verify(tCommit [32]byte) error {
	commit := c.Commit()
	if subtle.ConstantTimeCompare(commit[:], tCommit[:]) != 1 {
		return ErrTCommit
	}
	return nil
}

// VerifyResult checks a comparison value against the result that was opened,
// whose canonical form and sketch the caller made anew, and against the
// record's t_commit. It wraps ErrTCommit, ErrCommit if the key is not the
// header's, or ErrResultMismatch: what the worker had compared is not what it
// delivered.
//
// A submitter can show that to anyone who has the signed record, by revealing
// the content key and that of the result (CEK.Bytes, RevealResultKey): both
// hashes in the record, OpenRevealedPayload, OpenRevealedResult and this
// function are then the proof.
func (c Comparison) VerifyResult(tCommit [32]byte, cek CEK, h Header, canonical, sketch []byte) error {
	if err := c.Verify(tCommit); err != nil {
		return err
	}
	t, err := compareValue(cek, &h, canonical, sketch)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(t[:], c.T[:]) != 1 {
		return ErrResultMismatch
	}
	return nil
}

func compareValue(cek CEK, h *Header, canonical, sketch []byte) ([32]byte, error) {
	if err := cek.Check(*h); err != nil {
		return [32]byte{}, err
	}
	t := mac(cek.derive(h.Job, infoCompare),
		lp.Append(nil, []byte("consign/compare/v1"), []byte(h.Comparator), h.ClassOptions[:], canonical))
	if len(sketch) != 0 {
		t = sha256.Sum256(lp.Append(nil, t[:], sketch))
	}
	return t, nil
}
