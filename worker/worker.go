// Package worker is the runtime of a worker: it registers with a queue, claims
// jobs, opens those that are sealed, runs them in executors, seals what each
// came to, signs a record of it, and hands the result in.
//
// It knows the queue as a consign.WorkerAPI, so the same program works in one
// process with its queue or across a network.
package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/retry"
)

const (
	// defaultInterval is how often a worker says that it is alive where the
	// queue does not say.
	defaultInterval = 10 * time.Second
	// lastCalls is how long the calls that give claims back may take once the
	// drain is over.
	lastCalls = 5 * time.Second
	// warmTimeout bounds how long executors may take to say what is warm.
	warmTimeout = 2 * time.Second
)

// Worker runs jobs for a queue. Make one with New.
type Worker struct {
	cfg  Config
	book book
	keys *keychain
}

// New checks the configuration. It returns a *consign.FieldError for a bad
// one; nothing is sent before Run.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	keys, err := newKeychain(cfg.Identity, cfg.EncryptionKeys)
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, keys: keys, book: book{identity: cfg.Identity, journal: cfg.Journal, seq: cfg.Seq}}, nil
}

// ID returns the name that the queue knows the worker by.
func (w *Worker) ID() consign.WorkerID { return w.cfg.Identity.Public().ID() }

// Run works until ctx is done, and then drains: it claims nothing more, lets
// what runs finish for up to Config.DrainTimeout, gives back what is left, and
// returns nil. All its goroutines have ended then. It waits for executors, so
// one that does not heed its context holds it up.
//
// An outage of the queue never ends Run. It ends with an error only where the
// queue does not want this worker: consign.ErrRemoved (after a drain, unless
// it was found out in a registration), or the *consign.FieldError of a
// registration that was refused five times in a row, which takes a second or
// two; and, after a drain, with that of a Config.Journal that failed.
//
// Run may be called again when it has returned, but not by several goroutines
// at once.
func (w *Worker) Run(ctx context.Context) error {
	claiming, stop := context.WithCancelCause(ctx)
	working, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	calling, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer stop(nil)
	defer kill(nil)
	defer cut()
	r := &run{
		Worker:   w,
		claiming: claiming, stop: stop,
		working: working, kill: kill,
		calling:   calling,
		link:      newLink(w, claiming),
		deadlines: deadlines{parent: calling, after: w.cfg.CallTimeout},
		attempts:  make(map[consign.Claim]*attempt),
		newest:    make(map[consign.JobID]*attempt),
		beaten:    make(chan struct{}),
	}

	defer context.AfterFunc(working, r.stopAll)()

	var heart sync.WaitGroup
	heart.Go(func() { r.heartbeats(calling) })
	for range w.cfg.Slots {
		r.slots.Go(r.slot)
	}
	idle := make(chan struct{})
	go func() { r.slots.Wait(); close(idle) }()

	<-claiming.Done()
	drain := time.AfterFunc(max(w.cfg.DrainTimeout, 0), func() { kill(errStopped) })
	defer drain.Stop()
	select {
	case <-idle:
	case <-working.Done():
		last := time.AfterFunc(lastCalls, cut)
		defer last.Stop()
		r.giveBack()
		<-idle
	}
	cut()
	heart.Wait()
	r.link.close()
	return r.fatal
}

var errStopped = errors.New("worker: stopped")

// run is one Run. Three contexts bound it, each outliving the one before.
type run struct {
	*Worker
	claiming context.Context // until the worker is to take no more work
	stop     context.CancelCauseFunc
	working  context.Context // until the drain is over
	kill     context.CancelCauseFunc
	calling  context.Context // until the last calls have had their time

	link      *link
	deadlines deadlines     // of calls that deliver
	beaten    chan struct{} // closed after the first heartbeat
	slots     sync.WaitGroup

	mu       sync.Mutex
	attempts map[consign.Claim]*attempt
	newest   map[consign.JobID]*attempt // of those, the latest of each job
	ended    [128]consign.Claim         // the latest that ran, a ring
	endedAt  int
	fatal    error
}

// end ends the run with an error. Where it comes from a registration nothing
// can be handed in any more, so there is nothing to drain for.
func (r *run) end(err error, drain bool) {
	r.mu.Lock()
	if r.fatal == nil {
		r.fatal = err
	}
	r.mu.Unlock()
	r.stop(err)
	if !drain {
		r.kill(err)
	}
}

// call makes a call on the current session. It ends the run where there cannot
// be one.
func (r *run) call(ctx context.Context, f func(context.Context, consign.Session) error) error {
	err := r.link.call(ctx, f)
	if f, ok := errors.AsType[*fatal](err); ok {
		r.end(f.error, false)
		return err
	}
	if errors.Is(err, consign.ErrRemoved) {
		r.end(err, true)
	}
	return err
}

// heartbeats declares the worker's state at the interval that the queue asks
// for, sooner after a failure and in a new session.
func (r *run) heartbeats(ctx context.Context) {
	interval := defaultInterval
	waits := retry.NewBackOff()
	first := true
	for ctx.Err() == nil {
		sent := time.Now()
		reply, err := r.heartbeat(ctx, min(r.cfg.CallTimeout, max(interval, time.Second)))
		if first {
			close(r.beaten)
			first = false
		}
		wait := min(waits.NextBackOff(), interval)
		if err == nil {
			waits.Reset()
			if reply.Interval > 0 {
				interval = reply.Interval
			}
			wait = interval - time.Since(sent)
		} else if ctx.Err() == nil && !errors.Is(err, consign.ErrRemoved) {
			r.cfg.Logger.Warn("heartbeat failed", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.link.opened:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// heartbeat sends one, renews the leases of the claims that it lists, and
// stops those that the queue says are lost.
func (r *run) heartbeat(ctx context.Context, timeout time.Duration) (consign.HeartbeatReply, error) {
	warm := r.warm(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var reply consign.HeartbeatReply
	err := r.call(ctx, func(ctx context.Context, s consign.Session) (err error) {
		select {
		case <-r.link.opened: // this is the heartbeat that it asks for
		default:
		}
		h, listed := r.state(warm)
		sent := time.Now()
		if reply, err = s.Heartbeat(ctx, h); err != nil {
			return err
		}
		for _, claim := range reply.Lost {
			if a := listed[claim]; a != nil {
				a.lose()
				delete(listed, claim)
			}
		}
		for _, a := range listed {
			a.renew(sent)
		}
		return nil
	})
	return reply, err
}

// state is what the worker declares, and the attempts behind the claims in it.
func (r *run) state(warm []consign.WarmModel) (consign.Heartbeat, map[consign.Claim]*attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := consign.Heartbeat{
		Capabilities: r.cfg.Capabilities,
		Warm:         warm,
		MaxWarm:      r.cfg.MaxWarm,
		Rates:        r.cfg.Rates,
	}
	if r.claiming.Err() == nil {
		h.FreeSlots = max(0, r.cfg.Slots-len(r.attempts))
	}
	listed := make(map[consign.Claim]*attempt, len(r.attempts))
	for claim, a := range r.attempts {
		h.Claims = append(h.Claims, claim)
		listed[claim] = a
	}
	return h, listed
}

// warm asks the executors which models they have loaded.
func (r *run) warm(ctx context.Context) []consign.WarmModel {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	var warm []consign.WarmModel
	seen := make(map[string]bool)
	for _, kind := range r.cfg.Capabilities.Kinds {
		e, ok := r.cfg.Executors[kind].(Warmer)
		if !ok {
			continue
		}
		for _, m := range e.Warm(ctx) {
			if !seen[m.Name] {
				seen[m.Name] = true
				warm = append(warm, m)
			}
		}
	}
	return warm
}

// slot claims and runs one job after the other. Where an executor ends its
// goroutine the slot goes on in another.
func (r *run) slot() {
	handling := false
	defer func() {
		if handling {
			r.slots.Go(r.slot)
		}
	}()
	select {
	case <-r.beaten: // the queue knows what this worker can do
	case <-r.claiming.Done():
	}
	waits := retry.NewBackOff()
	for tries, logged := 0, false; r.claiming.Err() == nil; {
		a, err := r.claim()
		if err == nil {
			if tries > 0 {
				tries, logged = 0, false
				waits.Reset()
			}
			handling = true
			r.handle(a)
			handling = false
			continue
		}
		if !logged && !errors.Is(err, consign.ErrSession) && r.claiming.Err() == nil {
			logged = true
			r.cfg.Logger.Warn("cannot claim, trying on", "error", err)
		}
		tries++
		retry.Sleep(r.claiming, waits.NextBackOff())
	}
}

// claim waits for a job. It ends with the session that it began in, whoever
// finds out that this has ended.
func (r *run) claim() (*attempt, error) {
	s, err := r.link.session(r.claiming)
	if err != nil {
		if f, ok := errors.AsType[*fatal](err); ok {
			r.end(f.error, false)
		}
		return nil, err
	}
	assignment, err := s.Claim(s.ctx)
	switch {
	case err == nil && assignment.Queue != s.queue:
		// A record of it would say that this worker works there.
		return nil, fmt.Errorf("the assignment is of queue %s, and this worker registered with %s", assignment.Queue, s.queue)
	case err == nil:
		return r.newAttempt(assignment), nil
	case errors.Is(err, consign.ErrSession):
		r.link.drop(s)
	case s.ctx.Err() != nil:
		err = fmt.Errorf("%w: ended elsewhere", consign.ErrSession)
	case errors.Is(err, consign.ErrRemoved):
		r.end(err, true)
	}
	return nil, err
}
