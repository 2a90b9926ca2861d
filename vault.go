package consign

import (
	"context"
	"errors"
)

// ErrKeyGone: the vault has no key of the job, and never will again: it was
// shredded, or kept past its lifetime. The job fails.
var ErrKeyGone = errors.New("consign: the job's key is gone")

// Vault holds the keys of sealed jobs apart from the jobs, in another store.
// The queue never sees a key: it passes on what the vault wrapped, and what it
// sealed and opened. Package vault has two.
//
// Methods may be called from many goroutines.
type Vault interface {
	// Key returns the public key that submitters wrap their jobs' keys to, in
	// the form of seal.PublicKey.Bytes.
	Key(ctx context.Context) ([]byte, error)
	// Deposit keeps the key of a job that is about to be submitted, by its wrap
	// for the header H. It may be called again, and for several headers of one
	// job, of which the job will have one: none takes the place of another. It
	// returns a *FieldError for a wrap that does not open with the vault's key
	// for this job and header.
	Deposit(ctx context.Context, job JobID, header, wrap []byte) error
	// Seal seals a payload that came in plain, in the custody transit, and
	// keeps its key as Deposit does. A result of such a job is sealed to
	// r.ClientKey or, without one, to a key that the vault keeps.
	Seal(ctx context.Context, r SealRequest) (SealedPayload, error)
	// OpenPayload opens a payload that Seal returned. ErrKeyGone.
	OpenPayload(ctx context.Context, job JobID, s SealedPayload) ([]byte, error)
	// OpenResult opens the result of a job that Seal sealed without a
	// ClientKey. ErrKeyGone; ErrBadResult for bytes that do not open, which is
	// the worker's doing.
	OpenResult(ctx context.Context, r SealedResult) ([]byte, error)
	// Release returns the key of the job with that header, wrapped to the
	// worker that holds the claim, for the assignment. ErrKeyGone fails the
	// job. Any other error gives the claim back: the job goes to another worker.
	Release(ctx context.Context, r KeyRelease) ([]byte, error)
	// Shred destroys a job's keys, those of all its headers, so that they
	// cannot be recovered from the vault's medium. It must succeed where they
	// are gone already. After an error it is called again.
	Shred(ctx context.Context, id JobID) error
}

// SealRequest is a payload to seal at intake, and what its header has to say.
type SealRequest struct {
	Queue      QueueID
	Job        JobID
	Submitter  [32]byte // see Header.Submitter of package seal
	Kind       string
	Model      string
	Privacy    Privacy
	Comparator string
	ClientKey  []byte // nil: the vault opens the result
	Payload    []byte
}

// SealedPayload is a header H and the ciphertext that belongs to it.
type SealedPayload struct {
	Header  []byte
	Payload []byte
}

// SealedResult is a result as a worker returned it, and what it is bound to.
type SealedResult struct {
	Queue  QueueID
	Claim  Claim
	Worker WorkerID
	Input  SealedPayload
	Result []byte
}

// KeyRelease asks for the key of a claimed job.
type KeyRelease struct {
	Claim  Claim
	Header [32]byte // SHA-256 of H
	Worker WorkerKeys
}
