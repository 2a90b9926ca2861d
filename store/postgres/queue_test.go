package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// fleet is a few coordinators on one schema, with workers and a ledger of what
// was submitted and what was completed.
type fleet struct {
	t      *testing.T
	pool   *pgxpool.Pool
	schema string
	queues []*consign.Queue

	mu        sync.Mutex
	submitted map[consign.JobID]bool // acknowledged
	completed map[consign.JobID]int  // acknowledged completions
	stop      func()
}

func newFleet(t *testing.T, dsn string, coordinators, workers int) *fleet {
	pool := connect(t, dsn)
	f := &fleet{t: t, pool: pool, schema: newSchema(t, pool), submitted: map[consign.JobID]bool{}, completed: map[consign.JobID]int{}}
	for range coordinators {
		q, _ := startQueue(t, consign.Config{Store: openIn(t, pool, f.schema), Identity: identity(1 << 32), NoReceipts: true,
			Lease: 3 * time.Second, BackoffBase: 10 * time.Millisecond, MaxAttempts: 1000, DrainTimeout: time.Second})
		// A queue whose database goes away before it has begun does not begin.
		if _, err := openSession(context.Background(), q, identity(1<<33+uint64(len(f.queues))), slots); err != nil {
			t.Fatal(err)
		}
		f.queues = append(f.queues, q)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	f.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(f.stop)
	for i := range workers {
		group.Go(func() { f.work(ctx, f.queues[i%coordinators], uint64(i)) })
	}
	return f
}

const slots = 8

// work is a worker: it registers until it is known, sends heartbeats, and
// completes what it claims, trying again what is not answered.
func (f *fleet) work(ctx context.Context, q *consign.Queue, n uint64) {
	for ctx.Err() == nil {
		s, err := openSession(ctx, q, identity(n), slots)
		if err != nil {
			pause(ctx)
			continue
		}
		life, end := context.WithCancel(ctx)
		var group sync.WaitGroup
		for range slots {
			group.Go(func() {
				for life.Err() == nil {
					a, err := s.Claim(life)
					switch {
					case err == nil:
						f.complete(life, s, &a)
					case errors.Is(err, consign.ErrSession):
						end()
					default:
						pause(life)
					}
				}
			})
		}
		for life.Err() == nil {
			if _, err := s.Heartbeat(life, consign.Heartbeat{Capabilities: capabilities(slots), FreeSlots: slots}); errors.Is(err, consign.ErrSession) {
				end()
			}
			pause(life)
		}
		group.Wait()
		end()
	}
}

// complete sends a result until there is an answer.
func (f *fleet) complete(ctx context.Context, s consign.Session, a *consign.Assignment) {
	for ctx.Err() == nil {
		err := s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("the answer")})
		if err == nil {
			f.mu.Lock()
			f.completed[a.Job]++
			f.mu.Unlock()
		}
		if err == nil || errors.Is(err, consign.ErrLeaseLost) || errors.Is(err, consign.ErrConflict) {
			return
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

// submit submits jobs, each until it is acknowledged.
func (f *fleet) submit(ctx context.Context, q *consign.Queue, jobs int) {
	for left := requests(jobs); len(left) > 0 && ctx.Err() == nil; {
		var again []consign.SubmitRequest
		for i, o := range q.Submitter("acme").SubmitMany(ctx, left) {
			if o.Err != nil {
				again = append(again, left[i])
				continue
			}
			f.mu.Lock()
			f.submitted[left[i].ID] = true
			f.mu.Unlock()
		}
		if left = again; len(left) > 0 {
			pause(ctx)
		}
	}
}

// drained waits until every job has ended, and checks the ledger against the
// store: nothing that was acknowledged is lost, nothing was completed twice.
func (f *fleet) drained() {
	f.t.Helper()
	ctx := context.Background()
	store := openIn(f.t, f.pool, f.schema)
	deadline := time.Now().Add(4 * time.Minute)
	for left := -1; left != 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("%d jobs have not ended", left)
		}
		left = 0
		for _, state := range []consign.State{consign.StateQueued, consign.StateRunning} {
			jobs, err := store.List(ctx, consign.Filter{State: state}, consign.JobID{}, 10_000)
			if err != nil {
				f.t.Fatal(err)
			}
			left += len(jobs)
		}
	}
	f.stop()
	if len(f.submitted) == 0 || len(f.completed) == 0 {
		f.t.Fatalf("%d submits and %d completions were acknowledged", len(f.submitted), len(f.completed))
	}
	stored := map[consign.JobID]bool{}
	for after := (consign.JobID{}); ; {
		jobs, err := store.List(ctx, consign.Filter{}, after, 1000)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, j := range jobs {
			if stored[j.ID] = true; j.State != consign.StateCompleted {
				f.t.Errorf("job %s is %s: %s", j.ID, j.State, j.Reason)
			}
			after = j.ID
		}
		if len(jobs) == 0 {
			break
		}
	}
	for id := range f.submitted {
		if !stored[id] {
			f.t.Errorf("job %s was acknowledged and is lost", id)
		}
	}
	for id, n := range f.completed {
		if n != 1 || !stored[id] {
			f.t.Errorf("job %s was completed %d times; stored: %t", id, n, stored[id])
		}
	}
	f.t.Logf("%d submits acknowledged, %d completions", len(f.submitted), len(f.completed))
}

// Thousands of jobs through one coordinator and through three, which take
// submits and have workers alike: each is completed once.
func TestQueue(t *testing.T) {
	for _, coordinators := range []int{1, 3} {
		t.Run(fmt.Sprintf("coordinators=%d", coordinators), func(t *testing.T) {
			f := newFleet(t, pgtest.DSN(t)+" pool_max_conns=20", coordinators, 9)
			var group sync.WaitGroup
			for _, q := range f.queues {
				group.Go(func() { f.submit(context.Background(), q, 3000/coordinators) })
			}
			group.Wait()
			f.drained()
		})
	}
}

// The server crashes and comes back, again and again, under three coordinators
// and their load. CONSIGN_KILLS says how often, 3 times by default.
func TestKills(t *testing.T) {
	kills := 3
	if n, err := strconv.Atoi(os.Getenv("CONSIGN_KILLS")); err == nil {
		kills = n
	}
	server := pgtest.Private(t)
	f := newFleet(t, server.DSN+" pool_max_conns=20", 3, 6)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, q := range f.queues {
		group.Go(func() {
			for ctx.Err() == nil {
				f.submit(context.Background(), q, 20)
				pause(ctx)
			}
		})
	}
	for kill := range kills {
		before := f.counts()
		for deadline := time.Now().Add(time.Minute); ; pause(ctx) { // the queues go on after each
			if after := f.counts(); after[0] > before[0] && after[1] > before[1] {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing moves after %d kills", kill)
			}
		}
		if err := server.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	group.Wait()
	f.drained()
}

func (f *fleet) counts() [2]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [2]int{len(f.submitted), len(f.completed)}
}
