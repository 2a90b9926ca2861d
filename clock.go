package consign

import (
	"context"
	"sync/atomic"
	"time"
)

// Clock is an optional ability of a Store whose leases go by another clock than
// the process's: a database's. The queues that share the store then go by its
// clock in all else, too, so that they agree on deadlines and delays whatever
// their machines' clocks say.
type Clock interface {
	// Now returns the store's present time, by which it judges leases.
	Now(ctx context.Context) (Instant, error)
}

// clock is the time that a queue goes by: the wall clock at its start and what
// has passed since by the monotonic one, so that setting the machine's clock
// moves no deadline, and how far the store's clock is ahead of that.
type clock struct {
	began time.Time
	ahead atomic.Int64 // in microseconds

	// For look, which is called by one goroutine at a time.
	looked time.Time     // when it last did; zero: never
	trip   time.Duration // how long that took
	seen   time.Duration // how far ahead the store's clock was
	jumped time.Duration // by how much it has jumped, until that is dealt with
	after  JobID         // as far as it is
}

// slew is how fast a queue follows a store's clock that has jumped or drifts,
// in parts of the time between two looks: what was to last a minute lasts no less
// than nine tenths of it, and little more than a minute. Where looks fail, time
// passes that counts no more than the slack: or one look after an hour would move
// the queue's time by minutes.
const slew = 10

func (c *clock) now() Instant {
	return At(c.began.Add(time.Since(c.began))) + Instant(c.ahead.Load())
}

// look asks the store for its time, which is that of the middle of the round
// trip. The first time the queue takes it over whole. A difference from what it
// was that is more than the slack, and than the round trips explain, is a jump.
func (c *clock) look(ctx context.Context, store Clock, slack time.Duration) error {
	asked := time.Now()
	there, err := store.Now(ctx)
	if err != nil {
		return err
	}
	trip := time.Since(asked)
	seen := there.Sub(At(c.began.Add(asked.Sub(c.began) + trip/2)))
	if c.looked.IsZero() {
		c.ahead.Store(int64(seen / time.Microsecond))
	} else {
		if jump := seen - c.seen; jump.Abs() > slack+(trip+c.trip)/2 {
			c.jumped, c.after = jump, JobID{}
		}
		most := int64(min(asked.Sub(c.looked), slack)/time.Microsecond) / slew
		ahead := c.ahead.Load()
		c.ahead.Store(ahead + max(-most, min(most, int64(seen/time.Microsecond)-ahead)))
	}
	c.looked, c.trip, c.seen = asked, trip, seen
	return nil
}

// lapsed returns the jobs whose lease has ended. The store's clock is looked at
// after it has judged them: had it jumped before, their leases were cut short.
// Then none has ended, and all of them start anew.
func (q *Queue) lapsed(ctx context.Context, n int) ([]*Job, error) {
	jobs, err := q.config.Store.Lapsed(ctx, n)
	store, own := q.config.Store.(Clock)
	if err != nil || !own {
		return jobs, err
	}
	// A worker that lives has its lease renewed long before its last tenth.
	if err := q.clock.look(ctx, store, max(q.config.Lease/10, 10*time.Millisecond)); err != nil {
		return nil, err
	}
	jump := q.clock.jumped
	if jump == 0 {
		return jobs, nil
	}
	if err := q.renewAll(ctx, jump); err != nil {
		return nil, err
	}
	q.clock.jumped = 0
	q.config.Logger.Warn("consign: the store's clock has jumped: every lease starts anew, and deadlines follow it slowly", "by", jump)
	return nil, nil
}

// renewAll starts the leases anew that a jump of the store's clock has moved:
// those that it ended when it went forward, and those that it made longer, of
// all that run, when it went back. After an error the next call goes on.
func (q *Queue) renewAll(ctx context.Context, jump time.Duration) error {
	const page = 1000
	for {
		var jobs []*Job
		var err error
		if jump > 0 {
			jobs, err = q.config.Store.Lapsed(ctx, page)
		} else {
			jobs, err = q.config.Store.List(ctx, Filter{State: StateRunning}, q.clock.after, page)
		}
		if err != nil || len(jobs) == 0 {
			return err
		}
		renewals := make([]Renewal, len(jobs))
		for i, j := range jobs {
			renewals[i] = Renewal{Job: j.ID, Claim: j.Claim, For: q.config.Lease}
		}
		if _, err := q.config.Store.Renew(ctx, renewals); err != nil { // those that do not run any more are nobody's concern
			return err
		}
		if len(jobs) < page {
			return nil
		}
		q.clock.after = jobs[len(jobs)-1].ID
	}
}
