package consign

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
	"github.com/consignq/consign/internal/strictjson"
)

// A foreign worker speaks the first protocol (seed 001): it registers a key
// without proving that it holds it, and signs a receipt of four fields. What
// that proves is little, so it gets little: payloads that anybody may read, and
// results that count for nothing.

// ForeignType is the payload type under which an acceptance names a foreign
// receipt. The worker did not sign it.
const ForeignType = "application/vnd.consign.foreign+json"

// ForeignReceipt is what a foreign worker signed, as it came.
type ForeignReceipt struct {
	// JSON is an object of job_id, provider_pubkey, output_hash and timestamp,
	// and perhaps more.
	JSON string `json:"receipt_json"`
	// Signature is ed25519 over the bytes of JSON, in hexadecimal or base64.
	Signature string `json:"signature"`
}

// ForeignWorkerID names a foreign worker: SHA-256(LP("consign/foreign/v1")
// LP(public key)). It is never the ID of a worker that has proved its key, so
// that nobody who knows only that can harm it.
func ForeignWorkerID(publicKey []byte) WorkerID {
	return sha256.Sum256(lp.Append(nil, []byte("consign/foreign/v1"), publicKey))
}

// RegisterForeign opens a session for whoever says that the ed25519 key, in
// hexadecimal or base64, is theirs: let such workers in only where that is
// meant. The session takes completions whose Record is a ForeignReceipt as
// JSON, verified with that key, and is never given a job whose payload is not
// CustodyPlain. Let no one but the connection that it was opened for use it:
// its claims are fenced by nothing else.
//
// It returns a *FieldError for a bad key or bad capabilities, and for a queue
// without receipts, and ErrRemoved for a worker that may not work here.
func (q *Queue) RegisterForeign(ctx context.Context, publicKey string, c Capabilities) (Session, error) {
	if q.config.NoReceipts {
		return nil, fieldError("worker", "is foreign, and this queue takes no receipts", "serve foreign workers from a queue that does")
	}
	key, err := parseForeignKey(publicKey)
	if err != nil {
		return nil, fieldError("provider_pubkey", "cannot be used: "+err.Error(), "send the 32 bytes of an ed25519 key in hexadecimal or base64")
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	c = c.clone()
	c.Encryption = false
	return q.open(ctx, &session{id: ForeignWorkerID(key.Bytes()), key: key, foreign: true}, nil, c)
}

// verifyForeign checks a foreign receipt, and fills in what done keeps of it.
func (s *session) verifyForeign(c *Completion, done *Done) error {
	var r ForeignReceipt
	err := r.UnmarshalJSON(c.Record)
	if err == nil {
		err = r.Verify(s.id, c.Job, c.Result)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadResult, err)
	}
	done.Record = c.Record
	done.Verification = VerificationSignature
	done.Acceptance = &Acceptance{Record: r.Name(), Checks: []string{"claim", "signature"}}
	return nil
}

// Name is by which an acceptance names the receipt: SHA-256(PAE(ForeignType,
// JSON)).
func (r *ForeignReceipt) Name() [32]byte { return sha256.Sum256(sign.PAE(ForeignType, []byte(r.JSON))) }

// Verify reports whether the worker signed that the job's output is this
// result. The key is in the receipt, and the worker's ID is a hash of it. What
// else is in the receipt, its time for one, is the worker's word. The error is
// a *ReceiptError.
func (r *ForeignReceipt) Verify(worker WorkerID, job JobID, result []byte) error {
	fields := map[string]string{"job_id": "", "provider_pubkey": "", "output_hash": ""}
	err := strictjson.Object([]byte(r.JSON), func(name string, value []byte) (err error) {
		if _, ours := fields[name]; ours {
			fields[name], err = strictjson.String(value)
		}
		return err
	})
	if err != nil {
		return badReceipt("foreign.receipt_json", "cannot be read: "+err.Error())
	}
	key, err := parseForeignKey(fields["provider_pubkey"])
	if err != nil || ForeignWorkerID(key.Bytes()) != worker {
		return badReceipt("foreign.provider_pubkey", "is not the key that the worker registered")
	}
	signature, err := foreignBytes(r.Signature)
	if err != nil || key.Verify([]byte(r.JSON), signature) != nil {
		return badReceipt("foreign.signature", "is not by provider_pubkey over the bytes of receipt_json")
	}
	if id, err := ParseJobID(fields["job_id"]); err != nil || id != job {
		return badReceipt("foreign.job_id", "names another job")
	}
	want := sha256.Sum256(result)
	if got, err := foreignBytes(fields["output_hash"]); err != nil || string(got) != string(want[:]) {
		return badReceipt("foreign.output_hash", "is not the SHA-256 of the output")
	}
	return nil
}

// VerifyForeign reports whether the receipt is for this exchange, of whose keys
// only the queue's is needed: the foreign receipt, as ForeignReceipt.Verify
// does; the acceptance, as VerifyAcceptance does; that it accepts this receipt.
// The error is a *ReceiptError.
func (r Receipt) VerifyForeign(worker WorkerID, x Exchange) (Acceptance, error) {
	if r.Foreign == nil {
		return Acceptance{}, badReceipt("foreign", "is not there: it is not a foreign worker's receipt")
	}
	if err := r.Foreign.Verify(worker, x.Job, x.Result); err != nil {
		return Acceptance{}, err
	}
	acceptance, err := VerifyAcceptance(r.Acceptance, x.Queue)
	if err != nil {
		return Acceptance{}, err
	}
	if acceptance.Record != r.Foreign.Name() {
		return Acceptance{}, badReceipt("acceptance.record", "names another receipt")
	}
	return acceptance, nil
}

// UnmarshalJSON reads an object of two strings. The error is a *ReceiptError,
// and leaves r as it was.
func (r *ForeignReceipt) UnmarshalJSON(data []byte) error {
	var out ForeignReceipt
	err := strictjson.Object(data, func(name string, value []byte) (err error) {
		switch name {
		case "receipt_json":
			out.JSON, err = strictjson.String(value)
		case "signature":
			out.Signature, err = strictjson.String(value)
		default:
			err = fmt.Errorf("unknown key %.80q", name)
		}
		return err
	})
	if err != nil {
		return badReceipt("foreign", "cannot be read: "+err.Error())
	}
	*r = out
	return nil
}

func parseForeignKey(text string) (sign.PublicKey, error) {
	b, err := foreignBytes(text)
	if err != nil {
		return sign.PublicKey{}, err
	}
	return sign.ParsePublicKey(sign.Ed25519, b)
}

// foreignBytes reads a key, a hash or a signature as foreign workers write it:
// hexadecimal, or base64 of any kind.
func foreignBytes(text string) ([]byte, error) {
	if b, err := hex.DecodeString(text); err == nil {
		return b, nil
	}
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	return base64.RawStdEncoding.DecodeString(text)
}
