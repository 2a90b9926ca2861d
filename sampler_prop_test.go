package consign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rulebook holds the rules that the properties are about, so that TestMutants
// can hand them a wrong one.
type rulebook struct {
	draw     func(secret [32]byte, job JobID, worker WorkerID, poe [32]byte) uint64
	commit   func(queue QueueID, epoch uint64, secret [32]byte) [32]byte
	decide   func(SamplingPolicy, Standing, uint64) Decision
	majority func(int, Compare) []int
	next     func(Validation, time.Time, Compare) ValidationStep
	fold     func(Standing, Evidence) (Standing, error)
}

func theRules() rulebook {
	return rulebook{DrawValue, EpochCommitment, SamplingPolicy.Decide, Majority, Validation.Next, Standing.Fold}
}

// A property draws an input and says how the rules break their contract on it.
type property struct {
	about    string // the rule, as mutants name it
	sentence string
	check    func(rulebook, *rapid.T) error
}

var validationProperties = []property{
	{"draw", "the draw depends on secret, job, worker and PoE", drawDependsOnAll},
	{"commitment", "the commitment depends on queue, epoch and secret", commitmentDependsOnAll},
	{"decide", "drawn if N < 10 or u < max(floor, (2^64-1)/N), or under watch", decisionIsTheFormula},
	{"majority", "the majority agrees pairwise, has two members, and is larger than any other", majorityIsTheOnlyLargest},
	{"fold", "only mismatch and invalid are evidence", onlyEvidenceMoves},
	{"fold", "a mismatch counts only when two workers of two other operators agree against it", mismatchNeedsTwoOperators},
	{"fold", "a submitter with two friends moves a worker by one step at most", oneSubmitterIsOneStep},
	{"fold", "a flag needs two submitters, a trusted one, or the queue itself", flagNeedsTwoSubmitters},
	{"fold", "a match raises N only if the other party is established, a probe, or nobody is", newcomersDoNotRaiseN},
	{"fold", "the sums are CUSUM of log likelihood ratios, and flag at 17 and 15", sumsAreCUSUM},
	{"fold", "a flag stands until a review, a dispute opens a case and p is 1", statesMoveAsWritten},
	{"fold", "the same rows give the same bytes, and change no earlier state", foldIsDeterministic},
	{"next", "a validation ends as its contract says", validationKeepsItsContract},
}

func TestValidationProperties(t *testing.T) {
	for _, p := range validationProperties {
		t.Run(p.sentence, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				if err := p.check(theRules(), t); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// ---- the draw

func drawDependsOnAll(r rulebook, t *rapid.T) error {
	in := rapid.SliceOfN(rapid.Byte(), 112, 112).Draw(t, "secret, job, worker, PoE")
	at := rapid.IntRange(0, 111).Draw(t, "changed byte")
	u := func(b []byte) uint64 {
		return r.draw([32]byte(b[:32]), JobID(b[32:48]), WorkerID(b[48:80]), [32]byte(b[80:]))
	}
	other := slices.Clone(in)
	other[at] ^= 1
	if u(in) != u(slices.Clone(in)) || u(in) == u(other) {
		return fmt.Errorf("byte %d does not matter", at)
	}
	return nil
}

func commitmentDependsOnAll(r rulebook, t *rapid.T) error {
	in := rapid.SliceOfN(rapid.Byte(), 65, 65).Draw(t, "queue, epoch, secret")
	at := rapid.IntRange(0, 64).Draw(t, "changed byte")
	commit := func(b []byte) [32]byte {
		return r.commit(QueueID(b[:32]), uint64(b[32]), [32]byte(b[33:]))
	}
	other := slices.Clone(in)
	other[at] ^= 1
	if commit(in) == commit(other) {
		return fmt.Errorf("byte %d does not matter", at)
	}
	return nil
}

func decisionIsTheFormula(r rulebook, t *rapid.T) error {
	p := SamplingPolicy{Fixed: rapid.Bool().Draw(t, "fixed"), Rate: rapid.Uint32Range(0, 1_000_000).Draw(t, "rate")}
	s := Standing{N: rapid.OneOf(rapid.Uint64Range(8, 12), rapid.Uint64Range(0, 40), rapid.Uint64()).Draw(t, "N")}
	s.Near = rapid.Bool().Draw(t, "near")
	s.Slow = rapid.Int64Range(0, 4_000_000).Draw(t, "slow")
	if rapid.Bool().Draw(t, "clean record") {
		s.Slow = rapid.SampledFrom([]int64{0, 1_999_999, 2_000_000, 2_499_999, 2_500_000}).Draw(t, "slow, at its edges")
	} else {
		s.Cases = rapid.Uint64Range(0, 1).Draw(t, "cases")
	}

	// The same in rational numbers.
	top := new(big.Int).SetUint64(math.MaxUint64)
	rate := p.Rate
	if rate == 0 && !p.Fixed {
		rate = 50_000
	}
	limit := new(big.Int).Div(new(big.Int).Mul(top, big.NewInt(int64(rate))), big.NewInt(1_000_000))
	certain := s.Cases > 0 || s.Slow >= 2_500_000 || !s.Near && s.Slow >= 2_000_000 || rate == 1_000_000
	if !p.Fixed {
		certain = certain || s.N < 10
		if s.N > 0 {
			if byN := new(big.Int).Div(top, new(big.Int).SetUint64(s.N)); byN.Cmp(limit) > 0 {
				limit = byN
			}
		}
	}
	u := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{
		0, math.MaxUint64, limit.Uint64(), limit.Uint64() - 1, limit.Uint64() + 1})).Draw(t, "u")
	want := certain || new(big.Int).SetUint64(u).Cmp(limit) < 0
	if got := r.decide(p, s, u); got.Drawn != want {
		return fmt.Errorf("%+v, %+v, u = %d: drawn = %t, want %t", p, s, u, got.Drawn, want)
	}
	return nil
}

// ---- the majority

// drawGraph draws how n results compare; mismatch where they do not match.
func drawGraph(t *rapid.T, n int) Compare {
	verdicts := rapid.SliceOfN(rapid.SampledFrom([]Verdict{
		VerdictMatch, VerdictMatch, VerdictMismatch, VerdictMismatch, VerdictInconclusive}), n*n, n*n).Draw(t, "verdicts")
	return func(i, j int) Verdict { return verdicts[max(i, j)*n+min(i, j)] }
}

func majorityIsTheOnlyLargest(r rulebook, t *rapid.T) error {
	n := rapid.IntRange(0, 6).Draw(t, "results")
	compare := drawGraph(t, n)
	got := r.majority(n, compare)

	// Every clique, found by adding one result at a time.
	var cliques [][]int
	var grow func(set []int, from int)
	grow = func(set []int, from int) {
		if len(set) >= 2 {
			cliques = append(cliques, slices.Clone(set))
		}
		for i := from; i < n; i++ {
			if !slices.ContainsFunc(set, func(j int) bool { return compare(i, j) != VerdictMatch }) {
				grow(append(set, i), i+1)
			}
		}
	}
	grow(nil, 0)
	slices.SortStableFunc(cliques, func(a, b []int) int { return len(b) - len(a) })
	var want []int
	if len(cliques) == 1 || len(cliques) > 1 && len(cliques[0]) > len(cliques[1]) {
		want = cliques[0]
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("majority %v, want %v", got, want)
	}
	return nil
}

// ---- the standing

var (
	someOperators  = rapid.SampledFrom([]string{"a", "b", "c", "own"})
	someSubmitters = rapid.SampledFrom([]string{"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11"})
)

func drawStanding(t *rapid.T) Standing {
	s := Standing{
		N:         rapid.Uint64Range(0, 20).Draw(t, "N"),
		Fast:      rapid.Int64Range(0, 18_000_000).Draw(t, "fast"),
		Slow:      rapid.Int64Range(0, 16_000_000).Draw(t, "slow"),
		Witnessed: rapid.Bool().Draw(t, "witnessed"),
		Cases:     rapid.Uint64Range(0, 1).Draw(t, "cases"),
		Row:       rapid.Uint64Range(0, 9).Draw(t, "row"),
	}
	s.Near = rapid.Bool().Draw(t, "near")
	s.Accusers = rapid.SliceOfNDistinct(someSubmitters, 0, 3, rapid.ID).Draw(t, "accusers")
	slices.Sort(s.Accusers)
	return s
}

func drawPeers(t *rapid.T) []Peer {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Peer {
		return Peer{Worker: WorkerID{rapid.ByteRange(1, 3).Draw(t, "worker")},
			Operator: someOperators.Draw(t, "operator"), Established: rapid.Bool().Draw(t, "established")}
	}), 0, 3).Draw(t, "peers")
}

func drawEvidence(t *rapid.T, s Standing, kind EvidenceKind) Evidence {
	return Evidence{Subject: s.Subject, Number: s.Row + 1, Kind: kind, Operator: "own",
		Submitter: someSubmitters.Draw(t, "submitter"), Trusted: rapid.Bool().Draw(t, "trusted"),
		Probe: rapid.Bool().Draw(t, "probe"), Alone: rapid.Bool().Draw(t, "alone"), Peers: drawPeers(t)}
}

func onlyEvidenceMoves(r rulebook, t *rapid.T) error {
	s := drawStanding(t)
	kind := rapid.SampledFrom([]EvidenceKind{EvidenceInconclusive, EvidenceTransient}).Draw(t, "kind")
	s.Flagged = exactTests.flags(s) // a state that Fold could have left
	got, err := r.fold(s, drawEvidence(t, s, kind))
	s.Row++
	got.Flagged = s.Flagged
	if err != nil || !reflect.DeepEqual(got, s) {
		return fmt.Errorf("%s moved %+v to %+v (%v)", kind, s, got, err)
	}
	return nil
}

func mismatchNeedsTwoOperators(r rulebook, t *rapid.T) error {
	s := drawStanding(t)
	s.Accusers = nil
	e := drawEvidence(t, s, EvidenceMismatch)
	counts := false
	for _, p := range e.Peers {
		for _, q := range e.Peers {
			operators := map[string]bool{"own": true, p.Operator: true, q.Operator: true}
			counts = counts || len(operators) == 3 && p.Worker != q.Worker
		}
	}
	got, err := r.fold(s, e)
	if err != nil {
		return err
	}
	if counted := got.Slow > s.Slow && got.Fast > s.Fast && got.N == 0 && got.Strikes == 1; counted != counts {
		return fmt.Errorf("counted = %t with peers %+v", counted, e.Peers)
	}
	if !counts && (got.N != s.N || got.Slow != s.Slow || got.Fast != s.Fast) {
		return fmt.Errorf("a mismatch that does not count moved %+v to %+v", s, got)
	}
	return nil
}

func against(s Standing, submitter string) Evidence {
	return Evidence{Subject: s.Subject, Number: s.Row + 1, Kind: EvidenceMismatch, Operator: "own", Submitter: submitter,
		Peers: []Peer{{Worker: WorkerID{1}, Operator: "a"}, {Worker: WorkerID{2}, Operator: "b"}}}
}

func agreeing(s Standing) Evidence {
	return Evidence{Subject: s.Subject, Number: s.Row + 1, Kind: EvidenceMatch, Operator: "own", Submitter: "s1",
		Peers: []Peer{{Worker: WorkerID{1}, Operator: "a", Established: true}}}
}

func oneSubmitterIsOneStep(r rulebook, t *rapid.T) error {
	var s Standing
	s.Near = rapid.Bool().Draw(t, "near")
	var err error
	for _, bad := range rapid.SliceOfN(rapid.Bool(), 1, 40).Draw(t, "mismatches") {
		e := agreeing(s)
		if bad {
			e = against(s, "s1")
		}
		if s, err = r.fold(s, e); err != nil {
			return err
		}
		if rules := testsFor(s.Near); s.Fast > rules.fastUp || s.Slow > rules.slowUp || s.Flagged {
			return fmt.Errorf("one submitter pushed the sums to %d and %d, flagged = %t", s.Fast, s.Slow, s.Flagged)
		}
	}
	return nil
}

func flagNeedsTwoSubmitters(r rulebook, t *rapid.T) error {
	s := drawStanding(t)
	got, err := r.fold(s, drawEvidence(t, s, rapid.SampledFrom([]EvidenceKind{EvidenceMatch, EvidenceMismatch, EvidenceInvalid}).Draw(t, "kind")))
	if err != nil {
		return err
	}
	if got.Flagged && !got.Witnessed && len(got.Accusers) < 2 {
		return fmt.Errorf("flagged on the word of %q", got.Accusers)
	}
	return nil
}

func newcomersDoNotRaiseN(r rulebook, t *rapid.T) error {
	s := drawStanding(t)
	e := drawEvidence(t, s, EvidenceMatch)
	want := s.N
	if e.Probe || e.Alone || slices.ContainsFunc(e.Peers, func(p Peer) bool { return p.Established && p.Operator != "own" }) {
		want++
	}
	got, err := r.fold(s, e)
	if err != nil || got.N != want {
		return fmt.Errorf("N = %d after %d and %+v, want %d (%v)", got.N, s.N, e, want, err)
	}
	return nil
}

// sumsAreCUSUM folds runs of evidence and compares with the textbook in
// floating point.
func sumsAreCUSUM(r rulebook, t *rapid.T) error {
	var s Standing
	s.Near = rapid.Bool().Draw(t, "near")
	p0, slow1 := .002, .02
	if s.Near {
		p0, slow1 = .02, .10
	}
	var fast, slow float64
	step := func(sum *float64, p1 float64, bad bool) {
		if bad {
			*sum += math.Log(p1 / p0)
		} else {
			*sum = max(0, *sum+math.Log((1-p1)/(1-p0)))
		}
	}
	flagged := false
	worth := rapid.IntRange(0, 60).Draw(t, "matches between") // few: the fast test flags; many: the slow one
	for i := range rapid.IntRange(1, 14).Draw(t, "mismatches") {
		for k := range worth + 1 {
			bad := k == 0
			e := agreeing(s)
			if bad {
				e = against(s, fmt.Sprint("s", i))
			}
			var err error
			if s, err = r.fold(s, e); err != nil {
				return err
			}
			step(&fast, .6, bad)
			step(&slow, slow1, bad)
			flagged = flagged || fast >= 17 || slow >= 15
			if math.Abs(float64(s.Fast)/1e6-fast) > 1e-3 || math.Abs(float64(s.Slow)/1e6-slow) > 1e-3 {
				return fmt.Errorf("sums %d and %d, want %.6f and %.6f", s.Fast, s.Slow, fast, slow)
			}
			if near := math.Abs(fast-17) < 1e-3 || math.Abs(slow-15) < 1e-3; s.Flagged != flagged && !near {
				return fmt.Errorf("flagged = %t at %.6f and %.6f", s.Flagged, fast, slow)
			}
			wantN := uint64(k)
			if s.N != wantN {
				return fmt.Errorf("N = %d after %d matches in a row", s.N, k)
			}
		}
	}
	return nil
}

func statesMoveAsWritten(r rulebook, t *rapid.T) error {
	s := drawStanding(t)
	s.Flagged = rapid.Bool().Draw(t, "flagged")
	kind := rapid.SampledFrom([]EvidenceKind{EvidenceMatch, EvidenceTransient, EvidenceVouch, EvidenceDispute,
		EvidenceInvalid, EvidenceClear, EvidenceRemove}).Draw(t, "kind")
	got, err := r.fold(s, drawEvidence(t, s, kind))
	if err != nil {
		return err
	}
	switch state := got.State(); {
	case kind == EvidenceRemove && state != StandingRemoved,
		kind == EvidenceClear && (state != StandingActive || got.N != 0 || got.Slow != 0 || got.Watched()),
		kind != EvidenceClear && s.Flagged && !got.Flagged,
		(kind == EvidenceDispute || kind == EvidenceInvalid) && (got.Cases != s.Cases+1 || !got.Watched()),
		kind == EvidenceDispute && (got.Slow != s.Slow || got.N != s.N):
		return fmt.Errorf("%s moved %+v to %+v", kind, s, got)
	}
	return nil
}

func foldIsDeterministic(r rulebook, t *rapid.T) error {
	once := func() ([]byte, error) {
		var s Standing
		var trail []Standing
		var bytesThen [][]byte
		for i := range 12 {
			e := against(s, fmt.Sprint("s", (i*7)%12))
			if i%3 == 0 {
				e = agreeing(s)
			}
			next, err := r.fold(s, e)
			if err != nil {
				return nil, err
			}
			s = next
			text, _ := json.Marshal(s)
			trail, bytesThen = append(trail, s), append(bytesThen, text)
		}
		for i := range trail {
			if text, _ := json.Marshal(trail[i]); !bytes.Equal(text, bytesThen[i]) {
				return nil, fmt.Errorf("state %d changed later: %s, was %s", i, text, bytesThen[i])
			}
		}
		return bytesThen[len(bytesThen)-1], nil
	}
	a, err := once()
	if err != nil {
		return err
	}
	b, err := once()
	if err != nil || !bytes.Equal(a, b) {
		return fmt.Errorf("%s and %s (%v)", a, b, err)
	}
	s := drawStanding(t)
	for _, n := range []uint64{s.Row, s.Row + 2} {
		e := agreeing(s)
		e.Number = n
		if _, err := r.fold(s, e); err == nil {
			return errors.New("a row out of its turn was folded")
		}
	}
	return nil
}

// ---- the next step

// validationKeepsItsContract plays a validation to its end in a world drawn at
// random: workers come and go, replicas fail, results compare as they like.
func validationKeepsItsContract(r rulebook, t *rapid.T) error {
	compare := drawGraph(t, maxResults)
	start := time.Unix(1000, 0)
	v := Validation{Results: 1, RequireQuorum: rapid.Bool().Draw(t, "quorum"), Eligible: rapid.Bool().Draw(t, "eligible")}
	v.Deadline = start.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "deadline")) * time.Second)
	claims := rapid.IntRange(0, 9).Draw(t, "how soon tickets are claimed")
	failing := rapid.IntRange(0, 3).Draw(t, "how often replicas fail")
	var third bool // a third was asked for
	for now := start; ; now = now.Add(time.Second) {
		if now.After(v.Deadline) {
			return errors.New("open after its deadline")
		}
		step := r.next(v, now, compare)
		if step.Until.After(v.Deadline) {
			return errors.New("waits beyond the deadline")
		}
		switch step.Action {
		case ValidationClose, ValidationFail:
			return closedWell(v, step, now, compare)
		case ValidationReplica, ValidationThird:
			if v.Running || !v.TicketOpened.IsZero() {
				return errors.New("two replicas at once")
			}
			if !v.Eligible && !v.RequireQuorum {
				return errors.New("a ticket that nobody may claim")
			}
			third = step.Action == ValidationThird
			v.TicketOpened = now
		case ValidationWait:
			if !v.Running && !v.RequireQuorum && now.Sub(v.TicketOpened) >= 30*time.Second {
				return errors.New("waits beyond its window")
			}
			switch what := rapid.IntRange(0, 9).Draw(t, "event"); {
			case v.Running && what < failing:
				v.Running = false // transient
			case v.Running && what < 4:
				v.Running = false
				v.Results++
			case !v.Running && what < claims:
				v.TicketOpened, v.Running = time.Time{}, true
				if third {
					v.ThirdStarts++
				} else {
					v.ReplicaStarts++
				}
			}
		}
		if v.ReplicaStarts > 3 || v.ThirdStarts > 3 {
			return errors.New("more than three starts a replica")
		}
	}
}

func closedWell(v Validation, step ValidationStep, now time.Time, compare Compare) error {
	disagree := false
	for i := range v.Results {
		for j := range i {
			disagree = disagree || compare(i, j) == VerdictMismatch
		}
	}
	bad := func(why string) error { return fmt.Errorf("%s: %+v closed with %+v", why, v, step) }
	if step.Action == ValidationFail {
		if !v.RequireQuorum || disagree {
			return bad("failed a job that has an answer")
		}
		return nil
	}
	agreed := step.Status == VerificationSampled || step.Status == VerificationQuorum
	switch {
	case agreed != (Majority(v.Results, compare) != nil):
		return bad("agreement without a majority, or the reverse")
	case !agreed && disagree != (step.Status == VerificationDisputed):
		return bad("disputed if and only if workers disagree")
	case !agreed && v.RequireQuorum && step.Status == VerificationVerified:
		return bad("a quorum was required")
	case agreed != (step.Reason == ""):
		return bad("a reason if and only if nobody agreed")
	case agreed && step.Result != step.Majority[0], !agreed && step.Result != 0:
		return bad("not the earliest result")
	case step.Status == VerificationSampled && (disagree || v.RequireQuorum):
		return bad("sampled means that the replica agreed at once")
	case step.Reason == ReasonDeadline && now.Before(v.Deadline):
		return bad("before its deadline")
	}
	for i, verdict := range step.Verdicts {
		opposed := 0
		for _, j := range step.Majority {
			if i != j && compare(i, j) == VerdictMismatch {
				opposed++
			}
		}
		if verdict == VerdictMismatch && opposed < 2 || verdict == VerdictMatch != slices.Contains(step.Majority, i) {
			return bad(fmt.Sprintf("verdict %d", i))
		}
	}
	return nil
}
