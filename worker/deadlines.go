package worker

import (
	"context"
	"sync"
	"time"
)

// deadlines gives calls contexts that end when a time is over. Those that begin
// close together share one, so that a call may get a sixteenth less than the
// whole time: a context and a timer for each would cost more than the call does
// where the queue is in the same process.
type deadlines struct {
	parent context.Context
	after  time.Duration

	mu     sync.Mutex
	shared context.Context
	cancel context.CancelFunc // of no use: others still go by it, and it ends by itself
	until  time.Time          // for calls that begin before
}

func (d *deadlines) context() context.Context {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shared == nil || !now.Before(d.until) {
		d.shared, d.cancel = context.WithDeadline(d.parent, now.Add(d.after))
		d.until = now.Add(d.after / 16)
	}
	return d.shared
}
