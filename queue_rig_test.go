package consign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// A rig is a whole queue on a store that fails as it is told, with a vault, in
// a bubble of time.
type rig struct {
	t      *testing.T
	config consign.Config
	store  *testkit.FaultStore
	vault  *testkit.Vault
	q      *consign.Queue
	sub    consign.SubmitterAPI
	stop   func()
	hands  []*hand
	ids    uint64

	mu      sync.Mutex
	applied []consign.Change
}

const rigPrice = consign.Price(3)

func newRig(t *testing.T, shape func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, store: &testkit.FaultStore{Store: memdb.New()}, vault: &testkit.Vault{}}
	r.config = consign.Config{Lease: 10 * time.Second, Prices: consign.PriceTable{{Price: rigPrice}}, Logger: slog.New(slog.DiscardHandler)}
	if shape != nil {
		shape(r)
	}
	r.store.Applied = func(c *consign.Change) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.applied = append(r.applied, *c)
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start runs a new Queue on the rig's store.
func (r *rig) start() {
	r.t.Helper()
	r.config.Store, r.config.Vault = r.store, r.vault
	if r.config.Identity == nil {
		r.config.Identity = seededIdentity(1)
	}
	q, stop := testkit.Start(r.t, r.config)
	r.q, r.sub = q, q.Submitter("acme")
	r.stop = sync.OnceFunc(func() {
		for _, h := range r.hands {
			h.leave()
		}
		stop()
	})
}

// credit gives the account something to spend.
func (r *rig) credit(p consign.Price) {
	r.t.Helper()
	if err := r.q.AddCredit(context.Background(), "acme", p, consign.NewJobID().String()); err != nil {
		r.t.Fatal(err)
	}
}

// request is a sealed job in escrow.
func (r *rig) request() consign.SubmitRequest {
	r.ids++
	id := consign.NewJobID()
	req := consign.SubmitRequest{ID: id, Kind: consign.KindTask, Custody: consign.CustodyEscrow, Payload: bytes.Repeat([]byte{0xee}, 100), Chars: 50, PromptBytes: 100}
	consign.SealFor(&r.config, nil, &req, 0)
	return req
}

// submit sends a request until it has an answer.
func (r *rig) submit(req consign.SubmitRequest) consign.JobInfo {
	r.t.Helper()
	for range 200 {
		info, err := r.sub.Submit(context.Background(), req)
		if err == nil {
			return info
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatal("a submit is never answered")
	return consign.JobInfo{}
}

// hand is a worker that does what it is told with each assignment.
type hand struct {
	r    *rig
	id   *sign.Identity
	caps consign.Capabilities
	// act does a claimed job; nil completes it. Its error ends only this one.
	act func(h *hand, a consign.Assignment) error
	api consign.WorkerAPI

	session consign.Session
	mu      sync.Mutex
	held    []consign.Claim
	lost    []consign.Claim
	seq     int64
	silent  bool
	leave   func()
	got     []consign.Assignment
	errs    []error
}

func (r *rig) hire(caps consign.Capabilities, act func(h *hand, a consign.Assignment) error) *hand {
	h := &hand{r: r, id: seededIdentity(uint64(len(r.hands)) + 100), caps: caps, act: act, api: r.q}
	r.hands = append(r.hands, h)
	h.begin()
	return h
}

var anyTask = consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Encryption: true, Slots: 1}

// begin works until leave.
func (h *hand) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	h.leave = func() { cancel(); group.Wait() }
	h.open(ctx)
	group.Go(func() {
		for ctx.Err() == nil {
			h.beat(ctx)
			sleep(ctx, h.r.config.Lease/3)
		}
	})
	group.Go(func() {
		for ctx.Err() == nil {
			h.work(ctx)
		}
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// open registers, until it succeeds.
func (h *hand) open(ctx context.Context) {
	for range 100 {
		challenge, err := h.api.Challenge(ctx)
		if err == nil {
			var sig []byte
			if sig, err = h.id.Sign(consign.RegistrationMessage(challenge.Queue, "inproc", challenge.Nonce, nil)); err != nil {
				h.r.t.Error(err)
				return
			}
			var s consign.Session
			s, err = h.api.Register(ctx, consign.Registration{Algorithm: h.id.Public().Algorithm(), PublicKey: h.id.Public().Bytes(), Origin: "inproc",
				Nonce: challenge.Nonce, Signature: sig, Capabilities: h.caps})
			if err == nil {
				h.mu.Lock()
				h.session = s
				h.mu.Unlock()
				return
			}
		}
		sleep(ctx, 100*time.Millisecond)
	}
	h.r.t.Error("a worker cannot register")
}

func (h *hand) now() consign.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.session
}

// through has what the worker says fail on its way.
func (h *hand) through(f testkit.Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.session = testkit.FaultySession(h.session, f)
}

func (h *hand) beat(ctx context.Context) {
	h.mu.Lock()
	b := consign.Heartbeat{Capabilities: h.caps, FreeSlots: max(0, h.caps.Slots-len(h.held)), Claims: slices.Clone(h.held)}
	silent := h.silent
	h.mu.Unlock()
	if silent {
		return
	}
	reply, err := h.now().Heartbeat(ctx, b)
	if errors.Is(err, consign.ErrSession) {
		h.open(ctx)
	}
	h.mu.Lock()
	h.lost = append(h.lost, reply.Lost...)
	h.mu.Unlock()
}

func (h *hand) work(ctx context.Context) {
	a, err := h.now().Claim(ctx)
	if err != nil {
		if errors.Is(err, consign.ErrSession) {
			h.open(ctx)
		}
		sleep(ctx, 200*time.Millisecond)
		return
	}
	c := consign.Claim{Job: a.Job, Claim: a.Claim}
	h.mu.Lock()
	h.got = append(h.got, a)
	h.held = append(h.held, c)
	h.mu.Unlock()
	act := h.act
	if act == nil {
		act = (*hand).complete
	}
	err = act(h, a)
	h.mu.Lock()
	h.held = slices.DeleteFunc(h.held, func(o consign.Claim) bool { return o == c })
	h.errs = append(h.errs, err)
	h.mu.Unlock()
}

// completion is a result that verifies.
func (h *hand) completion(a consign.Assignment, result []byte) consign.Completion {
	return h.completionWith(a, result, [32]byte{})
}

func (h *hand) completionWith(a consign.Assignment, result []byte, tCommit [32]byte) consign.Completion {
	h.mu.Lock()
	h.seq++
	n := h.seq
	h.mu.Unlock()
	return consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result,
		Record: h.record(consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model, HHash: sha256.Sum256(a.Header),
			InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result), Comparator: a.Comparator, TCommit: tCommit, Seq: n, StartedAt: 1, FinishedAt: 2})}
}

func (h *hand) record(r consign.Record) []byte {
	env, err := consign.SignRecord(h.id, r)
	if err != nil {
		h.r.t.Error(err)
	}
	b, err := env.MarshalJSON()
	if err != nil {
		h.r.t.Error(err)
	}
	return b
}

// complete returns a result until there is an answer.
func (h *hand) complete(a consign.Assignment) error {
	return h.deliver(h.completion(a, fmt.Appendf(nil, "result under %s", a.Claim)))
}

func (h *hand) deliver(c consign.Completion) error {
	for range 200 {
		err := h.now().Complete(context.Background(), c)
		switch {
		case err == nil, errors.Is(err, consign.ErrLeaseLost), errors.Is(err, consign.ErrConflict), errors.Is(err, consign.ErrBadResult), errors.Is(err, consign.ErrClosed):
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("a completion is never answered")
}

// wait waits for the job's end, whatever reads fail on the way.
func (r *rig) wait(id consign.JobID) consign.JobInfo {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for {
		info, err := r.sub.Wait(ctx, id)
		if err == nil {
			return info
		}
		if ctx.Err() != nil {
			info, _ = r.sub.Get(context.Background(), id)
			x, _ := r.sub.Explain(context.Background(), id)
			r.t.Fatalf("job %s does not end: %+v, %+v", id, info, x)
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// log returns the job's log.
func (r *rig) log(id consign.JobID) []consign.LogEntry {
	r.t.Helper()
	log, err := r.store.Store.Log(context.Background(), id, 0, 10_000)
	if err != nil {
		r.t.Fatal(err)
	}
	return log
}

// job returns the job as it is stored.
func (r *rig) job(id consign.JobID) *consign.Job {
	r.t.Helper()
	jobs, err := r.store.Store.Jobs(context.Background(), []consign.JobID{id})
	if err != nil {
		r.t.Fatal(err)
	}
	return jobs[0]
}

func (r *rig) balance() consign.Balance {
	r.t.Helper()
	b, err := r.q.Balance(context.Background(), "acme")
	for range 100 {
		if err == nil {
			return b
		}
		b, err = r.q.Balance(context.Background(), "acme")
	}
	r.t.Fatal(err)
	return b
}

// checkLog checks that a job's log is a way through the state machine, that
// its stages come in the pipeline's order within each attempt, and that it
// ends as the job does.
func (r *rig) checkLog(id consign.JobID) {
	r.t.Helper()
	order := []consign.Stage{consign.StageRequest, consign.StageAdmit, consign.StageMatch, consign.StageEncrypt, consign.StageDispatch, consign.StageDecrypt, consign.StageExecute,
		consign.StagePoE, consign.StageReturn, consign.StageVerify, consign.StageSample, consign.StageAnchor, consign.StageDeliver, consign.StageSettle}
	job := r.job(id)
	var last consign.Seq
	var state consign.State
	at := -1
	accepted := 0
	for _, e := range r.log(id) {
		if e.Seq <= last {
			r.t.Errorf("job %s: entry %d follows %d", id, e.Seq, last)
		}
		last = e.Seq
		switch e.Event {
		case consign.EventSettle, consign.EventReport:
		case consign.EventClaim:
			at = slices.Index(order, consign.StageAdmit)
			state = e.State
		default:
			state = e.State
		}
		if e.Event == consign.EventComplete {
			accepted++
		}
		for _, s := range e.Stages() {
			i := slices.Index(order, s)
			if i < at {
				r.t.Errorf("job %s: stage %s comes after %s", id, s, order[at])
			}
			at = i
		}
	}
	if state != job.State {
		r.t.Errorf("job %s is %s, its log says %s", id, job.State, state)
	}
	if want := map[bool]int{true: 1}[job.State == consign.StateCompleted]; accepted != want {
		r.t.Errorf("job %s is %s and was completed %d times", id, job.State, accepted)
	}
}
