package consign

import (
	"context"
	"fmt"
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

// wait refuses a worker that has failed too often, and takes its time where
// many have.
func (g *guesses) wait(ctx context.Context, w WorkerID, now Instant) error {
	g.mu.Lock()
	g.all = since(g.all, now.Add(-time.Minute))
	mine := since(g.byWorker[w], now.Add(-guessWindow))
	slow := min(slowestGuess, max(0, time.Duration(len(g.all)-freeGuesses))*100*time.Millisecond)
	g.mu.Unlock()
	if len(mine) >= maxGuesses {
		return fmt.Errorf("%w: worker %s has tried %d pairing codes that are not open: try again in an hour", ErrBusy, w, maxGuesses)
	}
	if slow == 0 {
		return nil
	}
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// failed counts a code that was not open.
func (g *guesses) failed(w WorkerID, now Instant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byWorker == nil {
		g.byWorker = map[WorkerID][]Instant{}
	}
	for id, times := range g.byWorker {
		if len(since(times, now.Add(-guessWindow))) == 0 {
			delete(g.byWorker, id)
		}
	}
	g.byWorker[w] = append(since(g.byWorker[w], now.Add(-guessWindow)), now)
	g.all = append(g.all, now)
}

// since returns the times after the given one. They are in order.
func since(times []Instant, after Instant) []Instant {
	for len(times) > 0 && times[0] <= after {
		times = times[1:]
	}
	return times
}
