// Package vault keeps the keys of sealed jobs: it is the consign.Vault of a
// queue that takes jobs in the custodies escrow and transit.
//
// A submitter wraps its job's key to the vault's public key. The vault opens the
// wrap, keeps the key, and wraps it again to the worker that gets the claim. Who
// steals the store of the jobs has ciphertext alone. Who runs the vault can read
// everything that is in it: docs/trust-model.md says what that is good for.
//
// NewMemory is a vault that is gone with its process, Open one in a file, and New
// one on any other Storage.
//
// # At rest
//
// Every record, the vault's own keys among them, is encrypted under a
// key-encryption key, the KEK, which the vault's medium never holds: KEKFromFile
// and KEKFromEnv get it from elsewhere.
//
// # Shredding
//
// After Shred a job's key cannot be had from the vault's file, not even with the
// KEK. A deleted file or row leaves its bytes in blocks that nobody overwrites,
// so nothing here is deleted: each record has a slot in one file that never
// shrinks, is never copied and never replaced, and to shred is to overwrite the
// slot, sync the file, and only then return. What fails is tried again, by every
// later write and by the next Shred. After a crash the file is as some of the
// writes left it, and a Shred that had not returned is called again.
//
// Some media do not overwrite where they are told to: flash remaps its pages, a
// file system that copies on write or journals data keeps the old version, and so
// do snapshots, backups and the write-ahead log of a database. There the old
// bytes are ciphertext under the KEK, and die with it: Vault.RotateKEK encrypts
// the live records under a new key and destroys the old one. Do that as often as
// such a medium is to forget, and keep the KEK on one that does overwrite, or in
// a service that destroys keys.
//
// Memory is out of scope: keys in use are in the process's memory, and where the
// machine swaps or dumps it to a disk, there.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
)

// ErrWorkerKeys: the worker's keys are missing, not its own, or not valid now; it
// is wrapped with what package seal says of them. The worker has to register with
// a new key bundle.
var ErrWorkerKeys = errors.New("vault: bad worker keys")

// Config says how a vault behaves. The zero Config is a vault that cannot tell
// orphans.
type Config struct {
	// Store is the queue's. With it Sweep finds keys of jobs that never came to
	// be. Defaults to none: then those wait for KeyLifetime.
	Store consign.Store
	// KEM is the kind of the key that submitters wrap to, seal.MLKEM768X25519 or
	// seal.X25519. Where it is another than that of the present key, that is
	// rotated. Defaults to seal.MLKEM768X25519.
	KEM seal.KEM
	// KeyLifetime is how long after it was last deposited a job's key is
	// destroyed, whatever became of the job. Defaults to 7 days.
	KeyLifetime time.Duration
	// KeyOverlap is how long after RotateKey wraps to the key before still open.
	// Defaults to 24 h.
	KeyOverlap time.Duration
	// Now tells the time. Defaults to time.Now.
	Now func() time.Time
	// Logger gets what no caller can receive. Defaults to slog.Default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.KEM == 0 {
		c.KEM = seal.MLKEM768X25519
	}
	if c.KeyLifetime == 0 {
		c.KeyLifetime = 7 * 24 * time.Hour
	}
	if c.KeyOverlap == 0 {
		c.KeyOverlap = 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.KEM != seal.MLKEM768X25519 && c.KEM != seal.X25519:
		return fieldError("config.kem", fmt.Sprintf("is %v", c.KEM), "use seal.MLKEM768X25519 or seal.X25519")
	case c.KeyLifetime < 0:
		return fieldError("config.key_lifetime", "is negative", "give a duration above zero, or zero for the default")
	case c.KeyOverlap < 0:
		return fieldError("config.key_overlap", "is negative", "give a duration above zero, or zero for the default")
	}
	return nil
}

// Vault is a consign.Vault over a Storage. Its methods may be called from many
// goroutines. Besides the errors that they name they return their Storage's.
type Vault struct {
	config  Config
	storage Storage

	rekeying sync.Mutex // one at a time: it decides which keys are dropped

	mu    sync.RWMutex // read-locked by what reads or writes records under kek
	kek   KEK
	own   []ownKey // oldest first
	names []string // likewise, never modified
	root  []byte   // what Secret returns follows from it
	read  []Record // what own and names were read from

	bundles bundles
}

var _ consign.Vault = (*Vault)(nil)

// NewMemory returns a vault that is gone with its process. It returns a
// *FieldError for a bad Config.
func NewMemory(c Config) (*Vault, error) {
	return New(context.Background(), &memory{jobs: make(map[consign.JobID][]Record)}, NewKEK(), c)
}

// New returns the vault in a storage, which it closes with Close. Records that
// are under another key than the last of the KEK are encrypted under that before
// it returns. It returns a *FieldError for a bad Config, and ErrKEK where there
// are records that the KEK does not open.
func New(ctx context.Context, s Storage, k KEK, c Config) (*Vault, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("%w: it is empty: use KEKFromFile, KEKFromEnv or ParseKEK", ErrKEK)
	}
	v := &Vault{config: c, storage: s, kek: k}
	if err := v.Rekey(ctx, k); err != nil {
		return nil, err
	}
	if err := v.loadOwn(ctx); err != nil {
		return nil, err
	}
	if v.root == nil {
		if err := v.giveName(ctx); err != nil {
			return nil, err
		}
	}
	if len(v.own) == 0 || v.own[len(v.own)-1].Public().KEM() != c.KEM {
		if err := v.RotateKey(ctx); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Close closes the storage. No call is to be under way, and none may follow.
func (v *Vault) Close() error { return v.storage.Close() }

// Shred implements consign.Vault. What it destroys is gone from the storage's
// medium, as far as its Delete promises.
func (v *Vault) Shred(ctx context.Context, id consign.JobID) error {
	if id.IsZero() {
		return fieldError("job_id", "is zero", "name the job")
	}
	// Delete is called at least once, for an earlier call may have failed half
	// way, and again as long as a Deposit comes between.
	for again := false; ; again = true {
		rs, err := v.storage.Get(ctx, id)
		if err != nil || again && len(rs) == 0 {
			return err
		}
		if err := v.storage.Delete(ctx, rs); err != nil {
			return err
		}
	}
}

// Rekey encrypts every record under the last key of k, and from then on knows no
// other keys than those of k. It retires those of before: it returns nil once
// nothing is under one of them, and nothing will be that is written late. After an
// error the vault knows the old keys and the new ones, and it can be called again.
// It wraps ErrKEK where a record is under neither.
func (v *Vault) Rekey(ctx context.Context, k KEK) error {
	v.rekeying.Lock()
	defer v.rekeying.Unlock()
	return v.rekey(ctx, k)
}

func (v *Vault) rekey(ctx context.Context, k KEK) error {
	if len(k.keys) == 0 {
		return fmt.Errorf("%w: it is empty", ErrKEK)
	}
	v.mu.RLock()
	all := v.kek.with(k)
	v.mu.RUnlock()
	if err := v.opens(ctx, all); err != nil {
		return err // who does not know the keys in use says nothing of which are retired
	}
	if err := v.storage.Retire(ctx, nil, all.current().id); err != nil {
		return err
	}
	v.mu.Lock() // once nobody is about to put a record under the old key
	v.kek = all
	v.mu.Unlock()
	// What is under an old key yet is there now, or never will be.
	if err := v.storage.Retire(ctx, all.without(k), all.current().id); err != nil {
		return err
	}
	var batch []Record
	for r, err := range v.storage.All(ctx) {
		if err != nil {
			return err
		}
		if r.under(all.current()) {
			continue
		}
		s, err := all.open(r)
		if err != nil {
			return err
		}
		if r, err = all.seal(r, s); err != nil {
			return err
		}
		if batch = append(batch, r); len(batch) < batchSize {
			continue
		}
		if err := v.storage.Replace(ctx, batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if err := v.storage.Replace(ctx, batch); err != nil {
		return err
	}
	// What an earlier Replace left behind when it failed is under an old key.
	if err := v.storage.Delete(ctx, nil); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kek = k
	return nil
}

// opens reports ErrKEK where there is a record that k does not open.
func (v *Vault) opens(ctx context.Context, k KEK) error {
	for r, err := range v.storage.All(ctx) {
		if err != nil {
			return err
		}
		if _, err := k.open(r); err != nil {
			return err
		}
	}
	return nil
}

// batchSize bounds how many records are replaced or deleted at once.
const batchSize = 256

// under reports whether k has the key that the vault encrypts under.
func (v *Vault) under(k KEK) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return k.knows(v.kek)
}

// keep stores a secret.
func (v *Vault) keep(ctx context.Context, r Record, s secret) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	r, err := v.kek.seal(r, s)
	if err != nil {
		return err
	}
	return v.storage.Put(ctx, r)
}

// kept is an opened record.
type kept struct {
	Record
	secret
}

// kept returns what there is of a job.
func (v *Vault) kept(ctx context.Context, job consign.JobID) ([]kept, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rs, err := v.storage.Get(ctx, job)
	if err != nil {
		return nil, err
	}
	return v.open(rs)
}

// open is called under the lock under which rs were read: a KEK that is dropped
// between the two opens nothing.
func (v *Vault) open(rs []Record) ([]kept, error) {
	all := make([]kept, len(rs))
	for i, r := range rs {
		s, err := v.kek.open(r)
		if err != nil {
			return nil, err
		}
		all[i] = kept{r, s}
	}
	return all, nil
}

func (v *Vault) now() consign.Instant { return consign.At(v.config.Now()) }

func fieldError(field, problem, remedy string) error {
	return &consign.FieldError{Field: field, Problem: problem, Remedy: remedy}
}
