package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/consignq/consign"
)

func waitForEnd(e *subEnv) error {
	ended := make(chan struct{})
	api := e.dial(&submitter{wait: func(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
		select {
		case <-ended:
			return consign.JobInfo{ID: id, State: consign.StateCompleted, Result: []byte("r")}, nil
		case <-ctx.Done():
			return consign.JobInfo{ID: id, State: consign.StateRunning}, ctx.Err()
		case <-e.end:
			return consign.JobInfo{}, errUnexpected
		}
	}})
	ctx, cancel := e.background()
	defer cancel()
	done := make(chan error, 1)
	go func() {
		job, err := api.Wait(ctx, jobA)
		if err == nil && (job.State != consign.StateCompleted || string(job.Result) != "r") {
			err = fmt.Errorf("the job is %s", job.State)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return fmt.Errorf("Wait returned before the job had ended: %v", err)
	case <-time.After(moment):
	}
	close(ended)
	return receive("the end of the job", done)
}

func waitCancelled(e *subEnv) error {
	left := make(chan error, 1)
	entered := make(chan error, 1)
	api := e.dial(&submitter{
		wait: func(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
			signal(entered)
			err := e.block(ctx)
			signal(left)
			return consign.JobInfo{ID: id, State: consign.StateRunning}, err
		},
		// A dialer whose call was cut may ask.
		job: func(_ context.Context, id consign.JobID) (consign.JobInfo, error) {
			return consign.JobInfo{ID: id, State: consign.StateRunning}, nil
		},
	})
	for _, how := range []error{context.Canceled, context.DeadlineExceeded} {
		drain(entered)
		drain(left)
		ctx, cancel := e.background()
		if how == context.DeadlineExceeded {
			ctx, cancel = context.WithTimeout(ctx, moment)
		}
		defer cancel()
		done := make(chan error, 1)
		go func() {
			job, err := api.Wait(ctx, jobA)
			switch {
			case !errors.Is(err, how):
				err = fmt.Errorf("the error is %v, not %w", err, how)
			case job.State != consign.StateRunning || job.ID != jobA:
				err = fmt.Errorf("the job is %s (%s), not as it is, running", job.State, job.ID)
			default:
				err = nil
			}
			done <- err
		}()
		if err := receive("Wait at the backend", entered); err != nil {
			return err
		}
		if how == context.Canceled {
			cancel()
		}
		if err := receive("the end of Wait after its context's", done); err != nil {
			return err
		}
		if err := receive("the end of Wait at the backend", left); err != nil {
			return err
		}
	}
	return nil
}

func signal(c chan error) {
	select {
	case c <- nil:
	default:
	}
}

func drain(c chan error) {
	select {
	case <-c:
	default:
	}
}

// logOf is a scripted log that grows when told to.
func logOf(e *subEnv, grow <-chan consign.LogEntry) func(context.Context, consign.JobID, consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(ctx context.Context, _ consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
		return func(yield func(consign.LogEntry, error) bool) {
			for {
				select {
				case entry, open := <-grow:
					if !open {
						return
					}
					if entry.Seq > after && !yield(entry, nil) {
						return
					}
				case <-ctx.Done():
					yield(consign.LogEntry{}, ctx.Err())
					return
				case <-e.end:
					return
				}
			}
		}
	}
}

func eventsGrow(e *subEnv) error {
	for _, after := range []consign.Seq{0, 100 << 32} {
		grow := make(chan consign.LogEntry, 1000)
		api := e.dial(&submitter{events: logOf(e, grow)})
		ctx, cancel := e.background()
		defer cancel()
		seen := make(chan consign.LogEntry)
		done := make(chan error, 1)
		go func() {
			var failed error
			for entry, err := range api.Events(ctx, jobA, after) {
				if failed = err; err != nil {
					break
				}
				select {
				case seen <- entry:
				case <-e.end:
					return
				}
			}
			done <- failed
		}()
		entry := func(n consign.Seq) consign.LogEntry {
			return consign.LogEntry{Job: jobA, Seq: n << 32, Event: consign.EventReport, Data: fmt.Append(nil, n)}
		}
		next := after>>32 + 1
		expect := func(last consign.Seq) error {
			for ; next <= last; next++ {
				got, ok := arrives(seen)
				if !ok {
					return fmt.Errorf("entry %d has not come while the log went on", next)
				}
				if want := entry(next); got.Seq != want.Seq || !bytes.Equal(got.Data, want.Data) {
					return fmt.Errorf("entry %d came where %d was due", got.Seq>>32, next)
				}
			}
			return nil
		}
		for n := range consign.Seq(200) { // a burst, then one by one
			grow <- entry(n + 1)
			if n+1 >= 150 {
				if err := expect(n + 1); err != nil {
					return err
				}
			}
		}
		close(grow)
		if err := receive("the end of the events with the job's", done); err != nil {
			return err
		}
	}
	return nil
}

func eventsFail(e *subEnv) error {
	sent := wrapped(consign.ErrNotFound)
	api := e.dial(&submitter{events: func(context.Context, consign.JobID, consign.Seq) iter.Seq2[consign.LogEntry, error] {
		return func(yield func(consign.LogEntry, error) bool) {
			for i := range 3 {
				if !yield(consign.LogEntry{Job: jobA, Seq: consign.Seq(i + 1)}, nil) {
					return
				}
			}
			yield(consign.LogEntry{}, sent)
		}
	}})
	ctx, cancel := e.background()
	defer cancel()
	n := 0
	var got error
	if err := within("the end of the events", func() error {
		for _, err := range api.Events(ctx, jobA, 0) {
			if err != nil {
				got = err
				continue // nothing may come after it
			}
			n++
		}
		return nil
	}); err != nil {
		return err
	}
	if n != 3 {
		return fmt.Errorf("%d entries before the error, want 3", n)
	}
	if err := sameError(got, sent); err != nil {
		return err
	}
	// ctx's.
	live, stop := context.WithCancel(ctx)
	api = e.dial(&submitter{events: logOf(e, make(chan consign.LogEntry))})
	time.AfterFunc(moment, stop)
	return within("the end of the events after their context's", func() error {
		for _, err := range api.Events(live, jobA, 0) {
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return fmt.Errorf("the error is %v, not %w", err, context.Canceled)
		}
		return errors.New("they ended without an error, as if the job had")
	})
}

func eventsLeft(e *subEnv) error {
	left := make(chan error, 1)
	api := e.dial(&submitter{events: func(ctx context.Context, _ consign.JobID, _ consign.Seq) iter.Seq2[consign.LogEntry, error] {
		return func(yield func(consign.LogEntry, error) bool) {
			defer signal(left)
			for i := 1; ctx.Err() == nil; i++ {
				if !yield(consign.LogEntry{Job: jobA, Seq: consign.Seq(i)}, nil) {
					return
				}
				select {
				case <-e.end:
					return
				case <-ctx.Done():
				case <-time.After(moment / 10):
				}
			}
		}
	}})
	ctx, cancel := e.background()
	defer cancel()
	if err := within("leaving the events", func() error {
		for _, err := range api.Events(ctx, jobA, 0) {
			return err
		}
		return errors.New("no entry")
	}); err != nil {
		return err
	}
	return receive("the end of the events at the backend", left)
}
