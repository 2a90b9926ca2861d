package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
)

// Deposit implements consign.Vault. It returns a *FieldError, "wraps", for a
// wrap that does not open to the key that the header commits to, and for a
// header that is not one of this job in the custody escrow; and "job_id" for a
// header beyond the MaxHeaders of one job.
func (v *Vault) Deposit(ctx context.Context, job consign.JobID, header, wrap []byte) error {
	h, err := seal.ParseHeader(header)
	switch {
	case err != nil:
		return wrapsError("are for bytes that are no header: %v", err)
	case h.Job != job:
		return wrapsError("are for the header of job %s", consign.JobID(h.Job))
	case h.Custody != seal.Escrow:
		return wrapsError("are for a header in the custody %s", h.Custody)
	}
	hash := seal.HeaderHash(header)
	cek, err := v.unwrap(ctx, seal.VaultWrap{Job: job, Header: hash}, wrap)
	if err != nil {
		return err
	}
	if err := cek.Check(h); err != nil {
		return wrapsError("hold another key than the header commits to")
	}
	return v.keepJob(ctx, job, hash, secret{cek: cek})
}

func wrapsError(problem string, args ...any) error {
	return fieldError("wraps", fmt.Sprintf(problem, args...), "wrap the job's key to the vault's present key, for the header that is sent with it")
}

// keepJob stores the keys of a job.
func (v *Vault) keepJob(ctx context.Context, job consign.JobID, header [32]byte, s secret) error {
	err := v.keep(ctx, Record{Job: job, Header: header, At: v.now()}, s)
	if errors.Is(err, ErrFull) {
		return fieldError("job_id", fmt.Sprintf("has keys for %d other headers", MaxHeaders), "send the sealed bytes that were sent before, or take a new ID")
	}
	return err
}

// Seal implements consign.Vault. To seal again, under one job ID, a payload as
// long as before takes the same keys and gives the same header, so that a caller
// may try as often as it likes. It returns a *FieldError for a request that no
// header can be made of, and where the job has MaxHeaders.
func (v *Vault) Seal(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
	h := seal.Header{Queue: r.Queue, Job: r.Job, Submitter: r.Submitter, Kind: r.Kind, Model: r.Model,
		Privacy: r.Privacy.String(), Custody: seal.Transit, Comparator: r.Comparator}
	if r.ClientKey != nil {
		var err error
		if h.ResultKey, err = seal.ParsePublicKey(r.ClientKey); err != nil {
			return consign.SealedPayload{}, fieldError("client_pubkey", "is not a key: "+err.Error(), "send a public key of package seal, or none")
		}
	}
	before, err := v.kept(ctx, r.Job)
	if err != nil {
		return consign.SealedPayload{}, err
	}
	for _, k := range before {
		if (k.key == nil) != (r.ClientKey != nil) {
			continue
		}
		if p, err := sealPayload(h, k.secret, r.Payload); err == nil && seal.HeaderHash(p.Header) == k.Header {
			return p, v.keepJob(ctx, r.Job, k.Header, k.secret)
		}
	}
	s := secret{cek: seal.NewCEK()}
	if r.ClientKey == nil {
		if s.key, err = seal.GenerateKey(v.config.KEM); err != nil {
			return consign.SealedPayload{}, err
		}
	}
	p, err := sealPayload(h, s, r.Payload)
	if err != nil {
		return consign.SealedPayload{}, fieldError("payload", "cannot be sealed: "+err.Error(), "correct the request")
	}
	if err := v.keepJob(ctx, r.Job, seal.HeaderHash(p.Header), s); err != nil {
		return consign.SealedPayload{}, err
	}
	return p, nil
}

func sealPayload(h seal.Header, s secret, payload []byte) (p consign.SealedPayload, err error) {
	if s.key != nil {
		h.ResultKey = s.key.Public()
	}
	p.Header, p.Payload, err = seal.SealPayload(h, s.cek, payload)
	return p, err
}

// find returns the keys of a job with a header. It wraps consign.ErrKeyGone.
func (v *Vault) find(ctx context.Context, job consign.JobID, header [32]byte) (secret, error) {
	all, err := v.kept(ctx, job)
	if err != nil {
		return secret{}, err
	}
	for _, k := range all {
		if k.Header == header && !v.old(k.Record) {
			return k.secret, nil
		}
	}
	return secret{}, fmt.Errorf("%w: job %s", consign.ErrKeyGone, job)
}

// old reports whether the record of a job is past its lifetime.
func (v *Vault) old(r Record) bool { return v.now() >= r.At.Add(v.config.KeyLifetime) }

// OpenPayload implements consign.Vault. It returns consign.ErrKeyGone, a *FieldError for a
// header that Seal did not make, and the errors of seal.OpenRevealedPayload for a
// payload that it did not.
func (v *Vault) OpenPayload(ctx context.Context, job consign.JobID, s consign.SealedPayload) ([]byte, error) {
	k, err := v.findSealed(ctx, job, s.Header)
	if err != nil {
		return nil, err
	}
	_, payload, err := seal.OpenRevealedPayload(s.Header, s.Payload, k.cek)
	return payload, err
}

// OpenResult implements consign.Vault. It returns consign.ErrKeyGone, a *FieldError for a
// job whose result is not the vault's to open, and consign.ErrBadResult for bytes
// that do not open.
func (v *Vault) OpenResult(ctx context.Context, r consign.SealedResult) ([]byte, error) {
	k, err := v.findSealed(ctx, r.Claim.Job, r.Input.Header)
	if err != nil {
		return nil, err
	}
	if k.key == nil {
		return nil, fieldError("client_pubkey", "was given with the job", "open the result with its private key: the vault does not have it")
	}
	plain, err := seal.OpenResult(k.key, seal.ResultInfo{Queue: r.Queue, Job: r.Claim.Job, Worker: r.Worker, Claim: r.Claim.Claim,
		Input: seal.InputHash(r.Input.Header, r.Input.Payload)}, r.Result)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", consign.ErrBadResult, err)
	}
	return plain, nil
}

// findSealed is find for what Seal made: the vault opens nothing that a submitter
// sealed.
func (v *Vault) findSealed(ctx context.Context, job consign.JobID, header []byte) (secret, error) {
	h, err := seal.ParseHeader(header)
	if err != nil {
		return secret{}, fieldError("header", "is none: "+err.Error(), "give what Seal returned")
	}
	if h.Custody != seal.Transit {
		return secret{}, fieldError("custody", "is "+h.Custody, "ask the submitter, who sealed it")
	}
	return v.find(ctx, job, seal.HeaderHash(header))
}

// Release implements consign.Vault. It returns consign.ErrKeyGone and ErrWorkerKeys. That
// the worker holds the claim is for the queue to know, as is the highest seq of
// its bundles.
func (v *Vault) Release(ctx context.Context, r consign.KeyRelease) ([]byte, error) {
	to, err := v.bundles.key(r.Worker, v.config.Now())
	if err != nil {
		return nil, fmt.Errorf("%w: worker %s: %w", ErrWorkerKeys, r.Worker.ID, err)
	}
	s, err := v.find(ctx, r.Claim.Job, r.Header)
	if err != nil {
		return nil, err
	}
	return seal.Wrap(to, seal.ClaimWrap{Job: r.Claim.Job, Worker: r.Worker.ID, Claim: r.Claim.Claim, Header: r.Header}, s.cek)
}
