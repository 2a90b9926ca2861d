package consign_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// aheadStore is a store whose clock, by which leases go, is another one than
// the process's, and is set as a test likes. It knows the leases itself.
type aheadStore struct {
	consign.Store
	mu    sync.Mutex
	ahead time.Duration
	trip  time.Duration // how long the way to it is, and how long back
	until map[consign.ClaimID]consign.Instant
}

func newAheadStore(ahead time.Duration) *aheadStore {
	return &aheadStore{Store: memdb.New(), ahead: ahead, until: map[consign.ClaimID]consign.Instant{}}
}

func (s *aheadStore) set(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += by
}

func (s *aheadStore) at() consign.Instant { return consign.At(time.Now().Add(s.ahead)) }

func (s *aheadStore) Now(context.Context) (consign.Instant, error) {
	time.Sleep(s.trip)
	s.mu.Lock()
	now := s.at()
	s.mu.Unlock()
	time.Sleep(s.trip)
	return now, nil
}

func (s *aheadStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	outcomes := make([]error, len(changes))
	for i, c := range changes {
		if g := c.Guard; g != nil && g.Lapsed {
			if s.until[g.Claim] >= s.at() {
				outcomes[i] = consign.ErrGuard
				continue
			}
			c.Guard = &consign.Guard{Job: g.Job, Claim: g.Claim}
		}
		errs, err := s.Store.Apply(ctx, []consign.Change{c})
		if err != nil {
			return nil, err
		}
		if outcomes[i] = errs[0]; errs[0] == nil && c.Job != nil && c.Job.State == consign.StateRunning {
			s.until[c.Job.Claim] = s.at().Add(c.Job.LeaseFor)
		}
	}
	return outcomes, nil
}

func (s *aheadStore) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs, err := s.Store.Renew(ctx, renewals)
	for i, r := range renewals {
		if err == nil && errs[i] == nil {
			s.until[r.Claim] = s.at().Add(r.For)
		}
	}
	return errs, err
}

func (s *aheadStore) Lapsed(ctx context.Context, n int) (lapsed []*consign.Job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs, err := s.List(ctx, consign.Filter{State: consign.StateRunning}, consign.JobID{}, 1000)
	for _, j := range jobs {
		if s.until[j.Claim] < s.at() && len(lapsed) < n {
			lapsed = append(lapsed, j)
		}
	}
	return lapsed, err
}

// A queue goes by the clock of a store that has its own, the middle of the
// round trip, whatever its machine's says; and what is to last a minute does.
func TestTheStoresClockIsTheQueues(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour, 0} {
		bubble(t, func(t *testing.T) {
			store := newAheadStore(ahead)
			store.trip = 20 * time.Millisecond
			r, stop := onClock(t, store)
			defer stop()
			r.submit(consign.SubmitRequest{Kind: consign.KindTask, Custody: consign.CustodyPlain, Payload: []byte("x"), Delay: 20 * time.Second})
			_, claim := r.quiet(r.q)
			began := time.Now()
			a := claim()
			if waited := time.Since(began); (waited - 20*time.Second).Abs() > time.Second {
				t.Errorf("a delay of 20 s took %s", waited)
			}
			j, err := r.sub.Get(t.Context(), a.Job)
			check(t, err)
			if off := j.ClaimedAt.Sub(time.Now().Add(ahead)); off.Abs() > time.Millisecond {
				t.Errorf("the queue's time is %s from that of its store, which is %s ahead", off, ahead)
			}
		})
	}
}

// onClock runs a queue on a store with a clock of its own.
func onClock(t *testing.T, store *aheadStore) (r *rig, stop func()) {
	t.Helper()
	c := consign.Config{Store: store, Lease: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	q, stop := testkit.Start(t, c)
	return &rig{t: t, config: c, q: q, sub: q.Submitter("acme")}, stop
}

// When the store's clock is set, no lease is cut short, none lasts twice as
// long, and no deadline comes that is not near.
func TestTheStoresClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 5 * time.Minute, -5 * time.Minute, 15 * time.Second} {
		bubble(t, func(t *testing.T) {
			if err := playJump(t, jump); err != nil {
				t.Errorf("a jump by %s: %v", jump, err)
			}
		})
	}
}

func playJump(t *testing.T, jump time.Duration) error {
	store := newAheadStore(0)
	began := time.Now()
	r, stop := onClock(t, store)
	defer stop()
	ctx, q, lease := t.Context(), r.q, r.config.Lease
	alive, claim := r.quiet(q)
	_, claimToo := r.quiet(q) // who is never heard of again
	submit := func(deadline time.Duration) consign.JobID {
		return r.submit(consign.SubmitRequest{Kind: consign.KindTask, Custody: consign.CustodyPlain, Payload: []byte("x"), Deadline: deadline}).ID
	}
	submit(0)
	held := claim()
	submit(0)
	lost := claimToo()
	const minutes = 10
	late := submit(minutes * time.Minute)
	check(t, q.Pause(ctx, consign.PauseKind(consign.KindTask))) // nobody is to take it
	time.Sleep(5 * time.Second)
	store.set(jump)
	set := time.Now()
	var rescued, expired time.Duration
	for expired == 0 && time.Since(began) < time.Hour {
		reply, err := alive.beats(claimOf(held))
		if err != nil || len(reply.Lost) > 0 {
			return fmt.Errorf("after %s the worker that lives hears of %v: %w", time.Since(set), reply.Lost, err)
		}
		time.Sleep(time.Second)
		if info, err := r.sub.Get(ctx, lost.Job); err != nil {
			return err
		} else if info.State != consign.StateRunning && rescued == 0 {
			rescued = time.Since(began)
		}
		if info, err := r.sub.Get(ctx, late); err != nil {
			return err
		} else if info.State == consign.StateExpired {
			expired = time.Since(began)
		}
	}
	if rescued < lease || rescued > 2*lease {
		return fmt.Errorf("the other worker's lease of %s lasted %s", lease, rescued)
	}
	if whole := minutes * time.Minute; expired < whole*9/10 || expired > whole*9/8 {
		return fmt.Errorf("a deadline of %s came after %s", whole, expired)
	}
	if err := alive.complete(held); err != nil {
		return errors.Join(errors.New("the worker that lives has lost its claim"), err)
	}
	return nil
}
