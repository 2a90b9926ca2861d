package longpoll

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// A group is claim requests of one session that are asked for together, by
// polls. A poll names those that the worker wants answered, and ends as soon as
// there is an answer, with all that there are. What is not answered then goes on
// at the queue, and the next poll finds it: a poll costs what it names, not what
// the queue has to do over again.
//
// A poll ends, without an answer, when the next one comes: so a worker whose
// slots become free one by one has each of them on offer, with two requests
// under way at most.
type group struct {
	opened int        // requests that have no answer yet
	ready  []*request // answers that wait for a poll, and some that nobody wants any more
	latest *poll      // nil: none is under way
	newest uint64     // the highest number of a poll
	expiry *time.Timer
}

// poll is one of a session's polls.
type poll struct {
	number uint64
	wake   chan struct{} // there may be something for it
	over   chan struct{} // closed when the next one is there
}

// groupBytes is from how many bytes on an answer takes no further job. What is
// left waits for the next poll, which comes at once.
const groupBytes = 4 << 20

// answers is what a poll ends with: jobs and errors of requests, and the names
// of those that have their job already.
type answers struct {
	requests []*request
	taken    []string
	busy     []string
}

func (a *answers) none() bool { return len(a.requests)+len(a.taken)+len(a.busy) == 0 }

// poll opens the requests that a worker names and waits for the first answers.
// It returns none where the next poll comes before, or where all its requests
// have been taken back, and otherwise ctx's error where there are none.
func (s *session) poll(ctx context.Context, in claimsRequest) (answers, error) {
	for _, name := range in.Abandon {
		s.abandon(name)
	}
	p := &poll{number: in.Poll, wake: make(chan struct{}, 1), over: make(chan struct{})}
	out := s.begin(p, in)
	for out.none() {
		select {
		case <-p.wake:
			runtime.Gosched() // whatever came at the same moment comes along
		case <-p.over:
			return out, nil
		case <-ctx.Done():
			s.end(p)
			if errors.Is(ctx.Err(), context.Canceled) { // its connection is gone: nothing is on offer until the worker is back
				s.close()
			}
			return out, ctx.Err()
		}
		var idle bool
		if out.requests, idle = s.take(p); idle {
			break
		}
	}
	s.end(p)
	return out, nil
}

// begin makes a poll the latest, and returns what there is for it at once.
func (s *session) begin(p *poll, in claimsRequest) (out answers) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetOld()
	if p.number != 0 && p.number < s.newest { // another connection was faster
		s.repeated(p.number)
		close(p.over)
		return out
	}
	s.newest = max(s.newest, p.number)
	if s.latest != nil {
		close(s.latest.over)
	}
	s.latest = p
	if s.expiry != nil {
		s.expiry.Stop()
	}
	for _, name := range in.Requests {
		r := s.requests[name]
		fate := s.spent.get(name)
		switch {
		case fate == taken:
			out.taken = append(out.taken, name)
		case fate == abandoned:
		case r == nil && s.opened >= wire.MaxRequests:
			out.busy = append(out.busy, name)
		case r == nil:
			s.open(name)
		case !r.answered():
			if !r.polled {
				r.polled = true
				s.opened++
			}
			r.wanted = true
		case r.sent && r.polled && in.Pending != 0 && r.sentIn == in.Pending: // it is on its way
		default:
			r.polled = true
			s.queue(r)
		}
	}
	s.wakePoll()
	return out
}

// repeated says that a poll came although a later one is there. Where it comes
// again, its answer did not arrive: net/http repeats a poll whose connection
// died. The later one left that answer out as on its way, and gets it now. The
// caller holds the mutex.
func (s *session) repeated(number uint64) {
	for _, r := range s.claims {
		if r.polled && r.sent && r.sentIn == number {
			r.sent = false
			s.queue(r)
		}
	}
	s.wakePoll()
}

// open asks the queue for a job. The caller holds the mutex.
func (s *session) open(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &request{name: name, cancel: cancel, done: make(chan struct{}), polled: true, wanted: true}
	s.requests[name] = r
	s.opened++
	go func() {
		defer cancel()
		s.ask(ctx, r)
	}()
}

// queue lays an answer out for the next poll. The caller holds the mutex.
func (s *session) queue(r *request) {
	if !r.queued {
		r.queued = true
		s.ready = append(s.ready, r)
	}
	if s.latest == nil {
		s.expireSoon()
	}
}

// wakePoll tells the poll under way to look. The caller holds the mutex.
func (s *session) wakePoll() {
	if s.latest != nil && (len(s.ready) > 0 || s.opened == 0) {
		select {
		case s.latest.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the answers that are ready, and whether nothing is left to wait
// for. A poll that is not the latest gets none.
func (s *session) take(p *poll) (out []*request, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != p {
		return nil, false
	}
	size := 0
	for len(s.ready) > 0 && size < groupBytes && len(out) < wire.MaxRequests {
		r := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		r.queued = false
		if r.err == nil && s.claims[r.answer.Claim] != r {
			continue // named, taken back, or too old
		}
		r.sent, r.sentIn = true, p.number
		size += len(r.answer.Payload) + len(r.answer.Header) + len(r.answer.Wrap) + len(r.answer.Signature)
		out = append(out, r)
	}
	return out, s.opened == 0 && len(s.ready) == 0
}

// end says that a poll is over. Where no other one comes soon nobody wants
// what it named.
func (s *session) end(p *poll) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest == p {
		s.latest = nil
		s.expireSoon()
	}
}

// lost says that an answer went to nobody: it waits for the next poll.
func (s *session) lost(rs []*request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		if r.err == nil && s.claims[r.answer.Claim] == r {
			r.sent = false
			s.queue(r)
		}
	}
	s.wakePoll()
}

// expireSoon gives the worker grace for its next poll. The caller holds the
// mutex.
func (s *session) expireSoon() {
	if s.expiry == nil {
		s.expiry = time.AfterFunc(grace, s.expire)
	} else {
		s.expiry.Reset(grace)
	}
}

// expire takes back the requests of a worker that does not poll, and gives
// back the jobs that they have got.
func (s *session) expire() {
	s.mu.Lock()
	if s.latest != nil { // it came just in time
		s.mu.Unlock()
		return
	}
	var jobs []consign.Assignment
	for _, r := range s.ready {
		r.queued = false
		if r.err == nil && s.claims[r.answer.Claim] == r {
			s.drop(r)
			jobs = append(jobs, r.answer)
		}
	}
	s.ready = nil
	s.mu.Unlock()
	s.close()
	for _, job := range jobs {
		s.giveBack(job)
	}
}

// close takes the open requests back, unless there is a poll that names them.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil {
		return
	}
	for _, r := range s.requests {
		if r.polled && !r.answered() {
			r.wanted = false
			r.cancel()
		}
	}
}

// errOpen is the error of a request beyond the bound of those that are open.
var errOpen = fmt.Errorf("%w: the session has %d claim requests open", consign.ErrBusy, wire.MaxRequests)
