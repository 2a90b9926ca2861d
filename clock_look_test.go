package consign

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// farClock is a store with a clock, the jobs that run, and no patience: each
// List after the first fails once.
type farClock struct {
	Store
	ahead   time.Duration
	running []*Job
	lists   int
	renewed map[JobID]int
}

func (s *farClock) Now(context.Context) (Instant, error) { return At(time.Now().Add(s.ahead)), nil }

func (s *farClock) List(_ context.Context, _ Filter, after JobID, n int) ([]*Job, error) {
	if s.lists++; s.lists%2 == 0 {
		return nil, errors.New("not now")
	}
	var page []*Job
	for _, j := range s.running {
		if bytes.Compare(j.ID[:], after[:]) > 0 && len(page) < n {
			page = append(page, j)
		}
	}
	return page, nil
}

func (s *farClock) Renew(_ context.Context, renewals []Renewal) ([]error, error) {
	for _, r := range renewals {
		s.renewed[r.Job]++
	}
	return make([]error, len(renewals)), nil
}

// However long the store was away, one look moves the queue's time by no more
// than a hundredth of a lease.
func TestALookAfterAnOutageMovesLittle(t *testing.T) {
	for _, back := range []time.Duration{-time.Minute, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			c, s := clock{began: time.Now()}, &farClock{}
			const slack = 3 * time.Second
			if err := c.look(t.Context(), s, slack); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			s.ahead = back
			before := c.now()
			if err := c.look(t.Context(), s, slack); err != nil {
				t.Fatal(err)
			}
			if moved := c.now().Sub(before); moved.Abs() > slack/slew || moved == 0 {
				t.Errorf("a clock that is off by %v moved the queue's time by %v", back, moved)
			}
			if c.jumped != back {
				t.Errorf("a jump by %v was seen as one by %v", back, c.jumped)
			}
		})
	}
}

// Leases are started anew after a jump back however many there are, and though
// the store fails in between: the next call goes on where the last one ended.
func TestRenewAllGoesOn(t *testing.T) {
	s := &farClock{renewed: map[JobID]int{}}
	for n := range 2500 {
		s.running = append(s.running, &Job{ID: JobID{byte(n >> 8), byte(n), 1}, State: StateRunning})
	}
	q := &Queue{config: Config{Store: s}}
	calls := 1
	for ; q.renewAll(t.Context(), -time.Hour) != nil; calls++ {
		if calls > 10 {
			t.Fatal("it never ends")
		}
	}
	if len(s.renewed) != len(s.running) {
		t.Errorf("%d of %d leases were started anew", len(s.renewed), len(s.running))
	}
	for id, n := range s.renewed {
		if n != 1 {
			t.Errorf("job %s had its lease started anew %d times", id, n)
		}
	}
}

// A reply that has come counts, though its caller's time is up.
func TestAReplyThatHasComeCounts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := &Queue{ended: make(chan struct{})}
	for range 100 {
		c := newCall()
		c.reply <- reply{}
		if _, err := q.await(ctx, c); err != nil {
			t.Fatalf("the caller is told %v", err)
		}
	}
}
