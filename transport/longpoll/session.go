package longpoll

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// sessionLife is how long a session's token holds. A worker registers again
// then; its claims live on.
const sessionLife = time.Hour

// sessions are the workers' sessions, by the hash of their token.
type sessions struct {
	mu    sync.RWMutex
	max   int
	open  map[[32]byte]*session
	swept time.Time
}

func (s *sessions) init(most int) { s.max, s.open = most, map[[32]byte]*session{} }

// add opens a session and returns its token. It returns ErrBusy where there
// are as many as there may be.
func (s *sessions) add(worker consign.WorkerID, api consign.Session) (token string, until time.Time, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	token = hex.EncodeToString(random[:])
	now := time.Now()
	until = now.Add(sessionLife)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > time.Minute {
		s.swept = now
		for key, old := range s.open {
			if now.After(old.until) {
				delete(s.open, key)
			}
		}
	}
	if len(s.open) >= s.max {
		return "", until, fmt.Errorf("%w: there are %d sessions", consign.ErrBusy, s.max)
	}
	s.open[sha256.Sum256([]byte(token))] = &session{Session: api, worker: worker, until: until,
		requests: map[string]*request{}, claims: map[consign.ClaimID]string{}, abandoned: map[string]time.Time{}}
	return token, until, nil
}

// get returns the session of a token, or ErrSession.
func (s *sessions) get(token string) (*session, error) {
	s.mu.RLock()
	found := s.open[sha256.Sum256([]byte(token))]
	s.mu.RUnlock()
	if found == nil || time.Now().After(found.until) {
		return nil, fmt.Errorf("%w: the token is unknown, or older than %v: register again", consign.ErrSession, sessionLife)
	}
	return found, nil
}

// session is a worker's session, and what it has claimed of which the worker
// may not know.
type session struct {
	consign.Session
	worker consign.WorkerID
	until  time.Time

	mu        sync.Mutex
	requests  map[string]*request
	claims    map[consign.ClaimID]string // which request claimed it
	abandoned map[string]time.Time       // requests that were taken back, perhaps before they came
}

// request is a claim request that was named by the worker. The name makes it
// safe to send again: whoever did not get the answer gets the same one, and the
// job is not lost until its lease ends.
type request struct {
	cancel context.CancelFunc
	done   chan struct{} // closed once there is an answer

	answer consign.Assignment
	err    error
	sent   bool      // the answer went out to somebody
	until  time.Time // the answer is kept for so long; its lease is over then
}

// grace is how long a job waits for a worker whose connection broke while the
// job was on its way.
const grace = 3 * time.Second

// claim claims a job under a request's name. Of several calls with one name,
// one claims, and all get its answer. The error is ctx's where there is no job.
func (s *session) claim(ctx context.Context, name string) (consign.Assignment, error) {
	for {
		mine, cancel := context.WithCancel(ctx)
		s.mu.Lock()
		if _, taken := s.abandoned[name]; taken {
			s.mu.Unlock()
			cancel()
			return consign.Assignment{}, context.Canceled
		}
		r := s.requests[name]
		first := r == nil
		if first {
			s.forgetOld()
			r = &request{cancel: cancel, done: make(chan struct{})}
			s.requests[name] = r
		}
		s.mu.Unlock()
		if first {
			answer, err := s.Claim(mine)
			s.settle(name, r, answer, err)
		}
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		cancel()
		switch {
		case !first && ctx.Err() != nil:
			return consign.Assignment{}, ctx.Err()
		case !first && (errors.Is(r.err, context.Canceled) || errors.Is(r.err, context.DeadlineExceeded)):
			continue // the first one has gone, or waited long enough: go on for it
		}
		return r.answer, r.err
	}
}

// settle keeps a request's answer, or gives it back where nobody wants it.
func (s *session) settle(name string, r *request, answer consign.Assignment, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.answer, r.err = answer, err
	close(r.done)
	_, abandoned := s.abandoned[name]
	switch {
	case err != nil:
		delete(s.requests, name)
	case abandoned:
		delete(s.requests, name)
		go s.giveBack(answer)
	default:
		lease := answer.Lease
		if lease <= 0 {
			lease = grace
		}
		r.until = time.Now().Add(lease)
		s.claims[answer.Claim] = name
	}
}

// sent says that an answer goes out to somebody.
func (s *session) sent(claim consign.ClaimID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.requests[s.claims[claim]]; r != nil {
		r.sent = true
	}
}

// missed says that there was nobody to send an answer to: it is given back
// unless somebody asks for it soon, or the worker proves to have it.
func (s *session) missed(claim consign.ClaimID) {
	time.AfterFunc(grace, func() {
		s.mu.Lock()
		name := s.claims[claim]
		r := s.requests[name]
		if r == nil || r.sent {
			s.mu.Unlock()
			return
		}
		delete(s.claims, claim)
		delete(s.requests, name)
		s.mu.Unlock()
		s.giveBack(r.answer)
	})
}

// Abandoned requests are remembered for longer than a request is under way: it
// may come after the word that it is taken back. A worker that has more is not
// helped.
const (
	abandonedFor = time.Minute
	maxAbandoned = 4096
)

// abandon says that the worker does not want a request's job.
func (s *session) abandon(name string) {
	now := time.Now()
	s.mu.Lock()
	if len(s.abandoned) >= maxAbandoned {
		for old, at := range s.abandoned {
			if now.Sub(at) > abandonedFor {
				delete(s.abandoned, old)
			}
		}
	}
	if len(s.abandoned) < maxAbandoned {
		s.abandoned[name] = now
	}
	r := s.requests[name]
	s.mu.Unlock()
	if r == nil {
		return
	}
	r.cancel()
	select {
	case <-r.done:
		if r.err == nil && s.forget(r.answer.Claim) != nil {
			s.giveBack(r.answer)
		}
	default: // settle sees it
	}
}

func (s *session) giveBack(a consign.Assignment) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	// Where this fails the lease ends the claim.
	_ = s.Release(ctx, consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Reason: "the worker went away before it got the job"})
}

// forget drops the request of a claim: the worker has proved that it knows of
// it, by naming it, or it is about to be given back.
func (s *session) forget(claim consign.ClaimID) *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, ok := s.claims[claim]
	if !ok {
		return nil
	}
	r := s.requests[name]
	delete(s.claims, claim)
	delete(s.requests, name)
	return r
}

// forgetOld drops answers whose leases are over. There are few: a worker that
// has got an answer names it soon.
func (s *session) forgetOld() {
	now := time.Now()
	for claim, name := range s.claims {
		if now.After(s.requests[name].until) {
			delete(s.claims, claim)
			delete(s.requests, name)
		}
	}
}
