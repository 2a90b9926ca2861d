package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// FaultyWorker runs jobs on a queue whose workers are at the far end of a bad
// network: messages are slow, cut in pieces and delivered twice, connections
// break and go half-open. dial serves the backend and dials it through m, once
// for each worker.
//
// Each job has to complete, with its own result and a receipt, and be accepted
// once. Leases last an hour, so nothing may be left to its lease.
func FaultyWorker(t *testing.T, dial func(t testing.TB, m *Middle, backend consign.WorkerAPI) consign.WorkerAPI) {
	t.Helper()
	each(t, func(t *testing.T, m *Middle) error {
		return faultyWorker(m, func(backend consign.WorkerAPI) consign.WorkerAPI { return dial(t, m, backend) })
	})
}

// FaultySubmitter is likewise with the submitter at the far end.
func FaultySubmitter(t *testing.T, dial func(t testing.TB, m *Middle, backend consign.SubmitterAPI) consign.SubmitterAPI) {
	t.Helper()
	each(t, func(t *testing.T, m *Middle) error {
		return faultySubmitter(m, func(backend consign.SubmitterAPI) consign.SubmitterAPI { return dial(t, m, backend) })
	})
}

func each(t *testing.T, run func(*testing.T, *Middle) error) {
	t.Helper()
	for _, f := range allFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m := newMiddle(t, f)
			if err := run(t, m); err != nil {
				t.Error(err)
			}
			t.Logf("%d faults", m.seen())
		})
	}
}

const (
	// faultyJobs is how many jobs there are in a round. There are rounds until
	// enough faults were seen.
	faultyJobs = 40
	maxRounds  = 20
	enough     = 3
)

func faultyWorker(m *Middle, dial func(consign.WorkerAPI) consign.WorkerAPI) error {
	return conserved(m, dial, func(api consign.SubmitterAPI) consign.SubmitterAPI { return api })
}

func faultySubmitter(m *Middle, dial func(consign.SubmitterAPI) consign.SubmitterAPI) error {
	return conserved(m, func(api consign.WorkerAPI) consign.WorkerAPI { return api }, dial)
}

// conserved runs jobs through both ends and says what became of them that may
// not.
func conserved(m *Middle, workers func(consign.WorkerAPI) consign.WorkerAPI, submitter func(consign.SubmitterAPI) consign.SubmitterAPI) (err error) {
	identity, quiet := sign.Generate(), slog.New(slog.DiscardHandler)
	q, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity, Lease: time.Hour, MaxAttempts: 1000, DrainTimeout: time.Second,
		BackoffBase: time.Millisecond, BackoffMax: 10 * time.Millisecond, Logger: quiet})
	if err != nil {
		return err
	}
	var running, working sync.WaitGroup
	queue, stopQueue := context.WithCancel(context.Background())
	work, stopWork := context.WithCancel(context.Background())
	defer func() {
		m.mend()
		stopWork()
		working.Wait()
		stopQueue()
		running.Wait()
	}()
	running.Go(func() { _ = q.Run(queue) })
	for range 3 {
		w, err := worker.New(worker.Config{API: workers(q), Identity: sign.Generate(), Slots: 4, CallTimeout: 2 * time.Second, DrainTimeout: time.Millisecond, Logger: quiet,
			Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
				task.Part(task.Payload)
				return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
			})}})
		if err != nil {
			return err
		}
		working.Go(func() { _ = w.Run(work) })
	}
	const account = "default"
	c, err := client.New(client.Config{API: submitter(q.Submitter(account)), QueueKey: identity.Public(), Patience: patience})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var ids []consign.JobID
	for range maxRounds {
		round, err := runRound(ctx, c)
		ids = append(ids, round...)
		if err := errors.Join(err, audit(q, account, ids)); err != nil {
			return err
		}
		if m.seen() >= enough {
			return nil
		}
	}
	return fmt.Errorf("%d faults in %d jobs: does the transport go through the network that it was given?", m.seen(), len(ids))
}

// runRound runs jobs beside each other.
func runRound(ctx context.Context, c *client.Client) ([]consign.JobID, error) {
	ids, errs := make([]consign.JobID, faultyJobs), make([]error, faultyJobs)
	var jobs sync.WaitGroup
	for i := range ids {
		ids[i] = consign.NewJobID()
		jobs.Go(func() { errs[i] = runFaulty(ctx, c, ids[i], i) })
	}
	jobs.Wait()
	return ids, errors.Join(errs...)
}

// runFaulty submits a job, waits for it and looks at what comes.
func runFaulty(ctx context.Context, c *client.Client, id consign.JobID, i int) error {
	r := consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain}
	res, err := c.Run(ctx, r)
	if want := bytes.ToUpper(r.Payload); err == nil && !bytes.Equal(res.Result, want) {
		err = fmt.Errorf("its result is %q, want %q", res.Result, want)
	}
	if err != nil {
		return fmt.Errorf("job %d: %w", i, err)
	}
	return nil
}

// audit looks at the queue itself: there is each job that was submitted, and no
// other; each was accepted once; and nothing was reported twice.
func audit(q *consign.Queue, account string, ids []consign.JobID) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	all, err := q.Jobs(ctx, consign.Filter{}, consign.JobID{}, 2*len(ids)) // there may be more
	if err != nil || len(all) != len(ids) {
		errs = append(errs, fmt.Errorf("the queue has %d jobs, %d were submitted (%v)", len(all), len(ids), err))
	}
	for i, id := range ids {
		job, err := q.Submitter(account).Get(ctx, id)
		if err != nil || job.State != consign.StateCompleted {
			errs = append(errs, fmt.Errorf("job %d is %s after %d attempts (%s), %v", i, job.State, job.Attempts, job.Reason, err))
			continue
		}
		seen := map[consign.EventKind]int{}
		for e, err := range q.Submitter(account).Events(ctx, id, 0) {
			if err != nil {
				return err
			}
			if e.Event != consign.EventReport || e.Report == consign.ReportPart { // a worker notes in the log what it could not send
				seen[e.Event]++
			}
		}
		if seen[consign.EventComplete] != 1 || seen[consign.EventReport] > seen[consign.EventClaim] || seen[consign.EventLeaseLost] > 0 {
			errs = append(errs, fmt.Errorf("the log of job %d has %v: accepted once, reported once an attempt, and no lease lost were due", i, seen))
		}
	}
	return errors.Join(errs...)
}
