package consign

import "context"

// Notifier is an optional ability of a Store that several queues share: it
// tells a queue that another one has changed something. It is a hint. A queue
// that hears nothing finds out for itself, up to a quarter of a second later.
type Notifier interface {
	// Watch calls changed, one call at a time, after others have changed
	// something, until ctx is done. It need not tell of what this Store's own
	// Apply changed.
	Watch(ctx context.Context, changed func(Hint))
}

// Hint says what was changed.
type Hint struct {
	Queued bool    // jobs were queued
	Jobs   []JobID // that changed; none: not known which
}
