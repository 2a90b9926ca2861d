package faults

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/worker"
)

// balancer leads every new connection to the next of its addresses, as one does
// that stands before several coordinators, or before one that comes back
// elsewhere.
type balancer struct {
	addrs []atomic.Pointer[string]
	next  atomic.Uint64
}

func newBalancer(addrs ...string) *balancer {
	b := &balancer{addrs: make([]atomic.Pointer[string], len(addrs))}
	for i, addr := range addrs {
		b.set(i, addr)
	}
	return b
}

func (b *balancer) set(i int, addr string) { b.addrs[i].Store(&addr) }

// client keeps a pool of connections of its own.
func (b *balancer) client() *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, *b.addrs[b.next.Add(1)%uint64(len(b.addrs))].Load())
		}}}
}

const anyURL = "http://localhost" // a balancer's client goes where that leads

func dialSubmitter(client *http.Client) (consign.SubmitterAPI, error) {
	api, _, err := longpoll.Dial(longpoll.DialConfig{URL: anyURL, Client: client})
	return api, err
}

// load is submitters and workers, and what they were told.
type load struct {
	history  history
	custody  consign.Custody
	plant    mutant
	ctx      context.Context // of all that must end
	end      context.CancelFunc
	draining chan struct{} // closed: no more jobs are submitted
	jobs     sync.WaitGroup
	workers  sync.WaitGroup
	stopped  context.CancelFunc // of the workers
}

// workerCalls bounds a worker's call.
const workerCalls = 2 * time.Second

// start puts load on a queue. Without workers somebody else runs them.
func start(t *testing.T, b *balancer, submitters, workers int, custody consign.Custody, plant mutant) *load {
	t.Helper()
	l := &load{draining: make(chan struct{}), custody: custody, plant: plant}
	l.ctx, l.end = context.WithCancel(context.Background())
	t.Cleanup(l.end)
	working, stop := context.WithCancel(l.ctx)
	l.stopped = stop
	for i := range workers {
		w := workerTask{Number: i, Slots: 4, MaxWork: 20 * time.Millisecond}
		l.workers.Go(func() {
			if err := w.work(working, b.client(), l.history.add); err != nil {
				t.Errorf("a worker ended: %v", err)
			}
		})
	}
	for i := range submitters {
		api, err := dialSubmitter(b.client())
		if err != nil {
			t.Fatal(err)
		}
		s := &submitter{api: api, record: l.history.add}
		l.jobs.Go(func() { l.submitJobs(s, mathrand.New(mathrand.NewPCG(seed, uint64(i)))) })
	}
	return l
}

// seed draws what the submitters and the faults do; what happens in which order
// is the machine's.
const seed = 20260301

// submitJobs submits one job after the other, looks at some, cancels some, and
// waits for the end of each.
func (l *load) submitJobs(s *submitter, random *mathrand.Rand) {
	for {
		select {
		case <-l.draining:
			return
		case <-l.ctx.Done():
			return
		default:
		}
		id := consign.NewJobID()
		payload := binary.BigEndian.AppendUint64([]byte("a prompt of some length "), random.Uint64())
		for i := range payload {
			payload[i] &= 0x7f // text
		}
		if !s.submit(l.ctx, consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: payload, Custody: l.custody}) {
			return
		}
		if random.IntN(4) == 0 {
			sleep(l.ctx, time.Duration(random.IntN(20))*time.Millisecond)
			s.get(l.ctx, id, false)
		}
		if random.IntN(8) == 0 {
			s.cancel(l.ctx, id)
		}
		s.get(l.ctx, id, true)
		if random.IntN(4) == 0 {
			s.get(l.ctx, id, false)
		}
		if random.IntN(2) == 0 {
			s.until(l.ctx, func(ctx context.Context) bool { return s.api.Acknowledge(ctx, id) == nil })
		}
	}
}

// drain lets every job end, and stops the workers.
func (l *load) drain() {
	l.stopSubmits()
	l.stopped()
	l.workers.Wait()
	l.end()
}

// stopSubmits waits until the jobs that are open have ended, for so long. A bug
// that is planted may keep them for ever.
func (l *load) stopSubmits() {
	within := 2 * time.Minute
	if l.plant != none {
		within = 10 * time.Second
	}
	close(l.draining)
	timer := time.AfterFunc(within, l.end)
	defer timer.Stop()
	l.jobs.Wait()
}

// moves waits until so many jobs are submitted and completed. Where a bug is
// planted nothing may move any more, which is not what is to be found.
func (l *load) moves(t *testing.T, n int) {
	t.Helper()
	within := time.Minute // for each step forward
	if l.plant != none {
		within = 5 * time.Second
	}
	submits, completions := l.history.count(submit)+n, l.history.count(complete)+n
	moved, left := time.Now(), 2*n
	for left > 0 {
		sleep(l.ctx, 5*time.Millisecond)
		now := max(0, submits-l.history.count(submit)) + max(0, completions-l.history.count(complete))
		if now < left {
			moved, left = time.Now(), now
		} else if time.Since(moved) > within {
			if l.plant == none {
				t.Fatal("nothing moves")
			}
			return
		}
	}
}

// workerTask is a worker that takes a while for each job. Every second one is
// on WebSocket.
type workerTask struct {
	Number  int
	Slots   int
	MaxWork time.Duration
	Addr    string // of the queue, for one in a process of its own
}

func (w *workerTask) dial(client *http.Client) (consign.WorkerAPI, error) {
	if w.Number%2 == 1 {
		return websocket.Dial(websocket.DialConfig{URL: anyURL, Client: client, Ping: time.Second})
	}
	_, api, err := longpoll.Dial(longpoll.DialConfig{URL: anyURL, Client: client})
	return api, err
}

// work runs the worker until ctx is done.
func (w *workerTask) work(ctx context.Context, client *http.Client, record func(call)) error {
	api, err := w.dial(client)
	if err != nil {
		return err
	}
	worker, err := worker.New(worker.Config{API: &recordedWorkers{WorkerAPI: api, record: record}, Slots: w.Slots,
		Identity:    sign.FromEd25519Seed([32]byte{2, byte(w.Number)}),
		CallTimeout: workerCalls, DrainTimeout: -1, KeepResult: 10 * time.Second,
		Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(w.execute)}})
	if err != nil {
		return err
	}
	if err := worker.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// execute returns a result that no other attempt returns.
func (w *workerTask) execute(ctx context.Context, t *worker.Task) (worker.Output, error) {
	sleep(ctx, time.Duration(mathrand.Int64N(int64(w.MaxWork))))
	return worker.Output{Result: append([]byte(rand.Text()+" "), t.Payload...)}, ctx.Err()
}

// run is the worker in a process of its own, which prints what it is told.
func (w *workerTask) run(ctx context.Context) error {
	var mu sync.Mutex
	printed := json.NewEncoder(io.Writer(os.Stdout))
	return w.work(ctx, newBalancer(w.Addr).client(), func(c call) {
		mu.Lock()
		defer mu.Unlock()
		_ = printed.Encode(c)
	})
}
