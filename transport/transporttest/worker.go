package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
)

type workEnv = env[consign.WorkerAPI]

// join dials and registers.
func join(ctx context.Context, api consign.WorkerAPI, key byte) (s consign.Session, err error) {
	err = within("Register", func() error {
		challenge, err := api.Challenge(ctx)
		if err != nil {
			return err
		}
		public := bytes.Repeat([]byte{key}, 32)
		s, err = api.Register(ctx, consign.Registration{
			Algorithm: "ed25519", PublicKey: public, Origin: "inproc", Nonce: challenge.Nonce, Signature: make([]byte, 64),
			Capabilities: consign.Capabilities{Kinds: []string{"TASK"}, MaxContextTier: 4, Slots: 1},
		})
		return err
	})
	return s, err
}

// joined dials a backend with one session.
func (e *env[API]) joined(ctx context.Context, dial func(consign.WorkerAPI) consign.WorkerAPI, s consign.Session) (consign.Session, error) {
	return join(ctx, dial(&backend{session: s}), 1)
}

var claimA = consign.Claim{Job: jobA, Claim: consign.ClaimID{7, 15: 9}}

// sessionCalls are the methods with the errors that each may return, beside
// ErrSession and ErrClosed.
var sessionCalls = []struct {
	name string
	errs []error
	call func(context.Context, consign.Session) error
}{
	{"Heartbeat", []error{errBadField}, func(ctx context.Context, s consign.Session) error {
		_, err := s.Heartbeat(ctx, consign.Heartbeat{Claims: []consign.Claim{claimA}})
		return err
	}},
	{"Claim", []error{consign.ErrRemoved}, func(ctx context.Context, s consign.Session) error { _, err := s.Claim(ctx); return err }},
	{"Report", []error{consign.ErrLeaseLost, errBadField}, func(ctx context.Context, s consign.Session) error {
		return s.Report(ctx, consign.Report{Claim: claimA, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("x")}}})
	}},
	{"Complete", []error{consign.ErrLeaseLost, consign.ErrConflict, consign.ErrBadResult, errBadField, errBadTransition}, func(ctx context.Context, s consign.Session) error {
		return s.Complete(ctx, consign.Completion{Claim: claimA, Result: []byte("r"), Record: []byte("{}")})
	}},
	{"Fail", []error{consign.ErrLeaseLost, errBadField}, func(ctx context.Context, s consign.Session) error {
		return s.Fail(ctx, consign.Failure{Claim: claimA, Reason: "x"})
	}},
	{"Release", []error{consign.ErrLeaseLost}, func(ctx context.Context, s consign.Session) error {
		return s.Release(ctx, consign.Release{Claim: claimA, Reason: "x"})
	}},
	{"ClaimPairing", []error{errBadField, consign.ErrBusy}, func(ctx context.Context, s consign.Session) error {
		_, err := s.ClaimPairing(ctx, "BCDFGHJKLM")
		return err
	}},
}

var workerChecks = []check[consign.WorkerAPI]{
	{"registration", "Challenge returns what the worker has to sign to register. Register proves that the worker holds its key and opens a session.", registration},
	{"registration refused", "It returns a *FieldError for bad capabilities or a bad signature and ErrRemoved for a worker that may not work here.", registrationRefused},
	{"errors", "Each method returns ErrSession once the session has ended; methods that name a claim return ErrLeaseLost where it is not current.", sessionErrors},
	{"requests and answers", "Heartbeat, Assignment, Report, Completion, Failure, Release: each field arrives.", sessionContent},
	{"large", "Result: the stored bytes. Payload likewise.", sessionLarge},
	{"claim", "Claim blocks until there is a job for this worker.", claimWoken},
	{"claim, cancelled", "Claim blocks until ... ctx is done.", claimCancelled},
	{"claim, abandoned", "Claim: a job that was handed out is run or given back. (Returned although ctx is done, or released: never left to its lease.)", claimAbandoned},
	{"claim, one slot", "One call is one free slot.", claimOneSlot},
	{"reports", "Report adds to the job's log (in the order of the calls, each once).", reportsInOrder},
	{"completion", "The same completion again gets the same answer, another one under the same claim ErrConflict.", completionTwice},
	{"completion accepted", "nil means that it is durably accepted.", completionAccepted},
	{"cancellation", "ctx is done: the call ends.", sessionCancelled},
	{"side by side", "It may be used from many goroutines.", sessionConcurrent},
	{"many sessions", "Register opens a session (each worker its own).", manySessions},
}

func registration(e *workEnv) error {
	challenge := filled[consign.Challenge]()
	var got consign.Registration
	api := e.dial(&backend{
		challenge: func(context.Context) (consign.Challenge, error) { return challenge, nil },
		register: func(_ context.Context, r consign.Registration) (consign.Session, error) {
			got = r
			return &session{}, nil
		},
	})
	ctx, cancel := e.background()
	defer cancel()
	return within("Challenge and Register", func() error {
		c, err := api.Challenge(ctx)
		if err != nil {
			return err
		}
		if err := same("Challenge", c, challenge); err != nil {
			return err
		}
		r := filled[consign.Registration]()
		if _, err := api.Register(ctx, r); err != nil {
			return err
		}
		return same("Register", got, r)
	})
}

func registrationRefused(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	for _, sent := range []error{errBadField, wrapped(consign.ErrRemoved), wrapped(consign.ErrClosed)} {
		api := e.dial(&backend{register: func(context.Context, consign.Registration) (consign.Session, error) { return nil, sent }})
		_, got := join(ctx, api, 1)
		if err := sameError(got, sent); err != nil {
			return fmt.Errorf("Register: %w", err)
		}
	}
	api := e.dial(&backend{challenge: func(context.Context) (consign.Challenge, error) {
		return consign.Challenge{}, wrapped(consign.ErrClosed)
	}})
	_, got := join(ctx, api, 1)
	if err := sameError(got, consign.ErrClosed); err != nil {
		return fmt.Errorf("Challenge: %w", err)
	}
	return nil
}

func sessionErrors(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	for _, c := range sessionCalls {
		for _, sent := range append([]error{consign.ErrSession, consign.ErrClosed}, c.errs...) {
			if isSentinel(sent) {
				sent = wrapped(sent)
			}
			// A far end may give a session up that has ended, so each has its own.
			s, err := e.joined(ctx, e.dial, &session{err: sent})
			if err != nil {
				return err
			}
			var got error
			if err := within(c.name, func() error { got = c.call(ctx, s); return nil }); err != nil {
				return err
			}
			if err := sameError(got, sent); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

func sessionContent(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	var got any
	s, err := e.joined(ctx, e.dial, &session{
		heartbeat: func(_ context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
			got = h
			return filled[consign.HeartbeatReply](), nil
		},
		claim:    func(context.Context) (consign.Assignment, error) { return filled[consign.Assignment](), nil },
		report:   func(_ context.Context, r consign.Report) error { got = r; return nil },
		complete: func(_ context.Context, c consign.Completion) error { got = c; return nil },
		failure:  func(_ context.Context, f consign.Failure) error { got = f; return nil },
		release:  func(_ context.Context, r consign.Release) error { got = r; return nil },
		pairing: func(_ context.Context, code string) (consign.Pairing, error) {
			got = code
			return filled[consign.Pairing](), nil
		},
	})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name           string
		sent, received any
		call           func() (any, error)
	}{
		{"Heartbeat", filled[consign.Heartbeat](), filled[consign.HeartbeatReply](), func() (any, error) { return s.Heartbeat(ctx, filled[consign.Heartbeat]()) }},
		{"Claim", "", filled[consign.Assignment](), func() (any, error) { return s.Claim(ctx) }},
		{"Report", filled[consign.Report](), "", func() (any, error) { return "", s.Report(ctx, filled[consign.Report]()) }},
		{"Complete", filled[consign.Completion](), "", func() (any, error) { return "", s.Complete(ctx, filled[consign.Completion]()) }},
		{"Fail", filled[consign.Failure](), "", func() (any, error) { return "", s.Fail(ctx, filled[consign.Failure]()) }},
		{"Release", filled[consign.Release](), "", func() (any, error) { return "", s.Release(ctx, filled[consign.Release]()) }},
		{"ClaimPairing", "BCDFG-HJKLM", filled[consign.Pairing](), func() (any, error) { return s.ClaimPairing(ctx, "BCDFG-HJKLM") }},
	} {
		got = ""
		var answer any
		if err := within(c.name, func() (err error) { answer, err = c.call(); return err }); err != nil {
			return err
		}
		if err := same(c.name+": request", got, c.sent); err != nil {
			return err
		}
		if err := same(c.name+": answer", answer, c.received); err != nil {
			return err
		}
	}
	return nil
}

func sessionLarge(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	blob := noise(large)
	var got []byte
	s, err := e.joined(ctx, e.dial, &session{
		claim: func(context.Context) (consign.Assignment, error) {
			return consign.Assignment{Job: claimA.Job, Claim: claimA.Claim, Payload: blob}, nil
		},
		complete: func(_ context.Context, c consign.Completion) error { got = c.Result; return nil },
	})
	if err != nil {
		return err
	}
	return within("Claim and Complete", func() error {
		a, err := s.Claim(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(a.Payload, blob) {
			return fmt.Errorf("a payload of %d bytes arrived as %d, or others", len(blob), len(a.Payload))
		}
		if err := s.Complete(ctx, consign.Completion{Claim: claimA, Result: blob, Record: []byte("{}")}); err != nil {
			return err
		}
		if !bytes.Equal(got, blob) {
			return fmt.Errorf("a result of %d bytes arrived as %d, or others", len(blob), len(got))
		}
		return nil
	})
}

func reportsInOrder(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	var mu sync.Mutex
	var got []byte
	s, err := e.joined(ctx, e.dial, &session{report: func(_ context.Context, r consign.Report) error {
		mu.Lock()
		defer mu.Unlock()
		for _, item := range r.Items {
			got = append(got, item.Data...)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	var want []byte
	for i := range 200 {
		a, b := fmt.Appendf(nil, "<%d", i), []byte(">")
		want = append(append(want, a...), b...)
		err := within("Report", func() error {
			return s.Report(ctx, consign.Report{Claim: claimA, Items: []consign.ReportItem{{Kind: consign.ReportPart, Data: a}, {Kind: consign.ReportPart, Data: b}}})
		})
		if err != nil {
			return err
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if !bytes.Equal(got, want) {
		return fmt.Errorf("parts arrived as %.100q, not as %.100q", got, want)
	}
	return nil
}

func completionTwice(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	var mu sync.Mutex
	bodies := make(map[string]int)
	var first string
	s, err := e.joined(ctx, e.dial, &session{complete: func(_ context.Context, c consign.Completion) error {
		mu.Lock()
		defer mu.Unlock()
		body := fmt.Sprintf("%x %x %d", c.Result, c.Record, c.ExitStatus)
		bodies[body]++
		if first == "" {
			first = body
		}
		if body != first {
			return wrapped(consign.ErrConflict)
		}
		return nil
	}})
	if err != nil {
		return err
	}
	a := consign.Completion{Claim: claimA, Result: noise(1000), ExitStatus: -3, Record: []byte(` {"payload" : "e30=" }` + "\n")}
	b := a
	b.Result = []byte("another")
	return within("Complete", func() error {
		for i, c := range []consign.Completion{a, a, b, a} {
			err := s.Complete(ctx, c)
			if i == 2 {
				if err := sameError(err, consign.ErrConflict); err != nil {
					return err
				}
			} else if err != nil {
				return fmt.Errorf("time %d: %w", i+1, err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		want := fmt.Sprintf("%x %x %d", a.Result, a.Record, a.ExitStatus)
		if len(bodies) != 2 || bodies[want] < 3 {
			return fmt.Errorf("two completions arrived as %d, and not byte for byte", len(bodies))
		}
		return nil
	})
}

func completionAccepted(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	accept := make(chan struct{})
	s, err := e.joined(ctx, e.dial, &session{complete: func(ctx context.Context, _ consign.Completion) error {
		select {
		case <-accept:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-e.end:
			return errUnexpected
		}
	}})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.Complete(ctx, consign.Completion{Claim: claimA, Record: []byte("{}")}) }()
	select {
	case err := <-done:
		return fmt.Errorf("Complete returned before the queue had accepted: %v", err)
	case <-time.After(moment):
	}
	close(accept)
	return receive("Complete", done)
}

func sessionCancelled(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	s, err := e.joined(ctx, e.dial, &session{
		heartbeat: func(ctx context.Context, _ consign.Heartbeat) (consign.HeartbeatReply, error) {
			return consign.HeartbeatReply{}, e.block(ctx)
		},
		claim:    func(ctx context.Context) (consign.Assignment, error) { return consign.Assignment{}, e.block(ctx) },
		report:   func(ctx context.Context, _ consign.Report) error { return e.block(ctx) },
		complete: func(ctx context.Context, _ consign.Completion) error { return e.block(ctx) },
		failure:  func(ctx context.Context, _ consign.Failure) error { return e.block(ctx) },
		release:  func(ctx context.Context, _ consign.Release) error { return e.block(ctx) },
		pairing:  func(ctx context.Context, _ string) (consign.Pairing, error) { return consign.Pairing{}, e.block(ctx) },
	})
	if err != nil {
		return err
	}
	for _, c := range sessionCalls {
		if err := endsWithContext(ctx, c.name, func(ctx context.Context) error { return c.call(ctx, s) }); err != nil {
			return err
		}
	}
	return nil
}

func sessionConcurrent(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	j := newJobs()
	var completed sync.Map
	script := j.session(e)
	script.complete = func(_ context.Context, c consign.Completion) error {
		completed.Store(c.Claim.Claim, string(c.Result))
		return nil
	}
	s, err := e.joined(ctx, e.dial, script)
	if err != nil {
		return err
	}
	const slots = 32
	done := make(chan error, slots)
	for range slots {
		go func() {
			a, err := s.Claim(ctx)
			if err == nil {
				err = s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: fmt.Append(nil, a.Claim), Record: []byte("{}")})
			}
			done <- err
		}()
	}
	if err := eventually("Claim for every slot at the backend", func() bool { return j.blocked() == slots }); err != nil {
		return err
	}
	if err := within("Heartbeat beside them", func() error { _, err := s.Heartbeat(ctx, consign.Heartbeat{}); return err }); err != nil {
		return err
	}
	j.add(slots)
	for range slots {
		if err := receive("Claim and Complete", done); err != nil {
			return err
		}
	}
	n := 0
	completed.Range(func(claim, result any) bool {
		if result != fmt.Sprint(claim) {
			err = fmt.Errorf("the result of %s came under %v", result, claim)
		}
		n++
		return true
	})
	if err == nil && n != slots {
		err = fmt.Errorf("%d of %d claims were handed out once and completed", n, slots)
	}
	return err
}

func manySessions(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	const n = 10
	var wrong atomic.Int32
	b := &backend{register: func(_ context.Context, r consign.Registration) (consign.Session, error) {
		worker := r.PublicKey[0]
		return &session{
			heartbeat: func(_ context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
				if h.FreeSlots != int(worker) {
					wrong.Add(1)
				}
				if worker == n {
					return consign.HeartbeatReply{}, wrapped(consign.ErrSession)
				}
				return consign.HeartbeatReply{Interval: time.Duration(worker) * time.Second}, nil
			},
			claim: func(context.Context) (consign.Assignment, error) {
				return consign.Assignment{Job: jobA, Claim: consign.ClaimID{worker}}, nil
			},
		}, nil
	}}
	api := e.dial(b)
	sessions := make([]consign.Session, n+1)
	for i := 1; i <= n; i++ {
		s, err := join(ctx, api, byte(i))
		if err != nil {
			return err
		}
		sessions[i] = s
	}
	// The end of one is not the end of the others.
	var ended error
	if err := within("Heartbeat", func() error { _, ended = sessions[n].Heartbeat(ctx, consign.Heartbeat{FreeSlots: n}); return nil }); err != nil {
		return err
	}
	if !errors.Is(ended, consign.ErrSession) {
		return fmt.Errorf("the session that has ended says %v", ended)
	}
	for i := n - 1; i > 0; i-- {
		err := within("Heartbeat and Claim", func() error {
			reply, err := sessions[i].Heartbeat(ctx, consign.Heartbeat{FreeSlots: i})
			if err != nil {
				return err
			}
			a, err := sessions[i].Claim(ctx)
			if err == nil && (reply.Interval != time.Duration(i)*time.Second || a.Claim != consign.ClaimID{byte(i)}) {
				err = fmt.Errorf("session %d got the answers of another one", i)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if wrong.Load() > 0 {
		return errors.New("a heartbeat came in another worker's session")
	}
	return nil
}
