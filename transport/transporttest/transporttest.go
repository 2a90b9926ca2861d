// Package transporttest says whether a transport keeps the contract of
// consign.SubmitterAPI and consign.WorkerAPI.
//
// A transport carries one of these interfaces, or both, to another process. Its
// test has a line for each:
//
//	func TestSubmitter(t *testing.T) { transporttest.Submitter(t, dialSubmitter) }
//	func TestWorker(t *testing.T)    { transporttest.Worker(t, dialWorker) }
//
// where dial serves the given backend and returns what its dialer returns:
//
//	func dialWorker(t testing.TB, backend consign.WorkerAPI) consign.WorkerAPI {
//		srv := httptest.NewServer(mytransport.Handler(backend))
//		t.Cleanup(srv.Close)
//		return mytransport.Dial(srv.URL)
//	}
//
// FaultyWorker and FaultySubmitter run jobs with a bad network between both ends,
// a Middle, that the transport is dialled through.
//
// The backends are scripts, so that the suite knows what has to arrive; at the
// end comes a real queue. Each subtest quotes the sentence of the contract that
// it checks. What has to happen may take seconds, and what must not is waited
// for briefly, so that a slow machine never fails a good transport. In one
// process there is no transport: a *consign.Queue is the WorkerAPI, and its
// Submitter the SubmitterAPI.
package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
)

const (
	// patience is how long something that has to happen may take, on a machine that
	// is busy with other things.
	patience = 2 * time.Minute
	// moment is how long something that must not happen is waited for.
	moment = 100 * time.Millisecond
	// large is the size of payloads and results that have to fit through.
	large = 8 << 20
)

// Submitter runs the checks of consign.SubmitterAPI. dial is called once for
// each, and may end what it started in t.Cleanup.
func Submitter(t *testing.T, dial func(t testing.TB, backend consign.SubmitterAPI) consign.SubmitterAPI) {
	t.Helper()
	run(t, submitterChecks, dial)
	t.Run("queue", func(t *testing.T) { submitterOnQueue(t, dial) })
}

// Worker runs the checks of consign.WorkerAPI and consign.Session, likewise.
func Worker(t *testing.T, dial func(t testing.TB, backend consign.WorkerAPI) consign.WorkerAPI) {
	t.Helper()
	run(t, workerChecks, dial)
	t.Run("queue", func(t *testing.T) { workerOnQueue(t, dial) })
}

// check is a sentence of the contract and what shows that a far end keeps it.
type check[API any] struct {
	name     string
	sentence string
	run      func(e *env[API]) error
}

// env is what a check works with.
type env[API any] struct {
	dial func(API) API
	// end is closed when the check is over: whatever still blocks in a backend
	// ends then.
	end chan struct{}
}

func run[API any](t *testing.T, checks []check[API], dial func(testing.TB, API) API) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			e := &env[API]{end: make(chan struct{}), dial: func(backend API) API {
				t.Helper()
				return dial(t, backend)
			}}
			defer close(e.end)
			if err := c.run(e); err != nil {
				t.Errorf("%v\ncontract: %s", err, c.sentence)
			}
		})
	}
}

// block waits until ctx is done or the check is over, and returns ctx's error.
func (e *env[API]) block(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.end:
		return errors.New("transporttest: the check is over")
	}
}

// background returns a context that ends with the check.
func (e *env[API]) background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 3*patience)
}

// within waits for f, at most for patience.
func within(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return receive(what, done)
}

// receive waits for an error, at most for patience.
func receive(what string, done <-chan error) error {
	err, ok := arrives(done)
	switch {
	case !ok:
		return fmt.Errorf("%s has not happened after %v", what, patience)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// arrives receives a value, at most after patience.
func arrives[T any](c <-chan T) (v T, ok bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v, ok = <-c:
		return v, ok
	case <-timer.C:
		return v, false
	}
}

// sentinels are the errors that have to be told apart at the far end.
var sentinels = []error{
	consign.ErrNotFound, consign.ErrConflict, consign.ErrIDTaken, consign.ErrLeaseLost, consign.ErrCancelled,
	consign.ErrBadResult, consign.ErrBadReceipt, consign.ErrCredit, consign.ErrNoWorker, consign.ErrSession,
	consign.ErrRemoved, consign.ErrClosed, consign.ErrBusy,
}

// sameError says how got, from the far end, differs from sent.
func sameError(got, sent error) error {
	if got == nil {
		return fmt.Errorf("the error %q is gone", sent)
	}
	for _, s := range sentinels {
		if errors.Is(got, s) != errors.Is(sent, s) {
			return fmt.Errorf("%q became %q: errors.Is(err, %q) is %t at the far end", sent, got, s, errors.Is(got, s))
		}
	}
	if want, ok := errors.AsType[*consign.FieldError](sent); ok {
		if f, ok := errors.AsType[*consign.FieldError](got); !ok || *f != *want {
			return fmt.Errorf("%#v became %#v", want, got)
		}
	}
	if want, ok := errors.AsType[*consign.TransitionError](sent); ok {
		if f, ok := errors.AsType[*consign.TransitionError](got); !ok || *f != *want {
			return fmt.Errorf("%#v became %#v", want, got)
		}
	}
	if strings.Contains(sent.Error(), happened) && !strings.Contains(got.Error(), happened) {
		return fmt.Errorf("%q became %q, which does not say what happened", sent, got)
	}
	return nil
}

const happened = `"what" happened, 100 %`

var (
	errBadField      = fmt.Errorf("submit: %w", &consign.FieldError{Field: "payload", Problem: "is \"empty\"", Remedy: "send at least one byte: ü"})
	errBadTransition = fmt.Errorf("late: %w", &consign.TransitionError{Job: consign.JobID{1, 2, 15: 3}, State: consign.StateCompleted, Event: consign.EventCancel})
)

// wrapped is how errors come from a queue: with what happened.
func wrapped(err error) error { return fmt.Errorf("%w: %s", err, happened) }
