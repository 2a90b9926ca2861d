package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

// Whatever the network and the queue do, once they behave again every job is
// completed, no claim was returned with two bodies, no return was refused as
// bad, and Run returns without leaving anything behind (the bubble would say).
func TestAnythingMayGoWrong(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		jobs := rapid.IntRange(1, 12).Draw(rt, "jobs")
		slots := rapid.IntRange(1, 4).Draw(rt, "slots")
		percent := rapid.IntRange(0, 60).Draw(rt, "percent")
		incidents := rapid.SliceOfN(rapid.SampledFrom([]string{"down", "up", "restart", "wait", "stop worker"}), 0, 10).Draw(rt, "incidents")
		rapid.SyncTest(rt, func(t *rapid.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			var calm atomic.Bool
			between := func(max time.Duration) time.Duration { return time.Duration(random.Int64N(int64(max))) }
			faults := func(c testkit.Call) testkit.Fault {
				if calm.Load() || random.IntN(100) >= percent {
					return testkit.Fault{}
				}
				switch random.IntN(5) {
				case 0:
					return testkit.Fault{Lose: errors.New("reset")}
				case 1:
					return testkit.Fault{Drop: errors.New("reset")}
				case 2:
					return testkit.Fault{Delay: between(20 * time.Second)}
				case 3:
					return testkit.Fault{Late: between(20 * time.Second)}
				default:
					return testkit.Fault{Twice: c.Method != "Claim"} // that would lose one, which is the transport's fault
				}
			}
			q := testkit.NewFakeQueue()
			var ids []consign.JobID
			for i := range jobs {
				ids = append(ids, q.Add("TASK", fmt.Sprint(i)))
			}
			seq := int64(0)
			run := func() *running {
				return start(t, worker.Config{API: testkit.FaultyWorker(q, faults), Slots: slots, Seq: seq,
					Journal: func(n int64, _ []byte) error {
						if n != seq+1 {
							t.Errorf("record %d follows %d", n, seq)
						}
						seq = n
						return nil
					},
					Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
						task.Log("begins")
						return lasting(time.Duration(task.Payload[0])*300*time.Millisecond)(ctx, task)
					})})
			}
			w := run()
			for i, incident := range incidents {
				time.Sleep(time.Duration(i*7+3) * time.Second)
				switch incident {
				case "down":
					q.SetDown(true)
				case "up":
					q.SetDown(false)
				case "restart":
					q.Restart()
				case "stop worker":
					w.endClean()
					w = run()
				}
			}
			calm.Store(true)
			q.SetDown(false)
			q.Restart()
			time.Sleep(30 * time.Minute)
			for _, id := range ids {
				wantState(t, q, id, consign.StateCompleted)
			}
			w.endClean()
			checkReturns(t, q)
		})
	})
}
