package consign

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A mutant is the rules with one bug planted. Some property must see it.
type mutant struct {
	bug   string
	plant func(*rulebook)
}

// The helpers plant a bug before or after the true rule runs.

func foldMutant(bug string, before func(*Standing, *Evidence), after func(was Standing, e Evidence, is *Standing)) mutant {
	return mutant{bug, func(r *rulebook) {
		r.fold = func(s Standing, e Evidence) (Standing, error) {
			was, row := s, e
			row.Peers = slices.Clone(e.Peers)
			if before != nil {
				before(&s, &row)
			}
			is, err := s.Fold(row)
			if after != nil && err == nil {
				after(was, e, &is)
			}
			return is, err
		}
	}}
}

func testsMutant(bug string, change func(*tests)) mutant {
	return mutant{bug, func(r *rulebook) {
		r.fold = func(s Standing, e Evidence) (Standing, error) {
			if _, err := s.Fold(e); err != nil {
				return s, err
			}
			t := testsFor(s.Near)
			change(&t)
			return t.fold(s, e)
		}
	}}
}

func decideMutant(bug string, drawn func(p SamplingPolicy, s Standing, u uint64) bool) mutant {
	return mutant{bug, func(r *rulebook) {
		r.decide = func(p SamplingPolicy, s Standing, u uint64) Decision {
			return Decision{Drawn: drawn(p.withDefaults(), s, u)}
		}
	}}
}

func nextMutant(bug string, before func(*Validation), after func(Validation, *ValidationStep)) mutant {
	return mutant{bug, func(r *rulebook) {
		r.next = func(v Validation, now time.Time, compare Compare) ValidationStep {
			seen := v
			if before != nil {
				before(&seen)
			}
			step := seen.Next(now, compare)
			if after != nil {
				after(v, &step)
			}
			return step
		}
	}}
}

var mutants = []mutant{
	{"draw: ignores the secret", func(r *rulebook) {
		r.draw = func(_ [32]byte, j JobID, w WorkerID, p [32]byte) uint64 { return DrawValue([32]byte{}, j, w, p) }
	}},
	{"draw: ignores the job", func(r *rulebook) {
		r.draw = func(s [32]byte, _ JobID, w WorkerID, p [32]byte) uint64 { return DrawValue(s, JobID{}, w, p) }
	}},
	{"draw: ignores the worker", func(r *rulebook) {
		r.draw = func(s [32]byte, j JobID, _ WorkerID, p [32]byte) uint64 { return DrawValue(s, j, WorkerID{}, p) }
	}},
	{"draw: ignores the PoE", func(r *rulebook) {
		r.draw = func(s [32]byte, j JobID, w WorkerID, _ [32]byte) uint64 { return DrawValue(s, j, w, [32]byte{}) }
	}},
	{"commitment: ignores the epoch", func(r *rulebook) {
		r.commit = func(q QueueID, _ uint64, s [32]byte) [32]byte { return EpochCommitment(q, 0, s) }
	}},
	{"commitment: ignores the queue", func(r *rulebook) {
		r.commit = func(_ QueueID, e uint64, s [32]byte) [32]byte { return EpochCommitment(QueueID{}, e, s) }
	}},

	decideMutant("decide: N <= 10", func(p SamplingPolicy, s Standing, u uint64) bool {
		return s.Watched() || !p.Fixed && s.N <= 10 || p.Decide(s, u).Drawn
	}),
	decideMutant("decide: N < 9", func(p SamplingPolicy, s Standing, u uint64) bool {
		if s.N == 9 && !p.Fixed && !s.Watched() {
			return u < max(perMillion(p.Rate), math.MaxUint64/9)
		}
		return p.Decide(s, u).Drawn
	}),
	decideMutant("decide: no floor", func(p SamplingPolicy, s Standing, u uint64) bool {
		if !p.Fixed {
			p.Rate = 1
		}
		return p.Decide(s, u).Drawn
	}),
	decideMutant("decide: u <= p", func(p SamplingPolicy, s Standing, u uint64) bool {
		d := p.Decide(s, u)
		return u <= d.P
	}),
	decideMutant("decide: blind to the slow sum", func(p SamplingPolicy, s Standing, u uint64) bool {
		s.Slow = 0
		return p.Decide(s, u).Drawn
	}),
	decideMutant("decide: blind to open cases", func(p SamplingPolicy, s Standing, u uint64) bool {
		s.Cases = 0
		return p.Decide(s, u).Drawn
	}),
	decideMutant("decide: a near class is watched from 2, not 2.5", func(p SamplingPolicy, s Standing, u uint64) bool {
		return p.Decide(s, u).Drawn || s.Slow >= 2_000_000
	}),

	{"majority: takes agreement for transitive", func(r *rulebook) {
		r.majority = func(n int, compare Compare) []int {
			return Majority(n, func(i, j int) Verdict {
				for k := range n {
					if k != i && k != j && compare(i, k) == VerdictMatch && compare(k, j) == VerdictMatch {
						return VerdictMatch
					}
				}
				return compare(i, j)
			})
		}
	}},
	{"majority: takes the first of two equal sets", func(r *rulebook) {
		r.majority = func(n int, compare Compare) []int {
			if set := Majority(n, compare); set != nil {
				return set
			}
			for i := range n {
				for j := range i {
					if compare(i, j) == VerdictMatch {
						return []int{j, i}
					}
				}
			}
			return nil
		}
	}},
	{"majority: one is enough", func(r *rulebook) {
		r.majority = func(n int, compare Compare) []int {
			if set := Majority(n, compare); set != nil || n == 0 {
				return set
			}
			return []int{0}
		}
	}},
	{"majority: latest first", func(r *rulebook) {
		r.majority = func(n int, compare Compare) []int {
			set := Majority(n, compare)
			slices.Reverse(set)
			return set
		}
	}},
	{"majority: inconclusive is agreement", func(r *rulebook) {
		r.majority = func(n int, compare Compare) []int {
			return Majority(n, func(i, j int) Verdict {
				if compare(i, j) == VerdictInconclusive {
					return VerdictMatch
				}
				return compare(i, j)
			})
		}
	}},

	foldMutant("fold: a transient failure is cheating", func(_ *Standing, e *Evidence) {
		if e.Kind == EvidenceTransient {
			e.Kind = EvidenceInvalid
		}
	}, nil),
	foldMutant("fold: inconclusive is a match", func(_ *Standing, e *Evidence) {
		if e.Kind == EvidenceInconclusive {
			e.Kind = EvidenceMatch
		}
	}, nil),
	foldMutant("fold: one witness is enough", func(_ *Standing, e *Evidence) {
		if len(e.Peers) > 0 && e.Peers[0].Operator != e.Operator {
			e.Peers = append(e.Peers, Peer{Worker: WorkerID{99}, Operator: "another"})
		}
	}, nil),
	foldMutant("fold: two witnesses of one operator are two", func(_ *Standing, e *Evidence) {
		for i := range e.Peers {
			if e.Peers[i].Operator != e.Operator {
				e.Peers[i].Operator += string(rune('0' + i))
			}
		}
	}, nil),
	foldMutant("fold: the worker's own operator may witness", func(_ *Standing, e *Evidence) { e.Operator = "nobody" }, nil),
	foldMutant("fold: one worker may witness twice", func(_ *Standing, e *Evidence) {
		for i := range e.Peers {
			e.Peers[i].Worker[1] = byte(i)
		}
	}, nil),
	foldMutant("fold: a submitter counts every time", func(s *Standing, e *Evidence) {
		if e.Kind == EvidenceMismatch {
			s.Accusers = nil
		}
	}, nil),
	foldMutant("fold: everyone is trusted", func(_ *Standing, e *Evidence) { e.Trusted = true }, nil),
	foldMutant("fold: one submitter is enough for a flag", nil, func(_ Standing, _ Evidence, is *Standing) {
		t := testsFor(is.Near)
		is.Flagged = is.Flagged || is.Fast >= t.fastFlag || is.Slow >= t.slowFlag
	}),
	foldMutant("fold: newcomers raise N", func(_ *Standing, e *Evidence) { e.Alone = true }, nil),
	foldMutant("fold: a worker of the same operator raises N", func(_ *Standing, e *Evidence) {
		if e.Kind == EvidenceMatch {
			e.Operator = "nobody"
		}
	}, nil),
	foldMutant("fold: probes do not raise N", func(_ *Standing, e *Evidence) { e.Probe = false }, nil),
	foldMutant("fold: a mismatch keeps N", nil, func(was Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceMismatch {
			is.N = was.N
		}
	}),
	foldMutant("fold: a match resets the slow sum", nil, func(_ Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceMatch {
			is.Slow = 0
		}
	}),
	foldMutant("fold: the fast sum goes below zero", nil, func(was Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceMatch {
			is.Fast = was.Fast - testsFor(was.Near).fastDown
		}
	}),
	foldMutant("fold: a match lifts a flag", nil, func(_ Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceMatch {
			is.Flagged = false
		}
	}),
	foldMutant("fold: a dispute opens no case", nil, func(was Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceDispute {
			is.Cases = was.Cases
		}
	}),
	foldMutant("fold: a dispute counts as a mismatch", nil, func(_ Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceDispute {
			*is = testsFor(is.Near).accuse(*is)
		}
	}),
	foldMutant("fold: a review leaves the sums", nil, func(was Standing, e Evidence, is *Standing) {
		if e.Kind == EvidenceClear {
			is.Slow = was.Slow
		}
	}),
	foldMutant("fold: earlier states share memory with later ones", nil, func(was Standing, _ Evidence, _ *Standing) {
		if len(was.Accusers) > 0 {
			was.Accusers[0] = "overwritten"
		}
	}),
	foldMutant("fold: rows may be left out", func(s *Standing, e *Evidence) { e.Number = s.Row + 1 }, nil),

	testsMutant("fold: fast flags at 18", func(t *tests) { t.fastFlag = 18_000_000 }),
	testsMutant("fold: fast flags at 15", func(t *tests) { t.fastFlag = 15_000_000 }),
	testsMutant("fold: slow flags at 17", func(t *tests) { t.slowFlag = 17_000_000 }),
	testsMutant("fold: slow flags at 13", func(t *tests) { t.slowFlag = 13_000_000 }),
	testsMutant("fold: fast step of p1 = 0.5", func(t *tests) { t.fastUp -= 182_322 }),
	testsMutant("fold: slow match weighs nothing", func(t *tests) { t.slowDown = 0 }),
	testsMutant("fold: exact and near swapped", func(t *tests) {
		if *t == exactTests {
			*t = nearTests
		} else {
			*t = exactTests
		}
	}),

	nextMutant("next: starts are not counted", func(v *Validation) { v.ReplicaStarts, v.ThirdStarts = 0, 0 }, nil),
	nextMutant("next: the third has no budget", func(v *Validation) { v.ThirdStarts = 0 }, nil),
	nextMutant("next: no deadline", func(v *Validation) { v.Deadline = time.Time{} }, nil),
	nextMutant("next: no window", func(v *Validation) { v.Window = time.Hour }, nil),
	nextMutant("next: the quorum is a wish", func(v *Validation) { v.RequireQuorum = false }, nil),
	nextMutant("next: asks though nobody is eligible", func(v *Validation) { v.Eligible = true }, nil),
	nextMutant("next: asks twice", func(v *Validation) { v.Running = false }, nil),
	nextMutant("next: a known disagreement is called verified", nil, func(_ Validation, s *ValidationStep) {
		if s.Status == VerificationDisputed {
			s.Status = VerificationVerified
		}
	}),
	nextMutant("next: whoever is outside the majority mismatches", nil, func(_ Validation, s *ValidationStep) {
		for i, v := range s.Verdicts {
			if v == VerdictInconclusive && s.Majority != nil {
				s.Verdicts[i] = VerdictMismatch
			}
		}
	}),
	nextMutant("next: a majority of three is called sampled", nil, func(_ Validation, s *ValidationStep) {
		if s.Status == VerificationQuorum {
			s.Status = VerificationSampled
		}
	}),
	nextMutant("next: the first result is always the job's", nil, func(_ Validation, s *ValidationStep) { s.Result = 0 }),
}

// TestMutants plants each bug in turn and asks every property of its rule about it, on the
// same inputs in every run.
func TestMutants(t *testing.T) {
	const inputs = 1500
	caught := 0
	for _, m := range mutants {
		r := theRules()
		m.plant(&r)
		about, _, _ := strings.Cut(m.bug, ":")
		if by := caughtBy(r, about, inputs); by != "" {
			caught++
			t.Logf("caught: %-55s by: %s", m.bug, by)
		} else {
			t.Errorf("nobody saw: %s", m.bug)
		}
	}
	t.Logf("%d of %d caught", caught, len(mutants))
}

func caughtBy(r rulebook, about string, inputs int) (sentence string) {
	for _, p := range validationProperties {
		if p.about != about {
			continue
		}
		verdict := rapid.Custom(func(t *rapid.T) string {
			rapid.Bool().Draw(t, "rapid wants a draw")
			if err := p.check(r, t); err != nil {
				return p.sentence
			}
			return ""
		})
		for seed := range inputs {
			if s := verdict.Example(seed); s != "" {
				return s
			}
		}
	}
	return ""
}
