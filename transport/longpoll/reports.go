package longpoll

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// reports remembers the reports of a session by their keys, so that one that
// comes again is added once, and answered like the first.
type reports struct {
	mu    sync.Mutex
	known recent[*reported]
}

// reported is a report that was passed on, or is about to be.
type reported struct {
	sum  uint64        // of what it says
	done chan struct{} // closed once there is an answer
	err  error
}

var reportSeed = maphash.MakeSeed()

// errKeyUsed is the error of a report under the key of another one.
var errKeyUsed = fmt.Errorf("%w: another report of the claim came under this Idempotency-Key: choose a new one for each report", consign.ErrConflict)

// once passes a report on, unless it did before; then it returns what came of
// that. The error is ctx's where nothing did in time.
func (s *session) once(ctx context.Context, key string, r consign.Report) error {
	key = r.Claim.Claim.String() + key // of each claim its own
	sum := sumOf(r)
	s.reports.mu.Lock()
	known := s.reports.known.get(key)
	first := known == nil
	if first {
		known = &reported{sum: sum, done: make(chan struct{})}
		s.reports.known.add(key, known, time.Now())
	}
	s.reports.mu.Unlock()
	switch {
	case known.sum != sum:
		return errKeyUsed
	case first:
		// Whoever sent it may go, and the report be added all the same: it ends by
		// itself, so that the answer is right for whoever comes back.
		known.err = guarded(s.log, func() error { return s.Report(context.WithoutCancel(ctx), r) })
		close(known.done)
		if errors.Is(known.err, consign.ErrLeaseLost) { // nor will it be: who has no claim fills no memory
			s.reports.mu.Lock()
			s.reports.known.drop(key)
			s.reports.mu.Unlock()
		}
	}
	select {
	case <-known.done:
		return known.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sumOf tells what two reports say apart.
func sumOf(r consign.Report) uint64 {
	var h maphash.Hash
	h.SetSeed(reportSeed)
	for _, item := range r.Items {
		maphash.WriteComparable(&h, item.Kind)
		maphash.WriteComparable(&h, len(item.Data))
		_, _ = h.Write(item.Data) // never fails
	}
	return h.Sum64()
}
