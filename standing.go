package consign

import (
	"fmt"
	"slices"
)

// StandingState is what the queue believes of a worker.
type StandingState string

// The states of a standing. Only the tests of Standing.Fold take work away
// from a worker, and only a person's review gives it back or removes it.
const (
	StandingActive   StandingState = "active"    // takes work
	StandingOnReview StandingState = "on review" // takes work, all of it checked; pay is held
	StandingFlagged  StandingState = "flagged"   // takes no work until reviewed
	StandingRemoved  StandingState = "removed"   // takes no work
)

// barred reports whether the state takes work away.
func (s StandingState) barred() bool { return s == StandingFlagged || s == StandingRemoved }

// EvidenceKind says what a row of evidence is about. The first five are the
// words of Verdict, the others are acts.
type EvidenceKind string

// The kinds of evidence.
const (
	EvidenceMatch        EvidenceKind = "match"
	EvidenceMismatch     EvidenceKind = "mismatch"
	EvidenceInvalid      EvidenceKind = "invalid"      // a bad PoE or signature: the queue saw it itself
	EvidenceInconclusive EvidenceKind = "inconclusive" // no evidence; moves nothing
	EvidenceTransient    EvidenceKind = "transient"    // no evidence; moves nothing
	EvidenceDispute      EvidenceKind = "dispute"      // no majority: opens a case
	EvidenceVouch        EvidenceKind = "vouch"        // the queue's owner vouches for the worker
	EvidenceClear        EvidenceKind = "clear"        // a review found for the worker
	EvidenceRemove       EvidenceKind = "remove"       // a review found against the worker
)

// Subject names one standing: a worker within one class of comparable results.
type Subject struct {
	Worker WorkerID
	Class  string // model digest, engine and version, quantisation, sampling options
	// View is empty for the fleet's standing, or the submitter whose PRIVATE
	// jobs the rows are about: those verdicts move that submitter's view alone.
	View string
	// Near is set where the class compares by likeness rather than equality.
	// Honest workers then disagree in 2 % of comparisons instead of 0.2 %.
	Near bool
}

// Peer is another worker that a verdict rests on.
type Peer struct {
	Worker   WorkerID
	Operator string
	// Row and Established say that the peer's own standing, at its row Row,
	// was Established. Audit checks it.
	Row         uint64
	Established bool
}

// Evidence is one row of a subject's ledger: append-only, numbered from 1
// without gaps, each a leaf of the log.
type Evidence struct {
	Subject
	Number   uint64
	Kind     EvidenceKind
	Operator string // who enrolled the subject; never self-declared
	Job      JobID  // zero for acts of a review
	// Submitter is whose job it was. Trusted is set for one whose word alone
	// may flag a worker: one that the queue's owner trusts so, and any in its
	// own View.
	Submitter string
	Trusted   bool
	// Peers are the workers whose results agreed with the subject's (match) or
	// with each other against it (mismatch).
	Peers []Peer
	// Probe: the job's answer was known beforehand.
	Probe bool
	// Alone: the class had no established or vouched worker when the row was
	// written, so a match with a newcomer is the best that there is.
	Alone bool
}

// Standing is what the rows of one subject add up to. Its zero value with a
// Subject is the standing of a worker that nothing is known of. It is changed
// by Fold alone; two machines that fold the same rows hold the same bytes.
type Standing struct {
	Subject
	Row uint64 // number of the last row folded
	// N counts consecutive validated results; a mismatch or invalid result
	// that counts sets it to zero.
	N uint64
	// Fast and Slow are the two CUSUM sums, in millionths of a nat.
	Fast, Slow int64
	// Accusers are the submitters whose mismatches the sums hold, sorted; it
	// is emptied when both sums are zero again. Witnessed is set where one of
	// them is trusted, or the queue itself saw an invalid result.
	Accusers  []string
	Witnessed bool
	Cases     uint64 // open cases; any puts the worker on review
	Strikes   uint64 // mismatches and invalid results ever counted; for display only
	Vouched   bool
	Flagged   bool
	Removed   bool
}

// State returns the gravest state that holds.
func (s Standing) State() StandingState {
	switch {
	case s.Removed:
		return StandingRemoved
	case s.Flagged:
		return StandingFlagged
	case s.Cases > 0:
		return StandingOnReview
	default:
		return StandingActive
	}
}

// Watched reports whether every result of the worker is checked: a case is
// open, or the slow sum says that something may be wrong.
func (s Standing) Watched() bool {
	return s.State() != StandingActive || s.Slow >= testsFor(s.Near).watch
}

// Established reports whether a match with this worker says something of the
// other party: it has a record of its own, or the owner vouched for it.
func (s Standing) Established() bool {
	return s.State() == StandingActive && (s.Vouched || s.N >= establishedN)
}

// Fold returns the standing after one more row. It fails, and changes nothing,
// where the row is not the next of this subject or its kind is unknown.
func (s Standing) Fold(e Evidence) (Standing, error) {
	switch {
	case e.Subject != s.Subject:
		return s, fmt.Errorf("consign: evidence of worker %s, class %q in the ledger of worker %s, class %q",
			e.Worker, e.Class, s.Worker, s.Class)
	case e.Number != s.Row+1:
		return s, fmt.Errorf("consign: evidence row %d follows row %d of worker %s: read the ledger again from row %d",
			e.Number, s.Row, s.Worker, s.Row+1)
	}
	return testsFor(s.Near).fold(s, e)
}

// tests holds the two sequential tests of a class, in millionths of a nat.
//
// Each is Page's CUSUM (E. S. Page, "Continuous Inspection Schemes",
// Biometrika 41, 1954) of Bernoulli evidence: with p0 the rate at which honest
// workers disagree and p1 the rate that the test looks for, a mismatch adds
// ln(p1/p0), a match adds ln((1-p1)/(1-p0)), and the sum never falls below
// zero. The fast test (p1 = 0.6) is for a worker that returns rubbish, the
// slow one for a worker that cheats now and then. The sums are integers so
// that an auditor on any machine comes to the same bytes; TestTestConstants
// derives them again.
type tests struct {
	fastUp, fastDown, fastFlag int64
	slowUp, slowDown, slowFlag int64
	watch                      int64 // slow sum from which every result is checked
}

var (
	// p0 = 0.002; p1 = 0.6 and 0.02.
	exactTests = tests{
		fastUp: 5_703_782, fastDown: 914_289, fastFlag: 17_000_000,
		slowUp: 2_302_585, slowDown: 18_201, slowFlag: 15_000_000,
		watch: 2_000_000,
	}
	// p0 = 0.02; p1 = 0.6 and 0.10.
	nearTests = tests{
		fastUp: 3_401_197, fastDown: 896_088, fastFlag: 17_000_000,
		slowUp: 1_609_438, slowDown: 85_158, slowFlag: 15_000_000,
		watch: 2_500_000,
	}
)

func testsFor(near bool) tests {
	if near {
		return nearTests
	}
	return exactTests
}

func (t tests) fold(s Standing, e Evidence) (Standing, error) {
	switch e.Kind {
	case EvidenceMatch:
		s = t.match(s, e)
	case EvidenceMismatch:
		if countsAgainst(s, e) {
			s = t.accuse(s)
			s.Accusers = withAccuser(s.Accusers, e.Submitter)
			s.Witnessed = s.Witnessed || e.Trusted
		}
	case EvidenceInvalid:
		// No submitter can make a worker sign a wrong PoE: the queue rebuilt
		// it from the bytes that this worker sent, and is witness enough.
		s = t.accuse(s)
		s.Witnessed = true
		s.Cases++
	case EvidenceDispute:
		s.Cases++
	case EvidenceInconclusive, EvidenceTransient:
	case EvidenceVouch:
		s.Vouched = true
	case EvidenceClear:
		// The past is judged; what comes next is checked from the start.
		s = Standing{Subject: s.Subject, Row: s.Row, Strikes: s.Strikes, Vouched: s.Vouched}
	case EvidenceRemove:
		s.Removed, s.Vouched = true, false
	default:
		return s, fmt.Errorf("consign: evidence row %d of worker %s has the unknown kind %q",
			e.Number, e.Worker, e.Kind)
	}
	s.Row = e.Number
	s.Flagged = s.Flagged || t.flags(s)
	return s, nil
}

// match lowers the sums, and raises N where the match says something: two
// newcomers that agree may be one person twice.
func (t tests) match(s Standing, e Evidence) Standing {
	s.Fast = max(0, s.Fast-t.fastDown)
	s.Slow = max(0, s.Slow-t.slowDown)
	if s.Fast == 0 && s.Slow == 0 {
		s.Accusers, s.Witnessed = nil, false
	}
	known := e.Probe || e.Alone || slices.ContainsFunc(e.Peers, func(p Peer) bool {
		return p.Established && p.Operator != e.Operator
	})
	if known {
		s.N++
	}
	return s
}

// accuse is one step of both tests towards a flag.
func (t tests) accuse(s Standing) Standing {
	s.Fast += t.fastUp
	s.Slow += t.slowUp
	s.N = 0
	s.Strikes++
	return s
}

// flags reports whether a test has passed its threshold on the word of more
// than one submitter, or of one that is trusted. A flag is for review, it
// stands until then.
func (t tests) flags(s Standing) bool {
	return (s.Fast >= t.fastFlag || s.Slow >= t.slowFlag) &&
		(s.Witnessed || len(s.Accusers) >= 2)
}

// countsAgainst reports whether a mismatch is evidence: two workers of two
// other operators agree against it, and this submitter's word is not already
// in the sums. So a non-deterministic job, or a submitter with two friends,
// moves an honest worker by one step at most and never to a flag. The word is
// "in the sums" until both are back at zero: if it were so for ever, a worker
// that each submitter had accused once could cheat freely after.
func countsAgainst(s Standing, e Evidence) bool {
	if !corroborated(e) {
		return false
	}
	_, accused := slices.BinarySearch(s.Accusers, e.Submitter)
	return e.Trusted || !accused
}

func corroborated(e Evidence) bool {
	for i, p := range e.Peers {
		for _, q := range e.Peers[:i] {
			if p.Worker != q.Worker && p.Operator != q.Operator &&
				p.Operator != e.Operator && q.Operator != e.Operator {
				return true
			}
		}
	}
	return false
}

// withAccuser returns the sorted set with one more; the argument is unchanged.
func withAccuser(set []string, submitter string) []string {
	i, found := slices.BinarySearch(set, submitter)
	if found {
		return set
	}
	return slices.Insert(slices.Clip(slices.Clone(set)), i, submitter)
}

// Audit folds every ledger of a queue, its rows in the order of the log, and
// returns the standings. Beside what Fold checks, it checks what the rows say
// of others: that a peer called established was so at the row named, and that
// no row says Alone once its class had an established worker. Its error names
// the first row that is wrong.
func Audit(rows []Evidence) (map[Subject]Standing, error) {
	type at struct {
		Subject
		row uint64
	}
	type class struct {
		name, view string
	}
	standings := map[Subject]Standing{}
	established := map[at]bool{}
	settled := map[class]bool{} // the class has had an established worker
	for _, e := range rows {
		for _, p := range e.Peers {
			peer := e.Subject
			peer.Worker = p.Worker
			if p.Established && !established[at{peer, p.Row}] {
				return nil, fmt.Errorf("consign: evidence row %d of worker %s calls worker %s established at its row %d: it was not",
					e.Number, e.Worker, p.Worker, p.Row)
			}
		}
		c := class{e.Class, e.View}
		if e.Alone && settled[c] {
			return nil, fmt.Errorf("consign: evidence row %d of worker %s says that class %q has no established worker: it has",
				e.Number, e.Worker, e.Class)
		}
		s, ok := standings[e.Subject]
		if !ok {
			s.Subject = e.Subject
		}
		s, err := s.Fold(e)
		if err != nil {
			return nil, err
		}
		standings[e.Subject] = s
		established[at{s.Subject, s.Row}] = s.Established()
		settled[c] = settled[c] || s.Established()
	}
	return standings, nil
}
