package consign

import (
	"errors"
	"math/bits"
	"time"
)

// ErrNoValidator: the job requires a quorum and there is no independent worker
// to give it. Enrol a worker of another operator, or submit without
// RequireQuorum.
var ErrNoValidator = errors.New("consign: no independent worker to validate the result")

// Verdict is what one comparison, or one return, says of a worker's result.
// Only mismatch and invalid are evidence against it.
type Verdict string

// The verdicts.
const (
	VerdictMatch        Verdict = "match"
	VerdictMismatch     Verdict = "mismatch"
	VerdictInvalid      Verdict = "invalid"      // wrong claim, signature or PoE
	VerdictInconclusive Verdict = "inconclusive" // cannot be compared, or nobody has a majority
	VerdictTransient    Verdict = "transient"    // crash, timeout, disconnect, unknown key: never cheating
)

// Verification is how far a job's result was checked.
type Verification string

// The verifications, as on the wire.
const (
	VerificationUnverified Verification = "unverified" // no check has passed
	// VerificationSignature: a foreign worker signed the result (ForeignReceipt).
	// It is never compared, and counts for nothing.
	VerificationSignature Verification = "signature only"
	VerificationVerified  Verification = "verified" // claim, signature and PoE hold; nobody ran it again
	VerificationSampled   Verification = "sampled"  // an independent worker's result agrees
	VerificationQuorum    Verification = "quorum"   // required, or decided by majority after a disagreement
	VerificationProbe     Verification = "probe"    // agrees with an answer known beforehand
	VerificationDisputed  Verification = "disputed" // workers disagree and there is no majority
)

// ValidationReason says why a validation closed without agreement.
type ValidationReason string

// The reasons; empty where workers agreed.
const (
	ReasonNoMajority     ValidationReason = "no_majority"      // three results, no two agree more than others do
	ReasonNoSecondWorker ValidationReason = "no_second_worker" // no independent worker was free in time
	ReasonDeadline       ValidationReason = "deadline"         // the job's deadline came first
	ReasonReplicasFailed ValidationReason = "replicas_failed"  // every start was spent
)

const (
	// DefaultValidationWindow is how long a replica waits for a free worker.
	DefaultValidationWindow = 30 * time.Second

	maxReplicaStarts = 3 // of the second worker's run, and again of the third's
	maxVotes         = 3 // seed 003 step 7: a second node, then a third and a majority
	maxResults       = 2*maxReplicaStarts + 1
)

// Compare returns the verdict on results i and j of a job: VerdictMatch,
// VerdictMismatch, or anything else where the pair cannot be compared. It must
// be symmetric; it need not be transitive (a numeric tolerance is not).
type Compare func(i, j int) Verdict

// Majority returns the largest set of the results 0..n-1 whose members match
// pairwise, in order, if it has at least two members and is larger than any
// other such set; else nil. The job's result is the first of the set. n is at
// most 16: all subsets are looked at.
func Majority(n int, compare Compare) []int {
	friends := make([]uint32, n) // bit j of friends[i]: i and j match
	for i := range n {
		for j := range i {
			if compare(i, j) == VerdictMatch {
				friends[i] |= 1 << j
				friends[j] |= 1 << i
			}
		}
	}
	var best uint32
	size, tied := 1, false
	for set := uint32(1); set < 1<<n; set++ {
		k := bits.OnesCount32(set)
		if k < size || k < 2 || !pairwise(set, friends) {
			continue
		}
		tied = k == size
		best, size = set, k
	}
	if best == 0 || tied {
		return nil
	}
	return members(best)
}

// pairwise reports whether every member of the set is a friend of all others.
func pairwise(set uint32, friends []uint32) bool {
	for rest := set; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros32(rest)
		if others := set &^ (1 << i); friends[i]&others != others {
			return false
		}
	}
	return true
}

func members(set uint32) []int {
	list := make([]int, 0, bits.OnesCount32(set))
	for ; set != 0; set &= set - 1 {
		list = append(list, bits.TrailingZeros32(set))
	}
	return list
}

// Validation is the record beside a drawn job: what has happened to its
// replicas. It spends its own budget, never the job's attempts or deadline.
// The caller keeps it; Next reads it.
type Validation struct {
	Results       int           // results that came back and passed check 1, the job's own first among them
	ReplicaStarts int           // times the second worker's run was claimed
	ThirdStarts   int           // times the third worker's run was claimed
	Running       bool          // a replica is being run
	TicketOpened  time.Time     // when the ticket that still waits for a worker was opened; zero if none does
	Eligible      bool          // some worker of an operator not yet party could run a replica, now or later
	RequireQuorum bool          // the submitter takes no result without agreement
	Window        time.Duration // Defaults to DefaultValidationWindow.
	Deadline      time.Time     // the job's; zero if it has none
}

// ValidationAction is what is to be done next.
type ValidationAction string

// The actions.
const (
	ValidationWait    ValidationAction = "wait"         // until Step.Until, or for a result
	ValidationReplica ValidationAction = "need replica" // open a ticket for a second worker
	ValidationThird   ValidationAction = "need third"   // open a ticket for a third worker
	ValidationClose   ValidationAction = "close"        // complete the job with Step.Status
	ValidationFail    ValidationAction = "fail"         // fail the job with ErrNoValidator
)

// ValidationStep is the next step of a validation.
type ValidationStep struct {
	Action ValidationAction
	// Until is when to ask again though nothing happened; zero for never.
	Until time.Time

	// Where Action is ValidationClose:
	Status   Verification
	Reason   ValidationReason // empty where workers agreed
	Result   int              // index of the job's result
	Majority []int            // the results that carried it; nil without agreement
	// Verdicts has one verdict a result, for the evidence. VerdictMismatch is
	// given only where two of the majority mismatch the result; their workers
	// are the row's Peers. Where Status is VerificationDisputed a case is
	// opened for each party instead.
	Verdicts []Verdict
}

// Next returns what to do with a validation at the time now. It is pure: the
// caller carries the step out and asks again when something has happened or
// Until has come.
func (v Validation) Next(now time.Time, compare Compare) ValidationStep {
	if set := Majority(min(v.Results, maxResults), compare); set != nil {
		return v.agreed(set, compare)
	}
	votes, disagree := v.votes(compare)
	late := !v.Deadline.IsZero() && !now.Before(v.Deadline)
	switch {
	case votes >= maxVotes:
		return v.unresolved(disagree, ReasonNoMajority)
	case late:
		return v.unresolved(disagree, ReasonDeadline)
	case v.Running:
		return ValidationStep{Action: ValidationWait, Until: v.Deadline}
	case v.startsSpent(disagree):
		return v.unresolved(disagree, ReasonReplicasFailed)
	case v.RequireQuorum && !v.TicketOpened.IsZero():
		return ValidationStep{Action: ValidationWait, Until: v.Deadline}
	case !v.RequireQuorum && (!v.Eligible || v.windowOver(now)):
		return v.unresolved(disagree, ReasonNoSecondWorker)
	case !v.TicketOpened.IsZero():
		return ValidationStep{Action: ValidationWait, Until: earlier(v.TicketOpened.Add(v.window()), v.Deadline)}
	case disagree:
		return ValidationStep{Action: ValidationThird}
	default:
		return ValidationStep{Action: ValidationReplica}
	}
}

// agreed closes the validation with its majority.
func (v Validation) agreed(set []int, compare Compare) ValidationStep {
	_, disagree := v.votes(compare)
	step := ValidationStep{
		Action: ValidationClose, Status: VerificationSampled,
		Result: set[0], Majority: set, Verdicts: make([]Verdict, v.Results),
	}
	if disagree || v.RequireQuorum || set[0] != 0 {
		step.Status = VerificationQuorum
	}
	for i := range step.Verdicts {
		step.Verdicts[i] = verdictOn(i, set, compare)
	}
	return step
}

// verdictOn is the majority's verdict on result i. Where comparison is not
// transitive a result may match one of the majority and not the other: that is
// no evidence.
func verdictOn(i int, set []int, compare Compare) Verdict {
	against := 0
	for _, j := range set {
		if i == j {
			return VerdictMatch
		}
		if compare(max(i, j), min(i, j)) == VerdictMismatch {
			against++
		}
	}
	if against >= 2 {
		return VerdictMismatch
	}
	return VerdictInconclusive
}

// unresolved closes the validation without a majority. Workers that are known
// to disagree make a dispute, however the validation ends: to call such a
// result verified would hide what is known.
func (v Validation) unresolved(disagree bool, reason ValidationReason) ValidationStep {
	step := ValidationStep{
		Action: ValidationClose, Status: VerificationVerified, Reason: reason,
		Verdicts: make([]Verdict, v.Results),
	}
	for i := range step.Verdicts {
		step.Verdicts[i] = VerdictInconclusive
	}
	switch {
	case disagree:
		step.Status = VerificationDisputed
	case v.RequireQuorum:
		return ValidationStep{Action: ValidationFail, Reason: reason}
	}
	return step
}

// votes returns how many results could be compared with another, and whether
// any two of them mismatch.
func (v Validation) votes(compare Compare) (votes int, disagree bool) {
	voted := make([]bool, v.Results)
	for i := range v.Results {
		for j := range i {
			verdict := compare(i, j)
			if verdict == VerdictMatch || verdict == VerdictMismatch {
				voted[i], voted[j] = true, true
			}
			disagree = disagree || verdict == VerdictMismatch
		}
	}
	for _, yes := range voted {
		if yes {
			votes++
		}
	}
	return votes, disagree
}

func (v Validation) startsSpent(disagree bool) bool {
	if disagree {
		return v.ThirdStarts >= maxReplicaStarts
	}
	return v.ReplicaStarts >= maxReplicaStarts
}

func (v Validation) windowOver(now time.Time) bool {
	return !v.TicketOpened.IsZero() && !now.Before(v.TicketOpened.Add(v.window()))
}

func (v Validation) window() time.Duration {
	if v.Window == 0 {
		return DefaultValidationWindow
	}
	return v.Window
}

// earlier returns the earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}
