package consign

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// Names returns the names of what the vault opens, each of 1 to 64 letters,
	// digits and dashes. A job that is submitted now gets the first, and is
	// handed out by coordinators that have it. A name stays with the keys,
	// wherever their medium is opened and whatever is rotated; a vault that
	// starts empty has one that no other ever had. It is called once a second.
	Names(ctx context.Context) ([]string, error)
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

// isVaultName reports whether s can be the name of a vault.
func isVaultName(s string) bool {
	return len(s) <= 64 && s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// vaultNames asks the vault for its names; none where there is no vault. Those
// that are no names are an error.
func (q *Queue) vaultNames(ctx context.Context) ([]string, error) {
	if q.config.Vault == nil {
		return nil, nil
	}
	names, err := q.config.Vault.Names(ctx)
	if err == nil && (len(names) == 0 || slices.ContainsFunc(names, func(s string) bool { return !isVaultName(s) })) {
		err = fmt.Errorf("its names are %.80q: use one to 64 letters, digits and dashes for each", names)
	}
	if err != nil {
		return nil, fmt.Errorf("consign: vault: %w", err)
	}
	q.vaults.Store(&names)
	return names, nil
}

// vaultName names the vault that the key of a new job goes to.
func (q *Queue) vaultName(ctx context.Context) (string, error) {
	if names := q.vaults.Load(); names != nil {
		return (*names)[0], nil
	}
	names, err := q.vaultNames(ctx)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// inVaults tells the engine what the queue's vault can open.
type inVaults struct{ names []string }

func (in inVaults) apply(e *engine) {
	if slices.Equal(in.names, e.matcher.vaults) {
		return
	}
	for _, g := range e.matcher.openVaults(in.names) {
		e.matchGroup(g)
	}
	e.pump.again = true // keys to destroy may be in one of them
}

// hasVault reports whether the queue can open what is in the vault of that name.
func (m *matcher) hasVault(name string) bool {
	return m.vaulted && (name == "" || slices.Contains(m.vaults, name))
}

// openVaults takes in the vaults' names, and returns the groups that this
// touched.
func (m *matcher) openVaults(names []string) (touched []*group) {
	m.vaults = names
	for _, g := range m.ready.sortedGroups() {
		if g.Needs.Vault != "" {
			m.unlinkGroup(g)
			m.linkGroup(g)
			touched = append(touched, g)
		}
	}
	return touched
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
