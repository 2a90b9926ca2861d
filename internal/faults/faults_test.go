package faults

import (
	"cmp"
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// fault is a kind of fault, under which a queue has to keep its word.
type fault struct {
	name          string
	bounded, full int // how often it happens, by default and in the whole gate
	run           func(t *testing.T, n int, plant mutant) *verdict
	mutants       []mutant // that it has to catch, within eight times as many as are bounded
}

var faults = []fault{
	{"none", 300, 600_000, healthy, []mutant{staleReads, deaf}},
	{"sqlite-kills", 8, 1000, sqliteKills, []mutant{earlyAck, keysInMemory, lateKeys}},
	{"postmaster-kills", 3, 100, postmasterKills, []mutant{hopeful}},
	{"coordinator-kills", 5, 100, coordinatorKills, []mutant{selfish, earlyAck}},
	{"toxics-http", 16, 250, toxicsOnHTTP, []mutant{forgetful}},
	{"toxics-postgres", 16, 250, toxicsOnPostgres, []mutant{hopeful}},
	{"clock-jumps", 6, 200, clockJumps, []mutant{noFence, blindReaper}},
	{"disk-full", 4, 50, diskFull, []mutant{hopeful}},
	{"pauses", 4, 200, pauses, []mutant{noFence}},
}

// times is how often a fault happens: CONSIGN_FAULTS is empty, "full", or names
// faults and numbers: "sqlite-kills=50 pauses=20" runs those alone.
func (f *fault) times(t *testing.T) int {
	switch env := os.Getenv("CONSIGN_FAULTS"); env {
	case "":
		return f.bounded
	case "full":
		return f.full
	default:
		for _, field := range strings.Fields(env) {
			name, number, _ := strings.Cut(field, "=")
			n, err := strconv.Atoi(number)
			if err != nil || !known(name) {
				t.Fatalf("CONSIGN_FAULTS is %q: write \"full\", or faults and numbers like %q", env, "pauses=20")
			}
			if name == f.name {
				return n
			}
		}
		return 0
	}
}

func known(name string) bool {
	for i := range faults {
		if faults[i].name == name {
			return true
		}
	}
	return false
}

// TestFaults: whatever happens, nothing that was acknowledged is lost, nothing
// comes from nowhere, no job is completed twice, and who has lost a claim
// changes nothing.
func TestFaults(t *testing.T) {
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	var all verdict
	t.Run("each", func(t *testing.T) {
		for _, f := range faults {
			n := f.times(t)
			if n == 0 {
				continue
			}
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				v := f.run(t, n, none)
				switch {
				case v.wrong() > 0:
					t.Error(v.example)
				case v.submits == 0 || v.completions == 0:
					t.Error("nothing was acknowledged")
				}
				t.Logf("%s=%d in %.0f s: %v", f.name, n, time.Since(began).Seconds(), v)
				mu.Lock()
				defer mu.Unlock()
				all.add(v)
			})
		}
	})
	t.Logf("in all: %v", &all)
}

// TestMutants: each fault finds the bugs that it is there to find.
func TestMutants(t *testing.T) {
	var caught atomic.Int32
	planted := 0
	t.Run("each", func(t *testing.T) {
		for _, f := range faults {
			for _, m := range f.mutants {
				if f.times(t) == 0 {
					continue
				}
				planted++
				t.Run(f.name+"/"+string(m), func(t *testing.T) {
					t.Parallel()
					for n := f.bounded; n <= 8*f.bounded; n *= 2 {
						v := f.run(t, n, m)
						wrong := v.wrong()
						if m != selfish {
							wrong -= v.unended // as time was short
						}
						if wrong > 0 {
							t.Logf("%d times: %v: %.300s", n, v, v.example)
							caught.Add(1)
							return
						}
					}
					t.Error("nothing finds it")
				})
			}
		}
	})
	t.Logf("%d of %d caught", caught.Load(), planted)
}

func (v *verdict) add(w *verdict) {
	v.submits, v.claims, v.completions, v.cancels = v.submits+w.submits, v.claims+w.claims, v.completions+w.completions, v.cancels+w.cancels
	v.unanswered, v.tooLate = v.unanswered+w.unanswered, v.tooLate+w.tooLate
	v.lost, v.unexpected, v.duplicates, v.stale, v.unordered = v.lost+w.lost, v.unexpected+w.unexpected, v.duplicates+w.duplicates, v.stale+w.stale, v.unordered+w.unordered
	v.unended += w.unended
	v.jobs, v.calls = v.jobs+w.jobs, v.calls+w.calls
	v.example = cmp.Or(v.example, w.example)
}

// judged is the verdict on what a coordinator that has ended has left.
func judged(t *testing.T, c coordinator, l *load) *verdict {
	t.Helper()
	store, closeStore, err := c.open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	return judgedOn(t, store, l)
}

func judgedOn(t *testing.T, store consign.Store, l *load) *verdict {
	t.Helper()
	v, err := judge(context.Background(), store, &l.history)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// running serves a coordinator in this process.
func running(t *testing.T, c coordinator) *served {
	t.Helper()
	s, err := c.serve(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// healthy is no fault at all, on each store: n jobs.
func healthy(t *testing.T, n int, plant mutant) *verdict {
	all := &verdict{}
	for name, c := range map[string]coordinator{
		"memory":     {},
		"sqlite":     {SQLite: t.TempDir() + "/queue.db"},
		"postgresql": {DSN: dsn(pgtest.Private(t))},
	} {
		c.Lease, c.Plant = 3*time.Second, plant
		s := running(t, c)
		l := start(t, newBalancer(s.addr), 8, 3, consign.CustodyPlain, plant)
		l.moves(t, n/6)
		l.drain()
		v := judgedOn(t, s.store, l)
		s.stop()
		t.Logf("%s: %v", name, v)
		all.add(v)
	}
	return all
}
