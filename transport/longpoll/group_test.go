package longpoll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// shelf is a queue's session that hands out the jobs that it is given, and
// counts what becomes of them.
type shelf struct {
	consign.Session
	jobs chan consign.Assignment
	slow time.Duration // a claim takes so long to end that is cancelled

	mu       sync.Mutex
	claims   int // calls that block
	calls    int
	released []consign.ClaimID
}

func newShelf() *shelf { return &shelf{jobs: make(chan consign.Assignment, 1000)} }

func (q *shelf) put(payload int, ids ...byte) {
	for _, id := range ids {
		q.jobs <- consign.Assignment{Job: consign.JobID{id}, Claim: consign.ClaimID{id}, Lease: time.Hour, Payload: make([]byte, payload)}
	}
}

func (q *shelf) Claim(ctx context.Context) (consign.Assignment, error) {
	q.mu.Lock()
	q.claims++
	q.calls++
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		q.claims--
		q.mu.Unlock()
	}()
	select {
	case a := <-q.jobs:
		if a.Kind == "panic" {
			panic("a claim")
		}
		return a, nil
	case <-ctx.Done():
		time.Sleep(q.slow)
		return consign.Assignment{}, ctx.Err()
	}
}

func (q *shelf) Release(_ context.Context, r consign.Release) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.released = append(q.released, r.Claim.Claim)
	return nil
}

func (q *shelf) counts() (claims, calls, released int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claims, q.calls, len(q.released)
}

// polled runs f in a bubble with a session of a shelf.
func polled(t *testing.T, f func(*testing.T, *session, *shelf)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := newShelf()
		s := openSession(t, q)
		f(t, s, q)
		time.Sleep(3 * grace) // whatever is open ends
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if claims, _, _ := q.counts(); claims != 0 || s.opened != 0 {
			t.Errorf("%d claims are left at the queue, and %d are counted as open", claims, s.opened)
		}
	})
}

// names are n names of requests.
func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("n", i)
	}
	return all
}

// claims is a poll's answer as a set, where no claim may come twice.
func claims(t *testing.T, out answers) map[consign.ClaimID]string {
	t.Helper()
	got := map[consign.ClaimID]string{}
	for _, r := range out.requests {
		if r.err != nil || got[r.answer.Claim] != "" {
			t.Fatalf("%s: %v, %v", r.name, r.answer.Claim, r.err)
		}
		got[r.answer.Claim] = r.name
	}
	return got
}

// TestPollAnswersAtOnce: a poll does not wait for all of its requests, and what
// it was not answered goes on at the queue without being asked anew.
func TestPollAnswersAtOnce(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		time.AfterFunc(time.Second, func() { q.put(1, 1, 2) })
		began := time.Now()
		out, err := s.poll(t.Context(), claimsRequest{Requests: names(5), Poll: 1})
		if n := len(claims(t, out)); err != nil || n == 0 || time.Since(began) != time.Second {
			t.Fatalf("%d jobs after %v, %v", n, time.Since(began), err)
		}
		synctest.Wait()
		q.put(1, 3)
		synctest.Wait()
		got := claims(t, out)
		again, err := s.poll(t.Context(), claimsRequest{Requests: others(names(5), got), Poll: 2})
		for claim, name := range claims(t, again) {
			if got[claim] != "" {
				t.Errorf("claim %s came for %s and %s", claim, got[claim], name)
			}
			got[claim] = name
		}
		if _, calls, _ := q.counts(); err != nil || len(got) != 3 || calls != 5 {
			t.Errorf("%d jobs of 3 came, for %d claims at the queue, %v", len(got), calls, err)
		}
	})
}

// others are the names that have no job.
func others(all []string, got map[consign.ClaimID]string) (left []string) {
	for _, name := range all {
		has := false
		for _, other := range got {
			has = has || name == other
		}
		if !has {
			left = append(left, name)
		}
	}
	return left
}

// TestPollLost: an answer that was lost comes again, to whoever names its
// request; and not to a poll that says that it is on its way.
func TestPollLost(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		q.put(1, 1)
		for number := uint64(1); number <= 3; number++ {
			out, err := s.poll(t.Context(), claimsRequest{Requests: names(1), Poll: number})
			if got := claims(t, out); err != nil || got[consign.ClaimID{1}] != "n0" {
				t.Fatalf("poll %d: %v, %v", number, got, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out, err := s.poll(ctx, claimsRequest{Requests: names(1), Poll: 4, Pending: 3}); !out.none() || err != nil {
			t.Errorf("on its way: %v, %v", claims(t, out), err) // nothing is open, so it ends at once
		}
		if _, calls, released := q.counts(); calls != 1 || released != 0 {
			t.Errorf("%d claims, %d releases", calls, released)
		}
	})
}

// TestPollTaken: a request whose job the worker has named is over.
func TestPollTaken(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		q.put(1, 1, 2)
		if out, err := s.poll(t.Context(), claimsRequest{Requests: names(1)}); err != nil || len(claims(t, out)) != 1 {
			t.Fatal(claims(t, out), err)
		}
		s.forget(consign.ClaimID{1})
		if out, err := s.poll(t.Context(), claimsRequest{Requests: names(1)}); err != nil || len(out.taken) != 1 || len(out.requests) != 0 {
			t.Errorf("by a poll: %+v, %v", out, err)
		}
		if a, err := s.claim(t.Context(), "n0"); !errors.Is(err, consign.ErrConflict) {
			t.Errorf("by itself: %+v, %v", a, err)
		}
	})
}

// TestPollDisplaced: the next poll ends the one before, and what the one before
// has asked for is the next one's. One that comes late changes nothing.
func TestPollDisplaced(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		first := make(chan answers, 1)
		go func() {
			out, _ := s.poll(t.Context(), claimsRequest{Requests: names(2), Poll: 2})
			first <- out
		}()
		synctest.Wait()
		if out, err := s.poll(t.Context(), claimsRequest{Requests: names(5), Poll: 1}); !out.none() || err != nil {
			t.Errorf("a late poll has %+v, %v", out, err)
		}
		second := make(chan answers, 1)
		go func() {
			out, _ := s.poll(t.Context(), claimsRequest{Requests: names(3), Poll: 3, Pending: 2})
			second <- out
		}()
		if out := <-first; !out.none() {
			t.Errorf("the first poll ended with %+v", out)
		}
		synctest.Wait()
		if open, calls, _ := q.counts(); open != 3 || calls != 3 {
			t.Errorf("%d claims are open after %d calls", open, calls)
		}
		q.put(1, 1)
		if got := claims(t, <-second); len(got) != 1 {
			t.Errorf("the second poll ended with %v", got)
		}
	})
}

// TestPollIsBoundedInBytes: large jobs come one by one, and all of them.
func TestPollIsBoundedInBytes(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		const n = 6
		q.put(groupBytes*2/3, 1, 2, 3, 4, 5, 6)
		got := map[consign.ClaimID]string{}
		for number := uint64(1); len(got) < n; number++ {
			out, err := s.poll(t.Context(), claimsRequest{Requests: others(names(n), got), Poll: number})
			if err != nil || len(out.requests) > 2 || number > n {
				t.Fatalf("poll %d has %d jobs, %v", number, len(out.requests), err)
			}
			for claim, name := range claims(t, out) {
				got[claim] = name
			}
			synctest.Wait()
		}
	})
}

// TestPollsEnd: of a worker that polls no more, what is open is taken back, and
// what it has got is given back, also what came too late for that.
func TestPollsEnd(t *testing.T) {
	for _, how := range []string{"its connection breaks", "its wait is over", "its answer does not go out"} {
		t.Run(how, func(t *testing.T) {
			polled(t, func(t *testing.T, s *session, q *shelf) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				switch how {
				case "its connection breaks":
					time.AfterFunc(time.Second/2, cancel)
				case "its answer does not go out":
					q.put(1, 1)
				}
				out, _ := s.poll(ctx, claimsRequest{Requests: names(3)})
				s.lost(out.requests)
				synctest.Wait()
				if open, _, _ := q.counts(); open > 0 == (how == "its connection breaks") {
					t.Errorf("%d claims are open", open)
				}
				if how == "its wait is over" {
					q.put(1, 1, 2)
				}
				time.Sleep(2 * grace)
				synctest.Wait()
				want := map[string]int{"its connection breaks": 0, "its wait is over": 2, "its answer does not go out": 1}[how]
				s.mu.Lock()
				kept := len(s.requests) + len(s.claims) + len(s.ready)
				s.mu.Unlock()
				if _, _, released := q.counts(); released != want || kept != 0 {
					t.Errorf("%d releases, want %d, and %d requests are kept", released, want, kept)
				}
			})
		})
	}
}

// TestPollAfterEnd: a request that is being taken back and is named again is
// open again.
func TestPollAfterEnd(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		for i := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _, _ = s.poll(ctx, claimsRequest{Requests: names(3), Poll: uint64(2*i) + 1}) }()
			if i%2 == 0 {
				synctest.Wait()
			}
			cancel()
			back, leave := context.WithCancel(t.Context())
			defer leave()
			go func() { _, _ = s.poll(back, claimsRequest{Requests: names(3), Poll: uint64(2*i) + 2}) }()
			synctest.Wait()
			if open, _, _ := q.counts(); open != 3 {
				t.Errorf("%d claims are open, want 3", open)
			}
		}
	})
}

// TestPollDuringEnd: likewise where the queue has not let go of it yet.
func TestPollDuringEnd(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		q.slow = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = s.poll(ctx, claimsRequest{Requests: names(3)}) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		back, leave := context.WithCancel(t.Context())
		defer leave()
		go func() { _, _ = s.poll(back, claimsRequest{Requests: names(3)}) }()
		time.Sleep(2 * q.slow)
		synctest.Wait()
		if open, calls, _ := q.counts(); open != 3 || calls != 6 {
			t.Errorf("%d claims are open after %d calls, want 3 after 6", open, calls)
		}
	})
}

// TestPollAbandons: what a poll takes back is given back, and is not asked for
// when it is named again.
func TestPollAbandons(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		q.put(1, 1)
		out, err := s.poll(t.Context(), claimsRequest{Requests: names(3), Poll: 1})
		if got := claims(t, out); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		if out, err = s.poll(t.Context(), claimsRequest{Abandon: names(3), Poll: 2}); err != nil || !out.none() {
			t.Errorf("%+v, %v", out, err)
		}
		if out, err = s.poll(t.Context(), claimsRequest{Requests: names(3), Poll: 3}); err != nil || !out.none() {
			t.Errorf("%+v, %v", out, err)
		}
		synctest.Wait()
		if open, calls, released := q.counts(); open != 0 || calls != 3 || released != 1 {
			t.Errorf("%d claims are open after %d calls, %d releases", open, calls, released)
		}
	})
}

// TestOpenRequestsAreBounded, by what a worker is told and not by the queue.
func TestOpenRequestsAreBounded(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		go func() { _, _ = s.poll(t.Context(), claimsRequest{Requests: names(wire.MaxRequests)}) }()
		synctest.Wait()
		out, err := s.poll(t.Context(), claimsRequest{Requests: []string{"n0", "one too many"}})
		if _, calls, _ := q.counts(); err != nil || len(out.busy) != 1 || out.busy[0] != "one too many" || calls != wire.MaxRequests {
			t.Errorf("%+v after %d calls, %v", out, calls, err)
		}
	})
}

// TestPanicsOfClaims: one is its request's error, and no more.
func TestPanicsOfClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newShelf()
		s := openSession(t, q)
		s.log = slog.New(slog.DiscardHandler)
		q.jobs <- consign.Assignment{Kind: "panic"}
		out, err := s.poll(t.Context(), claimsRequest{Requests: names(1)})
		if err != nil || len(out.requests) != 1 || !errors.Is(out.requests[0].err, errInternal) {
			t.Errorf("%+v, %v", out, err)
		}
		q.jobs <- consign.Assignment{Kind: "panic"}
		if _, err := s.claim(t.Context(), "alone"); !errors.Is(err, errInternal) {
			t.Errorf("alone: %v", err)
		}
	})
}

// TestSpentIsBounded: the latest names that are over are known, and no others.
func TestSpentIsBounded(t *testing.T) {
	var s recent[fate]
	now := time.Now()
	for i := range 3 * maxRecent {
		s.add(fmt.Sprint(i), taken, now)
	}
	if len(s.values) != maxRecent || len(s.names) != maxRecent || s.get(fmt.Sprint(3*maxRecent-1)) != taken || s.get("0") != unknown {
		t.Errorf("%d names and %d fates, want %d", len(s.names), len(s.values), maxRecent)
	}
	s.add(fmt.Sprint(3*maxRecent-1), abandoned, now)
	if s.get(fmt.Sprint(3*maxRecent-1)) != taken {
		t.Error("a request that was taken was abandoned later")
	}
	later := now.Add(recentFor + time.Second)
	for i := range 100 {
		before := len(s.names)
		s.add(fmt.Sprint("late", i), abandoned, later)
		if len(s.names) != before-1 { // two old ones go for each that comes: never all at once
			t.Fatalf("%d names after %d", len(s.names), before)
		}
	}
}

// TestPollRepeatedAfterTheNext: net/http sends a poll again whose connection died before its answer's first byte. Where the
// next poll has come meanwhile, which took that answer to be on its way, the answer goes with that one at once.
func TestPollRepeatedAfterTheNext(t *testing.T) {
	polled(t, func(t *testing.T, s *session, q *shelf) {
		q.put(10, 1)
		if out, err := s.poll(t.Context(), claimsRequest{Requests: []string{"a"}, Poll: 1}); err != nil || len(out.requests) != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began, done := time.Now(), make(chan answers, 1)
		go func() {
			out, _ := s.poll(ctx, claimsRequest{Requests: []string{"a", "b"}, Poll: 2, Pending: 1})
			done <- out
		}()
		synctest.Wait()
		again, _ := s.poll(ctx, claimsRequest{Requests: []string{"a"}, Poll: 1})
		next := <-done
		if len(again.requests)+len(next.requests) != 1 || time.Since(began) > time.Second {
			t.Errorf("repeated: %d jobs, next: %d, after %v", len(again.requests), len(next.requests), time.Since(began))
		}
		q.put(10, 2) // for b
		after, err := s.poll(t.Context(), claimsRequest{Requests: []string{"b"}, Poll: 3})
		if err != nil || claims(t, after)[consign.ClaimID{2}] != "b" || len(after.requests) != 1 {
			t.Errorf("after it: %+v, %v", after, err)
		}
	})
}
