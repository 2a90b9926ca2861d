package consign

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/consignq/consign/internal/lp"
)

// What a queue's vault does for a job before there is one, and after it.

// affords refuses a job that would not be admitted for want of credit, before
// the vault keeps a key of it. The hold itself is made with the job.
func (s *submitter) affords(ctx context.Context, price Price) error {
	if price == 0 {
		return nil
	}
	n, err := s.q.config.Store.Counter(ctx, balanceCounter(s.account))
	if err == nil && Price(n) < price {
		err = fmt.Errorf("%w: account %q does not have %s: add credit, or ask for less", ErrCredit, s.account, price)
	}
	return err
}

// laneWithVault is a lane whose jobs' keys are in a vault.
func laneWithVault(text, vault string) string {
	l, err := ParseLane(text)
	if err != nil {
		return text // which the engine refuses
	}
	l.Needs.Vault = vault
	return l.String()
}

// deposit has the vault take in the key of a job in escrow. That of a job that
// is there already was taken in, and perhaps shredded since.
func (s *submitter) deposit(ctx context.Context, spec *Spec, wrap []byte, price Price) error {
	jobs, err := s.q.config.Store.Jobs(ctx, []JobID{spec.ID})
	if err != nil || jobs[0] != nil {
		return err
	}
	if err := s.affords(ctx, price); err != nil {
		return err
	}
	if err := s.q.config.Vault.Deposit(ctx, spec.ID, spec.Header, wrap); err != nil {
		return fmt.Errorf("consign: job %s: vault: %w", spec.ID, err)
	}
	return nil
}

// seal has the vault seal a payload that came in plain, and puts what is to be
// stored in its place. Sealed again the same payload is another one: a job that
// is there already keeps the bytes that it has.
func (s *submitter) seal(ctx context.Context, draft *Job, spec *Spec) error {
	sealed, err := s.sealedBefore(ctx, spec)
	if err == nil && sealed == nil {
		if err := s.affords(ctx, draft.Price); err != nil {
			return err
		}
		sealed, err = s.sealFresh(ctx, spec)
	}
	if err != nil {
		return err
	}
	spec.Header, spec.Payload = sealed.Header, sealed.Payload
	draft.InputHash = InputHash(sealed.Header, sealed.Payload)
	return nil
}

func (s *submitter) sealFresh(ctx context.Context, spec *Spec) (*SealedPayload, error) {
	submitter, err := s.q.accountHash(s.account, spec.ID)
	if err != nil {
		return nil, err
	}
	sealed, err := s.q.config.Vault.Seal(ctx, SealRequest{Queue: s.q.id, Job: spec.ID, Submitter: submitter, Kind: spec.Kind, Model: spec.Model,
		Privacy: spec.Privacy, Comparator: spec.Comparator, ClientKey: spec.ClientKey, Payload: spec.Payload})
	if err != nil {
		return nil, fmt.Errorf("consign: job %s: vault: %w", spec.ID, err)
	}
	return &sealed, nil
}

// accountHash names an account in the header of a PUBLIC job, with a salt that
// the queue alone can make: workers cannot tell which jobs are one account's.
// It is the same whenever the job is sealed, so that the vault, which keeps the
// keys of a few headers of one job and no more, knows the header again.
func (q *Queue) accountHash(account string, job JobID) ([32]byte, error) {
	key, err := q.config.Identity.Derive("account-hash")
	if err != nil {
		return [32]byte{}, err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(lp.Append(nil, []byte("consign/account/v1"), job[:], []byte(account)))
	return [32]byte(mac.Sum(nil)), nil
}

// sealedBefore returns what is stored of a job of this account, with that ID
// and payload; nil if there is none. A job that will be refused since its ID is
// taken is refused here, before the vault keeps a key of it.
func (s *submitter) sealedBefore(ctx context.Context, spec *Spec) (*SealedPayload, error) {
	jobs, err := s.q.config.Store.Jobs(ctx, []JobID{spec.ID})
	if err != nil || jobs[0] == nil {
		return nil, err
	}
	switch job := jobs[0]; {
	case job.Account != s.account:
		return nil, ErrIDTaken
	case job.Purged:
		return nil, fmt.Errorf("%w: job %s was submitted before, has ended, and is forgotten; choose a new ID", ErrConflict, spec.ID)
	case job.Custody != CustodyTransit:
		return nil, fmt.Errorf("%w: job %s was submitted in the custody %s; choose a new ID", ErrConflict, spec.ID, job.Custody)
	}
	specs, err := s.q.config.Store.Specs(ctx, []JobID{spec.ID})
	if err != nil || specs[0] == nil {
		return nil, err
	}
	sealed := SealedPayload{Header: specs[0].Header, Payload: specs[0].Payload}
	plain, err := s.q.config.Vault.OpenPayload(ctx, spec.ID, sealed)
	switch {
	case errors.Is(err, ErrKeyGone):
		return nil, fmt.Errorf("%w: job %s was submitted and acknowledged before; choose a new ID", ErrConflict, spec.ID)
	case err != nil:
		return nil, fmt.Errorf("consign: job %s: vault: %w", spec.ID, err)
	case !bytes.Equal(plain, spec.Payload):
		return nil, fmt.Errorf("%w: job %s was submitted with another payload; choose a new ID", ErrConflict, spec.ID)
	}
	return &sealed, nil
}

// opened returns the result of a job in transit, which the vault opens for
// submitters that gave no key of their own. Once the job was acknowledged
// nobody can, nor what a worker did not seal as it should have.
func (q *Queue) opened(ctx context.Context, j *Job, d *Done) ([]byte, error) {
	specs, err := q.config.Store.Specs(ctx, []JobID{j.ID})
	if err != nil || specs[0] == nil || len(specs[0].ClientKey) > 0 {
		return nil, err
	}
	plain, err := q.config.Vault.OpenResult(ctx, SealedResult{Queue: q.id, Claim: Claim{j.ID, d.Claim}, Worker: d.Worker,
		Input: SealedPayload{Header: specs[0].Header, Payload: specs[0].Payload}, Result: d.Result})
	if errors.Is(err, ErrKeyGone) || errors.Is(err, ErrBadResult) { // the job is there all the same
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("consign: job %s: vault: %w", j.ID, err)
	}
	return plain, nil
}
