// Package queuetest holds whole queues on a store against a model of what a
// queue promises, and the state machine against what the store gives back of
// it, and plays the faults that other queues shipped and that a store could bring
// back. Each store's own tests run it.
package queuetest

import (
	"flag"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
)

// Suite is the tests of one store.
type Suite struct {
	// Place makes an empty place for jobs. The function that it returns opens
	// the store there, and again for each restart of the queue: the store that
	// was opened before is used no more.
	Place func(t *testing.T) (open func() consign.Store)
	// RealTime: the store waits for more than this process, so that no bubble of
	// time can hold it. Leases do not lapse then.
	RealTime bool
	// Shared: the store can be open several times at once, as that of several
	// coordinators.
	Shared bool
	// Spoil makes the rows of jobs unreadable, whose time and lease are over, and
	// Poison has the database refuse that a job runs. Nil: the store has no rows.
	Spoil  func(t *testing.T, store consign.Store, ids []consign.JobID)
	Poison func(t *testing.T, store consign.Store, id consign.JobID)
	// Checks is how many sequences are drawn for each property where
	// RAPID_CHECKS does not say so: fewer for a store that waits for a disk.
	// Defaults to rapid's own, which is 100.
	Checks int
}

// check is rapid.Check with that number.
func (s Suite) check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	if checks := flag.Lookup("rapid.checks"); s.Checks > 0 && checks.Value.String() == checks.DefValue && os.Getenv("RAPID_CHECKS") == "" {
		if err := checks.Value.Set(strconv.Itoa(s.Checks)); err != nil {
			t.Fatal(err)
		}
		defer checks.Value.Set(checks.DefValue) //nolint:errcheck // it was that before
	}
	rapid.Check(t, property)
}

// Model drives a queue through drawn calls, restarts and passing time, and
// compares it with the model after each.
func (s Suite) Model(t *testing.T) {
	s.check(t, func(rt *rapid.T) {
		steps := drawSteps().Draw(rt, "steps")
		var err error
		s.run(t, func(t *testing.T) { err = s.play(t, steps, bug{}) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func drawSteps() *rapid.Generator[[]int] {
	return rapid.SliceOfN(rapid.IntRange(0, 10*len(moves)-1), 20, 60)
}

// Mutants plays drawn calls with each planted bug until the model sees it: a
// test that cannot fail shows nothing.
func (s Suite) Mutants(t *testing.T) {
	caught := 0
	for _, b := range bugs {
		var seen error
		for seed := 0; seed < 200 && seen == nil; seed++ {
			s.run(t, func(t *testing.T) { seen = s.play(t, drawSteps().Example(seed), b) })
		}
		if seen == nil {
			t.Errorf("survived: %s", b.name)
			continue
		}
		caught++
		t.Logf("%s: %v", b.name, seen)
	}
	t.Logf("%d of %d caught", caught, len(bugs))
}

// run runs f in the store's time.
func (s Suite) run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if s.RealTime {
		f(t)
	} else {
		synctest.Test(t, f)
	}
}

// lease is the queue's. In real time it is longer than any sequence.
func (s Suite) lease() time.Duration {
	if s.RealTime {
		return 5 * time.Minute
	}
	return 30 * time.Second
}
