package main

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// jobs follows numbered jobs from outside the queue: each is to run once, and
// to be completed once.
type jobs struct {
	began     time.Time
	runs      []atomic.Int32
	started   []atomic.Int64 // ns from began to a job's first run
	firstRun  atomic.Int64   // likewise, of the job that ran first
	ran, done tally
}

func newJobs(n int) *jobs {
	return &jobs{began: time.Now(), runs: make([]atomic.Int32, n), started: make([]atomic.Int64, n), ran: newTally(), done: newTally()}
}

// run is what a job does.
func (j *jobs) run(n int) {
	now := int64(time.Since(j.began))
	if n < 0 || n >= len(j.runs) || j.runs[n].Add(1) > 1 {
		j.ran.add(1) // too many ran, which check finds out
		return
	}
	j.started[n].Store(now)
	if j.ran.add(1) == 1 {
		j.firstRun.Store(now)
	}
}

func (j *jobs) completed(n int) { j.done.add(n) }

// until waits until n completions are known.
func (j *jobs) until(ctx context.Context, q queue, n int) error {
	p, ok := q.(polled)
	if !ok {
		if !j.done.until(ctx, n) {
			return fmt.Errorf("%d jobs of %d are completed, %d have run: %w", j.done.n.Load(), n, j.ran.n.Load(), ctx.Err())
		}
		return nil
	}
	if !j.ran.until(ctx, n) { // asking costs the queue: not before it may be true
		return fmt.Errorf("%d jobs of %d have run: %w", j.ran.n.Load(), n, ctx.Err())
	}
	for {
		known, err := p.completions(ctx)
		if err != nil {
			return fmt.Errorf("%d jobs of %d are completed: %w", known, n, err)
		}
		j.done.n.Store(int64(known))
		if known >= n {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// check reports whether each job has run once and is completed once.
func (j *jobs) check() error {
	lost, again := 0, 0
	for i := range j.runs {
		switch runs := j.runs[i].Load(); {
		case runs == 0:
			lost++
		case runs > 1:
			again++
		}
	}
	if done := int(j.done.n.Load()); lost > 0 || again > 0 || done != len(j.runs) || int(j.ran.n.Load()) != len(j.runs) {
		return fmt.Errorf("of %d jobs %d never ran, %d ran more than once, %d runs and %d completions were counted", len(j.runs), lost, again, j.ran.n.Load(), done)
	}
	return nil
}

// tally is a count that one goroutine may wait for.
type tally struct {
	n, target *atomic.Int64
	wake      chan struct{}
}

func newTally() tally {
	t := tally{new(atomic.Int64), new(atomic.Int64), make(chan struct{}, 1)}
	t.target.Store(math.MaxInt64)
	return t
}

func (t tally) add(k int) int64 {
	n := t.n.Add(int64(k))
	if n >= t.target.Load() {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return n
}

// until reports whether the count has reached k before ctx was done.
func (t tally) until(ctx context.Context, k int) bool {
	t.target.Store(int64(k))
	for t.n.Load() < int64(k) {
		select {
		case <-t.wake:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
