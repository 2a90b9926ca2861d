package consign

import "math"

// Cheater is what a planner assumes of a worker that returns results it did
// not compute. Every field is a share from 0 to 1.
type Cheater struct {
	Cheats   float64 // c, of the jobs it cheats on
	Colludes float64 // f, of the workers eligible to check it that would cover for it
	Missed   float64 // b, of the wrong results that the comparator lets pass
	Guessed  float64 // g, of its inventions that happen to be right
}

// Exposure returns d = (1-f)(1-b)(1-g): the probability that a cheated job
// which is drawn comes out as a disagreement.
func (c Cheater) Exposure() float64 {
	return (1 - c.Colludes) * (1 - c.Missed) * (1 - c.Guessed)
}

// Detected returns 1 - (1 - c*s*d)^n: the probability that at least one of n
// jobs exposes the cheater, where each is drawn with probability s. It is
// about a cheater that does not watch what happens to it; under the adaptive
// policy s is at least the floor.
func (c Cheater) Detected(s float64, n int) float64 {
	if n <= 0 {
		return 0
	}
	return -math.Expm1(float64(n) * math.Log1p(-c.Cheats*s*c.Exposure()))
}

// DeterrenceRate returns the least sampling rate s at which cheating on one
// job does not pay: s = C / (d (R + S)).
//
// cost C is what honest work costs the worker, pay R what the job pays, held S
// the pay of earlier jobs that is lost when the cheat is exposed, all in one
// unit. Holding back the last k jobs' pay makes S = k*R. Staked principal is
// no part of it: it is never seized (seed 003, recovery without slashing).
//
// A rate above 1 means that no sampling deters; +Inf that nothing is exposed
// or lost.
func (c Cheater) DeterrenceRate(cost, pay, held float64) float64 {
	return cost / (c.Exposure() * (pay + held))
}

// WrongMajority returns the probability that, of three workers picked
// independently from a fleet of which the share f colludes, two or more do:
// 3f²(1-f) + f³. They then outvote the honest one.
func WrongMajority(f float64) float64 {
	return f * f * (3 - 2*f)
}
