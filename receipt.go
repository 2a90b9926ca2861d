package consign

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/strictjson"
)

// Receipt is what a submitter keeps: the worker's signed record, and the
// queue's signed acceptance of it. It can be verified years later, with no
// network and without this program (docs/receipt-format.md). Of a foreign
// worker's result it has what that signed in the place of the record.
type Receipt struct {
	Acceptance sign.Envelope   `json:"acceptance"`
	Record     sign.Envelope   `json:"record,omitzero"`
	Foreign    *ForeignReceipt `json:"foreign,omitempty"` // nil, but for VerificationSignature
}

// ReceiptError says which field of a record, acceptance or receipt does not
// hold.
type ReceiptError struct {
	Field   string // "record.input_hash"; "record" for a body that cannot be read
	Problem string // "is not the SHA-256 of the input"
	Err     error  // ErrBadReceipt, or ErrBadResult from CheckReturn
}

func (e *ReceiptError) Error() string {
	return fmt.Sprintf("%v: %s %s", e.Err, e.Field, e.Problem)
}

func (e *ReceiptError) Unwrap() error { return e.Err }

func badReceipt(field, problem string) error {
	return &ReceiptError{Field: field, Problem: problem, Err: ErrBadReceipt}
}

// openEnvelope returns the payload of an envelope that has one signature, the
// key's.
func openEnvelope(name string, e sign.Envelope, payloadType string, key sign.PublicKey) ([]byte, error) {
	payload, err := e.Verify(payloadType, key)
	switch {
	case errors.Is(err, sign.ErrType):
		return nil, badReceipt(name+".payloadType", fmt.Sprintf("is %.80q, not %q", e.PayloadType, payloadType))
	case len(e.Signatures) != 1:
		return nil, badReceipt(name+".signatures", fmt.Sprintf("has %d entries, not 1", len(e.Signatures)))
	case err != nil:
		return nil, badReceipt(name+".signatures", "does not verify: "+err.Error())
	}
	return payload, nil
}

// Exchange is what a submitter holds when it verifies a receipt: the keys that
// it trusts, what it sent and what it got.
type Exchange struct {
	Worker  sign.PublicKey // that the submitter pinned or looked up; never taken from the receipt
	Queue   sign.PublicKey // likewise
	Job     JobID
	Header  []byte // H, as it was sent
	Payload []byte // as it was sent, so the ciphertext where it was sealed
	// Input stands in for a payload that is not at hand any more: what InputHash
	// returned for it. Zero: the payload is.
	Input  [32]byte
	Result []byte // as it came, so the ciphertext where it was sealed
}

// Verify reports whether the receipt is for this exchange. It checks, in this
// order: the record, as VerifyRecord does; that it names the queue, the job,
// the header, the input and the result; the acceptance, as VerifyAcceptance
// does; that it accepts this record. The error is a *ReceiptError that wraps
// ErrBadReceipt and names the first field that does not hold.
//
// What it returns is what was signed, no more: the model, the class and the
// times are the worker's word.
func (r Receipt) Verify(x Exchange) (Record, Acceptance, error) {
	record, err := VerifyRecord(r.Record, x.Worker)
	if err != nil {
		return Record{}, Acceptance{}, err
	}
	if err := x.check(record); err != nil {
		return Record{}, Acceptance{}, err
	}
	acceptance, err := VerifyAcceptance(r.Acceptance, x.Queue)
	if err != nil {
		return Record{}, Acceptance{}, err
	}
	if acceptance.Record != r.Record.Name() {
		return Record{}, Acceptance{}, badReceipt("acceptance.record", "names another record")
	}
	return record, acceptance, nil
}

// check compares a record with the exchange. The record's PoE holds for its own
// fields (VerifyRecord), so it holds for these once they are equal.
func (x Exchange) check(r Record) error {
	input := x.Input
	if input == ([32]byte{}) {
		input = InputHash(x.Header, x.Payload)
	}
	switch {
	case r.QueueID != QueueIDOf(x.Queue):
		return badReceipt("record.queue_id", "is not the SHA-256 of the queue's key")
	case r.JobID != x.Job:
		return badReceipt("record.job_id", "names another job")
	case r.HHash != sha256.Sum256(x.Header):
		return badReceipt("record.h_hash", "is not the SHA-256 of the header")
	case r.InputHash != input:
		return badReceipt("record.input_hash", "is not the SHA-256 of the header and the payload")
	case r.ResultHash != sha256.Sum256(x.Result):
		return badReceipt("record.result_hash", "is not the SHA-256 of the result")
	}
	return nil
}

// UnmarshalJSON reads an object of two envelopes, as strictly as
// sign.Envelope.UnmarshalJSON reads each, or of an acceptance and a foreign
// receipt. It verifies nothing. The error is a *ReceiptError, and leaves r as
// it was.
func (r *Receipt) UnmarshalJSON(data []byte) error {
	var out Receipt
	seen := map[string]bool{}
	err := strictjson.Object(data, func(key string, value []byte) error {
		seen[key] = true
		switch key {
		case "acceptance":
			return out.Acceptance.UnmarshalJSON(value)
		case "record":
			return out.Record.UnmarshalJSON(value)
		case "foreign":
			out.Foreign = &ForeignReceipt{}
			return out.Foreign.UnmarshalJSON(value)
		default:
			return fmt.Errorf("unknown key %.80q", key)
		}
	})
	switch {
	case err != nil:
		return badReceipt("receipt", "cannot be read: "+err.Error())
	case !seen["acceptance"] || seen["record"] == seen["foreign"]:
		return badReceipt("receipt", "is not a record and an acceptance")
	}
	*r = out
	return nil
}
