package vaulttest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// broken is a vault with some methods of its own.
type broken struct {
	consign.Vault
	key         func() ([]byte, error)
	deposit     func(ctx context.Context, job consign.JobID, header, wrap []byte) error
	seal        func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error)
	openPayload func(ctx context.Context, job consign.JobID, s consign.SealedPayload) ([]byte, error)
	openResult  func(ctx context.Context, r consign.SealedResult) ([]byte, error)
	release     func(ctx context.Context, r consign.KeyRelease) ([]byte, error)
	shred       func(ctx context.Context, id consign.JobID) error
}

func (b *broken) Key(ctx context.Context) ([]byte, error) {
	if b.key != nil {
		return b.key()
	}
	return b.Vault.Key(ctx)
}

func (b *broken) Deposit(ctx context.Context, job consign.JobID, header, wrap []byte) error {
	if b.deposit != nil {
		return b.deposit(ctx, job, header, wrap)
	}
	return b.Vault.Deposit(ctx, job, header, wrap)
}

func (b *broken) Seal(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
	if b.seal != nil {
		return b.seal(ctx, r)
	}
	return b.Vault.Seal(ctx, r)
}

func (b *broken) OpenPayload(ctx context.Context, job consign.JobID, s consign.SealedPayload) ([]byte, error) {
	if b.openPayload != nil {
		return b.openPayload(ctx, job, s)
	}
	return b.Vault.OpenPayload(ctx, job, s)
}

func (b *broken) OpenResult(ctx context.Context, r consign.SealedResult) ([]byte, error) {
	if b.openResult != nil {
		return b.openResult(ctx, r)
	}
	return b.Vault.OpenResult(ctx, r)
}

func (b *broken) Release(ctx context.Context, r consign.KeyRelease) ([]byte, error) {
	if b.release != nil {
		return b.release(ctx, r)
	}
	return b.Vault.Release(ctx, r)
}

func (b *broken) Shred(ctx context.Context, id consign.JobID) error {
	if b.shred != nil {
		return b.shred(ctx, id)
	}
	return b.Vault.Shred(ctx, id)
}

// secrets is a careless vault's memory: it opens every wrap that it can, and asks
// no questions.
type secrets struct {
	mu   sync.Mutex
	own  *seal.PrivateKey
	keys map[consign.JobID][]seal.CEK
}

// careless returns a vault that keeps keys beside the good one, which is asked
// only by the methods that are not given.
func careless(build func(b *broken, s *secrets)) func(consign.Vault) consign.Vault {
	return func(v consign.Vault) consign.Vault {
		own, err := seal.GenerateKey(seal.X25519)
		if err != nil {
			panic(err)
		}
		s := &secrets{own: own, keys: make(map[consign.JobID][]seal.CEK)}
		b := &broken{Vault: v, key: func() ([]byte, error) { return own.Public().Bytes(), nil }}
		build(b, s)
		return b
	}
}

var errOther = errors.New("another error")

// vaultOf is a whole vault in escrow that leaves out the checks that are named.
func vaultOf(leaveOut string) func(consign.Vault) consign.Vault {
	return careless(func(b *broken, s *secrets) {
		headers := make(map[[32]byte]seal.CEK)
		b.deposit = func(_ context.Context, job consign.JobID, header, wrap []byte) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			refuse := &consign.FieldError{Field: "wraps"}
			h, err := seal.ParseHeader(header)
			if err != nil || leaveOut != "job" && h.Job != job || leaveOut != "custody" && h.Custody != seal.Escrow {
				return refuse
			}
			hash := seal.HeaderHash(header)
			cek, err := seal.Unwrap(seal.VaultWrap{Job: job, Header: hash}, wrap, s.own)
			if err != nil || leaveOut != "commit" && cek.Check(h) != nil {
				return refuse
			}
			if leaveOut != "bound" && len(s.keys[job]) > 20 {
				return refuse
			}
			s.keys[job] = append(s.keys[job], cek)
			headers[hash] = cek
			return nil
		}
		b.shred = func(_ context.Context, id consign.JobID) error { return nil }
		b.release = func(_ context.Context, r consign.KeyRelease) ([]byte, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			cek, ok := headers[r.Header]
			if !ok {
				return nil, consign.ErrKeyGone
			}
			var e sign.Envelope
			signer, err := sign.ParsePublicKey(r.Worker.Algorithm, r.Worker.PublicKey)
			if err != nil || r.Worker.KeyBundle == nil || leaveOut != "worker" && consign.WorkerID(signer.ID()) != r.Worker.ID {
				return nil, errOther
			}
			if err := e.UnmarshalJSON(r.Worker.KeyBundle); err != nil {
				return nil, err
			}
			times := []time.Time{time.Now()}
			if leaveOut == "expiry" {
				times = append(times, times[0].Add(-36*time.Hour), times[0].Add(36*time.Hour))
			}
			var bundle seal.Bundle
			for _, now := range times {
				if bundle, err = seal.VerifyBundle(e, signer, now, 0); err == nil {
					break
				}
			}
			if err != nil {
				return nil, err
			}
			p := seal.ClaimWrap{Job: r.Claim.Job, Worker: r.Worker.ID, Claim: r.Claim.Claim, Header: r.Header}
			if leaveOut == "claim" {
				p.Claim = consign.ClaimID{}
			}
			return seal.Wrap(bundle.Keys[0], p, cek)
		}
	})
}

var vaultMutants = []mutant[consign.Vault]{
	{"gives another key each time", "Key", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, key: func() ([]byte, error) {
			key, err := seal.GenerateKey(seal.X25519)
			return key.Public().Bytes(), err
		}}
	}},
	{"gives its key as text", "Key", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, key: func() ([]byte, error) {
			b, err := v.Key(context.Background())
			return append([]byte("key:"), b...), err
		}}
	}},
	{"forgets the first deposit", "Deposit", func(v consign.Vault) consign.Vault {
		var once sync.Once
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) (err error) {
			dropped := false
			once.Do(func() { dropped = true })
			if dropped {
				return nil
			}
			return v.Deposit(ctx, job, header, wrap)
		}}
	}},
	{"keeps the last header alone", "Headers", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			if err := v.Shred(ctx, job); err != nil {
				return err
			}
			return v.Deposit(ctx, job, header, wrap)
		}}
	}},
	{"refuses a second deposit", "Headers", func(v consign.Vault) consign.Vault {
		seen := make(map[[32]byte]bool)
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			if hash := seal.HeaderHash(header); seen[hash] {
				return errOther
			} else {
				seen[hash] = true
			}
			return v.Deposit(ctx, job, header, wrap)
		}}
	}},
	{"does not compare the header's job", "Refuse", vaultOf("job")},
	{"does not look at the custody", "Refuse", vaultOf("custody")},
	{"does not check the commitment", "Refuse", vaultOf("commit")},
	{"refuses with an error of no field", "Refuse", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			if err := v.Deposit(ctx, job, header, wrap); err != nil {
				return errOther
			}
			return nil
		}}
	}},
	{"loses the good key with a bad wrap", "Refuse", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			err := v.Deposit(ctx, job, header, wrap)
			if err != nil {
				_ = v.Shred(ctx, job)
			}
			return err
		}}
	}},
	{"takes any number of headers", "Bounded", vaultOf("bound")},
	{"takes one header", "Bounded", func(v consign.Vault) consign.Vault {
		first := make(map[consign.JobID][32]byte)
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			if hash, ok := first[job]; ok && hash != seal.HeaderHash(header) {
				return &consign.FieldError{Field: "job_id"}
			}
			first[job] = seal.HeaderHash(header)
			return v.Deposit(ctx, job, header, wrap)
		}}
	}},
	{"does not seal", "Seal", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			s, err := v.Seal(ctx, r)
			s.Payload = append(s.Payload, r.Payload...)
			return s, err
		}}
	}},
	{"forgets who submitted", "Seal", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			r.Submitter = [32]byte{}
			return v.Seal(ctx, r)
		}}
	}},
	{"runs out of headers when it seals again", "Seal", func(v consign.Vault) consign.Vault {
		n := 0
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			if n++; n > 4 {
				return consign.SealedPayload{}, &consign.FieldError{Field: "job_id"}
			}
			return v.Seal(ctx, r)
		}}
	}},
	{"takes another key when it seals again", "Seal", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			if err := v.Shred(ctx, r.Job); err != nil {
				return consign.SealedPayload{}, err
			}
			return v.Seal(ctx, r)
		}}
	}},
	{"ignores a client's key that is none", "SealRefuse", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			if _, err := seal.ParsePublicKey(r.ClientKey); err != nil {
				r.ClientKey = nil
			}
			return v.Seal(ctx, r)
		}}
	}},
	{"seals results to itself", "ClientKey", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, seal: func(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
			r.ClientKey = nil
			return v.Seal(ctx, r)
		}}
	}},
	{"opens payloads of whatever job", "OpenPayload", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, openPayload: func(ctx context.Context, _ consign.JobID, s consign.SealedPayload) ([]byte, error) {
			h, err := seal.ParseHeader(s.Header)
			if err != nil {
				return nil, err
			}
			return v.OpenPayload(ctx, h.Job, s)
		}}
	}},
	{"remembers payloads", "OpenPayload", func(v consign.Vault) consign.Vault {
		seen := make(map[consign.JobID][]byte)
		return &broken{Vault: v, openPayload: func(ctx context.Context, job consign.JobID, s consign.SealedPayload) ([]byte, error) {
			if b := seen[job]; b != nil {
				return b, nil
			}
			b, err := v.OpenPayload(ctx, job, s)
			seen[job] = b
			return b, err
		}}
	}},
	{"opens a result for whatever claim", "OpenResult", func(v consign.Vault) consign.Vault {
		var first *consign.SealedResult
		return &broken{Vault: v, openResult: func(ctx context.Context, r consign.SealedResult) ([]byte, error) {
			if first == nil {
				first = &r
			}
			r.Claim = first.Claim
			return v.OpenResult(ctx, r)
		}}
	}},
	{"remembers results", "OpenResult", func(v consign.Vault) consign.Vault {
		seen := make(map[string][]byte)
		return &broken{Vault: v, openResult: func(ctx context.Context, r consign.SealedResult) ([]byte, error) {
			if b := seen[string(r.Result)]; b != nil {
				return b, nil
			}
			b, err := v.OpenResult(ctx, r)
			seen[string(r.Result)] = b
			return b, err
		}}
	}},
	{"binds a wrap to no claim", "Release", vaultOf("claim")},
	{"takes a bundle at any time", "NotReleased", vaultOf("expiry")},
	{"does not compare the worker's ID with its key", "NotReleased", vaultOf("worker")},
	{"says of bad worker keys that the job's are gone", "NotReleased", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, release: func(ctx context.Context, r consign.KeyRelease) ([]byte, error) {
			b, err := v.Release(ctx, r)
			if err != nil {
				err = consign.ErrKeyGone
			}
			return b, err
		}}
	}},
	{"does not say that a key is gone", "NotReleased", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, release: func(ctx context.Context, r consign.KeyRelease) ([]byte, error) {
			b, err := v.Release(ctx, r)
			if err != nil {
				err = errOther
			}
			return b, err
		}}
	}},
	{"shreds one header", "Shred", func(v consign.Vault) consign.Vault {
		held := make(map[consign.JobID][2][]byte)
		return &broken{Vault: v,
			deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
				held[job] = [2][]byte{bytes.Clone(header), bytes.Clone(wrap)}
				return v.Deposit(ctx, job, header, wrap)
			},
			shred: func(ctx context.Context, id consign.JobID) error {
				if err := v.Shred(ctx, id); err != nil || held[id][0] == nil {
					return err
				}
				return v.Deposit(ctx, id, held[id][0], held[id][1])
			}}
	}},
	{"shreds nothing", "Shred", func(v consign.Vault) consign.Vault {
		return &broken{Vault: v, shred: func(context.Context, consign.JobID) error { return nil }}
	}},
	{"fails to shred what is gone", "ShredAgain", func(v consign.Vault) consign.Vault {
		seen := make(map[consign.JobID]bool)
		return &broken{Vault: v, shred: func(ctx context.Context, id consign.JobID) error {
			if seen[id] {
				return errOther
			}
			seen[id] = true
			return v.Shred(ctx, id)
		}}
	}},
	{"shreds all that there is", "Shred", func(v consign.Vault) consign.Vault {
		var all []consign.JobID
		return &broken{Vault: v,
			deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
				all = append(all, job)
				return v.Deposit(ctx, job, header, wrap)
			},
			shred: func(ctx context.Context, _ consign.JobID) error {
				for _, id := range all {
					if err := v.Shred(ctx, id); err != nil {
						return err
					}
				}
				return nil
			}}
	}},
	{"keeps one of the deposits that come at once", "Goroutines", func(v consign.Vault) consign.Vault {
		var n atomic.Int32
		var crowd sync.WaitGroup
		crowd.Add(16) // as many as the check lets loose
		return &broken{Vault: v, deposit: func(ctx context.Context, job consign.JobID, header, wrap []byte) error {
			if i := n.Add(1); i <= 16 {
				crowd.Done()
				crowd.Wait()
				if i != 1 {
					return nil
				}
			}
			return v.Deposit(ctx, job, header, wrap)
		}}
	}},
}
