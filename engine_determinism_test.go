package consign

import (
	"crypto/sha256"
	"runtime"
	"testing"
)

// hashedRun plays worlds, one after the other, and returns the hash of all
// that the engines put out.
func hashedRun(steps int) (sum [32]byte, done int) {
	h := sha256.New()
	for seed := uint64(1); done < steps; seed++ {
		w := newWorld(seeded(seed), planted{})
		w.hash = func(b []byte) { h.Write(b) }
		actions := w.actions()
		for range 2000 {
			w.act(actions)
		}
		w.drain()
		done += w.steps
	}
	h.Sum(sum[:0])
	return sum, done
}

// The same inputs give the same outputs, byte for byte: again in this process,
// where every map has another seed, and on another number of processors.
// CONSIGN_DETERMINISM is the number of steps; 100,000 takes half a minute.
func TestEngineIsDeterministic(t *testing.T) {
	steps := envInt("CONSIGN_DETERMINISM", 6_000)
	first, n := hashedRun(steps)
	for i, procs := range []int{1, 4} {
		was := runtime.GOMAXPROCS(procs)
		again, m := hashedRun(steps)
		runtime.GOMAXPROCS(was)
		if again != first || n != m {
			t.Fatalf("run %d of %d steps differs: %x, %x of %d", i+2, n, first, again, m)
		}
	}
	t.Logf("%d steps: %x", n, first[:8])
}

// The test above can fail: one output that is told otherwise is seen.
func TestDeterminismIsChecked(t *testing.T) {
	out := &output{next: 7, commits: []*commit{{Change: Change{Job: &Job{Version: 3}}}}}
	a := string(canonicalOutput(out))
	out.commits[0].Job.Version = 4
	if string(canonicalOutput(out)) == a {
		t.Error("a job's version is not in the hash")
	}
	out.commits[0].Job.Version, out.next = 3, 8
	if string(canonicalOutput(out)) == a {
		t.Error("the next wake-up is not in the hash")
	}
}
