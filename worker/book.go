package worker

import (
	"crypto/sha256"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// book signs a worker's records and numbers them without gaps.
type book struct {
	identity *sign.Identity
	journal  func(seq int64, record []byte) error

	mu  sync.Mutex
	seq int64 // of the last record
}

// sign returns the record of an attempt as the JSON of its envelope. A number
// counts only once its record is signed and in the journal. The outcome's
// result is as it will be stored; tCommit is zero where nothing is compared.
func (b *book) sign(a *attempt, o *outcome, tCommit [32]byte) ([]byte, error) {
	r := consign.Record{
		QueueID:        a.Queue,
		JobID:          a.Job,
		ClaimID:        a.Claim,
		Kind:           a.Kind,
		ModelRequested: a.Model,
		HHash:          sha256.Sum256(a.Header),
		InputHash:      o.input,
		ResultHash:     sha256.Sum256(o.Result),
		Comparator:     or(a.Comparator, consign.ComparatorNone),
		TCommit:        tCommit,
		Model:          or(o.Model, a.Model),
		ModelDigest:    o.ModelDigest,
		Engine:         o.Engine,
		Class:          o.Class,
		ExitStatus:     int64(o.ExitStatus),
		StartedAt:      o.started.UnixMicro(),
		ResourceUse:    o.Use,
	}
	// Measured, not read off a clock that may be set meanwhile.
	r.FinishedAt = r.StartedAt + o.finished.Sub(o.started).Microseconds()

	b.mu.Lock()
	defer b.mu.Unlock()
	r.Seq = b.seq + 1
	envelope, err := consign.SignRecord(b.identity, r)
	if err != nil {
		return nil, err
	}
	record, err := envelope.MarshalJSON()
	if err != nil {
		return nil, err
	}
	if b.journal != nil {
		if err := b.journal(r.Seq, record); err != nil {
			return nil, &journalError{err}
		}
	}
	b.seq = r.Seq
	return record, nil
}

// journalError is why the journal did not take a record.
type journalError struct{ error }

func (e *journalError) Error() string {
	return "worker: the journal does not take a record, and nothing is handed in without one: " + e.error.Error()
}

func (e *journalError) Unwrap() error { return e.error }
