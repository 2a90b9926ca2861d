package consign_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// A payment whose answer was lost is sent again, by anybody, as often as need
// be, and moves money once.
func TestCreditMovesOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		calls := 0
		r := newRig(t, func(r *rig) {
			r.store.Faults = func(c testkit.Call) testkit.Fault {
				if c.Method != "Apply" {
					return testkit.Fault{}
				}
				switch calls++; calls % 3 {
				case 0:
					return testkit.Fault{Lose: errLost}
				case 1:
					return testkit.Fault{Drop: errLost}
				}
				return testkit.Fault{}
			}
		})
		defer r.stop()
		add := func(amount consign.Price, reference string) {
			t.Helper()
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for range 100 {
						err := r.q.AddCredit(context.Background(), "acme", amount, reference)
						if err == nil {
							return
						}
						if !errors.Is(err, errLost) {
							t.Errorf("adding %s again: %v", amount, err)
							return
						}
						time.Sleep(time.Millisecond)
					}
					t.Error("never added")
				})
			}
			group.Wait()
		}
		has := func(want consign.Price) {
			t.Helper()
			if b := r.balance(); b.Available != want {
				t.Errorf("%s available, want %s", b.Available, want)
			}
		}
		add(100, "one")
		has(100)
		add(40, "two")
		has(140)
		add(-140, "all of it") // whose second call would not find so much
		has(0)
		add(-140, "all of it")
		add(100, "one")
		has(0)
	})
}

var errLost = errors.New("lost on the way")

// One reference is one payment: of one account, and one amount.
func TestCreditReferences(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.stop()
		ctx := t.Context()
		check(t, r.q.AddCredit(ctx, "acme", 10, "one"))
		for name, got := range map[string]struct{ err, want error }{
			"another amount":           {r.q.AddCredit(ctx, "acme", 11, "one"), consign.ErrConflict},
			"another account":          {r.q.AddCredit(ctx, "bob", 10, "one"), consign.ErrConflict},
			"more than there is":       {r.q.AddCredit(ctx, "acme", -11, "two"), consign.ErrCredit},
			"a refused one, corrected": {r.q.AddCredit(ctx, "acme", -10, "two"), nil},
		} {
			if !errors.Is(got.err, got.want) {
				t.Errorf("%s: %v", name, got.err)
			}
		}
		for _, bad := range []string{"", "a\x00b", "\xff"} {
			if err := r.q.AddCredit(ctx, "acme", 1, bad); !isField(err, "reference") {
				t.Errorf("reference %q: %v", bad, err)
			}
		}
		if err := r.q.AddCredit(ctx, "ac\xffme", 1, "three"); !isField(err, "account") {
			t.Errorf("a bad account: %v", err)
		}
	})
}
