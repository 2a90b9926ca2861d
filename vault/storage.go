package vault

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/consignq/consign"
)

// Storage keeps a vault's records, each of which is named by its job and
// header. It is small and dumb: what a record says is encrypted, and every rule
// is the Vault's. vaulttest.Storage is the executable form of this contract.
//
// Methods may be called from many goroutines, and several processes may share
// what is behind them. Records that are handed in or out are not modified
// afterwards. A context's error ends a call early, if the medium lets it.
type Storage interface {
	// Put keeps a record, in the place of the one of its name if there is one,
	// and returns once that is durable. It returns ErrFull, and keeps nothing,
	// where the job has records of MaxHeaders other headers. After any other
	// error the record may have been kept.
	Put(ctx context.Context, r Record) error
	// Replace writes each record in the place of the one of its name and time,
	// of which nothing is left then, and leaves out those that are not there.
	// At no moment is a record not there, whatever crashes.
	Replace(ctx context.Context, rs []Record) error
	// Get returns the records of a job, in any order.
	Get(ctx context.Context, job consign.JobID) ([]Record, error)
	// All yields the records that were there when it began, in any order, but
	// for those that were replaced or deleted meanwhile. The other methods may
	// be called while it is ranged over. An error ends it.
	All(ctx context.Context) iter.Seq2[Record, error]
	// Delete destroys those records that are there by their name and time. When
	// it has returned nil nothing is left of them on the medium, nor of any that
	// an earlier call was to destroy and returned an error for; so it is not
	// idle when rs is empty. A storage whose medium remembers, a log or a
	// snapshot, says so: its records are gone for good with their KEK.
	Delete(ctx context.Context, rs []Record) error
	// Retire is called before All where records are to be under the key present
	// and none of them under one of old, which is to be destroyed. Once it has
	// returned nil, no Put and no Replace keeps anything under one of old, in
	// whichever process and however long ago it began: what its caller gave up,
	// or a process that was killed, may be carried out late. They return
	// ErrRetired and keep nothing, until that key is present again. What is there
	// stays. It waits for those that have begun, and returns an error where one
	// does not end within seconds. Those under other keys do not wait for it.
	Retire(ctx context.Context, old [][8]byte, present [8]byte) error
	// Close gives up what the storage holds. No other call follows.
	Close() error
}

// ErrFull: a job has keys for MaxHeaders headers already.
var ErrFull = errors.New("vault: too many headers for one job")

// ErrRetired: another process that shares the storage has retired the
// key-encryption key.
var ErrRetired = errors.New("vault: the key-encryption key was retired by another process: give this one the present key, with Rekey or RekeyFromFile, and do not start it again before its file has that key")

// The bounds of a storage.
const (
	MaxHeaders = 16  // of one job, that keys are kept for side by side
	MaxSealed  = 190 // bytes of Record.Sealed
)

// Record is an encrypted secret, and what is said of it in the open.
type Record struct {
	Job    consign.JobID // zero: a key of the vault itself, or its name
	Header [32]byte      // SHA-256 of H, or the key's ID, or the name
	At     consign.Instant
	Sealed []byte // begins with the ID of the KEK that it is under
}

// KEK returns the ID of the key-encryption key that the record is under.
func (r Record) KEK() (id [8]byte) {
	copy(id[:], r.Sealed)
	return id
}

// retired are the keys that a storage in one process takes nothing under.
type retired map[[8]byte]bool

// retire adds the old keys, and takes out the present one.
func (keys *retired) retire(old [][8]byte, present [8]byte) {
	if *keys == nil {
		*keys = make(retired)
	}
	for _, id := range old {
		(*keys)[id] = true
	}
	delete(*keys, present)
}

// check returns ErrRetired if a record is under one of the keys.
func (keys retired) check(rs ...Record) error {
	for _, r := range rs {
		if keys[r.KEK()] {
			return ErrRetired
		}
	}
	return nil
}

// named reports whether both are of one job and header.
func (r Record) named(s Record) bool { return r.Job == s.Job && r.Header == s.Header }

// same reports whether both are of one name and time.
func (r Record) same(s Record) bool { return r.named(s) && r.At == s.At }

// equal reports whether both are the same to the last byte.
func (r Record) equal(s Record) bool { return r.same(s) && bytes.Equal(r.Sealed, s.Sealed) }
