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

// submitter is a scripted backend. A method without a script fails with err.
type submitter struct {
	err        error
	quote      func(context.Context, consign.QuoteRequest) (consign.Quote, error)
	submit     func(context.Context, consign.SubmitRequest) (consign.JobInfo, error)
	submitMany func(context.Context, []consign.SubmitRequest) []consign.SubmitOutcome
	job        func(context.Context, consign.JobID) (consign.JobInfo, error) // Get, Cancel
	wait       func(context.Context, consign.JobID) (consign.JobInfo, error)
	events     func(context.Context, consign.JobID, consign.Seq) iter.Seq2[consign.LogEntry, error]
	ack        func(context.Context, consign.JobID) error
	receipt    func(context.Context, consign.JobID) (consign.Receipt, error)
	explain    func(context.Context, consign.JobID) (consign.Explanation, error)
	keys       func(context.Context) (consign.Keys, error)
	offer      func(context.Context, []byte) (consign.PairingCode, error)
	pairings   func(context.Context) ([]consign.Pairing, error)
	confirm    func(context.Context, consign.WorkerID, string) (consign.Pairing, error)
	revoke     func(context.Context, consign.WorkerID) error
}

var errUnexpected = errors.New("transporttest: this call is not part of the check")

func (s *submitter) fail() error {
	if s.err != nil {
		return s.err
	}
	return errUnexpected
}

func (s *submitter) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	if s.quote == nil {
		return consign.Quote{}, s.fail()
	}
	return s.quote(ctx, r)
}

func (s *submitter) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if s.submit == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.submit(ctx, r)
}

func (s *submitter) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	if s.submitMany != nil {
		return s.submitMany(ctx, rs)
	}
	out := make([]consign.SubmitOutcome, len(rs))
	for i := range out {
		out[i].Err = s.fail()
	}
	return out
}

func (s *submitter) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.job == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.job(ctx, id)
}

func (s *submitter) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.wait == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.wait(ctx, id)
}

func (s *submitter) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	if s.events == nil {
		return func(yield func(consign.LogEntry, error) bool) { yield(consign.LogEntry{}, s.fail()) }
	}
	return s.events(ctx, id, after)
}

func (s *submitter) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.job == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.job(ctx, id)
}

func (s *submitter) Acknowledge(ctx context.Context, id consign.JobID) error {
	if s.ack == nil {
		return s.fail()
	}
	return s.ack(ctx, id)
}

func (s *submitter) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	if s.receipt == nil {
		return consign.Receipt{}, s.fail()
	}
	return s.receipt(ctx, id)
}

func (s *submitter) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	if s.explain == nil {
		return consign.Explanation{}, s.fail()
	}
	return s.explain(ctx, id)
}

func (s *submitter) Keys(ctx context.Context) (consign.Keys, error) {
	if s.keys == nil {
		return consign.Keys{}, s.fail()
	}
	return s.keys(ctx)
}

func (s *submitter) NewPairing(ctx context.Context, key []byte) (consign.PairingCode, error) {
	if s.offer == nil {
		return consign.PairingCode{}, s.fail()
	}
	return s.offer(ctx, key)
}

func (s *submitter) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	if s.pairings == nil {
		return nil, s.fail()
	}
	return s.pairings(ctx)
}

func (s *submitter) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	if s.confirm == nil {
		return consign.Pairing{}, s.fail()
	}
	return s.confirm(ctx, w, fingerprint)
}

func (s *submitter) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	if s.revoke == nil {
		return s.fail()
	}
	return s.revoke(ctx, w)
}

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

func submitterContent(e *subEnv) error {
	var got []any
	id := func(j consign.JobID) { got = append(got, j) }
	entry := filled[consign.LogEntry]()
	backend := &submitter{
		quote: func(_ context.Context, r consign.QuoteRequest) (consign.Quote, error) {
			got = append(got, r)
			return filled[consign.Quote](), nil
		},
		submit: func(_ context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
			got = append(got, r)
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
			got = append(got, key)
			return filled[consign.PairingCode](), nil
		},
		pairings: func(context.Context) ([]consign.Pairing, error) { return filled[[]consign.Pairing](), nil },
		confirm: func(_ context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
			got = append(got, w, fingerprint)
			return filled[consign.Pairing](), nil
		},
		revoke: func(_ context.Context, w consign.WorkerID) error { got = append(got, w); return nil },
		events: func(_ context.Context, j consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
			return func(yield func(consign.LogEntry, error) bool) {
				id(j)
				got = append(got, after)
				yield(entry, nil)
			}
		},
	}
	api := e.dial(backend)
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
		{"Events", []any{jobA, after}, entry, func() (v any, err error) {
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
