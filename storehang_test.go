package consign_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// A store whose machine is gone without a word, and comes back at another one,
// never answers the calls that were under way. They hold up a queue for half a
// minute and no longer, and no lease ends for it.
func TestStoreNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		r := newRig(t, func(r *rig) {
			r.store = &testkit.FaultStore{Store: memdb.New(), Faults: func(testkit.Call) testkit.Fault {
				if gone.Load() {
					return testkit.Fault{Delay: 24 * time.Hour}
				}
				return testkit.Fault{}
			}}
		})
		r.credit(2 * rigPrice)
		r.hire(benchCaps, func(h *hand, a consign.Assignment) error {
			time.Sleep(time.Minute)
			return h.complete(a)
		})
		first := r.submit(benchRequests(1, "m")[0]).ID
		time.Sleep(6 * time.Second) // it is claimed, and was renewed

		gone.Store(true)
		second := make(chan consign.JobInfo)
		go func() { second <- r.submit(benchRequests(1, "m")[0]) }()
		time.Sleep(2 * time.Second) // calls of every kind are under way
		gone.Store(false)

		time.Sleep(10 * time.Second)
		if until := r.job(first).LeaseUntil; until < consign.At(time.Now()) {
			t.Errorf("the lease ended at %s: a renewal waits for an answer", until.Time())
		}
		select {
		case job := <-second:
			r.wait(job.ID)
		case <-time.After(time.Minute):
			t.Fatal("a submit waits for an answer")
		}
		if job := r.wait(first); job.Attempts != 1 {
			t.Errorf("the first job took %d attempts", job.Attempts)
		}
	})
}
