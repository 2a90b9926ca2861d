package consign

import "context"

// Vault holds the keys of sealed jobs apart from the jobs, in another store.
// The queue never sees a key: it passes on what the vault wrapped.
//
// Methods may be called from many goroutines.
type Vault interface {
	// Release returns the job's key, wrapped to the worker that holds the
	// claim, for the assignment. An error gives the claim back: the job goes
	// to another worker.
	Release(ctx context.Context, c Claim, to WorkerID) ([]byte, error)
	// Shred destroys a job's keys so that they cannot be recovered from the
	// vault's medium. It must succeed where they are gone already. After an
	// error it is called again.
	Shred(ctx context.Context, id JobID) error
}
