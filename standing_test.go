package consign

import (
	"math"
	"strings"
	"testing"
)

// TestTestConstants derives the steps of both tests from p0 and p1.
func TestTestConstants(t *testing.T) {
	for _, c := range []struct {
		name           string
		got            tests
		p0, fast, slow float64
		watch          int64
	}{
		{"exact", exactTests, .002, .6, .02, 2_000_000},
		{"near", nearTests, .02, .6, .10, 2_500_000},
	} {
		micro := func(x float64) int64 { return int64(math.Round(1e6 * x)) }
		up := func(p1 float64) int64 { return micro(math.Log(p1 / c.p0)) }
		down := func(p1 float64) int64 { return -micro(math.Log((1 - p1) / (1 - c.p0))) }
		want := tests{
			fastUp: up(c.fast), fastDown: down(c.fast), fastFlag: 17_000_000,
			slowUp: up(c.slow), slowDown: down(c.slow), slowFlag: 15_000_000, watch: c.watch,
		}
		if c.got != want {
			t.Errorf("%s: %+v, want %+v", c.name, c.got, want)
		}
	}
}

// TestStandingStory follows one worker through what the design says of it.
func TestStandingStory(t *testing.T) {
	s := Standing{Subject: Subject{Worker: WorkerID{1}, Class: "exact"}}
	step := func(e Evidence) {
		t.Helper()
		var err error
		if s, err = s.Fold(e); err != nil {
			t.Fatal(err)
		}
	}
	act := func(kind EvidenceKind) Evidence {
		return Evidence{Subject: s.Subject, Number: s.Row + 1, Kind: kind, Operator: "own"}
	}
	want := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Fatalf("%s: %+v, %s", what, s, s.State())
		}
	}
	for range 10 {
		step(agreeing(s))
	}
	want("ten matches establish", s.N == 10 && s.Established() && !s.Watched())
	step(against(s, "s1"))
	want("one mismatch: watched, not established, still at work", s.Watched() && !s.Established() && s.State() == StandingActive)
	for range 17 {
		want("17 matches bring the slow sum below 2", s.Watched())
		step(agreeing(s))
	}
	want("the watch ends", !s.Watched() && s.N == 17)
	step(act(EvidenceDispute))
	want("a case", s.State() == StandingOnReview && s.Watched() && s.N == 17)
	step(act(EvidenceClear))
	want("cleared", s.State() == StandingActive && s.N == 0 && s.Accusers == nil && s.Strikes == 1)
	for _, submitter := range []string{"s1", "s2", "s3"} {
		want("two are not enough", !s.Flagged)
		step(against(s, submitter))
	}
	want("three mismatches in a row flag", s.State() == StandingFlagged)
	step(agreeing(s))
	want("a match does not lift it", s.State() == StandingFlagged)
	step(act(EvidenceRemove))
	want("removed", s.State() == StandingRemoved)
}

// TestOneTrustedSubmitterFlags: a trusted submitter is exempt from both rules.
// So is the queue itself, which rebuilds every PoE.
func TestOneTrustedSubmitterFlags(t *testing.T) {
	for _, near := range []bool{false, true} {
		for _, kind := range []EvidenceKind{EvidenceMismatch, EvidenceInvalid} {
			s := Standing{Subject: Subject{Near: near}}
			steps := 0
			for ; !s.Flagged && steps < 10; steps++ {
				e := against(s, "owner")
				e.Kind, e.Trusted = kind, kind == EvidenceMismatch
				s, _ = s.Fold(e)
			}
			if want := map[bool]int{false: 3, true: 5}[near]; steps != want {
				t.Errorf("near = %t, %s: flagged after %d, want %d", near, kind, steps, want)
			}
		}
	}
}

// TestAccusationLapses: once the sums are back at zero the submitter's word
// counts anew, or a worker that all submitters had accused could cheat freely.
func TestAccusationLapses(t *testing.T) {
	s := Standing{Subject: Subject{Near: true}}
	for range 3 {
		before := s.Strikes
		s, _ = s.Fold(against(s, "s1"))
		if s.Strikes != before+1 {
			t.Fatal("the accusation did not count")
		}
		for s.Fast > 0 || s.Slow > 0 {
			s, _ = s.Fold(agreeing(s))
		}
	}
}

func TestFoldRefuses(t *testing.T) {
	s := Standing{Subject: Subject{Worker: WorkerID{1}, Class: "a"}, Row: 4}
	for problem, change := range map[string]func(*Evidence){
		"follows row":      func(e *Evidence) { e.Number = 6 },
		"in the ledger of": func(e *Evidence) { e.Class = "b" },
		"unknown kind":     func(e *Evidence) { e.Kind = "gossip" },
	} {
		e := agreeing(s)
		change(&e)
		got, err := s.Fold(e)
		if err == nil || !strings.Contains(err.Error(), problem) || got.Row != 4 {
			t.Errorf("%s: %v, row %d", problem, err, got.Row)
		}
	}
}

// TestAudit replays a small fleet, then each lie that a row can tell.
func TestAudit(t *testing.T) {
	a := Subject{Worker: WorkerID{1}, Class: "c"}
	b := Subject{Worker: WorkerID{2}, Class: "c"}
	var rows []Evidence
	for i := range uint64(10) { // the first worker is established by a fleet that has none yet
		rows = append(rows, Evidence{Subject: a, Number: i + 1, Kind: EvidenceMatch, Operator: "x", Alone: true})
	}
	rows = append(rows, Evidence{Subject: b, Number: 1, Kind: EvidenceMatch, Operator: "y",
		Peers: []Peer{{Worker: a.Worker, Operator: "x", Row: 10, Established: true}}})
	standings, err := Audit(rows)
	if err != nil || standings[a].N != 10 || standings[b].N != 1 {
		t.Fatalf("%+v, %v", standings, err)
	}
	last := rows[len(rows)-1]
	for lie, tell := range map[string]func(*Evidence){
		"it was not":    func(e *Evidence) { e.Peers = []Peer{{Worker: a.Worker, Operator: "x", Row: 9, Established: true}} },
		"it has":        func(e *Evidence) { e.Alone = true },
		"follows row 0": func(e *Evidence) { e.Number = 2 },
	} {
		row := last
		tell(&row)
		if _, err := Audit(append(rows[:len(rows)-1:len(rows)-1], row)); err == nil || !strings.Contains(err.Error(), lie) {
			t.Errorf("%s: %v", lie, err)
		}
	}
}
