package consign

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// guesses keeps workers from finding pairing codes by trying. A worker has five
// failures an hour. As keys are free, all workers together are slowed down as
// well, and never locked out.
type guesses struct {
	mu       sync.Mutex
	byWorker map[WorkerID][]Instant
	all      []Instant
}

const (
	maxGuesses   = 5         // failures of one worker
	guessWindow  = time.Hour // within which they count
	freeGuesses  = 60        // failures of all, within a minute, that slow nobody down
	slowestGuess = 10 * time.Second
)

// begin refuses a worker that has failed too often, and takes its time where
// many have. What it lets through is a failure until undo says otherwise: else
// a worker that makes all its guesses at once would have as many as it likes.
func (g *guesses) begin(ctx context.Context, w WorkerID, now Instant) error {
	slow, ok := g.count(w, now)
	if !ok {
		return fmt.Errorf("%w: worker %s has tried %d pairing codes that are not open: try again in an hour", ErrBusy, w, maxGuesses)
	}
	if slow == 0 {
		return nil
	}
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		g.undo(w, now)
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// count counts a failure, unless there have been too many, and returns how long
// it is to take.
func (g *guesses) count(w WorkerID, now Instant) (slow time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	hourAgo := now.Add(-guessWindow)
	for id, times := range g.byWorker {
		if len(since(times, hourAgo)) == 0 {
			delete(g.byWorker, id)
		}
	}
	mine := since(g.byWorker[w], hourAgo)
	if len(mine) >= maxGuesses {
		return 0, false
	}
	if g.byWorker == nil {
		g.byWorker = map[WorkerID][]Instant{}
	}
	g.all = since(g.all, now.Add(-time.Minute))
	slow = min(slowestGuess, max(0, time.Duration(len(g.all)-freeGuesses))*100*time.Millisecond)
	g.byWorker[w], g.all = append(mine, now), append(g.all, now)
	return slow, true
}

// undo takes back what begin counted at a time: it was no guess.
func (g *guesses) undo(w WorkerID, at Instant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byWorker[w], g.all = dropOne(g.byWorker[w], at), dropOne(g.all, at)
}

// dropOne returns the times with one of those that are as given left out.
func dropOne(times []Instant, at Instant) []Instant {
	if i := slices.Index(times, at); i >= 0 {
		return slices.Concat(times[:i], times[i+1:])
	}
	return times
}

// since returns the times after the given one. They are in order.
func since(times []Instant, after Instant) []Instant {
	for len(times) > 0 && times[0] <= after {
		times = times[1:]
	}
	return times
}
