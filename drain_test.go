package consign_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/inproc"
	"github.com/consignq/consign/worker"
)

// drained runs a queue and a worker that end with the same context, while a
// job of the given length runs. It returns how long the queue took to end.
func drained(t *testing.T, c consign.Config, length time.Duration) (job consign.JobInfo, ended time.Duration) {
	t.Helper()
	if c.Store == nil {
		c.Store = memdb.New()
	}
	q, err := consign.New(c)
	if err != nil {
		t.Fatal(err)
	}
	submitter, api := inproc.Dial(q, "acme")
	w, err := worker.New(worker.Config{API: api, Identity: sign.Generate(), Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(ctx context.Context, _ *worker.Task) (worker.Output, error) {
			select {
			case <-time.After(length):
				return worker.Output{Result: []byte("done")}, nil
			case <-ctx.Done():
				return worker.Output{}, ctx.Err()
			}
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	queueEnded, workerEnded := make(chan error, 1), make(chan error, 1)
	go func() { queueEnded <- q.Run(ctx) }()
	go func() { workerEnded <- w.Run(ctx) }()
	submitted, err := submitter.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	cancel()
	began := time.Now()
	if err := <-queueEnded; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	ended = time.Since(began)
	<-workerEnded
	if _, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("y"), Custody: consign.CustodyPlain}); !errors.Is(err, consign.ErrClosed) {
		t.Errorf("a submit after the end: %v", err)
	}
	job, err = submitter.Get(t.Context(), submitted.ID)
	if err != nil {
		t.Fatal(err)
	}
	return job, ended
}

// A queue that is told to end takes what its workers are at: the same context
// may end both.
func TestDrainKeepsWhatIsRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job, ended := drained(t, consign.Config{}, 20*time.Second)
		if job.State != consign.StateCompleted || ended > 20*time.Second {
			t.Errorf("after %v the job is %s", ended, job.State)
		}
	})
}

func TestDrainEndsAtOnceWithNothingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if job, ended := drained(t, consign.Config{}, time.Millisecond); job.State != consign.StateCompleted || ended != 0 {
			t.Errorf("after %v the job is %s", ended, job.State)
		}
	})
}

func TestDrainHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job, ended := drained(t, consign.Config{DrainTimeout: 5 * time.Second}, 20*time.Second)
		if job.State != consign.StateRunning || ended != 5*time.Second {
			t.Errorf("after %v the job is %s", ended, job.State)
		}
	})
}

// Another queue on the store takes nothing away from the one that drains: the
// leases of what still runs are renewed.
func TestDrainKeepsLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := consign.Config{Store: memdb.New(), Identity: seededIdentity(1), Lease: 10 * time.Second, DrainTimeout: time.Minute}
		_, stop := testkit.Start(t, c)
		defer stop()
		job, ended := drained(t, c, 25*time.Second)
		if job.State != consign.StateCompleted || job.Attempts != 1 || ended > 25*time.Second {
			t.Errorf("after %v the job is %s, after %d attempts", ended, job.State, job.Attempts)
		}
	})
}
