package longpoll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
)

// session is a worker's session, and what it has claimed of which the worker
// may not know.
type session struct {
	consign.Session
	worker consign.WorkerID
	addr   netip.Addr // it registered from here
	until  time.Time
	used   atomic.Int64 // when its token came last, in nanoseconds of Unix
	log    *slog.Logger

	mu       sync.Mutex
	requests map[string]*request
	claims   map[consign.ClaimID]*request // the answers that the worker has not named yet
	spent    recent[fate]                 // how requests ended, by their names
	swept    time.Time
	reports  reports
	group
}

func newSession(api consign.Session, worker consign.WorkerID, until time.Time, log *slog.Logger) *session {
	return &session{Session: api, worker: worker, until: until, log: log, requests: map[string]*request{}, claims: map[consign.ClaimID]*request{}}
}

// request is a claim request that was named by the worker. The name makes it
// safe to send again: whoever did not get the answer gets the same one, and the
// job is not lost until its lease ends.
type request struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed once there is an answer

	answer consign.Assignment
	err    error
	sent   bool      // the answer went out to somebody
	until  time.Time // the answer is kept for so long; its lease is over then

	polled bool   // its answer is for a poll of the group
	queued bool   // it waits there for one
	wanted bool   // the latest poll that named it is not over
	sentIn uint64 // the number of the poll that its answer went out in
}

// answered reports whether there is an answer. The caller holds the session's
// mutex.
func (r *request) answered() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// grace is how long a job waits for a worker whose connection broke while the
// job was on its way.
const grace = 3 * time.Second

// errTaken is a request's error whose job the worker has.
var errTaken = fmt.Errorf("%w: the request got its job, and the worker has named it: choose a new request_id for each free slot", consign.ErrConflict)

// claim claims a job under a request's name. Of several calls with one name,
// one claims, and all get its answer. The error is ctx's where there is no job.
func (s *session) claim(ctx context.Context, name string) (consign.Assignment, error) {
	for {
		mine, cancel := context.WithCancel(ctx)
		s.mu.Lock()
		switch s.spent.get(name) {
		case abandoned:
			s.mu.Unlock()
			cancel()
			return consign.Assignment{}, context.Canceled
		case taken:
			s.mu.Unlock()
			cancel()
			return consign.Assignment{}, errTaken
		}
		r := s.requests[name]
		first := r == nil
		if first {
			s.forgetOld()
			r = &request{name: name, cancel: cancel, done: make(chan struct{})}
			s.requests[name] = r
		}
		s.mu.Unlock()
		if first {
			s.ask(mine, r)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		cancel()
		switch {
		case !first && ctx.Err() != nil:
			return consign.Assignment{}, ctx.Err()
		case !first && interrupted(r.err):
			continue // the first one has gone, or waited long enough: go on for it
		}
		return r.answer, r.err
	}
}

// interrupted reports the error of a Claim that was not waited for any longer.
func interrupted(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// guarded calls what a worker asked for in a goroutine of its own, where a
// panic would end the process: net/http guards only its own goroutines.
func guarded(log *slog.Logger, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("consign: longpoll: panic", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("longpoll: %w: panic", errInternal)
		}
	}()
	return f()
}

// ask claims a job for a request.
func (s *session) ask(ctx context.Context, r *request) {
	var answer consign.Assignment
	err := guarded(s.log, func() (err error) {
		answer, err = s.Claim(ctx)
		return err
	})
	s.settle(r, answer, err)
}

// settle keeps a request's answer, or gives it back where nobody wants it.
func (s *session) settle(r *request, answer consign.Assignment, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.answer, r.err = answer, err
	close(r.done)
	if r.polled {
		s.opened--
	}
	gone := s.spent.get(r.name) == abandoned
	switch {
	case err != nil:
		delete(s.requests, r.name)
		if r.polled && r.wanted && !gone && interrupted(err) {
			s.open(r.name) // it was named again before its end
		} else if r.polled && !gone && !interrupted(err) {
			s.queue(r)
		}
	case gone:
		delete(s.requests, r.name)
		go s.giveBack(answer)
	default:
		lease := answer.Lease
		if lease <= 0 {
			lease = grace
		}
		r.until = time.Now().Add(lease)
		s.claims[answer.Claim] = r
		if r.polled {
			s.queue(r)
		}
	}
	s.wakePoll()
}

// sent says that an answer goes out to somebody.
func (s *session) sent(claim consign.ClaimID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.claims[claim]; r != nil {
		r.sent = true
	}
}

// missed says that there was nobody to send an answer to: it is given back
// unless somebody asks for it soon, or the worker proves to have it.
func (s *session) missed(claim consign.ClaimID) {
	time.AfterFunc(grace, func() {
		s.mu.Lock()
		r := s.claims[claim]
		if r == nil || r.sent {
			s.mu.Unlock()
			return
		}
		s.drop(r)
		s.mu.Unlock()
		s.giveBack(r.answer)
	})
}

// drop forgets an answer. The caller holds the mutex.
func (s *session) drop(r *request) {
	delete(s.claims, r.answer.Claim)
	if s.requests[r.name] == r {
		delete(s.requests, r.name)
	}
}

// abandon says that the worker does not want a request's job.
func (s *session) abandon(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spent.get(name) != unknown {
		return
	}
	s.spent.add(name, abandoned, time.Now())
	r := s.requests[name]
	if r == nil {
		return
	}
	r.cancel()
	if r.answered() { // else settle sees it
		s.drop(r)
		if r.err == nil {
			go s.giveBack(r.answer)
		}
	}
}

func (s *session) giveBack(a consign.Assignment) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	// Where this fails the lease ends the claim.
	_ = guarded(s.log, func() error {
		return s.Release(ctx, consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Reason: "the worker went away before it got the job"})
	})
}

// forget drops the request of a claim: the worker has proved that it knows of
// it, by naming it.
func (s *session) forget(claim consign.ClaimID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.claims[claim]; r != nil {
		s.drop(r)
		s.spent.add(r.name, taken, time.Now())
	}
}

// forgetOld drops answers whose leases are over. There are few: a worker that
// has got an answer names it soon.
func (s *session) forgetOld() {
	now := time.Now()
	if now.Sub(s.swept) < time.Second {
		return
	}
	s.swept = now
	for _, r := range s.claims {
		if now.After(r.until) {
			s.drop(r)
		}
	}
}

// fate is how a request ended.
type fate uint8

const (
	unknown   fate = iota
	abandoned      // it was taken back, perhaps before it came
	taken          // the worker has named the claim that it got
)
