package testkit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/consignq/consign"
)

// Vault is a consign.Vault in memory: the keys of jobs, apart from the jobs.
type Vault struct {
	// Faults decides what happens to each Release and Shred. It is set before
	// the vault is used.
	Faults Faults

	once  sync.Once
	calls *faults
	mu    sync.Mutex
	keys  map[consign.JobID][]byte
	given map[consign.Claim]consign.WorkerID
}

// Put takes in a job's key, before the job is submitted.
func (v *Vault) Put(id consign.JobID, key []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil {
		v.keys = map[consign.JobID][]byte{}
	}
	v.keys[id] = key
}

// Holds reports whether the job's key is there.
func (v *Vault) Holds(id consign.JobID) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keys[id] != nil
}

// Given returns which worker each claim's key went to.
func (v *Vault) Given() map[consign.Claim]consign.WorkerID {
	v.mu.Lock()
	defer v.mu.Unlock()
	given := map[consign.Claim]consign.WorkerID{}
	for c, w := range v.given {
		given[c] = w
	}
	return given
}

func (v *Vault) faults() *faults {
	v.once.Do(func() {
		decide := v.Faults
		if decide == nil {
			decide = func(Call) Fault { return Fault{} }
		}
		v.calls = newFaults(decide)
	})
	return v.calls
}

// Release implements consign.Vault. What it returns only this claim's worker
// could open, were it a real one.
func (v *Vault) Release(ctx context.Context, r consign.KeyRelease) ([]byte, error) {
	c, to := r.Claim, r.Worker.ID
	return inject(ctx, v.faults(), "Release", func() ([]byte, error) {
		v.mu.Lock()
		defer v.mu.Unlock()
		key := v.keys[c.Job]
		if key == nil {
			return nil, fmt.Errorf("%w: job %s", consign.ErrKeyGone, c.Job)
		}
		if v.given == nil {
			v.given = map[consign.Claim]consign.WorkerID{}
		}
		v.given[c] = to
		return Wrap(key, c, to), nil
	})
}

// Names implements consign.Vault.
func (v *Vault) Names(context.Context) ([]string, error) { return []string{"testkit"}, nil }

// Key implements consign.Vault.
func (v *Vault) Key(context.Context) ([]byte, error) { return []byte("testkit: the vault's key"), nil }

// Deposit implements consign.Vault. The wrap is the key.
func (v *Vault) Deposit(ctx context.Context, id consign.JobID, _, wrap []byte) error {
	return inject0(ctx, v.faults(), "Deposit", func() error {
		v.Put(id, wrap)
		return nil
	})
}

// Seal implements consign.Vault. It hides nothing.
func (v *Vault) Seal(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
	return inject(ctx, v.faults(), "Seal", func() (consign.SealedPayload, error) {
		v.Put(r.Job, []byte("the key of "+r.Job.String()))
		return consign.SealedPayload{Header: []byte("H"), Payload: r.Payload}, nil
	})
}

// OpenPayload implements consign.Vault.
func (v *Vault) OpenPayload(_ context.Context, _ consign.JobID, s consign.SealedPayload) ([]byte, error) {
	return s.Payload, nil
}

// OpenResult implements consign.Vault.
func (v *Vault) OpenResult(_ context.Context, r consign.SealedResult) ([]byte, error) {
	return r.Result, nil
}

// Wrap is what a vault gives out: the key, bound to a claim and its worker.
func Wrap(key []byte, c consign.Claim, to consign.WorkerID) []byte {
	h := sha256.New()
	h.Write(key)
	h.Write(c.Job[:])
	h.Write(c.Claim[:])
	h.Write(to[:])
	return h.Sum(nil)
}

// Shred implements consign.Vault.
func (v *Vault) Shred(ctx context.Context, id consign.JobID) error {
	return inject0(ctx, v.faults(), "Shred", func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.keys, id)
		return nil
	})
}
