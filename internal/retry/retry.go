// Package retry says which errors of a queue are worth another try, and how
// long to wait before it.
package retry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/consignq/consign"
)

// answers are the errors by which a queue has decided about a call.
var answers = []error{
	consign.ErrNotFound, consign.ErrConflict, consign.ErrIDTaken, consign.ErrLeaseLost, consign.ErrCancelled,
	consign.ErrBadResult, consign.ErrBadReceipt, consign.ErrCredit, consign.ErrNoWorker, consign.ErrRemoved,
}

// Permanent reports whether err is an answer: the same call would get it
// again. Everything else (ErrClosed, ErrBusy, ErrSession, a network's error, a
// timeout) says nothing about the call, which may even have been carried out.
func Permanent(err error) bool {
	if slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) }) {
		return true
	}
	if _, ok := errors.AsType[*consign.FieldError](err); ok {
		return true
	}
	_, ok := errors.AsType[*consign.TransitionError](err)
	return ok
}

// NewBackOff returns waits of about 0.1 s that double up to about 5 s, for
// ever.
func NewBackOff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// Do calls f until it succeeds or its error is Permanent, until ctx is done,
// or until patience has passed since the first call; a patience of zero has
// no end. failed, unless nil, hears of each error that is followed by another
// try. The error is f's last one; where ctx ended it, it wraps ctx's as well.
func Do[T any](ctx context.Context, patience time.Duration, f func() (T, error), failed func(error)) (T, error) {
	waits := NewBackOff()
	waits.MaxElapsedTime = patience
	waits.Reset()
	for {
		v, err := f()
		if err == nil || Permanent(err) {
			return v, err
		}
		wait := waits.NextBackOff()
		if wait == backoff.Stop {
			return v, err
		}
		if failed != nil && ctx.Err() == nil {
			failed(err)
		}
		if !Sleep(ctx, wait) {
			if errors.Is(err, ctx.Err()) {
				return v, err
			}
			return v, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// Sleep waits, and reports whether it was for the whole time.
func Sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
