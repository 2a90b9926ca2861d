package consign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

// Bad input: every call of both faces, each with what is wrong in its own way.
// The answer is a typed error that says what is wrong, and the store is as it
// was, to the byte, but for what the contract says: a result whose proof does
// not hold sends the job to another worker and counts against this one.

// dumpStore is a memdb that can be compared with what it was.
type dumpStore struct {
	consign.Store

	mu       sync.Mutex
	counters map[string]bool
	written  int // changes and renewals that were applied
}

func newDumpStore() *dumpStore {
	return &dumpStore{Store: memdb.New(), counters: map[string]bool{}}
}

func (s *dumpStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	errs, err := s.Store.Apply(ctx, changes)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range errs {
		if errs[i] != nil {
			continue
		}
		s.written++
		for _, d := range changes[i].Counters {
			s.counters[d.Counter] = true
		}
	}
	return errs, err
}

func (s *dumpStore) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	errs, err := s.Store.Renew(ctx, renewals)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range errs {
		if errs[i] == nil {
			s.written++
		}
	}
	return errs, err
}

func (s *dumpStore) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// dump returns all that the store holds, by what it is.
func (s *dumpStore) dump(t *testing.T) map[string]string {
	t.Helper()
	ctx, all := context.Background(), math.MaxInt32
	out := map[string]string{}
	put := func(key string, v any, err error) {
		text, bad := json.Marshal(v)
		if err := errors.Join(err, bad); err != nil {
			t.Fatalf("dump %s: %v", key, err)
		}
		out[key] = string(text)
	}
	jobs, err := s.List(ctx, consign.Filter{}, consign.JobID{}, all)
	put("jobs", len(jobs), err)
	for _, j := range jobs {
		put("job "+j.ID.String(), j, nil)
		specs, err := s.Specs(ctx, []consign.JobID{j.ID})
		put("spec "+j.ID.String(), specs, err)
		done, err := s.Done(ctx, j.ID)
		put("done "+j.ID.String(), done, err)
		log, err := s.Log(ctx, j.ID, 0, all)
		put("log "+j.ID.String(), log, err)
	}
	effects, err := s.Effects(ctx, all)
	put("effects", effects, err)
	for _, kind := range []string{consign.DocWorker, consign.DocPairing, consign.DocPause} {
		docs, err := s.Docs(ctx, kind, "", all)
		put("docs "+kind, docs, err)
	}
	s.mu.Lock()
	names := slices.Collect(maps.Keys(s.counters))
	s.mu.Unlock()
	for _, name := range names {
		n, err := s.Counter(ctx, name)
		put("counter "+name, n, err)
	}
	return out
}

// changed lists what differs between two dumps.
func changed(before, after map[string]string) []string {
	keys := map[string]bool{}
	for k, v := range before {
		keys[k] = after[k] != v
	}
	for k, v := range after {
		keys[k] = before[k] != v
	}
	maps.DeleteFunc(keys, func(_ string, differs bool) bool { return !differs })
	return slices.Sorted(maps.Keys(keys))
}

// badWorld is a queue with two workers and two accounts, in virtual time.
type badWorld struct {
	t     *testing.T
	ctx   context.Context
	store *dumpStore
	q     *consign.Queue
	stop  func()

	keyA, keyB *sign.Identity
	keyC       *sign.Identity  // of no session
	a, b       consign.Session // both execute tasks, and nothing else
	acme       consign.SubmitterAPI
	other      consign.SubmitterAPI // account "other"
	jobs       int
}

var badCaps = consign.Capabilities{Kinds: []string{consign.KindTask}, Models: []string{"*"}, MaxContextTier: 4, Slots: 10_000}

// The kinds of badWorld beside the default ones.
const (
	kindFixed  = "FIXED"  // takes the models m1 and m2
	kindPriced = "PRICED" // costs 10 millionths
)

func newBadWorld(t *testing.T, c consign.Config) *badWorld {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // of virtual time: no wait hangs
	t.Cleanup(cancel)
	w := &badWorld{t: t, ctx: ctx, store: newDumpStore(), keyA: seededIdentity(10), keyB: seededIdentity(11), keyC: seededIdentity(12)}
	c.Store, c.Identity = w.store, seededIdentity(1)
	c.Kinds = append(consign.DefaultKinds(), consign.Kind{Name: kindFixed, Models: []string{"m1", "m2"}}, consign.Kind{Name: kindPriced})
	c.Prices = consign.PriceTable{{Kind: kindPriced, Price: 10}}
	c.MaxPayload, c.MaxResult = 2000, 2000
	w.q, w.stop = startQueueStop(t, c)
	w.a, w.b = openSession(t, w.q, w.keyA, badCaps), openSession(t, w.q, w.keyB, badCaps)
	w.acme, w.other = w.q.Submitter("acme"), w.q.Submitter("other")
	return w
}

func (w *badWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal("preparing: ", err)
	}
}

func (w *badWorld) payload() []byte {
	w.jobs++
	return fmt.Appendf(nil, "the payload of job %d", w.jobs)
}

// queued submits a job that no worker executes.
func (w *badWorld) queued() consign.JobInfo {
	w.t.Helper()
	j, err := w.acme.Submit(w.ctx, consign.SubmitRequest{Kind: consign.KindInference, Model: "m", Payload: w.payload(), Custody: consign.CustodyPlain})
	w.must(err)
	return j
}

// running submits a job that worker A claims.
func (w *badWorld) running() *consign.Assignment {
	w.t.Helper()
	_, err := w.acme.Submit(w.ctx, consign.SubmitRequest{Kind: consign.KindTask, Model: "m", Payload: w.payload(), Custody: consign.CustodyPlain})
	w.must(err)
	a, err := w.a.Claim(w.ctx)
	w.must(err)
	return &a
}

var badResult = []byte("the result")

// completion is worker A's honest one.
func (w *badWorld) completion(a *consign.Assignment) consign.Completion {
	w.t.Helper()
	c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: badResult}
	if a.Receipts {
		c.Record = signedRecord(w.t, w.keyA, recordOf(a, badResult, 1))
	}
	return c
}

// completed is a job that worker A has completed.
func (w *badWorld) completed() (*consign.Assignment, consign.Completion) {
	w.t.Helper()
	a := w.running()
	c := w.completion(a)
	w.must(w.a.Complete(w.ctx, c))
	return a, c
}

// stale is a claim of worker A whose lease has ended; worker B holds the job
// now.
func (w *badWorld) stale() (a, b *consign.Assignment) {
	w.t.Helper()
	a = w.running()
	now, err := w.b.Claim(w.ctx) // blocks for as long as the lease lasts
	w.must(err)
	if now.Job != a.Job {
		w.t.Fatal("preparing: another job")
	}
	return a, &now
}

// A want says what is wrong with an answer, or "".
type want func(err error) string

// typed is the least that every error has to be.
func typed(err error) string {
	if e, ok := errors.AsType[*consign.FieldError](err); ok {
		if e.Field == "" || e.Problem == "" || e.Remedy == "" {
			return fmt.Sprintf("is a FieldError with an empty part: %#v", e)
		}
		return ""
	}
	if e, ok := errors.AsType[*consign.ReceiptError](err); ok {
		if e.Field == "" || e.Problem == "" {
			return fmt.Sprintf("is a ReceiptError with an empty part: %#v", e)
		}
		return ""
	}
	if _, ok := errors.AsType[*consign.TransitionError](err); ok {
		return ""
	}
	for _, sentinel := range []error{consign.ErrNotFound, consign.ErrConflict, consign.ErrIDTaken, consign.ErrLeaseLost, consign.ErrCancelled,
		consign.ErrBadResult, consign.ErrCredit, consign.ErrNoWorker, consign.ErrSession, consign.ErrRemoved, consign.ErrClosed, consign.ErrBusy,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, sentinel) {
			return ""
		}
	}
	return "is of no type that a caller could act on"
}

func field(name string) want {
	return func(err error) string {
		e, ok := errors.AsType[*consign.FieldError](err)
		if !ok || e.Field != name {
			return "is not a FieldError about " + name
		}
		return ""
	}
}

func is(sentinels ...error) want {
	return func(err error) string {
		for _, s := range sentinels {
			if !errors.Is(err, s) {
				return fmt.Sprintf("is not %q", s)
			}
		}
		return ""
	}
}

// badRecord is a rejected result, and the field of the record that is to blame.
func badRecord(name string) want {
	return func(err error) string {
		e, ok := errors.AsType[*consign.ReceiptError](err)
		switch {
		case !errors.Is(err, consign.ErrBadResult):
			return "is not ErrBadResult"
		case !ok || e.Field != name:
			return "is not a ReceiptError about " + name
		}
		return ""
	}
}

func transition(state consign.State, event consign.EventKind) want {
	return func(err error) string {
		e, ok := errors.AsType[*consign.TransitionError](err)
		if !ok || e.State != state || e.Event != event {
			return fmt.Sprintf("is not a TransitionError of %s in %s", event, state)
		}
		return ""
	}
}

// fine is an input that asks for nothing new.
func fine(err error) string {
	if err != nil {
		return "was not expected"
	}
	return ""
}

// badCase prepares its world and returns the bad call.
type badCase struct {
	name string
	want want
	call func(w *badWorld) func() error
	// rejects says that the contract has the job go to another worker and
	// worker A be struck.
	rejects bool
	config  consign.Config
}

func TestBadInput(t *testing.T) {
	groups := map[string][]badCase{"submit": badSubmits(), "submitter": badSubmitterCalls(), "register": badRegistrations(),
		"session": badSessionCalls(), "complete": badCompletions(), "record": badRecords()}
	cases := 0
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		seen := map[string]bool{}
		for _, c := range groups[group] {
			if seen[c.name] {
				t.Errorf("%s/%s is there twice", group, c.name)
			}
			seen[c.name] = true
			t.Run(group+"/"+c.name, func(t *testing.T) { synctest.Test(t, c.run) })
		}
		cases += len(seen)
	}
	t.Logf("%d cases of bad input", cases)
	if cases < 120 {
		t.Errorf("only %d cases", cases)
	}
}

func (c *badCase) run(t *testing.T) {
	w := newBadWorld(t, c.config)
	call := c.call(w)
	synctest.Wait()
	before := w.store.dump(t)
	err := call()
	synctest.Wait()
	diff := changed(before, w.store.dump(t))
	if problem := c.want(err); problem != "" {
		t.Errorf("the answer %s: %v", problem, err)
	} else if err != nil {
		if problem := typed(err); problem != "" {
			t.Errorf("the answer %s: %v", problem, err)
		}
	}
	if c.rejects {
		c.checkRejected(w, diff)
	} else if len(diff) > 0 {
		t.Errorf("after %v the store differs in %v", err, diff)
	}
}

// checkRejected is what a rejected result changes: its job is queued again,
// says so in its log, and the worker has a strike.
func (c *badCase) checkRejected(w *badWorld, diff []string) {
	w.t.Helper()
	jobs, err := w.q.Jobs(w.ctx, consign.Filter{State: consign.StateQueued}, consign.JobID{}, 10)
	if err != nil || len(jobs) != 1 {
		w.t.Fatalf("%d jobs are queued again, not one (%v); changed: %v", len(jobs), err, diff)
	}
	id := jobs[0].ID.String()
	if want := []string{"docs worker", "job " + id, "log " + id}; !slices.Equal(diff, want) {
		w.t.Errorf("a rejection changed %v, not %v", diff, want)
	}
	for _, worker := range []struct {
		id      consign.WorkerID
		strikes uint64
	}{{w.keyA.Public().ID(), 1}, {w.keyB.Public().ID(), 0}} {
		r, err := w.q.Worker(w.ctx, worker.id)
		if err != nil || r.Standing.Strikes != worker.strikes {
			w.t.Errorf("worker %s has %d strikes, not %d (%v)", worker.id, r.Standing.Strikes, worker.strikes, err)
		}
	}
}

// plainRequest and sealedRequest are good. The latter's is the first job that is
// sealed to keyC, which is paired but never there.
func plainRequest(w *badWorld) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: consign.KindTask, Payload: w.payload(), Custody: consign.CustodyPlain}
}

func sealedRequest(w *badWorld) consign.SubmitRequest {
	w.t.Helper()
	r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindInference, Model: "m", Payload: bytes.Repeat([]byte{0xff, 0}, 100),
		Custody: consign.CustodySealed, Chars: 40, PromptBytes: 100, ClientKey: []byte("the key for results")}
	w.must(w.q.Pair(w.ctx, consign.Pairing{Account: "acme", Worker: w.keyC.Public().ID()}))
	w.seal(&r)
	return r
}

var badSubmitter = seededIdentity(20)

func (w *badWorld) seal(r *consign.SubmitRequest) {
	consign.SealFor(&consign.Config{Identity: seededIdentity(1)}, badSubmitter, r, 0, w.keyC.Public().ID())
}

func badSubmits() []badCase {
	var cases []badCase
	sending := consign.Config{Webhooks: true}
	add := func(from func(*badWorld) consign.SubmitRequest, name string, want want, spoil func(r *consign.SubmitRequest)) {
		cases = append(cases, badCase{name: name, want: want, config: sending, call: func(w *badWorld) func() error {
			r := from(w)
			spoil(&r)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}})
	}
	plain := func(name string, want want, spoil func(r *consign.SubmitRequest)) {
		add(plainRequest, name, want, spoil)
	}
	sealed := func(name string, want want, spoil func(r *consign.SubmitRequest)) {
		add(sealedRequest, name, want, spoil)
	}
	type request = consign.SubmitRequest

	plain("unknown kind", field("kind"), func(r *request) { r.Kind = "MINING" })
	plain("no kind", field("kind"), func(r *request) { r.Kind = "" })
	plain("kind in lower case", field("kind"), func(r *request) { r.Kind = "task" })
	plain("kind of bad UTF-8", field("kind"), func(r *request) { r.Kind = "TASK\xff" })
	plain("nil payload", field("payload"), func(r *request) { r.Payload = nil })
	plain("empty payload", field("payload"), func(r *request) { r.Payload = []byte{} })
	plain("oversize payload", field("payload"), func(r *request) { r.Payload = bytes.Repeat([]byte("x"), 2001) })
	plain("payload of bad UTF-8", field("payload"), func(r *request) { r.Payload = []byte("caf\xe9") })
	plain("payload cut within a character", field("payload"), func(r *request) { r.Payload = []byte("caf\xc3") })
	plain("payload of a surrogate", field("payload"), func(r *request) { r.Payload = []byte("\xed\xa0\x80") })
	plain("oversize header", field("header"), func(r *request) { r.Header = make([]byte, 65<<10) })
	plain("hash of another payload", field("payload_hash"), func(r *request) { r.PayloadHash = consign.InputHash(nil, []byte("another")) })
	plain("hash of half the payload", field("payload_hash"), func(r *request) { r.PayloadHash = consign.InputHash(nil, r.Payload[:4]) })
	sealed("hash without the header", field("payload_hash"), func(r *request) { r.PayloadHash = consign.InputHash(nil, r.Payload) })
	sealed("hash of payload and header swapped", field("payload_hash"), func(r *request) { r.PayloadHash = consign.InputHash(r.Payload, r.Header) })
	plain("one character too few", field("chars"), func(r *request) { r.Chars = uint32(len(r.Payload) - 1) })
	plain("one character too many", field("chars"), func(r *request) { r.Chars = uint32(len(r.Payload) + 1) })
	plain("bytes given as characters", field("chars"), func(r *request) { r.Payload = []byte("äöü"); r.Chars = 6 })
	plain("2^32-1 characters", field("chars"), func(r *request) { r.Chars = math.MaxUint32 })
	plain("characters given as bytes", field("prompt_bytes"), func(r *request) { r.Payload = []byte("äöü"); r.PromptBytes = 3 })
	plain("2^64-1 bytes", field("prompt_bytes"), func(r *request) { r.PromptBytes = math.MaxUint64 })

	sealed("sealed without a header", field("header"), func(r *request) { r.Header = nil })
	sealed("sealed without lengths", field("chars"), func(r *request) { r.Chars, r.PromptBytes = 0, 0 })
	sealed("sealed without characters", field("chars"), func(r *request) { r.Chars = 0 })
	sealed("sealed without characters, of three bytes", field("chars"), func(r *request) { r.Chars, r.PromptBytes = 0, 3 })
	sealed("sealed without bytes", field("chars"), func(r *request) { r.PromptBytes = 0 })
	sealed("more characters than bytes", field("chars"), func(r *request) { r.Chars = 101 })
	sealed("fewer characters than a quarter of the bytes", field("chars"), func(r *request) { r.Chars = 24 })
	sealed("one character of seven bytes", field("chars"), func(r *request) { r.Chars, r.PromptBytes = 1, 7 })
	sealed("more bytes than ciphertext", field("prompt_bytes"), func(r *request) { r.PromptBytes = 201 })
	sealed("sealed with 2^64-1 bytes", field("prompt_bytes"), func(r *request) { r.Chars, r.PromptBytes = math.MaxUint32, math.MaxUint64 })

	// A header that differs from the request.
	sealed("header of another format", field("header"), func(r *request) { r.Header[8+16] = '2' })
	sealed("header cut short", field("header"), func(r *request) { r.Header = r.Header[:len(r.Header)-1] })
	sealed("bytes after the header", field("header"), func(r *request) { r.Header = append(r.Header, 0) })
	sealed("header of another queue", field("header.queue_id"), func(r *request) {
		consign.SealFor(&consign.Config{Identity: seededIdentity(2)}, badSubmitter, r, 0, r.Wraps[0].Worker)
	})
	sealed("header of another job", field("header.job_id"), func(r *request) { r.ID = consign.NewJobID() })
	sealed("sealed without an ID", field("header.job_id"), func(r *request) { r.ID = consign.JobID{} })
	sealed("header of another kind", field("header.kind"), func(r *request) { r.Kind = consign.KindTask })
	sealed("header of another model", field("header.model"), func(r *request) { r.Model = "n" })
	sealed("header of another length", field("header.chars"), func(r *request) { r.Chars = 41 })
	sealed("header of another length in bytes", field("header.prompt_bytes"), func(r *request) { r.PromptBytes = 99 })
	sealed("header of another comparator", field("header.comparator"), func(r *request) { r.Comparator = "another" })
	sealed("header with another key for results", field("header.client_pubkey"), func(r *request) { r.ClientKey = []byte("another") })

	// Whom it is sealed to, and by whom.
	sealed("sealed and PUBLIC", field("custody"), func(r *request) { r.Privacy = consign.PrivacyPublic })
	sealed("sealed to nobody", field("wraps"), func(r *request) { r.Wraps = nil })
	sealed("sealed to the vault", field("wraps"), func(r *request) { r.Wraps[0].Worker = consign.WorkerID{} })
	sealed("sealed twice to one", field("wraps"), func(r *request) { r.Wraps = append(r.Wraps, r.Wraps[0]) })
	sealed("sealed to 17", field("wraps"), func(r *request) {
		for i := range 16 {
			r.Wraps = append(r.Wraps, consign.Wrap{Worker: consign.WorkerID{byte(i)}, Wrap: []byte("k")})
		}
	})
	sealed("an empty wrap", field("wraps"), func(r *request) { r.Wraps[0].Wrap = nil })
	sealed("a wrap of 4,097 bytes", field("wraps"), func(r *request) { r.Wraps[0].Wrap = make([]byte, 4097) })
	sealed("sealed only to a worker that is not paired", is(consign.ErrNoWorker), func(r *request) { r.Wraps[0].Worker[0] ^= 1 })
	sealed("no signature", field("signature"), func(r *request) { r.Signature = nil })
	sealed("a signature over another payload", field("signature"), func(r *request) { r.Payload[7] ^= 1 })
	sealed("a signature by somebody else", field("signature"), func(r *request) {
		r.Signature, _ = seededIdentity(21).Sign(r.Header)
	})
	plain("plain with wraps", field("wraps"), func(r *request) { r.Wraps = []consign.Wrap{{Wrap: []byte("k")}} })
	plain("plain with a signature", field("signature"), func(r *request) { r.Signature = []byte("s") })

	plain("no custody", field("custody"), func(r *request) { r.Custody = "" })
	plain("unknown custody", field("custody"), func(r *request) { r.Custody = "secret" })
	plain("custody in capitals", field("custody"), func(r *request) { r.Custody = "PLAIN" })
	sealed("escrow without a vault", field("custody"), func(r *request) { r.Custody = consign.CustodyEscrow })
	sealed("transit without a vault", field("custody"), func(r *request) { r.Custody = consign.CustodyTransit })

	for _, bad := range []string{"ftp://x/y", "https:///y", "x", "https://u:p@x/y", "https://x/y#z", "://", "https://x/\x00", "https://x/" + strings.Repeat("y", 2048)} {
		plain("webhook "+bad[:min(len(bad), 20)], field("webhook"), func(r *request) { r.Webhook = bad })
	}
	cases = append(cases, badCase{name: "webhook where none are sent", want: field("webhook"), config: consign.Config{Webhooks: false}, call: func(w *badWorld) func() error {
		r := plainRequest(w)
		r.Webhook = "https://submitter.test/ended"
		return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
	}})

	plain("inference without a model", field("model"), func(r *request) { r.Kind = consign.KindInference })
	plain("unknown model", field("model"), func(r *request) { r.Kind, r.Model = kindFixed, "m3" })
	plain("model of bad UTF-8", field("model"), func(r *request) { r.Model = "m\xff" })
	plain("model with a zero byte", field("model"), func(r *request) { r.Model = "m\x00" })
	plain("model of 1,025 bytes", field("model"), func(r *request) { r.Model = strings.Repeat("m", 1025) })
	plain("comparator of bad UTF-8", field("comparator"), func(r *request) { r.Comparator = "exact\xc0\x80" })
	plain("comparator with a zero byte", field("comparator"), func(r *request) { r.Comparator = "\x00" })
	plain("comparator of 1,025 bytes", field("comparator"), func(r *request) { r.Comparator = strings.Repeat("c", 1025) })
	plain("unknown policy", field("policy"), func(r *request) { r.Policy = 3 })
	plain("policy 255", field("policy"), func(r *request) { r.Policy = 255 })
	plain("unknown priority", field("priority"), func(r *request) { r.Priority = 3 })
	plain("unknown privacy class", field("privacy_class"), func(r *request) { r.Privacy = 2 })
	plain("oversize client key", field("client_pubkey"), func(r *request) { r.ClientKey = make([]byte, 8<<10+1) })
	plain("minus one attempts", field("max_attempts"), func(r *request) { r.MaxAttempts = -1 })
	plain("least attempts", field("max_attempts"), func(r *request) { r.MaxAttempts = math.MinInt })

	for name, set := range map[string]func(r *request, d time.Duration){
		"delay":            func(r *request, d time.Duration) { r.Delay = d },
		"queue_time":       func(r *request, d time.Duration) { r.QueueTime = d },
		"deadline_seconds": func(r *request, d time.Duration) { r.Deadline = d },
	} {
		for _, d := range []time.Duration{-1, -time.Second, math.MinInt64} {
			plain(fmt.Sprintf("%s of %d ns", name, d), field(name), func(r *request) { set(r, d) })
		}
	}
	plain("deadline within the delay", field("deadline_seconds"), func(r *request) { r.Delay, r.Deadline = time.Minute, time.Second })
	plain("deadline at the delay", field("deadline_seconds"), func(r *request) { r.Delay, r.Deadline = time.Minute, time.Minute })
	plain("deadline within the longest delay", field("deadline_seconds"), func(r *request) { r.Delay, r.Deadline = math.MaxInt64, time.Hour })

	for name, labels := range map[string]map[string]string{
		"nameless":            {"": "v"},
		"= in a name":         {"a=b": "v"},
		", in a name":         {"a,b": "v"},
		"= in a value":        {"k": "a=b"},
		", in a value":        {"k": "v,gpu=a100"},
		"name of bad UTF-8":   {"\xff": "v"},
		"value of bad UTF-8":  {"k": "\xff"},
		"value of 1,025":      {"k": strings.Repeat("v", 1025)},
		"name of 1,025":       {strings.Repeat("k", 1025): "v"},
		"name with zero byte": {"k\x00": "v"},
		"a thousand":          manyLabels(1000),
	} {
		plain("labels: "+name, field("labels"), func(r *request) { r.Labels = labels })
	}
	return append(cases, badIDs()...)
}

func manyLabels(n int) map[string]string {
	labels := map[string]string{}
	for i := range n {
		labels[fmt.Sprint("k", i)] = "v"
	}
	return labels
}

// badIDs are submits that are bad because of what there is already.
func badIDs() []badCase {
	// again submits a job of worker A's, then something like it.
	again := func(name string, want want, spoil func(r *consign.SubmitRequest)) badCase {
		return badCase{name: name, want: want, call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.ID = consign.NewJobID()
			r.Model = "m"
			_, err := w.acme.Submit(w.ctx, r)
			w.must(err)
			spoil(&r)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}}
	}
	type request = consign.SubmitRequest
	poor := func(r consign.SubmitRequest) consign.SubmitRequest {
		r.Kind = kindPriced
		return r
	}
	return []badCase{
		again("same ID, same content", fine, func(*request) {}),
		again("same ID, other payload", is(consign.ErrConflict), func(r *request) { r.Payload = []byte("another") }),
		again("same ID, with a header", field("header"), func(r *request) { r.Header = []byte("H") }),
		again("same ID, other kind", is(consign.ErrConflict), func(r *request) { r.Kind = consign.KindContainer }),
		again("same ID, other model", is(consign.ErrConflict), func(r *request) { r.Model = "n" }),
		{name: "same ID, other custody", want: is(consign.ErrConflict), call: func(w *badWorld) func() error {
			r := sealedRequest(w)
			p := plainRequest(w)
			p.ID = r.ID
			_, err := w.acme.Submit(w.ctx, p)
			w.must(err)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		again("same ID, other hardware", is(consign.ErrConflict), func(r *request) { r.HardwareTier, r.VRAM = 2, 8000 }),
		again("same ID, other labels", is(consign.ErrConflict), func(r *request) { r.Labels = map[string]string{"region": "eu"} }),
		again("same ID, bad request", field("custody"), func(r *request) { r.Custody = "" }),
		{name: "same ID, other account", want: is(consign.ErrIDTaken), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.ID = w.queued().ID
			return func() error { _, err := w.other.Submit(w.ctx, r); return err }
		}},
		{name: "same ID and content, other account", want: is(consign.ErrIDTaken), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.ID = consign.NewJobID()
			_, err := w.acme.Submit(w.ctx, r)
			w.must(err)
			return func() error { _, err := w.other.Submit(w.ctx, r); return err }
		}},
		{name: "same ID, after the end", want: fine, call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.ID = consign.NewJobID()
			_, err := w.acme.Submit(w.ctx, r)
			w.must(err)
			_, err = w.acme.Cancel(w.ctx, r.ID)
			w.must(err)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "same ID, once forgotten", want: fine, config: consign.Config{Retention: time.Minute}, call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.ID = consign.NewJobID()
			_, err := w.acme.Submit(w.ctx, r)
			w.must(err)
			_, err = w.acme.Cancel(w.ctx, r.ID)
			w.must(err)
			time.Sleep(2 * time.Minute)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "PRIVATE without a paired worker", want: is(consign.ErrNoWorker), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			r.Privacy = consign.PrivacyPrivate
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "PRIVATE with another account's worker", want: is(consign.ErrNoWorker), call: func(w *badWorld) func() error {
			w.must(w.q.Pair(w.ctx, consign.Pairing{Account: "other", Worker: w.keyA.Public().ID()}))
			r := plainRequest(w)
			r.Privacy = consign.PrivacyPrivate
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "PRIVATE with a worker no longer paired", want: is(consign.ErrNoWorker), call: func(w *badWorld) func() error {
			p := consign.Pairing{Account: "acme", Worker: w.keyA.Public().ID()}
			w.must(w.q.Pair(w.ctx, p))
			w.must(w.q.Unpair(w.ctx, p))
			r := plainRequest(w)
			r.Privacy = consign.PrivacyPrivate
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "no credit", want: is(consign.ErrCredit), call: func(w *badWorld) func() error {
			r := poor(plainRequest(w))
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "credit of another account", want: is(consign.ErrCredit), call: func(w *badWorld) func() error {
			w.must(w.q.AddCredit(w.ctx, "other", 100, "100"))
			r := poor(plainRequest(w))
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "credit held for another job", want: is(consign.ErrCredit), call: func(w *badWorld) func() error {
			w.must(w.q.AddCredit(w.ctx, "acme", 19, "19"))
			_, err := w.acme.Submit(w.ctx, poor(plainRequest(w)))
			w.must(err)
			r := poor(plainRequest(w))
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "same ID, no credit left", want: fine, call: func(w *badWorld) func() error {
			w.must(w.q.AddCredit(w.ctx, "acme", 10, "10"))
			r := poor(plainRequest(w))
			r.ID = consign.NewJobID()
			_, err := w.acme.Submit(w.ctx, r)
			w.must(err)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
		{name: "account of bad UTF-8", want: field("account"), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			return func() error { _, err := w.q.Submitter("ac\xffme").Submit(w.ctx, r); return err }
		}},
		{name: "account with a zero byte", want: field("account"), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			return func() error { _, err := w.q.Submitter("ac\x00me").Submit(w.ctx, r); return err }
		}},
		{name: "account of 1,025 bytes", want: field("account"), call: func(w *badWorld) func() error {
			r := plainRequest(w)
			return func() error { _, err := w.q.Submitter(strings.Repeat("a", 1025)).Submit(w.ctx, r); return err }
		}},
		{name: "many bad ones", want: field("payload"), call: func(w *badWorld) func() error {
			rs := make([]consign.SubmitRequest, 100)
			for i := range rs {
				rs[i] = plainRequest(w)
				rs[i].Payload = nil
			}
			return func() error {
				for i, o := range w.acme.SubmitMany(w.ctx, rs) {
					if o.Err == nil || field("payload")(o.Err) != "" {
						return fmt.Errorf("%d: %w", i, o.Err)
					}
				}
				return w.acme.SubmitMany(w.ctx, rs)[99].Err
			}
		}},
		{name: "many, of a closed queue", want: is(consign.ErrClosed), call: func(w *badWorld) func() error {
			w.stop()
			rs := []consign.SubmitRequest{plainRequest(w), plainRequest(w)}
			return func() error { return w.acme.SubmitMany(w.ctx, rs)[1].Err }
		}},
		{name: "closed queue", want: is(consign.ErrClosed), call: func(w *badWorld) func() error {
			w.stop()
			r := plainRequest(w)
			return func() error { _, err := w.acme.Submit(w.ctx, r); return err }
		}},
	}
}

// TestAccountOfZero gives an account whose name looks like a zero what is its
// own.
func TestAccountOfZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBadWorld(t, consign.Config{})
		r := plainRequest(w)
		r.Model = "0"
		j, err := w.q.Submitter("0").Submit(w.ctx, r)
		w.must(err)
		got, err := w.q.Submitter("0").Get(w.ctx, j.ID)
		if err != nil || got.Model != "0" {
			t.Errorf("its job is %+v (%v)", got, err)
		}
		if _, err := w.q.Submitter("").Get(w.ctx, j.ID); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("the nameless account is told: %v", err)
		}
	})
}

// TestBadInputAmongGood submits good and bad ones together: each gets its own
// answer.
func TestBadInputAmongGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBadWorld(t, consign.Config{})
		good, bad := plainRequest(w), plainRequest(w)
		good.ID = consign.NewJobID()
		bad.Payload = nil
		clash := plainRequest(w)
		clash.ID = good.ID
		out := w.acme.SubmitMany(w.ctx, []consign.SubmitRequest{bad, good, good, clash, bad, plainRequest(w)})
		for i, want := range []want{field("payload"), fine, fine, is(consign.ErrConflict), field("payload"), fine} {
			if problem := want(out[i].Err); problem != "" {
				t.Errorf("answer %d %s: %v", i, problem, out[i].Err)
			}
		}
		jobs, err := w.q.Jobs(w.ctx, consign.Filter{}, consign.JobID{}, 10)
		if err != nil || len(jobs) != 2 {
			t.Errorf("%d jobs, not 2 (%v)", len(jobs), err)
		}
	})
}

// submitterCalls are the calls about one job.
var submitterCalls = map[string]func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error{
	"get": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		_, err := s.Get(ctx, id)
		return err
	},
	"wait": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		_, err := s.Wait(ctx, id)
		return err
	},
	"cancel": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		_, err := s.Cancel(ctx, id)
		return err
	},
	"acknowledge": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		return s.Acknowledge(ctx, id)
	},
	"receipt": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		_, err := s.Receipt(ctx, id)
		return err
	},
	"explain": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		_, err := s.Explain(ctx, id)
		return err
	},
	"events": func(ctx context.Context, s consign.SubmitterAPI, id consign.JobID) error {
		for _, err := range s.Events(ctx, id, 0) {
			if err != nil {
				return err
			}
		}
		return nil
	},
}

func badSubmitterCalls() []badCase {
	var cases []badCase
	for name, call := range submitterCalls {
		of := func(what string, prepare func(w *badWorld) (consign.SubmitterAPI, consign.JobID)) {
			c := badCase{name: name + " " + what, want: is(consign.ErrNotFound), config: consign.Config{Retention: time.Minute}}
			c.call = func(w *badWorld) func() error {
				s, id := prepare(w)
				return func() error {
					err := call(w.ctx, s, id)
					// What is not there is not there in the same words, whoever's it is.
					missing := consign.NewJobID()
					words := strings.ReplaceAll(fmt.Sprint(call(w.ctx, s, missing)), missing.String(), id.String())
					if err != nil && err.Error() != words {
						w.t.Errorf("%q tells that the job exists, one that does not is %q", err, words)
					}
					return err
				}
			}
			cases = append(cases, c)
		}
		of("a job that never was", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) { return w.acme, consign.NewJobID() })
		of("the zero job", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) { return w.acme, consign.JobID{} })
		of("another account's queued job", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) { return w.other, w.queued().ID })
		of("another account's running job", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) { return w.other, w.running().Job })
		of("another account's completed job", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) {
			a, _ := w.completed()
			return w.other, a.Job
		})
		of("a job that is forgotten", func(w *badWorld) (consign.SubmitterAPI, consign.JobID) {
			a, _ := w.completed()
			time.Sleep(2 * time.Minute)
			return w.acme, a.Job
		})
	}
	about := func(name string, want want, call func(w *badWorld) func() error) {
		cases = append(cases, badCase{name: name, want: want, call: call})
	}
	cancel := func(w *badWorld, id consign.JobID) func() error {
		return func() error { _, err := w.acme.Cancel(w.ctx, id); return err }
	}
	about("cancel after it was completed", transition(consign.StateCompleted, consign.EventCancel), func(w *badWorld) func() error {
		a, _ := w.completed()
		return cancel(w, a.Job)
	})
	about("cancel after it was acknowledged", transition(consign.StateCompleted, consign.EventCancel), func(w *badWorld) func() error {
		a, _ := w.completed()
		w.must(w.acme.Acknowledge(w.ctx, a.Job))
		return cancel(w, a.Job)
	})
	about("cancel after it failed", transition(consign.StateFailed, consign.EventCancel), func(w *badWorld) func() error {
		a := w.running()
		w.must(w.a.Fail(w.ctx, consign.Failure{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Kind: consign.FailPayload, Reason: "poison"}))
		return cancel(w, a.Job)
	})
	about("cancel twice", fine, func(w *badWorld) func() error {
		id := w.queued().ID
		w.must(cancel(w, id)())
		return cancel(w, id)
	})
	about("cancel after it expired", transition(consign.StateExpired, consign.EventCancel), func(w *badWorld) func() error {
		r := plainRequest(w)
		r.Kind, r.Deadline = consign.KindContainer, time.Minute
		j, err := w.acme.Submit(w.ctx, r)
		w.must(err)
		time.Sleep(2 * time.Minute)
		return cancel(w, j.ID)
	})
	about("acknowledge while it is queued", transition(consign.StateQueued, consign.EventAcknowledge), func(w *badWorld) func() error {
		id := w.queued().ID
		return func() error { return w.acme.Acknowledge(w.ctx, id) }
	})
	about("acknowledge while it runs", transition(consign.StateRunning, consign.EventAcknowledge), func(w *badWorld) func() error {
		id := w.running().Job
		return func() error { return w.acme.Acknowledge(w.ctx, id) }
	})
	about("acknowledge twice", fine, func(w *badWorld) func() error {
		a, _ := w.completed()
		w.must(w.acme.Acknowledge(w.ctx, a.Job))
		return func() error { return w.acme.Acknowledge(w.ctx, a.Job) }
	})
	about("receipt while it is queued", is(consign.ErrNotFound), func(w *badWorld) func() error {
		id := w.queued().ID
		return func() error { _, err := w.acme.Receipt(w.ctx, id); return err }
	})
	about("receipt while it runs", is(consign.ErrNotFound), func(w *badWorld) func() error {
		id := w.running().Job
		return func() error { _, err := w.acme.Receipt(w.ctx, id); return err }
	})
	about("receipt of a cancelled job", is(consign.ErrNotFound), func(w *badWorld) func() error {
		id := w.queued().ID
		w.must(cancel(w, id)())
		return func() error { _, err := w.acme.Receipt(w.ctx, id); return err }
	})
	about("wait without patience", is(context.Canceled), func(w *badWorld) func() error {
		id := w.queued().ID
		ctx, stop := context.WithCancel(w.ctx)
		stop()
		return func() error { _, err := w.acme.Wait(ctx, id); return err }
	})
	about("events without patience", is(context.DeadlineExceeded), func(w *badWorld) func() error {
		id := w.queued().ID
		return func() error {
			ctx, stop := context.WithTimeout(w.ctx, time.Second)
			defer stop()
			return submitterCalls["events"](ctx, w.acme, id)
		}
	})
	about("events after the last number", fine, func(w *badWorld) func() error {
		a, _ := w.completed()
		return func() error {
			for e, err := range w.acme.Events(w.ctx, a.Job, math.MaxUint64) {
				return fmt.Errorf("entry %v: %w", e, err)
			}
			return nil
		}
	})
	for name, call := range map[string]string{"cancel": "cancel", "acknowledge": "acknowledge", "explain": "explain"} {
		about(name+", closed queue", is(consign.ErrClosed), func(w *badWorld) func() error {
			id := w.queued().ID
			w.stop()
			return func() error { return submitterCalls[call](w.ctx, w.acme, id) }
		})
	}
	quote := func(name string, want want, r consign.QuoteRequest) {
		about("quote of "+name, want, func(w *badWorld) func() error {
			return func() error { _, err := w.acme.Quote(w.ctx, r); return err }
		})
	}
	quote("no kind", field("kind"), consign.QuoteRequest{})
	quote("an unknown kind", field("kind"), consign.QuoteRequest{Kind: "MINING"})
	quote("an unknown policy", field("policy"), consign.QuoteRequest{Kind: consign.KindTask, Policy: 3})
	return cases
}
