package longpoll

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// A session's Claim and Complete calls travel together: while a request is under
// way, the calls that come gather for the next. Nothing waits for a timer, and
// whoever is alone goes at once.

// slots are a session's Claim calls, and the requests that ask the queue for
// their jobs. It does not matter which call gets which job.
type slots struct {
	mu      sync.Mutex
	waiting []chan slotAnswer   // calls without an answer, the oldest first
	names   map[string]struct{} // requests that the queue has open, one for each of them
	gone    []string            // requests that the queue is to be told to take back
	news    bool                // the queue does not know all of that yet
	named   uint64              // the last request
	polled  uint64              // the last poll
	flights []uint64            // the polls under way: two at most
	asking  bool                // another one is about to be
}

type slotAnswer struct {
	job consign.Assignment
	err error
}

// Claim names its request at the queue. One whose answer was lost is named
// again by the next poll, and gets the job that it had got.
func (s *remoteSession) Claim(ctx context.Context) (consign.Assignment, error) {
	if err := ctx.Err(); err != nil {
		return consign.Assignment{}, err
	}
	answer := make(chan slotAnswer, 1)
	s.slots.mu.Lock()
	s.slots.waiting = append(s.slots.waiting, answer)
	s.ask()
	s.slots.mu.Unlock()
	select {
	case a := <-answer:
		if a.err == nil || ctx.Err() == nil {
			return a.job, a.err
		}
	case <-ctx.Done():
	}
	s.slots.mu.Lock()
	defer s.slots.mu.Unlock()
	for i, other := range s.slots.waiting {
		if other == answer {
			s.slots.waiting = append(s.slots.waiting[:i], s.slots.waiting[i+1:]...)
			s.ask()
			return consign.Assignment{}, ctx.Err()
		}
	}
	select {
	case a := <-answer: // at the same moment
		if a.err == nil {
			return a.job, nil
		}
	default:
	}
	s.ask() // an answer may be lost that nobody will ask for again
	return consign.Assignment{}, ctx.Err()
}

// ask polls, if there is something to say or nobody asks. A poll displaces the
// one before, which then ends at once, so a second may always go; a third waits
// for the end of the first, and what comes until then goes with it. The caller
// holds the mutex.
func (s *remoteSession) ask() {
	g := &s.slots
	if g.names == nil {
		g.names = map[string]struct{}{}
	}
	for len(g.names) < min(len(g.waiting), wire.MaxRequests) {
		g.named++
		g.names[strconv.FormatUint(g.named, 36)] = struct{}{}
		g.news = true
	}
	for name := range g.names {
		if len(g.names) <= len(g.waiting) {
			break
		}
		delete(g.names, name)
		g.gone = append(g.gone, name)
		g.news = true
	}
	asked := len(g.flights) > 0 || len(g.waiting) == 0
	if g.asking || len(g.flights) == 2 || asked && !g.news {
		return
	}
	g.asking = true
	go func() {
		runtime.Gosched() // the calls that begin at this moment come along
		g.mu.Lock()
		in, ok := g.next()
		g.mu.Unlock()
		if ok {
			s.poll(in)
		}
	}()
}

// next makes a poll of what there is to say. The caller holds the mutex.
func (g *slots) next() (in claimsRequest, ok bool) {
	g.asking = false
	if len(g.waiting)+len(g.gone) == 0 {
		return in, false // the calls have ended meanwhile
	}
	g.polled++
	in = claimsRequest{Requests: make([]string, 0, len(g.names)), Poll: g.polled}
	for name := range g.names {
		if len(g.waiting) > 0 { // or their answers were lost, and nobody asks for them yet
			in.Requests = append(in.Requests, name)
		}
	}
	if len(g.flights) == 1 {
		in.Pending = g.flights[0]
	}
	n := min(len(g.gone), wire.MaxRequests)
	in.Abandon, g.gone = g.gone[:n:n], g.gone[n:]
	g.news = len(g.gone) > 0
	g.flights = append(g.flights, g.polled)
	return in, true
}

func (s *remoteSession) poll(in claimsRequest) {
	var out claimed
	x := exchange{method: http.MethodPost, path: s.path + "/claims", token: s.token, in: in, out: &out}
	if len(in.Requests) > 0 {
		x.path, x.wait = x.path+"?wait="+pollFor.String(), pollFor
	}
	_, err := s.d.do(context.Background(), x)
	g := &s.slots
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, number := range g.flights {
		if number == in.Poll {
			g.flights = append(g.flights[:i], g.flights[i+1:]...)
			break
		}
	}
	if err != nil {
		g.lost(in, err)
	}
	for _, o := range out.Outcomes {
		s.got(o)
	}
	if len(g.waiting) > 0 || err == nil {
		s.ask()
	}
}

// lost is the end of a poll without an answer. The calls end, since it is for
// their callers to say when to try again; what they asked for stays named, to
// be answered then. The caller holds the mutex.
func (g *slots) lost(in claimsRequest, err error) {
	for _, answer := range g.waiting {
		answer <- slotAnswer{err: err}
	}
	g.waiting = nil
	g.gone = append(in.Abandon, g.gone...)
	g.gone = g.gone[:min(len(g.gone), wire.MaxRequests)] // the leases end what is beyond
	g.news = true
}

// got hands an outcome to the oldest call. The caller holds the mutex.
func (s *remoteSession) got(o claimOutcome) {
	g := &s.slots
	_, known := g.names[o.Request]
	delete(g.names, o.Request)
	var a slotAnswer
	switch {
	case o.Error != nil:
		a.err = o.Error.Err()
	case o.Assignment != nil:
		a.job = o.Assignment.Value()
	default:
		return
	}
	switch {
	case known && len(g.waiting) > 0:
		g.waiting[0] <- a
		g.waiting = g.waiting[1:]
	case a.err == nil: // nobody wants it any more
		go s.giveBack(a.job)
	}
}

// giveBackWithin is how long the queue is told that a job is not wanted. Where
// it cannot be, its lease ends.
const giveBackWithin = 10 * time.Second

func (s *remoteSession) giveBack(a consign.Assignment) {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackWithin)
	defer cancel()
	_ = s.Release(ctx, consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Reason: "the worker does not want it any more"})
}

// results are the completions of a session that are to be sent.
type results struct {
	mu      sync.Mutex
	waiting []*result
	sending bool
}

type result struct {
	ctx    context.Context
	body   wire.Completion
	size   int
	answer chan error
}

const (
	// loneResult is the size from which a result goes by itself: it gains
	// nothing from company, and would hold it up.
	loneResult = 64 << 10
	// resultsBytes bounds what goes together. A server of net/http reads so much
	// of a body that it refuses, so that its answer is heard.
	resultsBytes = 192 << 10
	// resultsAside is from when on a request without an answer holds the next
	// one up no longer: its connection may be dead, and leases of the usual 30 s
	// run out.
	resultsAside = 10 * time.Second
)

func (s *remoteSession) Complete(ctx context.Context, c consign.Completion) error {
	r := &result{ctx: ctx, body: wire.NewCompletion(c), size: 256 + len(c.Result) + len(c.Record), answer: make(chan error, 1)}
	if c.Comparison != nil {
		r.size += len(c.Comparison.Sketch)
	}
	if r.size >= loneResult {
		return s.call(ctx, exchange{path: jobPath(c.Job, "/complete"), in: r.body})
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.results.mu.Lock()
	s.results.waiting = append(s.results.waiting, r)
	if !s.results.sending {
		s.results.sending = true
		go s.sendResults()
	}
	s.results.mu.Unlock()
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendResults sends until there is nothing to send. Where a request takes long,
// another call goes on in its place.
func (s *remoteSession) sendResults() {
	for {
		runtime.Gosched() // the calls that begin at this moment come along
		rs := s.results.next()
		if len(rs) == 0 {
			return
		}
		late := time.AfterFunc(resultsAside, s.sendResults)
		s.completeAll(rs)
		if !late.Stop() {
			return
		}
	}
}

// next takes what goes together. With nothing the sending is over.
func (q *results) next() (rs []*result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(q.waiting) > 0 && len(rs) < wire.MaxCompletions && size+q.waiting[0].size <= resultsBytes {
		r := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		if r.ctx.Err() == nil { // else its caller has gone
			rs = append(rs, r)
			size += r.size
		}
	}
	q.sending = len(rs) > 0
	return rs
}

// completeAll sends results together. Where they are too many bytes for the
// queue it halves them, until only what is too large by itself is refused.
func (s *remoteSession) completeAll(rs []*result) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in := completions{make([]wire.Completion, len(rs))}
	var left atomic.Int64
	left.Store(int64(len(rs)))
	for i, r := range rs {
		in.Completions[i] = r.body
		defer context.AfterFunc(r.ctx, func() {
			if left.Add(-1) == 0 { // nobody waits any more
				cancel()
			}
		})()
	}
	var out completed
	err := s.call(ctx, exchange{path: s.path + "/completions", in: in, out: &out})
	switch {
	case errors.Is(err, errTooLarge) && len(rs) > 1:
		s.completeAll(rs[:len(rs)/2])
		s.completeAll(rs[len(rs)/2:])
		return
	case err == nil && len(out.Outcomes) != len(rs):
		err = fmt.Errorf("longpoll: %d outcomes of %d completions", len(out.Outcomes), len(rs))
	}
	for i, r := range rs {
		switch {
		case err != nil:
			r.answer <- err
		case out.Outcomes[i].Error != nil:
			r.answer <- out.Outcomes[i].Error.Err()
		default:
			r.answer <- nil
		}
	}
}
