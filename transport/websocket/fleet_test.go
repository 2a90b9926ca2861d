package websocket_test

import (
	"context"
	"errors"
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

// countStore counts what is written.
type countStore struct {
	consign.Store
	writes atomic.Int64
}

func (s *countStore) Apply(ctx context.Context, cs []consign.Change) ([]error, error) {
	s.writes.Add(int64(len(cs)))
	return s.Store.Apply(ctx, cs)
}

func (s *countStore) Renew(ctx context.Context, rs []consign.Renewal) ([]error, error) {
	s.writes.Add(int64(len(rs)))
	return s.Store.Renew(ctx, rs)
}

// A thousand workers on one coordinator: their heartbeats write nothing, ten
// thousand jobs go through them, and none is lost.
func TestFleet(t *testing.T) {
	const fleet, jobs = 1000, 10_000
	store := &countStore{Store: memdb.New()}
	q, err := consign.New(consign.Config{Store: store, NoReceipts: true, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	background(t, q.Run)
	url := serve(t, websocket.Config{Workers: q})
	api := dial(t, websocket.DialConfig{URL: url})
	sessions := make([]consign.Session, fleet)
	each := func(f func(i int)) {
		var group sync.WaitGroup
		for i := range fleet {
			group.Go(func() { f(i) })
		}
		group.Wait()
	}
	began, used := time.Now(), cpuTime(t)
	each(func(i int) { sessions[i] = register(t, api, sign.Generate(), 1) })
	if t.Failed() {
		t.FailNow()
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	t.Logf("%d workers registered in %v, %v of a processor; both ends have %d kB of heap and stacks a worker", fleet,
		time.Since(began).Round(time.Millisecond), (cpuTime(t) - used).Round(time.Millisecond), (memory.HeapInuse+memory.StackInuse)/1024/fleet)

	writes := store.writes.Load()
	beat := func(i int) {
		if _, err := sessions[i].Heartbeat(t.Context(), consign.Heartbeat{Capabilities: anyTask(1), FreeSlots: 1}); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		each(beat)
	}
	if n := store.writes.Load() - writes; n != 0 {
		t.Errorf("%d heartbeats wrote %d times", 3*fleet, n)
	}

	began, used = time.Now(), cpuTime(t)
	ids := submit(t, q.Submitter("acme"), jobs, "a job")
	ctx, done := context.WithCancel(t.Context())
	var left atomic.Int64
	left.Store(jobs)
	each(func(i int) {
		for ctx.Err() == nil {
			if err := runOne(ctx, sessions[i]); err != nil {
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
	done()
	t.Logf("%d jobs in %v, %v of a processor", jobs, time.Since(began).Round(time.Millisecond), (cpuTime(t) - used).Round(time.Millisecond))
	for _, id := range ids {
		if job, err := q.Submitter("acme").Get(t.Context(), id); err != nil || job.State != consign.StateCompleted {
			t.Fatalf("job %s is %s, %v", id, job.State, err)
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
