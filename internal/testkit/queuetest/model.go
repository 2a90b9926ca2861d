package queuetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// job is what a queue promises of each: at most one result, the holder's;
// nothing changes after the end; what counts against it counts once.
type job struct {
	state  consign.State
	holder consign.ClaimID
	by     int // the worker that had it last; -1: none
	faults int
	result string
}

// player is a queue with two workers, and the model beside it.
type player struct {
	suite   Suite
	t       *testing.T
	bug     bug
	open    func() consign.Store
	store   consign.Store
	q       *consign.Queue
	sub     consign.SubmitterAPI
	stop    func()
	workers [2]consign.Session
	held    [2][]consign.Claim

	jobs map[consign.JobID]*job
	ids  []consign.JobID
}

const price, credit, maxAttempts = 10, 200, 3

// moves are what a step may do, by its last digits, with what is left of the
// number to choose by.
var moves = []func(p *player, pick int) error{
	(*player).submit, (*player).submit, (*player).submit,
	(*player).claim, (*player).claim, (*player).claim, (*player).claim,
	(*player).complete, (*player).complete,
	(*player).release, (*player).fail, (*player).cancel, (*player).acknowledge, (*player).beat, (*player).restart, (*player).lapse,
}

func (s Suite) play(t *testing.T, steps []int, b bug) error {
	p := &player{suite: s, t: t, bug: b, open: s.Place(t), jobs: map[consign.JobID]*job{}, stop: func() {}}
	defer func() { p.stop() }()
	if err := p.start(); err != nil {
		return err
	}
	if err := p.q.AddCredit(t.Context(), "acme", credit, "all"); err != nil {
		return err
	}
	for i, n := range steps {
		if err := moves[n%len(moves)](p, n/len(moves)); err != nil {
			return fmt.Errorf("step %d: %v", i, err)
		}
		if len(p.ids) > 0 { // any one, and all of them at the end
			if err := p.compare(p.ids[n%len(p.ids)]); err != nil {
				return fmt.Errorf("step %d: %v", i, err)
			}
		}
	}
	if err := p.settled(); err != nil {
		return err
	}
	if err := p.restart(0); err != nil { // what is stored, not what is remembered
		return err
	}
	for _, id := range p.ids {
		if err := errors.Join(p.compare(id), p.compareLog(id)); err != nil {
			return fmt.Errorf("in the end: %v", err)
		}
	}
	return p.balance()
}

// start runs a new queue on what is stored.
func (p *player) start() error {
	p.store = p.open()
	if p.bug.store != nil {
		p.store = p.bug.store(p.store)
	}
	q, err := consign.New(consign.Config{Store: p.store, Identity: identity(0), NoReceipts: true, MaxAttempts: maxAttempts, Prices: consign.PriceTable{{Price: price}},
		Lease: p.suite.lease(), BackoffBase: time.Millisecond, BackoffMax: time.Millisecond, Retention: 10_000 * time.Hour, AckRetention: 10_000 * time.Hour,
		DrainTimeout: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = q.Run(ctx)
	}()
	p.stop = func() { cancel(); <-ended }
	p.q, p.sub = q, q.Submitter("acme")
	if p.bug.sub != nil {
		p.sub = p.bug.sub(p.sub)
	}
	return p.register()
}

// identity is the same one in every run.
func identity(n byte) *sign.Identity { return sign.FromEd25519Seed([32]byte{n + 1}) }

var capabilities = consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1000}

func (p *player) register() error {
	for i := range p.workers {
		var err error
		if p.workers[i], err = session(p.t.Context(), p.q, identity(byte(i+1))); err != nil {
			return err
		}
		if p.bug.session != nil {
			p.workers[i] = p.bug.session(p.workers[i])
		}
	}
	return nil
}

// session registers a worker.
func session(ctx context.Context, q consign.WorkerAPI, id *sign.Identity) (consign.Session, error) {
	challenge, err := q.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	signature, err := id.Sign(consign.RegistrationMessage(challenge.Queue, "inproc", challenge.Nonce, nil))
	if err != nil {
		return nil, err
	}
	return q.Register(ctx, consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(),
		Origin: "inproc", Nonce: challenge.Nonce, Signature: signature, Capabilities: capabilities})
}

func (p *player) submit(pick int) error {
	info, err := p.sub.Submit(p.t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", pick), Custody: consign.CustodyPlain})
	if spent := p.paid(func(j *job) bool { return j.state == consign.StateCompleted || !j.state.Terminal() }); err != nil {
		if errors.Is(err, consign.ErrCredit) && (spent+price > credit || p.refunding()) {
			return nil
		}
		return fmt.Errorf("submit with %d of %d spent or held: %v", spent, credit, err)
	} else if spent+price > credit {
		return fmt.Errorf("a submit is admitted with %d of %d spent or held", spent, credit)
	}
	p.ids = append(p.ids, info.ID)
	p.jobs[info.ID] = &job{state: consign.StateQueued, by: -1}
	return nil
}

// refunding: a hold is given back a while after the end of its job.
func (p *player) refunding() bool {
	return p.paid(func(j *job) bool { return j.state.Terminal() && j.state != consign.StateCompleted }) > 0
}

// paid is the price of the jobs that are so.
func (p *player) paid(so func(j *job) bool) (sum int) {
	for _, j := range p.jobs {
		if so(j) {
			sum += price
		}
	}
	return sum
}

// claim claims a job. One that the worker did not have last is there for it at
// once; one that it had may come or not.
func (p *player) claim(pick int) error {
	w := pick % len(p.workers)
	queued, sure := false, false
	for _, j := range p.jobs {
		if j.state == consign.StateQueued {
			queued, sure = true, sure || j.by != w
		}
	}
	if queued && !sure {
		return nil
	}
	timeout := time.Millisecond
	if sure {
		timeout = p.within()
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), timeout)
	defer cancel()
	a, err := p.workers[w].Claim(ctx)
	if err != nil {
		if sure {
			return fmt.Errorf("a job waits, and worker %d does not get it: %v", w, err)
		}
		return nil
	}
	j := p.jobs[a.Job]
	if j == nil || j.state != consign.StateQueued {
		return fmt.Errorf("claimed job %s, which is %+v", a.Job, j)
	}
	j.state, j.holder, j.by = consign.StateRunning, a.Claim, w
	p.held[w] = append(p.held[w], consign.Claim{Job: a.Job, Claim: a.Claim})
	return nil
}

// with calls f with one of the claims that a worker has ever had, or with none.
func (p *player) with(pick int, f func(s consign.Session, j *job, c consign.Claim, current bool) error) error {
	w := pick % len(p.workers)
	if len(p.held[w]) == 0 {
		return nil
	}
	c := p.held[w][len(p.held[w])-1-(pick/2)%len(p.held[w])] // mostly a late one
	j := p.jobs[c.Job]
	return f(p.workers[w], j, c, j.state == consign.StateRunning && j.holder == c.Claim)
}

func (p *player) complete(pick int) error {
	return p.with(pick, func(s consign.Session, j *job, c consign.Claim, current bool) error {
		text := fmt.Sprintf("result %d under %s", pick%3, c.Claim)
		again := j.state == consign.StateCompleted && j.holder == c.Claim && j.result == text
		if err := s.Complete(p.t.Context(), consign.Completion{Claim: c, Result: []byte(text)}); (current || again) != (err == nil) {
			return fmt.Errorf("completion under claim %s, current %t, again %t: %v", c.Claim, current, again, err)
		}
		if current {
			j.state, j.result = consign.StateCompleted, text
		}
		return p.compare(c.Job)
	})
}

func (p *player) release(pick int) error {
	return p.with(pick, func(s consign.Session, j *job, c consign.Claim, current bool) error {
		if err := s.Release(p.t.Context(), consign.Release{Claim: c}); current != (err == nil) {
			return fmt.Errorf("release of claim %s, current %t: %v", c.Claim, current, err)
		}
		if current {
			j.state = consign.StateQueued
		}
		return p.compare(c.Job)
	})
}

func (p *player) fail(pick int) error {
	return p.with(pick, func(s consign.Session, j *job, c consign.Claim, current bool) error {
		kind := []consign.FailKind{consign.FailTransient, consign.FailTransient, consign.FailPayload}[pick%3]
		if err := s.Fail(p.t.Context(), consign.Failure{Claim: c, Kind: kind, Reason: "why"}); current != (err == nil) {
			return fmt.Errorf("failure of claim %s, current %t: %v", c.Claim, current, err)
		}
		if current {
			j.fault(kind == consign.FailPayload)
		}
		return p.compare(c.Job)
	})
}

// fault ends an attempt that came to nothing.
func (j *job) fault(over bool) {
	j.state = consign.StateQueued
	if j.faults++; over || j.faults >= maxAttempts {
		j.state = consign.StateFailed
	}
}

func (p *player) cancel(pick int) error {
	if len(p.ids) == 0 {
		return nil
	}
	id := p.ids[pick%len(p.ids)]
	j := p.jobs[id]
	late := j.state.Terminal() && j.state != consign.StateCancelled
	if _, err := p.sub.Cancel(p.t.Context(), id); late == (err == nil) {
		return fmt.Errorf("cancel of a job that is %s: %v", j.state, err)
	}
	if !late {
		j.state = consign.StateCancelled
	}
	return p.compare(id)
}

func (p *player) acknowledge(pick int) error {
	if len(p.ids) == 0 {
		return nil
	}
	id := p.ids[pick%len(p.ids)]
	j := p.jobs[id]
	if err := p.sub.Acknowledge(p.t.Context(), id); j.state.Terminal() != (err == nil) {
		return fmt.Errorf("acknowledgement of a job that is %s: %v", j.state, err)
	}
	return p.compare(id)
}

// beat lets time pass, within the lease, and tells of every claim that the
// workers have ever had. None that is current is lost.
func (p *player) beat(pick int) error {
	if !p.suite.RealTime {
		time.Sleep(time.Duration(pick) * time.Second)
	}
	for w, s := range p.workers {
		reply, err := s.Heartbeat(p.t.Context(), consign.Heartbeat{Capabilities: capabilities, FreeSlots: 1, Claims: p.held[w]})
		if err != nil {
			return fmt.Errorf("a heartbeat: %v", err)
		}
		for _, c := range reply.Lost {
			if j := p.jobs[c.Job]; j.state == consign.StateRunning && j.holder == c.Claim {
				return fmt.Errorf("worker %d is told that it has lost %+v, which it holds", w, c)
			}
		}
	}
	if !p.suite.RealTime {
		time.Sleep(p.suite.lease() / 5) // the leases are renewed
	}
	return nil
}

// restart ends the queue and starts another on what is stored. Claims survive.
func (p *player) restart(int) error {
	p.stop()
	return p.start()
}

// lapse lets every lease end.
func (p *player) lapse(int) error {
	if p.suite.RealTime {
		return nil
	}
	time.Sleep(2 * p.suite.lease())
	for _, j := range p.jobs {
		if j.state == consign.StateRunning {
			j.fault(false)
		}
	}
	return p.register() // they were silent for too long
}

// compare compares a job with the model.
func (p *player) compare(id consign.JobID) error {
	want := p.jobs[id]
	got, err := p.sub.Get(p.t.Context(), id)
	if err != nil || got.State != want.state || string(got.Result) != want.result {
		return fmt.Errorf("job %s is %s with %q, want %s with %q: %v", id, got.State, got.Result, want.state, want.result, err)
	}
	return nil
}

// compareLog compares a job's log with the model.
func (p *player) compareLog(id consign.JobID) error {
	log, err := p.store.Log(p.t.Context(), id, 0, 10_000)
	if err != nil {
		return err
	}
	var last consign.State
	completions, faults := 0, 0
	for _, e := range log {
		switch e.Event {
		case consign.EventSettle, consign.EventReport:
			continue
		case consign.EventComplete:
			completions++
		case consign.EventFail, consign.EventLeaseLost:
			faults++
		}
		last = e.State
	}
	want := p.jobs[id]
	if last != want.state || (completions == 1) != (want.state == consign.StateCompleted) || completions > 1 || faults != want.faults {
		return fmt.Errorf("job %s is %s with %d faults, its log ends with %s after %d completions and %d faults", id, want.state, want.faults, last, completions, faults)
	}
	return nil
}

// within bounds what has to come about. A bug may keep it away for ever.
func (p *player) within() time.Duration {
	if p.bug.name != "" {
		return 2 * time.Second
	}
	return 2 * time.Minute
}

// settled waits until every credit is somewhere. A job that ends has the queue
// look for what a restart has left.
func (p *player) settled() error {
	if err := p.submit(0); err != nil {
		return err
	}
	err := p.cancel(len(p.ids) - 1)
	for began := time.Now(); err == nil && time.Since(began) < p.within(); time.Sleep(20 * time.Millisecond) {
		if p.balance() == nil {
			return nil
		}
	}
	return errors.Join(err, p.balance())
}

// balance checks that every credit is somewhere.
func (p *player) balance() error {
	spent := p.paid(func(j *job) bool { return j.state == consign.StateCompleted })
	open := p.paid(func(j *job) bool { return !j.state.Terminal() })
	want := consign.Balance{Available: consign.Price(credit - spent - open), Held: consign.Price(open), Spent: consign.Price(spent)}
	if b, err := p.q.Balance(p.t.Context(), "acme"); err != nil || b != want {
		return fmt.Errorf("credit is %+v, want %+v: %v", b, want, err)
	}
	return nil
}

// bug is a fault that is planted around a whole queue.
type bug struct {
	name    string
	store   func(s consign.Store) consign.Store
	session func(s consign.Session) consign.Session
	sub     func(s consign.SubmitterAPI) consign.SubmitterAPI
}

// changing is a store that spoils what it is told to write, or loses it where
// spoil returns false.
type changing struct {
	consign.Store
	spoil func(c *consign.Change) bool
}

func (s changing) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	kept := make([]consign.Change, 0, len(changes))
	var lost []int
	for i, c := range changes {
		if s.spoil(&c) {
			kept = append(kept, c)
		} else {
			lost = append(lost, i)
		}
	}
	outcomes, err := s.Store.Apply(ctx, kept)
	for _, i := range lost {
		if err == nil {
			outcomes = slices.Insert(outcomes, i, error(nil))
		}
	}
	return outcomes, err
}

// spoiling is a store that does so to the changes of an event.
func spoiling(kind consign.EventKind, spoil func(c *consign.Change) bool) func(s consign.Store) consign.Store {
	return func(s consign.Store) consign.Store {
		return changing{s, func(c *consign.Change) bool {
			return c.Job == nil || len(c.Log) == 0 || c.Log[0].Event != kind || spoil(c)
		}}
	}
}

// polite is a session that never says that a claim is lost.
type polite struct{ consign.Session }

func (s polite) Complete(ctx context.Context, c consign.Completion) error {
	if err := s.Session.Complete(ctx, c); !errors.Is(err, consign.ErrLeaseLost) {
		return err
	}
	return nil
}

// grabbing is a session that gives back nothing.
type grabbing struct{ consign.Session }

func (grabbing) Release(context.Context, consign.Release) error { return nil }

// obliging is a queue that cancels whatever it is asked to, or says so.
type obliging struct{ consign.SubmitterAPI }

func (s obliging) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	info, _ := s.SubmitterAPI.Cancel(ctx, id)
	return info, nil
}

var bugs = []bug{
	{name: "a late result is acknowledged", session: func(s consign.Session) consign.Session { return polite{s} }},
	{name: "a claim is not given back", session: func(s consign.Session) consign.Session { return grabbing{s} }},
	{name: "a job that has its result is cancelled", sub: func(s consign.SubmitterAPI) consign.SubmitterAPI { return obliging{s} }},
	{name: "another result is stored", store: spoiling(consign.EventComplete, func(c *consign.Change) bool {
		done := *c.Done
		done.Result = append([]byte("not "), done.Result...)
		c.Done = &done
		return true
	})},
	{name: "a result is acknowledged and not stored", store: spoiling(consign.EventComplete, func(*consign.Change) bool { return false })},
	{name: "a fault is not logged", store: spoiling(consign.EventFail, func(c *consign.Change) bool { c.Log = nil; return true })},
	{name: "a cancelled job is not repaid", store: spoiling(consign.EventCancel, func(c *consign.Change) bool { c.Effects = nil; return true })},
	{name: "a job is admitted without its hold", store: spoiling(consign.EventSubmit, func(c *consign.Change) bool { c.Counters = nil; return true })},
	{name: "a job is paid twice", store: func(s consign.Store) consign.Store {
		return changing{s, func(c *consign.Change) bool {
			if c.Job == nil && len(c.Drop) > 0 {
				c.Counters = append(slices.Clone(c.Counters), c.Counters...)
			}
			return true
		}}
	}},
}
