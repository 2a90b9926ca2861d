// Package client is what a submitter programs against: a consign.SubmitterAPI
// that stands outages, and seals what it is given; and the way from a request to
// a result that has been verified and opened.
package client

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/retry"
)

// Config says which queue to use and whom to trust. API and QueueKey are
// required.
type Config struct {
	// API is the queue: consign.Queue.Submitter of one in this process, or
	// what a transport's dialer returns.
	API consign.SubmitterAPI

	// QueueKey is the key that the queue signs acceptances with. It has to
	// come to you by another way than the queue's own answers. Required,
	// unless Unverified is set.
	QueueKey sign.PublicKey
	// WorkerKey returns the key of a worker, or an error for one that is not
	// to be believed: here a submitter pins the workers that it trusts.
	// Defaults to believing any worker with an ed25519 key, which its ID is;
	// the receipt then says that one worker made the result, not that you know
	// it. The ID of an RSA key is a hash: such workers need a WorkerKey.
	WorkerKey func(consign.WorkerID) (sign.PublicKey, error)
	// Unverified makes Run return results without a look at their receipts,
	// for queues that keep none. A sealed result still opens, and nothing then
	// says who made it. Defaults to verifying.
	Unverified bool

	// Keyring keeps what it takes to collect a sealed job. With one on disk
	// (OpenKeyring) another process can; losing it is losing the results.
	// Defaults to one in memory, of this Client.
	Keyring *Keyring
	// Identity is the ed25519 key by which workers know the submitter of PRIVATE
	// jobs: see Keyring.Identity. Defaults to none, and to refusing such jobs.
	Identity *sign.Identity
	// ResultKEM is the kind of the keys that results are sealed to, of which
	// each job has its own. Defaults to seal.MLKEM768X25519.
	ResultKEM seal.KEM

	// Acknowledge makes Run and Collect acknowledge a job once its result is
	// verified and opened, after which its keys are destroyed and the queue may
	// forget it: a result that the caller then loses is gone. Defaults to
	// leaving that to the caller.
	Acknowledge bool
	// Patience is how long a call is tried again while the queue does not
	// answer. Negative: not at all. Defaults to 1 minute.
	Patience time.Duration
}

func (c Config) withDefaults() Config {
	if c.WorkerKey == nil {
		c.WorkerKey = new(workerKeys).key
	}
	if c.Keyring == nil {
		c.Keyring = NewKeyring()
	}
	if c.ResultKEM == 0 {
		c.ResultKEM = seal.MLKEM768X25519
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.API == nil:
		return &consign.FieldError{Field: "client.Config.API", Problem: "is nil", Remedy: "give a queue's Submitter, or what a transport's dialer returns"}
	case c.QueueKey.Algorithm() == "" && !c.Unverified:
		return &consign.FieldError{Field: "client.Config.QueueKey", Problem: "is empty", Remedy: "give the queue's public key, or set Unverified"}
	case c.Identity != nil && c.Identity.Public().Algorithm() != sign.Ed25519:
		return &consign.FieldError{Field: "client.Config.Identity", Problem: "is not an ed25519 key", Remedy: "use Keyring.Identity, or another of that kind"}
	case c.ResultKEM != seal.MLKEM768X25519 && c.ResultKEM != seal.X25519:
		return &consign.FieldError{Field: "client.Config.ResultKEM", Problem: "is " + c.ResultKEM.String(), Remedy: "use seal.MLKEM768X25519 or seal.X25519"}
	}
	return nil
}

// Client is a consign.SubmitterAPI that tries again, for Config.Patience, what
// the queue has not answered: a network's errors, ErrClosed, ErrBusy. Every
// call is safe to repeat, since a job's ID is chosen here, before the first
// try. It may be used from many goroutines.
type Client struct {
	cfg       Config
	pins      bool // Config.WorkerKey says which workers are believed
	lastVault atomic.Pointer[vaultKey]
}

var _ consign.SubmitterAPI = (*Client)(nil)

// New checks the configuration. It returns a *consign.FieldError for a bad
// one, and calls nothing.
func New(cfg Config) (*Client, error) {
	pins := cfg.WorkerKey != nil
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, pins: pins}, nil
}

// again makes a call until the queue has answered it.
func again[T any](ctx context.Context, c *Client, f func() (T, error)) (T, error) {
	if c.cfg.Patience < 0 {
		return f()
	}
	return retry.Do(ctx, c.cfg.Patience, f, nil)
}

// Quote implements consign.SubmitterAPI.
func (c *Client) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	return again(ctx, c, func() (consign.Quote, error) { return c.cfg.API.Quote(ctx, r) })
}

// Submit implements consign.SubmitterAPI. A request without an ID gets one, so
// that the same job is meant on every try.
//
// A request without a Header has its payload in plain, and is sealed before
// anything leaves: PRIVATE jobs to the workers that are pinned, others through
// the queue's vault, unless Custody says sealed or escrow otherwise. Only
// CustodyPlain and CustodyTransit hand the payload out as it is. What was
// sealed is kept in the keyring before it is sent, and is what is sent again
// under that ID: the rest of a later request with it is not looked at.
// Comparator defaults to "exact" for KindTask, to consign.ComparatorNone otherwise.
//
// Without a Deadline a job has none, and without a QueueTime that of the queue:
// it goes on when ctx has ended, which bounds the wait alone. The 30 s and 60 s
// of the first protocol hold for its own endpoint, /v1/jobs/commit.
//
// Beside those of the interface it returns, with nothing sent: ErrNotPinned,
// ErrNoIdentity, ErrVaultChanged, ErrOtherQueue and ErrKeyring; the errors of
// seal.VerifyBundle, where no worker's bundle holds; consign.ErrNoWorker.
func (c *Client) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	if !seals(&r) {
		return again(ctx, c, func() (consign.JobInfo, error) { return c.cfg.API.Submit(ctx, r) })
	}
	j, err := c.seal(ctx, &r)
	if err != nil {
		return consign.JobInfo{}, err
	}
	if j.Request == nil {
		return c.Get(ctx, r.ID)
	}
	return c.send(ctx, r.ID, j)
}

// send submits what was sealed, and then needs it no more.
func (c *Client) send(ctx context.Context, id consign.JobID, j *openJob) (consign.JobInfo, error) {
	job, err := again(ctx, c, func() (consign.JobInfo, error) { return c.cfg.API.Submit(ctx, *j.Request) })
	return job, c.answered(ctx, id, j, err)
}

// answered does to a job's keys what the answer to its submit asks for.
func (c *Client) answered(ctx context.Context, id consign.JobID, j *openJob, answer error) error {
	switch {
	case answer == nil:
		return c.cfg.Keyring.submitted(id, j)
	case !retry.Permanent(answer):
		return answer // it may have been admitted
	case !errors.Is(answer, consign.ErrIDTaken):
		// Unless an earlier try got through whose answer was lost, or the conflict
		// is with the job itself, as a queue of other settings sees it.
		if _, err := c.Get(ctx, id); !errors.Is(err, consign.ErrNotFound) {
			return answer
		}
	}
	if err := c.cfg.Keyring.Forget(id); err != nil {
		return errors.Join(answer, err)
	}
	return answer
}

// SubmitMany implements consign.SubmitterAPI. Requests without an ID get one,
// and payloads in plain are sealed, as in Submit; only those that were not
// answered are sent again.
func (c *Client) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := make([]consign.SubmitOutcome, len(rs))
	sealed := make([]*openJob, len(rs))
	var open []int // indices into rs
	var send []consign.SubmitRequest
	for i, r := range rs {
		if r.ID.IsZero() {
			r.ID = consign.NewJobID()
		}
		if seals(&r) {
			j, err := c.seal(ctx, &r)
			switch {
			case err != nil:
				out[i].Err = err
				continue
			case j.Request == nil:
				out[i].Job, out[i].Err = c.Get(ctx, r.ID)
				continue
			}
			sealed[i], r = j, *j.Request
		}
		open, send = append(open, i), append(send, r)
	}
	if len(send) == 0 {
		return out
	}
	_, _ = again(ctx, c, func() (struct{}, error) {
		var last error
		n := 0
		for k, o := range c.cfg.API.SubmitMany(ctx, send) {
			i := open[k]
			if out[i] = o; o.Err != nil && !retry.Permanent(o.Err) {
				open[n], send[n] = i, send[k]
				n++
				last = o.Err
			}
		}
		open, send = open[:n], send[:n]
		return struct{}{}, last
	})
	for i, j := range sealed {
		if j != nil {
			out[i].Err = c.answered(ctx, j.Request.ID, j, out[i].Err)
		}
	}
	return out
}

// Get implements consign.SubmitterAPI.
func (c *Client) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return again(ctx, c, func() (consign.JobInfo, error) { return c.cfg.API.Get(ctx, id) })
}

// Wait implements consign.SubmitterAPI. It waits through outages, each of them
// up to Config.Patience long.
func (c *Client) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	waits := retry.NewBackOff()
	for {
		job, err := c.cfg.API.Wait(ctx, id)
		if err == nil || retry.Permanent(err) || c.cfg.Patience < 0 || ctx.Err() != nil {
			return job, err
		}
		// A short call tells whether the outage is over: the long one may have
		// waited for an hour before it was cut.
		if job, err = c.Get(ctx, id); err != nil || job.State.Terminal() {
			return job, err
		}
		retry.Sleep(ctx, waits.NextBackOff())
	}
}

// Events implements consign.SubmitterAPI. A stream that is cut is taken up
// after the last entry; each entry is yielded once. An outage that outlasts
// Config.Patience ends it with its error.
func (c *Client) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		waits := retry.NewBackOff()
		var failing time.Time // since when; zero: it is not
		for {
			began := time.Now()
			var cut error
			for e, err := range c.cfg.API.Events(ctx, id, after) {
				if err != nil {
					cut = err
					break
				}
				if e.Seq <= after {
					continue // we have it
				}
				after, failing = e.Seq, time.Time{}
				if !yield(e, nil) {
					return
				}
			}
			if cut == nil {
				return
			}
			if failing.IsZero() || time.Since(began) > c.cfg.Patience {
				failing = time.Now() // it ran for a while in between
				waits.Reset()
			}
			if retry.Permanent(cut) || time.Since(failing) > c.cfg.Patience || c.cfg.Patience < 0 || !retry.Sleep(ctx, waits.NextBackOff()) {
				yield(consign.LogEntry{}, cut)
				return
			}
		}
	}
}

// Cancel implements consign.SubmitterAPI.
func (c *Client) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	tries := 0
	job, err := again(ctx, c, func() (consign.JobInfo, error) {
		tries++
		return c.cfg.API.Cancel(ctx, id)
	})
	late, ok := errors.AsType[*consign.TransitionError](err)
	if ok && tries > 1 && late.State == consign.StateCancelled {
		return c.Get(ctx, id) // an earlier try did it, and its answer was lost
	}
	return job, err
}

// Acknowledge implements consign.SubmitterAPI, and forgets the job's keys.
func (c *Client) Acknowledge(ctx context.Context, id consign.JobID) error {
	_, err := again(ctx, c, func() (struct{}, error) { return struct{}{}, c.cfg.API.Acknowledge(ctx, id) })
	if err != nil {
		return err
	}
	return c.cfg.Keyring.Forget(id)
}

// Receipt implements consign.SubmitterAPI. It verifies nothing; see Verify.
func (c *Client) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	return again(ctx, c, func() (consign.Receipt, error) { return c.cfg.API.Receipt(ctx, id) })
}

// Explain implements consign.SubmitterAPI.
func (c *Client) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	return again(ctx, c, func() (consign.Explanation, error) { return c.cfg.API.Explain(ctx, id) })
}

// Keys implements consign.SubmitterAPI.
func (c *Client) Keys(ctx context.Context) (consign.Keys, error) {
	return again(ctx, c, func() (consign.Keys, error) { return c.cfg.API.Keys(ctx) })
}

// NewPairing implements consign.SubmitterAPI. An answer that was lost leaves a
// code open that nobody knows.
func (c *Client) NewPairing(ctx context.Context, submitter []byte) (consign.PairingCode, error) {
	return again(ctx, c, func() (consign.PairingCode, error) { return c.cfg.API.NewPairing(ctx, submitter) })
}

// Pairings implements consign.SubmitterAPI.
func (c *Client) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	return again(ctx, c, func() ([]consign.Pairing, error) { return c.cfg.API.Pairings(ctx) })
}

// ConfirmPairing implements consign.SubmitterAPI, and pins the fingerprint: it
// came by another way than the queue.
func (c *Client) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	fingerprint = strings.ToUpper(strings.TrimSpace(fingerprint)) // as people type
	p, err := again(ctx, c, func() (consign.Pairing, error) { return c.cfg.API.ConfirmPairing(ctx, w, fingerprint) })
	if err != nil {
		return p, err
	}
	return p, c.cfg.Keyring.Pin(fingerprint)
}

// RevokePairing implements consign.SubmitterAPI, and unpins the fingerprint
// where it follows from the worker's ID, as that of an ed25519 key does.
func (c *Client) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	_, err := again(ctx, c, func() (struct{}, error) { return struct{}{}, c.cfg.API.RevokePairing(ctx, w) })
	if err != nil {
		return err
	}
	return c.cfg.Keyring.Unpin(sign.Fingerprint(sign.Ed25519, w[:]))
}
