package consign

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// What must be drawn so that cheating does not pay, where honest work costs
// 80 % of what it is paid, a tenth of the fleet colludes and the comparator
// misses one wrong result in twenty.
func ExampleCheater_DeterrenceRate() {
	c := Cheater{Colludes: .1, Missed: .05}
	for _, k := range []float64{0, 25, 100} {
		fmt.Printf("the last %3.0f jobs' pay held back: draw %.2f %%\n", k, 100*c.DeterrenceRate(.8, 1, k))
	}
	// Output:
	// the last   0 jobs' pay held back: draw 93.57 %
	// the last  25 jobs' pay held back: draw 3.60 %
	// the last 100 jobs' pay held back: draw 0.93 %
}

// A worker that cheats on a tenth of its jobs, at the default floor.
func ExampleCheater_Detected() {
	c := Cheater{Cheats: .1, Colludes: .1, Missed: .05}
	for _, n := range []int{100, 500, 1000} {
		fmt.Printf("exposed at least once in %4d jobs: %.1f %%\n", n, 100*c.Detected(.05, n))
	}
	// Output:
	// exposed at least once in  100 jobs: 34.8 %
	// exposed at least once in  500 jobs: 88.3 %
	// exposed at least once in 1000 jobs: 98.6 %
}

func ExampleWrongMajority() {
	for _, f := range []float64{.1, .2, .3} {
		fmt.Printf("%2.0f %% collude: %.1f %%\n", 100*f, 100*WrongMajority(f))
	}
	// Output:
	// 10 % collude: 2.8 %
	// 20 % collude: 10.4 %
	// 30 % collude: 21.6 %
}

// TestPlannerAgreesWithChance plays the formulas out.
func TestPlannerAgreesWithChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	chance := func(p float64) bool { return rng.Float64() < p }
	const runs, n, s = 20_000, 60, .2
	c := Cheater{Cheats: .3, Colludes: .2, Missed: .1, Guessed: .15}
	exposed, outvoted := 0, 0
	for range runs {
		seen := false
		for range n / 4 {
			seen = seen || chance(c.Cheats) && chance(s) && !chance(c.Colludes) && !chance(c.Missed) && !chance(c.Guessed)
		}
		if seen {
			exposed++
		}
		colluders := 0
		for range 3 {
			if chance(c.Colludes) {
				colluders++
			}
		}
		if colluders >= 2 {
			outvoted++
		}
	}
	for name, pair := range map[string][2]float64{
		"Detected":      {float64(exposed) / runs, c.Detected(s, n/4)},
		"WrongMajority": {float64(outvoted) / runs, WrongMajority(c.Colludes)},
	} {
		if math.Abs(pair[0]-pair[1]) > 4*math.Sqrt(.25/runs) {
			t.Errorf("%s: played %.4f, computed %.4f", name, pair[0], pair[1])
		}
	}
}

// TestPlannerAtItsEdges: certainty, impossibility, and no loss of precision.
func TestPlannerAtItsEdges(t *testing.T) {
	all := Cheater{Cheats: 1}
	if p := all.Detected(1, 1); p != 1 {
		t.Errorf("every job drawn and cheated: %v", p)
	}
	if p := all.Detected(1, 0); p != 0 {
		t.Errorf("no jobs: %v", p)
	}
	if p := all.Detected(0, 1000); p != 0 {
		t.Errorf("nothing drawn: %v", p)
	}
	if p := (Cheater{Cheats: 1e-12}).Detected(.05, 1); math.Abs(p/5e-14-1) > 1e-9 {
		t.Errorf("small probabilities: %v", p)
	}
	if s := (Cheater{Colludes: 1}).DeterrenceRate(1, 1, 100); !math.IsInf(s, 1) {
		t.Errorf("everyone colludes: %v", s)
	}
}
