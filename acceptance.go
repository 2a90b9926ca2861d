package consign

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/consignq/consign/crypto/sign"
)

// AcceptanceType is the payload type of an acceptance's envelope.
const AcceptanceType = "application/vnd.consign.acceptance+json"

// AcceptanceFormat is the value of an acceptance's "format".
const AcceptanceFormat = "consign/acceptance/v1"

// Custody says who could read a job's payload.
type Custody string

// The custodies.
const (
	// CustodySealed: only workers that the submitter pinned. The coordinator
	// can never read it.
	CustodySealed Custody = "sealed"
	// CustodyEscrow: the vault wraps the key to the worker that claims. It
	// guards against a leaked job store, not against the operator.
	CustodyEscrow Custody = "escrow"
	// CustodyTransit: the coordinator received plaintext and sealed it at
	// intake; it stores ciphertext.
	CustodyTransit Custody = "transit"
	// CustodyPlain: plaintext, by the submitter's explicit choice.
	CustodyPlain Custody = "plain"
)

func (c Custody) valid() bool {
	switch c {
	case CustodySealed, CustodyEscrow, CustodyTransit, CustodyPlain:
		return true
	}
	return false
}

// Acceptance is the coordinator's statement that a record's result became the
// job's, and how it was drawn for validation. Numbers are at most 2^53-1 but
// for P, strings UTF-8 of at most 1,024 bytes.
type Acceptance struct {
	Record     [32]byte // the name of the record's envelope
	AcceptedAt int64    // microseconds since the Unix epoch, by the queue's clock
	Custody    Custody
	Checks     []string // that passed, such as "poe", sorted, each once
	Class      string   // that N counts in; optional, left out where it is empty
	N          int64    // the worker's consecutive validated results in the class, before this one
	P          uint64   // the draw's threshold: drawn with probability P / 2^64
	Evidence   int64    // number of the evidence row that N and P come from, 0 before the first
	Drawn      bool     // whether the result was drawn for validation
}

// members lists the body, keys in canonical order.
func (a *Acceptance) members(c *canonical) {
	c.integer("accepted_at", &a.AcceptedAt, 0)
	c.texts("checks", &a.Checks)
	c.optText("class", &a.Class)
	c.text("custody", (*string)(&a.Custody))
	if c.err == nil && !a.Custody.valid() {
		c.fail(`has a "custody" that is not sealed, escrow, transit or plain`)
	}
	c.boolean("drawn", &a.Drawn)
	c.integer("evidence", &a.Evidence, 0)
	c.constant("format", AcceptanceFormat)
	c.integer("n", &a.N, 0)
	// P does not fit a JSON number, so it is written as its eight bytes.
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], a.P)
	c.hex("p", p[:])
	a.P = binary.BigEndian.Uint64(p[:])
	c.hex("record", a.Record[:])
}

// Name returns the SHA-256 of the PAE that SignAcceptance signs: the leaf of
// the log, known before anything is signed. It returns a *ReceiptError for an
// acceptance that no verifier would accept.
func (a Acceptance) Name() ([32]byte, error) {
	body, err := writeCanonical(a.members)
	if err != nil {
		return [32]byte{}, badReceipt("acceptance", err.Error())
	}
	return sha256.Sum256(sign.PAE(AcceptanceType, body)), nil
}

// SignAcceptance signs an acceptance with the queue's identity. It returns a
// *ReceiptError for an acceptance that no verifier would accept.
func SignAcceptance(queue *sign.Identity, a Acceptance) (sign.Envelope, error) {
	body, err := writeCanonical(a.members)
	if err != nil {
		return sign.Envelope{}, badReceipt("acceptance", err.Error())
	}
	return sign.SignEnvelope(queue, AcceptanceType, body)
}

// VerifyAcceptance returns the acceptance in an envelope that the queue's key
// signed. It checks, in this order: the payload type; that there is one
// signature, and that it is the key's; that the body is canonical and
// complete. The error is a *ReceiptError.
func VerifyAcceptance(e sign.Envelope, queue sign.PublicKey) (Acceptance, error) {
	body, err := openEnvelope("acceptance", e, AcceptanceType, queue)
	if err != nil {
		return Acceptance{}, err
	}
	var a Acceptance
	if err := readCanonical(body, a.members); err != nil {
		return Acceptance{}, badReceipt("acceptance", err.Error())
	}
	return a, nil
}
