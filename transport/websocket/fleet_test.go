package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/websocket"
)

// countStore counts the changes that are written, and the writes that renew leases.
type countStore struct {
	consign.Store
	changes, renewals atomic.Int64
}

func (s *countStore) Apply(ctx context.Context, cs []consign.Change) ([]error, error) {
	s.changes.Add(int64(len(cs)))
	return s.Store.Apply(ctx, cs)
}

func (s *countStore) Renew(ctx context.Context, rs []consign.Renewal) ([]error, error) {
	s.renewals.Add(1)
	return s.Store.Renew(ctx, rs)
}

// fleet is workers with a slot each, on one coordinator.
type fleet struct {
	store    *countStore
	queue    *consign.Queue
	sessions []consign.Session
}

// fleetLease is long, and so are the other limits of a fleet: on a machine that
// is busy with other things a thousand workers take their time.
const fleetLease = 10 * time.Minute

func newFleet(t *testing.T, size int) *fleet {
	f := &fleet{store: &countStore{Store: memdb.New()}, sessions: make([]consign.Session, size)}
	var err error
	if f.queue, err = consign.New(consign.Config{Store: f.store, NoReceipts: true, Lease: fleetLease}); err != nil {
		t.Fatal(err)
	}
	background(t, f.queue.Run)
	url := serve(t, websocket.Config{Workers: f.queue, Silence: fleetLease})
	api := dial(t, websocket.DialConfig{URL: url, Ping: time.Minute})
	began, used := time.Now(), cpuTime(t)
	turns := make(chan struct{}, 32) // a connection has to register soon
	f.each(func(i int) {
		turns <- struct{}{}
		defer func() { <-turns }()
		f.sessions[i] = register(t, api, sign.Generate(), 1)
	})
	if t.Failed() {
		t.FailNow()
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	t.Logf("%d workers registered in %v, %v of a processor; both ends have %d kB of heap and stacks a worker", size,
		time.Since(began).Round(time.Millisecond), (cpuTime(t) - used).Round(time.Millisecond), (memory.HeapInuse+memory.StackInuse)/1024/uint64(size))
	return f
}

func (f *fleet) each(do func(i int)) {
	var group sync.WaitGroup
	for i := range f.sessions {
		group.Go(func() { do(i) })
	}
	group.Wait()
}

// beat sends a heartbeat of a worker that has the claims, which are to be its.
func (f *fleet) beat(ctx context.Context, i int, claims ...consign.Claim) error {
	reply, err := f.sessions[i].Heartbeat(ctx, consign.Heartbeat{Capabilities: anyTask(1), FreeSlots: 1 - len(claims), Claims: claims})
	if err == nil && len(reply.Lost) > 0 {
		err = fmt.Errorf("%w: %v", consign.ErrLeaseLost, reply.Lost)
	}
	return err
}

// runOne claims a job, shows that it has it, and completes it.
func (f *fleet) runOne(ctx context.Context, i int) error {
	a, err := f.sessions[i].Claim(ctx)
	if err != nil {
		return err
	}
	claim := consign.Claim{Job: a.Job, Claim: a.Claim}
	if err := f.beat(context.WithoutCancel(ctx), i, claim); err != nil {
		return err
	}
	return f.sessions[i].Complete(context.WithoutCancel(ctx), consign.Completion{Claim: claim, Result: a.Payload})
}

// run runs the jobs until each has its result.
func (f *fleet) run(t *testing.T, jobs int) {
	ctx, done := context.WithCancel(t.Context())
	defer done()
	var left atomic.Int64
	left.Store(int64(jobs))
	f.each(func(i int) {
		for ctx.Err() == nil {
			if err := f.runOne(ctx, i); err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			if left.Add(-1) == 0 {
				done()
			}
		}
	})
}

// A thousand workers on one coordinator, who show themselves while ten thousand
// jobs go through them: no job is lost, each is written when it is claimed and
// when it is completed, and a heartbeat writes nothing, whether or not the worker
// has a claim. Leases are renewed together, every tenth of one.
func TestFleet(t *testing.T) {
	size, jobs := 1000, 10_000
	if testing.Short() {
		size, jobs = 100, 1000
	}
	f := newFleet(t, size)
	written := f.store.changes.Load()
	for range 3 {
		f.each(func(i int) {
			if err := f.beat(t.Context(), i); err != nil {
				t.Error(err)
			}
		})
	}
	if n := f.store.changes.Load() - written; n != 0 {
		t.Errorf("%d heartbeats wrote %d times", 3*size, n)
	}

	ids := submit(t, f.queue.Submitter("acme"), jobs, "a job")
	written = f.store.changes.Load()
	began, used := time.Now(), cpuTime(t)
	f.run(t, jobs)
	took := time.Since(began)
	written = f.store.changes.Load() - written
	t.Logf("%d jobs and as many heartbeats amid them in %v, %v of a processor; %d changes and %d renewals of leases were written", jobs, took.Round(time.Millisecond),
		(cpuTime(t) - used).Round(time.Millisecond), written, f.store.renewals.Load())
	if written != int64(2*jobs) {
		t.Errorf("%d jobs with as many heartbeats wrote %d changes, want a claim and a completion each", jobs, written)
	}
	if n := f.store.renewals.Load(); n > 1+int64(time.Since(began)/(fleetLease/10)) {
		t.Errorf("leases were renewed %d times in %v", n, took)
	}
	for _, id := range ids {
		if job, err := f.queue.Submitter("acme").Get(t.Context(), id); err != nil || job.State != consign.StateCompleted || job.Attempts != 1 {
			t.Fatalf("job %s is %s after %d attempts, %v", id, job.State, job.Attempts, err)
		}
	}
}

// What a foreign worker is sent is in the clear: not over a network without TLS.
func TestForeignNeedsTLS(t *testing.T) {
	q := startQueue(t, consign.Config{})
	h, err := websocket.NewHandler(websocket.Config{Workers: q, Foreign: q.RegisterForeign})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from   string
		status int
	}{{"192.0.2.1:1234", http.StatusBadRequest}, {"[2001:db8::1]:1234", http.StatusBadRequest}, {"127.0.0.1:1234", http.StatusUpgradeRequired}, {"[::1]:1234", http.StatusUpgradeRequired}} {
		r := httptest.NewRequest(http.MethodGet, websocket.Path, nil)
		r.RemoteAddr = c.from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("from %s: %d, want %d", c.from, w.Code, c.status)
		}
	}
}
