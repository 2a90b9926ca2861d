// Package testkit holds what tests of several packages share: a small queue
// with faults to inject. No program imports it.
package testkit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// FakeQueue is both faces of a queue, small enough to be seen to be right: one
// account, one lock, first come first served, no retries' backoff. It fences,
// verifies records and comparison values, and expires leases by its own clock.
// It can be down (ErrClosed) and be restarted (sessions end, leases start
// anew), and it keeps what workers sent. Its vault is one key, and the content
// keys that came wrapped to it: see fakevault.go.
type FakeQueue struct {
	Identity *sign.Identity
	Lease    time.Duration // of a claim; 30 s by default
	Interval time.Duration // between heartbeats; 10 s by default
	Limit    time.Duration // of an attempt; none by default
	Plain    bool          // require no records
	Vault    *seal.PrivateKey

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with every change
	down     bool
	epoch    int // sessions of an earlier epoch have ended
	nonces   map[string]bool
	jobs     map[consign.JobID]*fakeJob
	order    []consign.JobID
	open     int // sessions ever opened
	waiting  int // Claim calls that block
	beats    []consign.Heartbeat
	returns  []Return
	accepted map[consign.Claim][32]byte
	ceks     map[consign.JobID]seal.CEK
	workers  map[consign.WorkerID]consign.WorkerKeys // as they last registered
}

// Return is a call by which a worker ended a claim, and the answer it got.
type Return struct {
	At       time.Time
	Complete *consign.Completion
	Fail     *consign.Failure
	Release  *consign.Release
	Err      error
}

type fakeJob struct {
	req     consign.SubmitRequest
	info    consign.JobInfo
	worker  sign.PublicKey
	until   time.Time
	record  []byte
	at      time.Time
	log     []consign.LogEntry
	version uint64
}

var (
	_ consign.WorkerAPI    = (*FakeQueue)(nil)
	_ consign.SubmitterAPI = (*FakeQueue)(nil)
)

// NewFakeQueue returns an empty queue.
func NewFakeQueue() *FakeQueue {
	vault, err := seal.GenerateKey(seal.MLKEM768X25519)
	if err != nil {
		panic(err)
	}
	return &FakeQueue{
		Vault:    vault,
		Identity: sign.FromEd25519Seed([32]byte{'q'}),
		Lease:    30 * time.Second,
		Interval: 10 * time.Second,
		changed:  make(chan struct{}),
		nonces:   make(map[string]bool),
		jobs:     make(map[consign.JobID]*fakeJob),
		accepted: make(map[consign.Claim][32]byte),
		ceks:     make(map[consign.JobID]seal.CEK),
		workers:  make(map[consign.WorkerID]consign.WorkerKeys),
	}
}

// SetDown makes every call fail with ErrClosed, or ends that.
func (q *FakeQueue) SetDown(down bool) { q.alter(func() { q.down = down }) }

// Restart ends all sessions and starts running leases anew.
func (q *FakeQueue) Restart() {
	q.alter(func() {
		q.epoch++
		for _, j := range q.jobs {
			if j.info.State == consign.StateRunning {
				q.renew(j)
			}
		}
	})
}

// Sessions returns how many were opened.
func (q *FakeQueue) Sessions() (n int) { q.alter(func() { n = q.open }); return n }

// Waiting returns how many Claim calls block.
func (q *FakeQueue) Waiting() (n int) { q.alter(func() { n = q.waiting }); return n }

// Beats returns the heartbeats so far.
func (q *FakeQueue) Beats() (out []consign.Heartbeat) {
	q.alter(func() { out = slices.Clone(q.beats) })
	return out
}

// Returns returns how claims were ended so far.
func (q *FakeQueue) Returns() (out []Return) {
	q.alter(func() { out = slices.Clone(q.returns) })
	return out
}

// Job returns a job's state.
func (q *FakeQueue) Job(id consign.JobID) (info consign.JobInfo) {
	q.alter(func() { info = q.jobs[id].info })
	return info
}

// Log returns a job's log.
func (q *FakeQueue) Log(id consign.JobID) (log []consign.LogEntry) {
	q.alter(func() { log = slices.Clone(q.jobs[id].log) })
	return log
}

// Add submits a plain job.
func (q *FakeQueue) Add(kind, payload string) consign.JobID {
	info, err := q.Submit(context.Background(), consign.SubmitRequest{Kind: kind, Payload: []byte(payload), Custody: consign.CustodyPlain})
	if err != nil {
		panic(err)
	}
	return info.ID
}

func (q *FakeQueue) alter(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	f()
	q.wake()
}

// wake tells all who wait. With q.mu held.
func (q *FakeQueue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// enter takes the lock, unless the queue is down.
func (q *FakeQueue) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	if q.down {
		q.mu.Unlock()
		return consign.ErrClosed
	}
	return nil
}

// Challenge implements consign.WorkerAPI.
func (q *FakeQueue) Challenge(ctx context.Context) (consign.Challenge, error) {
	if err := q.enter(ctx); err != nil {
		return consign.Challenge{}, err
	}
	defer q.mu.Unlock()
	id := consign.NewClaimID()
	q.nonces[string(id[:])] = true
	return consign.Challenge{Queue: consign.QueueIDOf(q.Identity.Public()), Nonce: id[:]}, nil
}

// Register implements consign.WorkerAPI.
func (q *FakeQueue) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	defer q.mu.Unlock()
	if !q.nonces[string(r.Nonce)] {
		return nil, &consign.FieldError{Field: "nonce", Problem: "is not known", Remedy: "ask for a new challenge"}
	}
	delete(q.nonces, string(r.Nonce))
	key, err := sign.ParsePublicKey(r.Algorithm, r.PublicKey)
	if err != nil {
		return nil, err
	}
	queue, bundle := consign.QueueIDOf(q.Identity.Public()), sha256.Sum256(r.KeyBundle)
	if err := key.Verify(lp.Append(nil, []byte("consign/register/v1"), queue[:], []byte(r.Origin), r.Nonce, bundle[:]), r.Signature); err != nil {
		return nil, &consign.FieldError{Field: "signature", Problem: "does not verify", Remedy: "sign the registration message"}
	}
	q.open++
	keys := consign.WorkerKeys{ID: key.ID(), Algorithm: r.Algorithm, PublicKey: r.PublicKey, KeyBundle: r.KeyBundle}
	q.workers[key.ID()] = keys
	return &fakeSession{q: q, key: key, keys: keys, epoch: q.epoch}, nil
}

type fakeSession struct {
	q     *FakeQueue
	key   sign.PublicKey
	keys  consign.WorkerKeys
	epoch int
}

func (s *fakeSession) enter(ctx context.Context) error {
	if err := s.q.enter(ctx); err != nil {
		return err
	}
	if s.epoch != s.q.epoch {
		s.q.mu.Unlock()
		return fmt.Errorf("%w: the queue was restarted", consign.ErrSession)
	}
	return nil
}

// held returns the job if the claim is current and this worker's.
func (s *fakeSession) held(c consign.Claim) (*fakeJob, error) {
	j := s.q.jobs[c.Job]
	if j == nil || j.info.State != consign.StateRunning || j.info.Claim != c.Claim || j.info.Worker != s.key.ID() {
		return nil, fmt.Errorf("%w: %s", consign.ErrLeaseLost, c.Claim)
	}
	return j, nil
}

func (q *FakeQueue) renew(j *fakeJob) {
	until := time.Now().Add(q.Lease)
	j.until = until
	claim := j.info.Claim
	time.AfterFunc(q.Lease, func() {
		q.alter(func() {
			if j.info.State == consign.StateRunning && j.info.Claim == claim && j.until.Equal(until) && !q.down {
				q.requeue(j, consign.EventLeaseLost, "no heartbeat within the lease")
			}
		})
	})
}

func (q *FakeQueue) requeue(j *fakeJob, ev consign.EventKind, reason string) {
	j.info.State, j.info.Claim, j.info.Worker, j.info.Reason = consign.StateQueued, consign.ClaimID{}, consign.WorkerID{}, reason
	q.note(j, consign.LogEntry{Event: ev, Reason: reason})
	q.wake()
}

func (q *FakeQueue) end(j *fakeJob, state consign.State, ev consign.EventKind, reason string) {
	j.info.State, j.info.Reason, j.info.EndedAt = state, reason, time.Now()
	q.note(j, consign.LogEntry{Event: ev, Reason: reason})
	q.wake()
}

func (q *FakeQueue) note(j *fakeJob, e consign.LogEntry) {
	j.version++
	e.Job, e.Seq, e.At, e.State = j.info.ID, consign.Seq(j.version<<32), consign.At(time.Now()), j.info.State
	j.log = append(j.log, e)
}

func (s *fakeSession) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	if err := s.enter(ctx); err != nil {
		return consign.HeartbeatReply{}, err
	}
	defer s.q.mu.Unlock()
	s.q.beats = append(s.q.beats, h)
	reply := consign.HeartbeatReply{Interval: s.q.Interval}
	for _, c := range h.Claims {
		if j, err := s.held(c); err == nil {
			s.q.renew(j)
		} else {
			reply.Lost = append(reply.Lost, c)
		}
	}
	return reply, nil
}

func (s *fakeSession) Claim(ctx context.Context) (consign.Assignment, error) {
	for {
		if err := s.enter(ctx); err != nil {
			return consign.Assignment{}, err
		}
		for _, id := range s.q.order {
			if j := s.q.jobs[id]; j.info.State == consign.StateQueued && s.mayRun(j) {
				a, err := s.grant(j)
				s.q.mu.Unlock()
				return a, err
			}
		}
		changed := s.q.changed
		s.q.waiting++
		s.q.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.q.mu.Lock()
		s.q.waiting--
		s.q.mu.Unlock()
		if err != nil {
			return consign.Assignment{}, err
		}
	}
}

func (s *fakeSession) grant(j *fakeJob) (consign.Assignment, error) {
	j.info.State, j.info.Claim, j.info.Worker = consign.StateRunning, consign.NewClaimID(), s.key.ID()
	j.info.Attempts++
	j.info.ClaimedAt = time.Now()
	j.worker = s.key
	s.q.note(j, consign.LogEntry{Event: consign.EventClaim, Worker: s.key.ID(), Attempt: j.info.Attempts})
	s.q.renew(j)
	s.q.wake()
	wrap, err := s.wrapFor(j)
	return consign.Assignment{
		Queue: consign.QueueIDOf(s.q.Identity.Public()), Job: j.info.ID, Claim: j.info.Claim, Kind: j.req.Kind, Model: j.req.Model,
		Tier: 1, Chars: j.chars(), Header: bytes.Clone(j.req.Header), Payload: bytes.Clone(j.req.Payload), Custody: j.req.Custody,
		Comparator: j.req.Comparator, ClientKey: j.req.ClientKey, Wrap: wrap, Signature: j.req.Signature,
		Lease: s.q.Lease, Limit: s.q.Limit, Receipts: !s.q.Plain,
	}, err
}

func (s *fakeSession) Report(ctx context.Context, r consign.Report) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.q.mu.Unlock()
	j, err := s.held(r.Claim)
	if err != nil {
		return err
	}
	s.q.renew(j)
	for _, item := range r.Items {
		s.q.note(j, consign.LogEntry{Event: consign.EventReport, Attempt: j.info.Attempts, Report: item.Kind, Data: bytes.Clone(item.Data), Worker: s.key.ID()})
	}
	s.q.wake()
	return nil
}

func (s *fakeSession) Complete(ctx context.Context, c consign.Completion) (err error) {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.q.mu.Unlock()
	defer func() { s.q.returns = append(s.q.returns, Return{At: time.Now(), Complete: &c, Err: err}) }()
	body := sha256.Sum256(lp.Append(nil, c.Result, c.Record, []byte{byte(c.ExitStatus)}, fmt.Append(nil, c.Comparison)))
	if first, ok := s.q.accepted[c.Claim]; ok {
		if first != body {
			return fmt.Errorf("%w: the claim has another completion", consign.ErrConflict)
		}
		return nil
	}
	j, err := s.held(c.Claim)
	if err != nil {
		return err
	}
	if !s.q.Plain {
		if err := s.check(j, c); err != nil {
			s.q.requeue(j, consign.EventReject, err.Error())
			return err
		}
	}
	s.q.accepted[c.Claim] = body
	j.info.Result, j.info.ExitStatus, j.record, j.at = c.Result, c.ExitStatus, c.Record, time.Now()
	j.info.Comparison = c.Comparison
	s.q.end(j, consign.StateCompleted, consign.EventComplete, "")
	return nil
}

func (s *fakeSession) check(j *fakeJob, c consign.Completion) error {
	var e sign.Envelope
	if err := json.Unmarshal(c.Record, &e); err != nil {
		return fmt.Errorf("%w: %w", consign.ErrBadResult, err)
	}
	record, err := consign.VerifyRecord(e, s.key)
	if err != nil {
		return fmt.Errorf("%w: %w", consign.ErrBadResult, err)
	}
	if err := checkComparison(c.Comparison, record.TCommit); err != nil {
		return err
	}
	comparator := j.req.Comparator
	if comparator == "" {
		comparator = consign.ComparatorNone
	}
	return consign.CheckReturn(consign.Returned{
		Queue: consign.QueueIDOf(s.q.Identity.Public()), Job: j.info.ID, Claim: j.info.Claim, Worker: s.key.ID(),
		Kind: j.req.Kind, ModelRequested: j.req.Model, Comparator: comparator,
		HHash: sha256.Sum256(j.req.Header), InputHash: consign.InputHash(j.req.Header, j.req.Payload), ResultHash: sha256.Sum256(c.Result),
	}, record)
}

func (s *fakeSession) Fail(ctx context.Context, f consign.Failure) (err error) {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.q.mu.Unlock()
	defer func() { s.q.returns = append(s.q.returns, Return{At: time.Now(), Fail: &f, Err: err}) }()
	j, err := s.held(f.Claim)
	if err != nil {
		return err
	}
	s.q.end(j, consign.StateFailed, consign.EventFail, f.Reason) // no retries: tests see each failure
	return nil
}

func (s *fakeSession) Release(ctx context.Context, r consign.Release) (err error) {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.q.mu.Unlock()
	defer func() { s.q.returns = append(s.q.returns, Return{At: time.Now(), Release: &r, Err: err}) }()
	j, err := s.held(r.Claim)
	if err != nil {
		return err
	}
	s.q.requeue(j, consign.EventRelease, r.Reason)
	return nil
}

// ClaimPairing implements consign.Session: this queue pairs nobody.
func (s *fakeSession) ClaimPairing(context.Context, string) (consign.Pairing, error) {
	return consign.Pairing{}, errNoPairings
}
