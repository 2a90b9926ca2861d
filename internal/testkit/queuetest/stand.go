package queuetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// stand is a queue on a store under test, and what a case needs around it.
type stand struct {
	*testing.T
	suite Suite
	open  func() consign.Store
	plant func(consign.Store) consign.Store // a bug before the first queue's store; nil: none

	config consign.Config
	store  consign.Store // as it was opened last
	q      *consign.Queue
	sub    consign.SubmitterAPI
	stop   func()
	hands  byte

	gates []*gate
	stops []func()
}

// standLease is the queues' lease. A tenth of it is how long a test waits in
// real time until a lease that has ended is noticed.
const standLease = 10 * time.Second

func newStand(t *testing.T, suite Suite, plant func(consign.Store) consign.Store) *stand {
	s := &stand{T: t, suite: suite, open: suite.Place(t), plant: plant, stop: func() {}}
	s.config = consign.Config{Identity: identity(0), NoReceipts: true, Lease: standLease, BackoffBase: time.Millisecond, BackoffMax: time.Millisecond,
		DrainTimeout: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	s.store = s.open()
	return s
}

// end lets through what waits, and ends every queue.
func (s *stand) end() {
	for _, g := range s.gates {
		g.open()
	}
	for _, stop := range s.stops {
		stop()
	}
}

// start runs the first queue, or the next one in its place. It sees the store
// through what wraps it.
func (s *stand) start(wraps ...func(consign.Store) consign.Store) {
	s.Helper()
	if s.plant != nil {
		wraps = append([]func(consign.Store) consign.Store{s.plant}, wraps...)
	}
	s.q, s.stop = s.run(s.store, wraps...)
	s.sub = s.q.Submitter("acme")
}

// again opens the store anew and starts another queue on it, as after a restart.
func (s *stand) again() {
	s.Helper()
	s.stop()
	s.store = s.open()
	s.start()
}

// beside runs another queue at the same time: on a store of its own, where
// several can be open.
func (s *stand) beside(wraps ...func(consign.Store) consign.Store) (q *consign.Queue, stop func()) {
	s.Helper()
	store := s.store
	if s.suite.Shared {
		store = s.open()
	}
	return s.run(store, wraps...)
}

func (s *stand) run(store consign.Store, wraps ...func(consign.Store) consign.Store) (q *consign.Queue, stop func()) {
	s.Helper()
	for _, wrap := range wraps {
		store = wrap(store)
	}
	c := s.config
	c.Store = store
	q, err := consign.New(c)
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = q.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	s.stops = append(s.stops, stop)
	return q, stop
}

// submit submits a plain job, with what change makes of it.
func (s *stand) submit(change func(*consign.SubmitRequest)) (consign.JobInfo, error) {
	info, err := s.sub.Submit(s.Context(), plain(change))
	if err != nil {
		err = fmt.Errorf("a submit: %w", err)
	}
	return info, err
}

func plain(change func(*consign.SubmitRequest)) consign.SubmitRequest {
	r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}
	if change != nil {
		change(&r)
	}
	return r
}

// job is the job as it is stored, the zero job where it is not.
func (s *stand) job(id consign.JobID) consign.Job {
	s.Helper()
	jobs, err := s.store.Jobs(s.Context(), []consign.JobID{id})
	if err != nil {
		s.Fatal(err)
	}
	if jobs[0] == nil {
		return consign.Job{}
	}
	return *jobs[0]
}

// lapse has the leases end, as if their time was over. One that has ended may
// be nobody's already.
func (s *stand) lapse(claims ...consign.Assignment) {
	s.Helper()
	var renewals []consign.Renewal
	for _, a := range claims {
		renewals = append(renewals, consign.Renewal{Job: a.Job, Claim: a.Claim, For: time.Microsecond})
	}
	if _, err := s.store.Renew(s.Context(), renewals); err != nil {
		s.Fatal(err)
	}
	time.Sleep(2 * time.Microsecond)
}

// until waits for what has to come about, soon in real time.
func (s *stand) until(what string, holds func() bool) error {
	for began := time.Now(); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > s.patience() {
			return fmt.Errorf("in vain waited until %s", what)
		}
	}
	return nil
}

// untilState waits until the job is in a state.
func (s *stand) untilState(id consign.JobID, state consign.State) error {
	return s.until(fmt.Sprintf("job %s is %s", id, state), func() bool { return s.job(id).State == state })
}

// patience bounds what has to come about. A planted bug may keep it away for ever.
func (s *stand) patience() time.Duration {
	if s.suite.RealTime {
		return time.Minute
	}
	return 10 * time.Minute
}

// ticks lets so many ticks pass, and a little: in each the queues renew leases
// and look which have ended.
func (s *stand) ticks(n int) { time.Sleep(time.Duration(n)*s.config.Lease/10 + 100*time.Millisecond) }

// hand is a worker that is driven call by call.
type hand struct {
	s       *stand
	id      *sign.Identity
	session consign.Session
}

// hire registers another worker with the queue.
func (s *stand) hire(q consign.WorkerAPI) (*hand, error) {
	s.hands++
	h := &hand{s: s, id: identity(100 + s.hands)}
	return h, h.register(q)
}

// register registers the worker with a queue, and from now on it works there.
func (h *hand) register(q consign.WorkerAPI) (err error) {
	h.session, err = session(h.s.Context(), q, h.id)
	return err
}

// claim claims a job, which there has to be.
func (h *hand) claim() (consign.Assignment, error) {
	ctx, cancel := context.WithTimeout(h.s.Context(), h.s.patience())
	defer cancel()
	a, err := h.session.Claim(ctx)
	if err != nil {
		err = fmt.Errorf("a claim: %w", err)
	}
	return a, err
}

// held has another worker of the queue hold a new job.
func (s *stand) held(q consign.WorkerAPI) (h *hand, a consign.Assignment, err error) {
	if h, err = s.hire(q); err != nil {
		return h, a, err
	}
	if _, err = s.submit(nil); err != nil {
		return h, a, err
	}
	a, err = h.claim()
	return h, a, err
}

func claimOf(a consign.Assignment) consign.Claim { return consign.Claim{Job: a.Job, Claim: a.Claim} }

// beat sends a heartbeat that names the claims, and returns which of them are
// lost.
func (h *hand) beat(claims ...consign.Assignment) ([]consign.Claim, error) {
	b := consign.Heartbeat{Capabilities: capabilities, FreeSlots: 1}
	for _, a := range claims {
		b.Claims = append(b.Claims, claimOf(a))
	}
	reply, err := h.session.Heartbeat(h.s.Context(), b)
	if err != nil {
		err = fmt.Errorf("a heartbeat: %w", err)
	}
	return reply.Lost, err
}

// complete returns a result, with a record of it where the queue asks for one.
func (h *hand) complete(a consign.Assignment, result string) error {
	c := consign.Completion{Claim: claimOf(a), Result: []byte(result)}
	if a.Receipts {
		var err error
		if c.Record, err = record(h.id, &a, c.Result); err != nil {
			return err
		}
	}
	if err := h.session.Complete(h.s.Context(), c); err != nil {
		return fmt.Errorf("the completion of job %s: %w", a.Job, err)
	}
	return nil
}

// taken is a job, its first holder, whose lease is over, and its second.
type taken struct {
	first, second *hand
	old, now      consign.Assignment
}

// take starts a queue and has a job taken from its holder and given to another
// worker: of the same queue, or of another that reaps instead of it.
func (s *stand) take(elsewhere bool) (t taken, err error) {
	var wraps []func(consign.Store) consign.Store
	if elsewhere {
		wraps = append(wraps, blinded)
	}
	s.start(wraps...)
	q := s.q
	if elsewhere {
		q, _ = s.beside()
	}
	if t.first, t.old, err = s.held(s.q); err != nil {
		return t, err
	}
	s.lapse(t.old)
	if t.second, err = s.hire(q); err != nil {
		return t, err
	}
	if t.now, err = t.second.claim(); err == nil && (t.now.Job != t.old.Job || t.now.Claim == t.old.Claim) {
		err = errors.New("the job was not given to another")
	}
	return t, err
}
