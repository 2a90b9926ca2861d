package consign

import (
	"errors"
	"fmt"
)

// The errors that callers act on. Each is wrapped with what happened; test
// with errors.Is.
var (
	// ErrNotFound: no such job, worker or account, or it belongs to another
	// account, which must look the same.
	ErrNotFound = errors.New("consign: not found")
	// ErrConflict: the same ID or claim was used before with other content.
	ErrConflict = errors.New("consign: conflict")
	// ErrIDTaken: the job ID belongs to another account; choose another.
	ErrIDTaken = errors.New("consign: job ID taken")
	// ErrLeaseLost: the claim is no longer current. Stop the work; nothing
	// that this claim sends will be accepted.
	ErrLeaseLost = errors.New("consign: lease lost")
	// ErrCancelled: the job was cancelled while the claim held it.
	ErrCancelled = errors.New("consign: job cancelled")
	// ErrBadResult: the result's commitment or signature does not hold.
	ErrBadResult = errors.New("consign: bad result")
	// ErrBadReceipt: a record, acceptance or receipt does not verify.
	ErrBadReceipt = errors.New("consign: bad receipt")
	// ErrCredit: the account's balance does not cover the price.
	ErrCredit = errors.New("consign: insufficient credit")
	// ErrNoWorker: a PRIVATE job has no worker paired with its submitter.
	ErrNoWorker = errors.New("consign: no paired worker")
	// ErrSession: the session is unknown or has ended; register again.
	ErrSession = errors.New("consign: no session")
	// ErrRemoved: the worker's standing keeps it from taking work.
	ErrRemoved = errors.New("consign: worker removed")
	// ErrClosed: the queue does not run, or is shutting down.
	ErrClosed = errors.New("consign: queue closed")
	// ErrBusy: a bound of the queue is reached; try again later.
	ErrBusy = errors.New("consign: busy")
)

// FieldError says which field of a request is wrong and what would be right.
// Nothing was changed.
type FieldError struct {
	Field   string // as on the wire: "payload", "worker.max_context_tier"
	Problem string // what is wrong: "is empty"
	Remedy  string // what to do: "send at least one byte"
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("consign: %s %s: %s", e.Field, e.Problem, e.Remedy)
}

// fieldError builds a *FieldError.
func fieldError(field, problem, remedy string) error {
	return &FieldError{Field: field, Problem: problem, Remedy: remedy}
}
