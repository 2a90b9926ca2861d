package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
)

var workerA = consign.WorkerID{0x22, 31: 0x33}

var jobA = consign.JobID{0x01, 0x90, 0xa1, 6: 0x4e, 8: 0x8a, 15: 0x51}

// request is a job that any transport lets through.
func request() consign.SubmitRequest {
	return consign.SubmitRequest{ID: jobA, Kind: "TASK", Payload: []byte("x"), Custody: consign.CustodyPlain}
}

// submitterCalls are the methods with the errors that each may return, beside
// ErrClosed.
var submitterCalls = []struct {
	name string
	errs []error
	call func(context.Context, consign.SubmitterAPI) error
}{
	{"Quote", []error{errBadField}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Quote(ctx, consign.QuoteRequest{Kind: "TASK"})
		return err
	}},
	{"Submit", []error{errBadField, consign.ErrConflict, consign.ErrIDTaken, consign.ErrCredit, consign.ErrNoWorker, consign.ErrBusy}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Submit(ctx, request())
		return err
	}},
	{"SubmitMany", []error{errBadField, consign.ErrConflict, consign.ErrIDTaken, consign.ErrCredit, consign.ErrNoWorker, consign.ErrBusy}, func(ctx context.Context, api consign.SubmitterAPI) error {
		out := api.SubmitMany(ctx, []consign.SubmitRequest{request()})
		if len(out) != 1 {
			return fmt.Errorf("%d outcomes of one request", len(out))
		}
		return out[0].Err
	}},
	{"Get", []error{consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error { _, err := api.Get(ctx, jobA); return err }},
	{"Wait", []error{consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error { _, err := api.Wait(ctx, jobA); return err }},
	{"Events", []error{consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error {
		for _, err := range api.Events(ctx, jobA, 0) {
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{"Cancel", []error{consign.ErrNotFound, errBadTransition}, func(ctx context.Context, api consign.SubmitterAPI) error { _, err := api.Cancel(ctx, jobA); return err }},
	{"Acknowledge", []error{consign.ErrNotFound, errBadTransition}, func(ctx context.Context, api consign.SubmitterAPI) error { return api.Acknowledge(ctx, jobA) }},
	{"Receipt", []error{consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Receipt(ctx, jobA)
		return err
	}},
	{"Explain", []error{consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Explain(ctx, jobA)
		return err
	}},
	{"Keys", nil, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Keys(ctx)
		return err
	}},
	{"NewPairing", []error{errBadField, consign.ErrBusy}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.NewPairing(ctx, make([]byte, 32))
		return err
	}},
	{"Pairings", nil, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.Pairings(ctx)
		return err
	}},
	{"ConfirmPairing", []error{errBadField, consign.ErrNotFound}, func(ctx context.Context, api consign.SubmitterAPI) error {
		_, err := api.ConfirmPairing(ctx, workerA, "FINGERPRINT")
		return err
	}},
	{"RevokePairing", nil, func(ctx context.Context, api consign.SubmitterAPI) error { return api.RevokePairing(ctx, workerA) }},
}

type subEnv = env[consign.SubmitterAPI]

var submitterChecks = []check[consign.SubmitterAPI]{
	{"errors", "Each is wrapped with what happened; test with errors.Is. Every method may return ErrClosed.", submitterErrors},
	{"requests and answers", "SubmitRequest describes a job. (And every other type of the face: each field arrives.)", submitterContent},
	{"a job without an ID", "ID: the idempotency key; zero: the queue picks one after admission.", submitWithoutID},
	{"submit many", "SubmitMany submits each; one's failure does not keep the others out.", submitMany},
	{"large", "Payload: the stored bytes. Result, once completed.", submitterLarge},
	{"wait", "Wait returns the job once it has ended.", waitForEnd},
	{"wait, cancelled", "When ctx is done first it returns the job as it is and ctx's error.", waitCancelled},
	{"events", "Events yields the job's log after a number, as it grows, and ends with the job.", eventsGrow},
	{"events, failed", "An error ends it too: ErrNotFound, or ctx's.", eventsFail},
	{"events, left", "Events yields (an iterator that its caller may leave at any time).", eventsLeft},
	{"cancellation", "Every method may return ctx's error once it is done.", submitterCancelled},
	{"side by side", "SubmitterAPI is a queue as one account sees it: a call that waits holds no other one up.", submitterConcurrent},
}

func submitterErrors(e *subEnv) error {
	backend := &submitter{}
	api := e.dial(backend)
	ctx, cancel := e.background()
	defer cancel()
	for _, c := range submitterCalls {
		for _, sent := range append([]error{wrapped(consign.ErrClosed)}, c.errs...) {
			backend.err = sent
			if isSentinel(sent) {
				backend.err = wrapped(sent)
			}
			var got error
			if err := within(c.name, func() error { got = c.call(ctx, api); return nil }); err != nil {
				return err
			}
			if err := sameError(got, backend.err); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

func isSentinel(err error) bool {
	for _, s := range sentinels {
		if err == s {
			return true
		}
	}
	return false
}

// notes is a backend that answers with filled values, and notes what it was
// asked with.
func notes(got *[]any) *submitter {
	id := func(j consign.JobID) { *got = append(*got, j) }
	return &submitter{
		quote: func(_ context.Context, r consign.QuoteRequest) (consign.Quote, error) {
			*got = append(*got, r)
			return filled[consign.Quote](), nil
		},
		submit: func(_ context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
			*got = append(*got, r)
			return filled[consign.JobInfo](), nil
		},
		job: func(_ context.Context, j consign.JobID) (consign.JobInfo, error) {
			id(j)
			return filled[consign.JobInfo](), nil
		},
		wait: func(_ context.Context, j consign.JobID) (consign.JobInfo, error) {
			id(j)
			info := filled[consign.JobInfo]()
			info.State = consign.StateFailed
			return info, nil
		},
		ack: func(_ context.Context, j consign.JobID) error { id(j); return nil },
		receipt: func(_ context.Context, j consign.JobID) (consign.Receipt, error) {
			id(j)
			return filled[consign.Receipt](), nil
		},
		explain: func(_ context.Context, j consign.JobID) (consign.Explanation, error) {
			id(j)
			return filled[consign.Explanation](), nil
		},
		keys: func(context.Context) (consign.Keys, error) { return filled[consign.Keys](), nil },
		offer: func(_ context.Context, key []byte) (consign.PairingCode, error) {
			*got = append(*got, key)
			return filled[consign.PairingCode](), nil
		},
		pairings: func(context.Context) ([]consign.Pairing, error) { return filled[[]consign.Pairing](), nil },
		confirm: func(_ context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
			*got = append(*got, w, fingerprint)
			return filled[consign.Pairing](), nil
		},
		revoke: func(_ context.Context, w consign.WorkerID) error { *got = append(*got, w); return nil },
		events: func(_ context.Context, j consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
			return func(yield func(consign.LogEntry, error) bool) {
				id(j)
				*got = append(*got, after)
				yield(filled[consign.LogEntry](), nil)
			}
		},
	}
}

func submitterContent(e *subEnv) error {
	var got []any
	api := e.dial(notes(&got))
	ctx, cancel := e.background()
	defer cancel()
	running, failed := filled[consign.JobInfo](), filled[consign.JobInfo]()
	failed.State = consign.StateFailed
	const after = consign.Seq(7<<32 | 9)
	for _, c := range []struct {
		name     string
		sent     []any
		received any
		call     func() (any, error)
	}{
		{"Quote", []any{filled[consign.QuoteRequest]()}, filled[consign.Quote](), func() (any, error) { return api.Quote(ctx, filled[consign.QuoteRequest]()) }},
		{"Submit", []any{filled[consign.SubmitRequest]()}, running, func() (any, error) { return api.Submit(ctx, filled[consign.SubmitRequest]()) }},
		{"Get", []any{jobA}, running, func() (any, error) { return api.Get(ctx, jobA) }},
		{"Cancel", []any{jobA}, running, func() (any, error) { return api.Cancel(ctx, jobA) }},
		{"Wait", []any{jobA}, failed, func() (any, error) { return api.Wait(ctx, jobA) }},
		{"Acknowledge", []any{jobA}, "", func() (any, error) { return "", api.Acknowledge(ctx, jobA) }},
		{"Receipt", []any{jobA}, filled[consign.Receipt](), func() (any, error) { return api.Receipt(ctx, jobA) }},
		{"Explain", []any{jobA}, filled[consign.Explanation](), func() (any, error) { return api.Explain(ctx, jobA) }},
		{"Keys", nil, filled[consign.Keys](), func() (any, error) { return api.Keys(ctx) }},
		{"NewPairing", []any{[]byte{1, 2, 32: 3}}, filled[consign.PairingCode](), func() (any, error) { return api.NewPairing(ctx, []byte{1, 2, 32: 3}) }},
		{"Pairings", nil, filled[[]consign.Pairing](), func() (any, error) { return api.Pairings(ctx) }},
		{"ConfirmPairing", []any{workerA, "FINGERPRINT"}, filled[consign.Pairing](), func() (any, error) { return api.ConfirmPairing(ctx, workerA, "FINGERPRINT") }},
		{"RevokePairing", []any{workerA}, "", func() (any, error) { return "", api.RevokePairing(ctx, workerA) }},
		{"Events", []any{jobA, after}, filled[consign.LogEntry](), func() (v any, err error) {
			for got, err := range api.Events(ctx, jobA, after) {
				return got, err
			}
			return nil, errors.New("no entry")
		}},
	} {
		got = nil
		var answer any
		err := within(c.name, func() (err error) { answer, err = c.call(); return err })
		if err != nil {
			return err
		}
		if err := same(c.name+": answer", answer, c.received); err != nil {
			return err
		}
		if len(got) != len(c.sent) {
			return fmt.Errorf("%s: the backend got %d values, not %d: was it called once?", c.name, len(got), len(c.sent))
		}
		for i := range got {
			if err := same(c.name+": request", got[i], c.sent[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func submitWithoutID(e *subEnv) error {
	var calls atomic.Int32
	api := e.dial(&submitter{submit: func(_ context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
		calls.Add(1)
		return consign.JobInfo{ID: jobA, State: consign.StateQueued, Reason: r.ID.String()}, nil
	}})
	ctx, cancel := e.background()
	defer cancel()
	r := request()
	r.ID = consign.JobID{}
	var job consign.JobInfo
	if err := within("Submit", func() (err error) { job, err = api.Submit(ctx, r); return err }); err != nil {
		return err
	}
	if job.ID != jobA || calls.Load() != 1 {
		return fmt.Errorf("job %s of %d submits, want %s of 1", job.ID, calls.Load(), jobA)
	}
	return nil
}

func submitMany(e *subEnv) error {
	const n = 300
	api := e.dial(&submitter{submitMany: func(_ context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
		out := make([]consign.SubmitOutcome, len(rs))
		for i, r := range rs {
			if r.Payload[0]%3 == 0 {
				out[i].Err = errBadField
			} else {
				out[i].Job = consign.JobInfo{ID: r.ID, Kind: string(r.Payload)}
			}
		}
		return out
	}})
	rs := make([]consign.SubmitRequest, n)
	for i := range rs {
		rs[i] = request()
		rs[i].ID[1] = byte(i)
		rs[i].Payload = []byte{byte('a' + i%26)}
	}
	ctx, cancel := e.background()
	defer cancel()
	var out []consign.SubmitOutcome
	if err := within("SubmitMany", func() error { out = api.SubmitMany(ctx, rs); return nil }); err != nil {
		return err
	}
	if len(out) != n {
		return fmt.Errorf("%d outcomes of %d requests", len(out), n)
	}
	for i, o := range out {
		if rs[i].Payload[0]%3 == 0 {
			if err := sameError(o.Err, errBadField); err != nil {
				return fmt.Errorf("outcome %d: %w", i, err)
			}
		} else if o.Err != nil || o.Job.ID != rs[i].ID || o.Job.Kind != string(rs[i].Payload) {
			return fmt.Errorf("outcome %d is of another request: %+v", i, o)
		}
	}
	return nil
}

func submitterLarge(e *subEnv) error {
	blob := noise(large)
	var got []byte
	api := e.dial(&submitter{
		submit: func(_ context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
			got = r.Payload
			return consign.JobInfo{ID: r.ID}, nil
		},
		job: func(_ context.Context, id consign.JobID) (consign.JobInfo, error) {
			return consign.JobInfo{ID: id, State: consign.StateCompleted, Result: blob}, nil
		},
	})
	ctx, cancel := e.background()
	defer cancel()
	r := request()
	r.Payload = blob
	if err := within("Submit", func() error { _, err := api.Submit(ctx, r); return err }); err != nil {
		return err
	}
	if !bytes.Equal(got, blob) {
		return fmt.Errorf("a payload of %d bytes arrived as %d, or others", len(blob), len(got))
	}
	var job consign.JobInfo
	if err := within("Get", func() (err error) { job, err = api.Get(ctx, jobA); return err }); err != nil {
		return err
	}
	if !bytes.Equal(job.Result, blob) {
		return fmt.Errorf("a result of %d bytes arrived as %d, or others", len(blob), len(job.Result))
	}
	return nil
}

// noise returns bytes that hold every value and do not compress.
func noise(n int) []byte { return allNoise()[:n:n] }

var allNoise = sync.OnceValue(func() []byte {
	b := make([]byte, large)
	x := uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
})

func submitterCancelled(e *subEnv) error {
	backend := &submitter{
		quote: func(ctx context.Context, _ consign.QuoteRequest) (consign.Quote, error) {
			return consign.Quote{}, e.block(ctx)
		},
		submit: func(ctx context.Context, _ consign.SubmitRequest) (consign.JobInfo, error) {
			return consign.JobInfo{}, e.block(ctx)
		},
		submitMany: func(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
			return []consign.SubmitOutcome{{Err: e.block(ctx)}}
		},
		job: func(ctx context.Context, _ consign.JobID) (consign.JobInfo, error) {
			return consign.JobInfo{}, e.block(ctx)
		},
		wait: func(ctx context.Context, _ consign.JobID) (consign.JobInfo, error) {
			return consign.JobInfo{}, e.block(ctx)
		},
		events: logOf(e, nil),
		ack:    func(ctx context.Context, _ consign.JobID) error { return e.block(ctx) },
		receipt: func(ctx context.Context, _ consign.JobID) (consign.Receipt, error) {
			return consign.Receipt{}, e.block(ctx)
		},
		explain: func(ctx context.Context, _ consign.JobID) (consign.Explanation, error) {
			return consign.Explanation{}, e.block(ctx)
		},
		keys: func(ctx context.Context) (consign.Keys, error) { return consign.Keys{}, e.block(ctx) },
		offer: func(ctx context.Context, _ []byte) (consign.PairingCode, error) {
			return consign.PairingCode{}, e.block(ctx)
		},
		pairings: func(ctx context.Context) ([]consign.Pairing, error) { return nil, e.block(ctx) },
		confirm: func(ctx context.Context, _ consign.WorkerID, _ string) (consign.Pairing, error) {
			return consign.Pairing{}, e.block(ctx)
		},
		revoke: func(ctx context.Context, _ consign.WorkerID) error { return e.block(ctx) },
	}
	api := e.dial(backend)
	ctx, cancel := e.background()
	defer cancel()
	for _, c := range submitterCalls {
		if err := endsWithContext(ctx, c.name, func(ctx context.Context) error { return c.call(ctx, api) }); err != nil {
			return err
		}
	}
	return nil
}

// endsWithContext checks that a call which is not answered ends with its
// context, whether that ends before the call or during it.
func endsWithContext(ctx context.Context, name string, call func(context.Context) error) error {
	for _, after := range []time.Duration{0, moment / 4} {
		err := within(name+" with a context that is done", func() error {
			ctx, cancel := context.WithCancel(ctx)
			if after == 0 {
				cancel()
			}
			time.AfterFunc(after, cancel)
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("the error is %v, not %w", err, context.Canceled)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func submitterConcurrent(e *subEnv) error {
	const n = 50
	ended := make(chan struct{})
	var waiting atomic.Int32
	all := make(chan error, 1)
	api := e.dial(&submitter{
		wait: func(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
			if waiting.Add(1) == n {
				all <- nil
			}
			select {
			case <-ended:
				return consign.JobInfo{ID: id, State: consign.StateCompleted}, nil
			case <-ctx.Done():
				return consign.JobInfo{}, ctx.Err()
			case <-e.end:
				return consign.JobInfo{}, errUnexpected
			}
		},
		job: func(_ context.Context, id consign.JobID) (consign.JobInfo, error) {
			return consign.JobInfo{ID: id, State: consign.StateRunning}, nil
		},
	})
	ctx, cancel := e.background()
	defer cancel()
	done := make(chan error, n)
	for i := range n {
		go func() {
			id := jobA
			id[1] = byte(i)
			job, err := api.Wait(ctx, id)
			if err == nil && job.ID != id {
				err = fmt.Errorf("job %s is the answer for %s", job.ID, id)
			}
			done <- err
		}()
	}
	if err := receive(fmt.Sprintf("Wait %d times at once at the backend", n), all); err != nil {
		return err
	}
	if err := within("Get beside them", func() error { _, err := api.Get(ctx, jobA); return err }); err != nil {
		return err
	}
	close(ended)
	for range n {
		if err := receive("Wait", done); err != nil {
			return err
		}
	}
	return nil
}
