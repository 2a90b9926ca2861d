package consign_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// endJobs has n sealed jobs run and acknowledged, and returns their IDs.
func (r *rig) endJobs(n int) (ids []consign.JobID) {
	r.t.Helper()
	for range n {
		req := r.request()
		r.submit(req)
		ids = append(ids, req.ID)
	}
	for _, id := range ids {
		r.wait(id)
		if err := r.sub.Acknowledge(context.Background(), id); err != nil {
			r.t.Fatal(err)
		}
	}
	return ids
}

// A vault that takes its time to destroy keys holds up no settlement.
func TestSlowVaultHoldsUpNoMoney(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.vault.Faults = func(c testkit.Call) testkit.Fault {
				if c.Method == "Shred" {
					return testkit.Fault{Delay: 9 * time.Second} // one at a time
				}
				return testkit.Fault{}
			}
		})
		defer r.stop()
		r.credit(100 * rigPrice)
		r.hire(anyTask, nil)
		ids := r.endJobs(20)
		time.Sleep(5 * time.Second) // one tick and more, and none of the vault's answers
		if b := r.balance(); b.Held != 0 || b.Spent != 20*rigPrice {
			t.Errorf("the balance is %+v", b)
		}
		time.Sleep(5 * time.Minute)
		for _, id := range ids {
			if r.vault.Holds(id) {
				t.Errorf("the keys of job %s are never destroyed", id)
			}
		}
	})
}

// A vault that is away is asked again with each tick, not all the time, and
// when it is back all keys are destroyed, however many there are.
func TestVaultAwayIsAskedWithTheTick(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls, away atomic.Int64
		away.Store(1)
		r := newRig(t, func(r *rig) {
			r.vault.Faults = func(c testkit.Call) testkit.Fault {
				if c.Method != "Shred" {
					return testkit.Fault{}
				}
				calls.Add(1)
				return testkit.Fault{Lose: map[bool]error{true: errPlanted}[away.Load() == 1]}
			}
		})
		defer r.stop()
		r.credit(2000 * rigPrice)
		r.hire(anyTask, nil)
		ids := r.endJobs(700)
		time.Sleep(time.Minute)
		calls.Store(0)
		time.Sleep(10 * time.Second)                   // ten ticks, of which each asks for 512 jobs
		if n := calls.Load(); n < 4_000 || n > 6_000 { // the first and the last of them may fall outside
			t.Errorf("the vault was asked %d times within ten ticks", n)
		}
		if b := r.balance(); b.Held != 0 {
			t.Errorf("the balance is %+v", b)
		}
		away.Store(0)
		time.Sleep(time.Minute)
		for _, id := range ids {
			if r.vault.Holds(id) {
				t.Fatalf("the keys of job %s are never destroyed", id)
			}
		}
	})
}

// What failed for a moment is carried out soon after, and what fails for ever is
// tried with each tick, and no more often.
func TestPumpTriesAgainSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var fails, tried atomic.Int64
		fails.Store(2)
		r := newRig(t, func(r *rig) {
			r.config.Lease = 5 * time.Minute
			r.store.Refuse = func(c *consign.Change) error {
				if len(c.Drop) == 0 {
					return nil
				}
				if tried.Add(1); fails.Add(-1) >= 0 {
					return errLost
				}
				return nil
			}
		})
		defer r.stop()
		r.credit(2 * rigPrice)
		r.hire(anyTask, nil)
		req := r.request()
		r.submit(req)
		r.wait(req.ID)
		time.Sleep(time.Second)
		if b := r.balance(); b.Held != 0 || b.Spent != rigPrice {
			t.Errorf("a second later the balance is %+v", b)
		}
		fails.Store(1 << 40)
		tried.Store(0)
		req = r.request()
		r.submit(req)
		r.wait(req.ID)
		time.Sleep(20 * time.Minute)
		if n := tried.Load(); n < 40 || n > 60 {
			t.Errorf("it was tried %d times in 40 ticks", n)
		}
	})
}
