package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/compare"
)

// seals reports whether the client has to seal a request before it is sent.
func seals(r *consign.SubmitRequest) bool {
	return len(r.Header) == 0 && r.Custody != consign.CustodyPlain && r.Custody != consign.CustodyTransit
}

// seal returns what is kept of a request with a payload in plain: of the first
// call with its ID, whoever made it. A second seal under one ID would be
// another job under the same name.
func (c *Client) seal(ctx context.Context, r *consign.SubmitRequest) (*openJob, error) {
	j, err := c.cfg.Keyring.job(r.ID)
	if errors.Is(err, ErrNoKeys) {
		if j, err = c.sealNew(ctx, *r); err != nil {
			return nil, err
		}
		if err = c.cfg.Keyring.add(r.ID, j); err == nil {
			return j, nil
		}
		if errors.Is(err, fs.ErrExist) { // another was first
			j, err = c.cfg.Keyring.job(r.ID)
		}
	}
	if err != nil {
		return nil, err
	}
	cek, err := seal.ParseCEK(j.CEK)
	if err != nil {
		return nil, fmt.Errorf("%w: job %s: %w", ErrKeyring, r.ID, err)
	}
	if !bytes.Equal(j.Mark, payloadMark(cek, r.Payload)) || j.Kind != r.Kind || j.Model != r.Model || r.Custody != "" && r.Custody != j.Custody {
		return nil, fmt.Errorf("%w: job %s was sealed before with another payload, kind, model or custody", consign.ErrConflict, r.ID)
	}
	return j, nil
}

// sealNew seals a request.
func (c *Client) sealNew(ctx context.Context, r consign.SubmitRequest) (*openJob, error) {
	if len(r.Payload) == 0 {
		return nil, &consign.FieldError{Field: "payload", Problem: "is empty", Remedy: "send at least one byte"}
	}
	h, err := c.header(&r)
	if err != nil {
		return nil, err
	}
	queue, to, err := c.recipients(ctx, r.Custody)
	if err != nil {
		return nil, err
	}
	resultKey, err := seal.GenerateKey(c.cfg.ResultKEM)
	if err != nil {
		return nil, err
	}
	cek := seal.NewCEK()
	j := &openJob{Format: jobFormat, Kind: r.Kind, Model: r.Model, Custody: r.Custody,
		CEK: cek.Bytes(), ResultKey: resultKey.Bytes(), Mark: payloadMark(cek, r.Payload), key: resultKey}
	h.Queue, h.ResultKey = queue, resultKey.Public()
	if h.Kind == "" {
		return nil, &consign.FieldError{Field: "kind", Problem: "is empty", Remedy: "name the kind of the job"}
	}
	plain := r.Payload
	if r.Header, r.Payload, err = seal.SealPayload(h, cek, plain); err != nil {
		return nil, &consign.FieldError{Field: "header", Problem: "cannot be made: " + err.Error(), Remedy: "give names in UTF-8 of at most 1,024 bytes"}
	}
	r.Chars, r.PromptBytes, r.ClientKey = uint32(seal.Chars(plain)), uint64(len(plain)), h.ResultKey.Bytes() //nolint:gosec // SealPayload refuses more
	r.PayloadHash = consign.InputHash(r.Header, r.Payload)
	if r.Wraps, err = wraps(to, cek, r.ID, seal.HeaderHash(r.Header)); err != nil {
		return nil, err
	}
	if r.Privacy == consign.PrivacyPrivate {
		if r.Signature, err = seal.SignSubmission(c.cfg.Identity, r.Header, r.Payload); err != nil {
			return nil, err
		}
	}
	for _, t := range to {
		if t.worker.Algorithm() != "" {
			j.Workers = append(j.Workers, t.worker)
		}
	}
	j.Header, j.Input, j.Request = r.Header, r.PayloadHash[:], &r
	return j, nil
}

// header fills in the defaults of a request, and returns what its header says,
// but for the keys and the queue.
func (c *Client) header(r *consign.SubmitRequest) (seal.Header, error) {
	h := seal.Header{Job: r.ID, Kind: r.Kind, Model: r.Model, Privacy: seal.Public}
	private := r.Privacy == consign.PrivacyPrivate
	switch {
	case private && c.cfg.Identity == nil:
		return h, ErrNoIdentity
	case private:
		h.Privacy, h.Submitter = seal.Private, c.cfg.Identity.Public().ID()
	default:
		// A hash of the account with a salt that nobody is to know.
		_, _ = rand.Read(h.Submitter[:])
	}
	switch {
	case r.Custody == consign.CustodySealed && !private:
		return h, &consign.FieldError{Field: "custody", Problem: "is sealed for a PUBLIC job", Remedy: "make it PRIVATE, or leave the custody out"}
	case r.Custody != "":
	case private:
		r.Custody = consign.CustodySealed
	default:
		r.Custody = consign.CustodyEscrow
	}
	if r.Comparator == "" {
		// Said in the header, so not left to the queue.
		r.Comparator = consign.ComparatorNone
		if r.Kind == consign.KindTask {
			r.Comparator = compare.Exact
		}
	}
	h.Custody, h.Comparator = string(r.Custody), r.Comparator
	return h, nil
}

// maxRecipients is to how many workers a queue lets one job be sealed.
const maxRecipients = 16

// recipient is whom a job's key is wrapped to.
type recipient struct {
	worker sign.PublicKey // zero: the vault
	key    seal.PublicKey
}

func wraps(to []recipient, cek seal.CEK, job consign.JobID, header [32]byte) ([]consign.Wrap, error) {
	out := make([]consign.Wrap, len(to))
	for i, t := range to {
		var purpose seal.Purpose = seal.VaultWrap{Job: job, Header: header}
		if t.worker.Algorithm() != "" {
			out[i].Worker = t.worker.ID()
			purpose = seal.DirectWrap{Job: job, Worker: out[i].Worker, Header: header}
		}
		var err error
		if out[i].Wrap, err = seal.Wrap(t.key, purpose, cek); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// recipients returns the queue, and whom a job under the custody is wrapped to:
// the vault, or the workers that are pinned and have a key.
func (c *Client) recipients(ctx context.Context, custody consign.Custody) (consign.QueueID, []recipient, error) {
	switch custody {
	case consign.CustodyEscrow:
		queue, key, err := c.vault(ctx)
		return queue, []recipient{{key: key}}, err
	case consign.CustodySealed:
		keys, err := c.keys(ctx)
		if err != nil {
			return keys.Queue, nil, err
		}
		to, err := c.pinned(keys.Workers)
		return keys.Queue, to, err
	default:
		return consign.QueueID{}, nil, &consign.FieldError{Field: "custody", Problem: fmt.Sprintf("is %.80q", custody), Remedy: "say sealed, escrow, transit or plain, or leave it out"}
	}
}

// keys asks the queue for its keys, and checks that it is the queue that is
// meant.
func (c *Client) keys(ctx context.Context) (consign.Keys, error) {
	keys, err := c.Keys(ctx)
	if err == nil && c.cfg.QueueKey.Algorithm() != "" && keys.Queue != consign.QueueIDOf(c.cfg.QueueKey) {
		err = fmt.Errorf("%w: %s, and Config.QueueKey is of %s", ErrOtherQueue, keys.Queue, consign.QueueIDOf(c.cfg.QueueKey))
	}
	return keys, err
}

// vaultAge is how long the vault's key is not asked for again.
const vaultAge = time.Minute

// vaultKey is what the queue last said of its vault, checked.
type vaultKey struct {
	queue consign.QueueID
	key   seal.PublicKey
	until time.Time
}

// vault returns the vault's key, once it is the one that is pinned.
func (c *Client) vault(ctx context.Context) (consign.QueueID, seal.PublicKey, error) {
	if v := c.lastVault.Load(); v != nil && time.Now().Before(v.until) {
		return v.queue, v.key, nil
	}
	v := &vaultKey{until: time.Now().Add(vaultAge)}
	keys, err := c.keys(ctx)
	if err != nil {
		return v.queue, v.key, err
	}
	if keys.Vault == nil {
		return v.queue, v.key, &consign.FieldError{Field: "custody", Problem: "is escrow, and this queue has no vault",
			Remedy: "say sealed and pin the workers that may read it, or plain if anybody may"}
	}
	v.queue = keys.Queue
	if v.key, err = seal.ParsePublicKey(keys.Vault); err != nil {
		return v.queue, v.key, fmt.Errorf("client: the vault's key: %w", err)
	}
	if err := c.cfg.Keyring.trustVault(v.queue, v.key); err != nil {
		return v.queue, v.key, err
	}
	c.lastVault.Store(v)
	return v.queue, v.key, nil
}

// pinned returns the workers, of those that the queue names, that are pinned
// and have a key to wrap to. One whose bundle is refused is left out; the error
// says why where none is left.
func (c *Client) pinned(workers []consign.WorkerKeys) ([]recipient, error) {
	pins, err := c.cfg.Keyring.Pins()
	if err != nil {
		return nil, err
	}
	var to []recipient
	var refused []error
	var strangers []string
	for _, w := range workers {
		public, err := sign.ParsePublicKey(w.Algorithm, w.PublicKey)
		if err != nil {
			refused = append(refused, fmt.Errorf("client: worker %s: %w", w.ID, err))
			continue
		}
		if fp := public.Fingerprint(); !slices.Contains(pins, fp) {
			strangers = append(strangers, fp)
			continue
		}
		key, err := c.encryptionKey(w, public)
		if err != nil {
			refused = append(refused, fmt.Errorf("client: worker %s: %w", w.ID, err))
			continue
		}
		to = append(to, recipient{public, key})
	}
	switch {
	case len(to) > 0:
		return to[:min(len(to), maxRecipients)], nil
	case len(refused) > 0:
		return nil, errors.Join(refused...)
	case len(strangers) > 0:
		return nil, fmt.Errorf("%w: the queue names workers with the fingerprints %q", ErrNotPinned, strangers)
	default:
		return nil, fmt.Errorf("%w: the queue names no worker with encryption keys that is paired with this account", consign.ErrNoWorker)
	}
}

// encryptionKey returns what a pinned worker's bundle says to wrap to.
func (c *Client) encryptionKey(w consign.WorkerKeys, public sign.PublicKey) (seal.PublicKey, error) {
	highest, err := c.cfg.Keyring.highest(public.ID())
	if err != nil {
		return seal.PublicKey{}, err
	}
	var envelope sign.Envelope
	if err := json.Unmarshal(w.KeyBundle, &envelope); err != nil {
		return seal.PublicKey{}, fmt.Errorf("%w: %w", seal.ErrBundle, err)
	}
	bundle, err := seal.VerifyBundle(envelope, public, time.Now(), highest)
	if err != nil {
		return seal.PublicKey{}, err
	}
	if bundle.Seq > highest {
		if err := c.cfg.Keyring.saw(public.ID(), bundle.Seq, highest); err != nil {
			return seal.PublicKey{}, err
		}
	}
	return bundle.Keys[0], nil
}
