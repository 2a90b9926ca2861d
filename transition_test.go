package consign

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The state machine as DESIGN section 3 tells it, written down a second time:
// what is not in a row is a *TransitionError.
var documented = map[State]map[EventKind][]State{
	StateNone:       {EventSubmit: {StateQueued}},
	StateBlocked:    {EventUnblock: {StateQueued}, EventExpire: {StateExpired}, EventCancel: {StateCancelled}},
	StateQueued:     {EventClaim: {StateRunning}, EventExpire: {StateExpired}, EventCancel: {StateCancelled}},
	StateRunning:    {EventComplete: {StateCompleted, StateValidating}, EventReject: {StateQueued, StateFailed}, EventFail: {StateQueued, StateFailed}, EventRelease: {StateQueued}, EventLeaseLost: {StateQueued, StateFailed}, EventLimit: {StateQueued, StateFailed}, EventExpire: {StateExpired}, EventCancel: {StateCancelled}},
	StateValidating: {EventValidate: {StateCompleted}},
	StateCompleted:  {EventAcknowledge: {StateCompleted}, EventPurge: {StateCompleted}},
	StateFailed:     {EventAcknowledge: {StateFailed}, EventPurge: {StateFailed}},
	StateCancelled:  {EventAcknowledge: {StateCancelled}, EventPurge: {StateCancelled}},
	StateExpired:    {EventAcknowledge: {StateExpired}, EventPurge: {StateExpired}},
}

var testRules = Rules{BackoffBase: time.Second, BackoffMax: 5 * time.Minute, Exclusion: 30 * time.Second,
	Retention: 24 * time.Hour, AckRetention: 10 * time.Minute, Tombstone: 24 * time.Hour}

const second, minute = Instant(1e6), Instant(60e6)

// nextFunc is Job.Next, or a mutant of it.
type nextFunc func(*Job, *Event, Instant, *Rules) (Transition, error)

// jobIn is a job as it may be found in a state.
func jobIn(state State, variant int) *Job {
	j := &Job{ID: JobID{1, 2, 3, byte(variant)}, Version: 7, Change: ChangeID{9}, State: state, Account: "acme", Lane: "kind=TASK&tier=1",
		Offset: 10 * time.Second, Custody: CustodyEscrow, Price: 5, CreatedAt: 100 * minute, MaxAttempts: 3, Reason: "before"}
	if variant&1 != 0 {
		j.Deadline = 150 * minute
	}
	if variant&2 != 0 {
		j.QueueTime = time.Minute
	}
	if variant&4 != 0 {
		j.Faults, j.Attempt = 2, 2
	}
	if variant&8 != 0 {
		j.Price, j.Custody = 0, CustodyPlain
	}
	switch state {
	case StateNone:
		j.Version, j.Change, j.Faults, j.Attempt = 0, ChangeID{}, 0, 0
		if variant&16 != 0 {
			j.ReadyAt = 120 * minute
		}
	case StateQueued:
		j.ReadyAt, j.Key = 100*minute, 100*minute+10*second
		if variant&16 != 0 {
			j.Ticket, j.LastWorker, j.ExcludeUntil = TicketRetry, WorkerID{7}, 101*minute
		}
		if j.QueueTime > 0 {
			j.QueueUntil = j.ReadyAt.Add(j.QueueTime)
		}
	case StateRunning, StateValidating, StateCompleted:
		j.Attempt++
		j.Claim, j.Worker, j.ClaimedAt = ClaimID{4}, WorkerID{5}, 101*minute
		if variant&16 != 0 {
			j.LimitAt = 110 * minute
		}
		j.LeaseFor, j.LeaseUntil = 30*time.Second, 101*minute+30*second
	}
	if state.Terminal() {
		j.EndedAt = 102 * minute
		j.LeaseFor, j.LeaseUntil, j.LimitAt = 0, 0, 0
		if variant&16 != 0 {
			j.AckedAt = 103 * minute
		}
	}
	return j
}

// checkNext applies the event and compares with what is documented.
func checkNext(next nextFunc, j *Job, ev *Event, now Instant, rules *Rules) error {
	before, evBefore := *j, *ev
	got, err := next(j, ev, now, rules)
	if *j != before || *ev != evBefore {
		return fmt.Errorf("Next modified its arguments: %+v", j)
	}
	allowed, ok := documented[j.State][ev.Kind]
	if j.Purged && ev.Kind != EventPurge {
		ok = false
	}
	if !ok {
		var te *TransitionError
		if !errors.As(err, &te) {
			return fmt.Errorf("an event that is not in the table gave %v, not a *TransitionError", err)
		}
		if *te != (TransitionError{Job: j.ID, State: j.State, Event: ev.Kind}) {
			return fmt.Errorf("the error says %+v", te)
		}
		if !reflect.DeepEqual(got, Transition{}) {
			return fmt.Errorf("an illegal event has an outcome: %+v", got)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("a documented event failed: %w", err)
	}
	n := got.Job
	switch {
	case n == j:
		return errors.New("Next returned its argument")
	case !slices.Contains(allowed, n.State):
		return fmt.Errorf("%s leads to %s, documented are %v", ev.Kind, n.State, allowed)
	case n.Version != j.Version+1:
		return fmt.Errorf("version %d follows %d", n.Version, j.Version)
	case n.Change != ev.Change:
		return errors.New("the version does not carry its change's ID")
	case n.ID != j.ID || n.Account != j.Account || n.Lane != j.Lane || n.Offset != j.Offset || n.Custody != j.Custody || n.InputHash != j.InputHash ||
		n.Price != j.Price || n.CreatedAt != j.CreatedAt || n.Deadline != j.Deadline || n.QueueTime != j.QueueTime || n.Chars != j.Chars || n.MaxAttempts != j.MaxAttempts:
		return fmt.Errorf("a field that never changes did: %+v", n)
	case j.State.Terminal() && (n.State != j.State || n.EndedAt != j.EndedAt || n.Claim != j.Claim || n.Worker != j.Worker || n.Attempt != j.Attempt || n.Faults != j.Faults || n.Reason != j.Reason):
		return fmt.Errorf("a terminal job changed: %+v", n)
	case n.Attempt < j.Attempt || n.Faults < j.Faults || n.Faults > j.Faults+1 || n.Attempt > j.Attempt+1:
		return fmt.Errorf("attempts %d, faults %d follow %d, %d", n.Attempt, n.Faults, j.Attempt, j.Faults)
	}
	if err := checkOutcome(j, n, ev, now, rules); err != nil {
		return err
	}
	if want := wantDue(n, now, rules); n.DueAt != want {
		return fmt.Errorf("due at %d, want %d", n.DueAt, want)
	}
	if err := checkLog(j, n, ev, now, got.Log); err != nil {
		return err
	}
	return checkEffects(j, n, ev, now, got.Effects)
}

// checkOutcome checks the state and its fields, by state and event.
func checkOutcome(j, n *Job, ev *Event, now Instant, rules *Rules) error {
	switch ev.Kind {
	case EventSubmit, EventUnblock:
		if n.Ticket != TicketFirst || n.ReadyAt != max(now, j.ReadyAt) || n.Attempt != 0 && ev.Kind == EventSubmit {
			return fmt.Errorf("a new ticket: %+v", n)
		}
	case EventClaim:
		if n.Attempt != j.Attempt+1 || n.Claim != ev.Claim || n.Worker != ev.Worker || n.ClaimedAt != now || n.LimitAt != ev.Limit || n.LeaseFor != ev.Lease || n.Faults != j.Faults {
			return fmt.Errorf("a claim: %+v", n)
		}
	case EventComplete:
		if (n.State == StateValidating) != ev.Drawn {
			return fmt.Errorf("drawn %v leads to %s", ev.Drawn, n.State)
		}
		if n.Claim != j.Claim || n.Worker != j.Worker {
			return errors.New("the accepted attempt is not remembered")
		}
	case EventFail, EventReject, EventLeaseLost, EventLimit:
		if n.Faults != j.Faults+1 {
			return fmt.Errorf("a fault does not count: %d after %d", n.Faults, j.Faults)
		}
		over := n.Faults >= j.MaxAttempts || ev.Kind == EventFail && ev.Fail == FailPayload
		if (n.State == StateFailed) != over {
			return fmt.Errorf("%d faults of %d lead to %s", n.Faults, j.MaxAttempts, n.State)
		}
	case EventRelease:
		if n.Faults != j.Faults {
			return errors.New("a release counts as a fault")
		}
	case EventAcknowledge:
		if n.AckedAt == 0 || j.AckedAt != 0 && n.AckedAt != j.AckedAt || j.AckedAt == 0 && n.AckedAt != now {
			return fmt.Errorf("acknowledged at %d after %d", n.AckedAt, j.AckedAt)
		}
	case EventPurge:
		if !n.Purged || n.AckedAt != j.AckedAt {
			return fmt.Errorf("purged: %+v", n)
		}
	}
	if ev.Kind != EventPurge && n.Purged {
		return errors.New("purged by " + ev.Kind.String())
	}
	if !j.State.Terminal() && n.Reason != ev.Reason {
		return fmt.Errorf("reason %q, want %q", n.Reason, ev.Reason)
	}
	if n.State != StateRunning && n.LeaseFor != 0 || n.State == StateRunning && n.LeaseFor == 0 {
		return fmt.Errorf("%s with a lease for %s", n.State, n.LeaseFor)
	}
	switch n.State {
	case StateQueued:
		if want := max(n.ReadyAt, min(n.ReadyAt.Add(n.Offset), deadlineKey(n))).Add(ev.Behind); n.Key != want {
			return fmt.Errorf("key %d, want %d", n.Key, want)
		}
		if n.QueueTime > 0 && n.QueueUntil != n.ReadyAt.Add(n.QueueTime) || n.QueueTime <= 0 && n.QueueUntil != 0 {
			return fmt.Errorf("queued until %d", n.QueueUntil)
		}
		if !n.Claim.IsZero() || !n.Worker.IsZero() || n.LeaseUntil != 0 || n.LimitAt != 0 || n.ClaimedAt != 0 {
			return fmt.Errorf("queued with an attempt: %+v", n)
		}
		if j.State == StateRunning {
			wait := n.ReadyAt.Sub(now)
			if n.Ticket != TicketRetry || n.LastWorker != j.Worker || n.ExcludeUntil != n.ReadyAt.Add(rules.Exclusion) {
				return fmt.Errorf("a retry: %+v", n)
			}
			switch {
			case ev.Kind == EventRelease:
				if wait != 0 && wait != rules.BackoffBase {
					return fmt.Errorf("a release waits %s", wait)
				}
			case ev.Kind == EventFail && ev.Fail == FailRefused:
				if wait != 0 {
					return fmt.Errorf("a refusal waits %s", wait)
				}
			default:
				if d := wantBackoff(n.Faults, rules); wait < d/2-time.Microsecond || wait > d {
					return fmt.Errorf("fault %d waits %s, want between %s and %s", n.Faults, wait, d/2, d)
				}
			}
		}
	case StateRunning:
		if n.Key != 0 || n.QueueUntil != 0 {
			return fmt.Errorf("running with a ticket: %+v", n)
		}
	}
	if n.State.Terminal() && !j.State.Terminal() {
		if n.EndedAt != now || n.Key != 0 || n.QueueUntil != 0 || n.LimitAt != 0 || n.LeaseUntil != 0 || n.AckedAt != 0 {
			return fmt.Errorf("an end: %+v", n)
		}
	}
	return nil
}

func deadlineKey(j *Job) Instant {
	if j.Deadline == 0 {
		return maxInstant
	}
	return j.Deadline - 30*second
}

// wantBackoff doubles, step by step, and so cannot overflow.
func wantBackoff(faults int, rules *Rules) time.Duration {
	d := min(rules.BackoffBase, rules.BackoffMax)
	for range faults - 1 {
		if d > rules.BackoffMax/2 {
			return rules.BackoffMax
		}
		d *= 2
	}
	return d
}

func wantDue(n *Job, now Instant, rules *Rules) Instant {
	first := func(a, b Instant) Instant {
		if a == 0 || b != 0 && b < a {
			return b
		}
		return a
	}
	switch {
	case n.Purged:
		return now.Add(rules.Tombstone)
	case n.State.Terminal() && n.AckedAt != 0:
		return first(n.AckedAt.Add(rules.AckRetention), n.EndedAt.Add(rules.Retention))
	case n.State.Terminal():
		return n.EndedAt.Add(rules.Retention)
	case n.State == StateRunning:
		return first(n.LimitAt, n.Deadline)
	case n.State == StateQueued || n.State == StateBlocked:
		return first(n.QueueUntil, n.Deadline)
	}
	return 0
}

func checkLog(j, n *Job, ev *Event, now Instant, log []LogEntry) error {
	if ev.Kind == EventPurge || ev.Kind == EventAcknowledge && j.AckedAt != 0 {
		if len(log) != 0 {
			return fmt.Errorf("%s is logged: %+v", ev.Kind, log)
		}
		return nil
	}
	if len(log) == 0 {
		return errors.New("nothing is logged")
	}
	e := log[0]
	worker := n.Worker
	if worker.IsZero() {
		worker = j.Worker
	}
	if want := (LogEntry{Job: j.ID, Seq: seq(n.Version, 0), At: now, Event: ev.Kind, State: n.State, Attempt: n.Attempt, Worker: worker, Reason: ev.Reason}); !reflect.DeepEqual(e, want) {
		return fmt.Errorf("logged %+v, want %+v", e, want)
	}
	settled := n.Price == 0 && n.State == StateCompleted && j.State != StateCompleted
	switch {
	case settled && (len(log) != 2 || log[1].Event != EventSettle || log[1].Seq <= e.Seq || log[1].Job != j.ID):
		return fmt.Errorf("a free job that completed is not settled: %+v", log)
	case !settled && len(log) != 1:
		return fmt.Errorf("logged twice: %+v", log)
	}
	return nil
}

func checkEffects(j, n *Job, ev *Event, now Instant, got []Effect) error {
	var want []Effect
	add := func(kind EffectKind, target string, amount Price) {
		want = append(want, Effect{ID: EffectID{j.ID, seq(n.Version, len(want))}, Kind: kind, Target: target, Amount: int64(amount), Reason: ev.Reason, At: now})
	}
	if ev.Kind == EventReject {
		add(EffectStrike, j.Worker.String(), 0)
	}
	if ended := n.State.Terminal() && !j.State.Terminal(); ended && j.Price > 0 {
		if n.State == StateCompleted {
			add(EffectSettle, j.Account, j.Price)
		} else {
			add(EffectRefund, j.Account, j.Price)
		}
	}
	if j.Custody == CustodyEscrow || j.Custody == CustodyTransit {
		if forgotten := n.AckedAt != 0 || n.Purged; forgotten && j.AckedAt == 0 && !j.Purged {
			add(EffectShred, vaultOf(j), 0)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("effects %+v, want %+v", got, want)
	}
	return nil
}

// everyTransition calls f for each State, Event and kind of job and event.
func everyTransition(f func(j *Job, ev *Event, now Instant)) {
	for state := StateNone; state <= StateExpired; state++ {
		for variant := range 32 {
			for _, purged := range []bool{false, true} {
				if purged && !state.Terminal() {
					continue
				}
				for kind := EventKind(0); kind <= EventReport+1; kind++ {
					for shade := range 3 {
						j := jobIn(state, variant)
						j.Purged = purged
						ev := &Event{Kind: kind, Change: ChangeID{byte(kind), byte(shade)}, Reason: "because"}
						switch kind {
						case EventSubmit, EventUnblock:
							ev.Behind = time.Duration(shade) * time.Microsecond
						case EventClaim:
							ev.Claim, ev.Worker, ev.Lease = ClaimID{8}, WorkerID{9}, 30*time.Second
							ev.Limit = Instant(shade) * 105 * minute
						case EventComplete:
							ev.Drawn = shade == 1
						case EventFail:
							ev.Fail = FailKind(shade)
						}
						f(j, ev, 104*minute)
					}
				}
			}
		}
	}
}

// Every State with every Event, in all their shades, is what is documented.
func TestTransitionTable(t *testing.T) {
	pairs := map[[2]int]bool{}
	everyTransition(func(j *Job, ev *Event, now Instant) {
		pairs[[2]int{int(j.State), int(ev.Kind)}] = true
		if err := checkNext((*Job).Next, j, ev, now, &testRules); err != nil {
			t.Errorf("%s, %s (purged %v): %v", j.State, ev.Kind, j.Purged, err)
		}
	})
	if want := 9 * 18; len(pairs) != want {
		t.Errorf("%d pairs of state and event, want %d", len(pairs), want)
	}
}

// What the table lists is what is documented, no more and no less.
func TestTransitionTableIsDocumented(t *testing.T) {
	for state := StateNone; state <= StateExpired; state++ {
		for kind := EventKind(0); kind <= EventReport; kind++ {
			got := slices.Clone(transitions[state][kind])
			want := slices.Clone(documented[state][kind])
			if state == StateNone && kind == EventSubmit {
				want = append(want, StateBlocked) // a graph's, which nothing makes yet
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %v, documented %v", state, kind, got, want)
			}
		}
	}
}

// drawEvent draws any event, legal or not.
func drawEvent(t *rapid.T) *Event {
	ev := &Event{Kind: EventKind(rapid.IntRange(1, int(EventReport)).Draw(t, "event")), Reason: rapid.SampledFrom([]string{"", "why"}).Draw(t, "reason")}
	ev.Change = ChangeID{rapid.Byte().Draw(t, "change")}
	switch ev.Kind {
	case EventClaim:
		ev.Claim, ev.Worker = ClaimID{1 + rapid.Byte().Draw(t, "claim")%9}, WorkerID{1 + rapid.Byte().Draw(t, "worker")%9}
		ev.Lease = 30 * time.Second
		ev.Limit = Instant(rapid.Int64Range(0, 1e9).Draw(t, "limit"))
	case EventComplete:
		ev.Drawn = rapid.Bool().Draw(t, "drawn")
	case EventFail:
		ev.Fail = FailKind(rapid.IntRange(0, 2).Draw(t, "fail"))
	}
	return ev
}

func drawDraft(t *rapid.T) *Job {
	j := &Job{ID: JobID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), Account: "a", Custody: rapid.SampledFrom([]Custody{CustodyPlain, CustodyEscrow, CustodySealed, CustodyTransit}).Draw(t, "custody"),
		Offset: time.Duration(rapid.IntRange(0, 65).Draw(t, "offset")) * time.Second, Price: Price(rapid.IntRange(0, 2).Draw(t, "price")),
		MaxAttempts: rapid.IntRange(0, 5).Draw(t, "attempts"), QueueTime: time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "queue time"))}
	j.CreatedAt = Instant(rapid.Int64Range(1, 1e9).Draw(t, "created"))
	j.ReadyAt = j.CreatedAt + Instant(rapid.Int64Range(0, 1e9).Draw(t, "delay"))
	if rapid.Bool().Draw(t, "has deadline") {
		j.Deadline = j.CreatedAt + Instant(rapid.Int64Range(1, 1e9).Draw(t, "deadline"))
	}
	return j
}

// Any sequence of events, time passing between them, keeps to the table; what
// happened in a terminal state never changes it; versions have no gaps.
func TestNextSequences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := drawDraft(t)
		now := j.CreatedAt
		var ended *Job
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				now += Instant(rapid.Int64Range(0, 1e8).Draw(t, "passes"))
				ev := drawEvent(t)
				if due, ok := j.dueEvent(now); ok && rapid.Bool().Draw(t, "time's own event") {
					ev = &due
				}
				if err := checkNext((*Job).Next, j, ev, now, &testRules); err != nil {
					t.Fatalf("%s, %s: %v", j.State, ev.Kind, err)
				}
				if tr, err := j.Next(ev, now, &testRules); err == nil {
					j = tr.Job
				}
				if ended == nil && j.State.Terminal() {
					ended = j
				}
			},
			"": func(t *rapid.T) {
				if ended != nil && (j.State != ended.State || j.EndedAt != ended.EndedAt) {
					t.Fatalf("%s became %s", ended.State, j.State)
				}
			},
		})
	})
}

// What time does is always possible, always makes the job due later or never,
// and never comes before it is due. Times that are zero, negative or in the
// past are taken as what they say (River #1287, #1125, #1331).
func TestDueEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j := jobIn(State(rapid.IntRange(int(StateBlocked), int(StateExpired)).Draw(t, "state")), rapid.IntRange(0, 31).Draw(t, "variant"))
		j.Deadline = Instant(rapid.SampledFrom([]int64{-1, 0, 1, 100e6, 9e9, math.MaxInt64}).Draw(t, "deadline"))
		if j.State == StateQueued {
			j.QueueUntil = Instant(rapid.SampledFrom([]int64{0, 1, 100e6, 9e9}).Draw(t, "queue until"))
		}
		if j.State == StateRunning {
			j.LimitAt = Instant(rapid.SampledFrom([]int64{0, 1, 100e6, 9e9}).Draw(t, "limit"))
		}
		j.DueAt = j.dueAt(104*minute, &testRules)
		now := Instant(rapid.SampledFrom([]int64{1, 100e6 - 1, 100e6, 9e9, 1e14}).Draw(t, "now"))
		ev, ok := j.dueEvent(now)
		if j.DueAt == 0 || now < j.DueAt {
			if ok {
				t.Fatalf("%s before it is due", ev.Kind)
			}
			return
		}
		if !ok {
			t.Fatalf("nothing at %d, due at %d", now, j.DueAt)
		}
		tr, err := j.Next(&ev, now, &testRules)
		if err != nil {
			t.Fatal(err)
		}
		want := StateExpired
		switch {
		case j.State.Terminal():
			want = j.State
		case j.State == StateRunning && (j.Deadline == 0 || now < j.Deadline):
			want = StateQueued
			if tr.Job.Faults >= j.MaxAttempts {
				want = StateFailed
			}
		}
		if tr.Job.State != want {
			t.Fatalf("%s at %d became %s, want %s: %+v", j.State, now, tr.Job.State, want, j)
		}
		if tr.Job.State != StateQueued && tr.Job.DueAt != 0 && tr.Job.DueAt <= now && now < j.DueAt+minute {
			t.Fatalf("due again at once: %d at %d", tr.Job.DueAt, now)
		}
		if ev.Reason == "" && !j.State.Terminal() {
			t.Fatal("time gives no reason")
		}
	})
}

// Every ticket ages at the same rate: who became ready earlier by more than
// the widest offset goes first, whatever the others are; among equals the
// earlier goes first; a deadline only ever brings a ticket forward.
func TestTicketKey(t *testing.T) {
	var offsets []time.Duration
	for _, p := range []Priority{PriorityHigh, PriorityStandard, PriorityLow} {
		for _, policy := range []Policy{PolicyFast, PolicyCheap} {
			offsets = append(offsets, keyOffset(p, policy))
		}
	}
	if !slices.IsSorted(offsets) || len(slices.Compact(slices.Clone(offsets))) != len(offsets) {
		t.Fatalf("priority and policy do not order: %v", offsets)
	}
	widest := offsets[len(offsets)-1]
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(1e12, 1e12+2e8)
		a, b := Instant(at.Draw(t, "a")), Instant(at.Draw(t, "b"))
		oa, ob := rapid.SampledFrom(offsets).Draw(t, "offset a"), rapid.SampledFrom(offsets).Draw(t, "offset b")
		ka, kb := ticketKey(a, oa, 0), ticketKey(b, ob, 0)
		if b.Sub(a) > widest && ka >= kb {
			t.Fatal("a ticket goes after one that became ready much later: it may starve")
		}
		if oa == ob && (a < b) != (ka < kb) {
			t.Fatal("equal tickets change places")
		}
		if a == b && (oa < ob) != (ka < kb) {
			t.Fatal("priority does not order")
		}
		deadline := Instant(rapid.Int64Range(1, 2e12).Draw(t, "deadline"))
		if kd := ticketKey(a, oa, deadline); kd > ka || kd < a {
			t.Fatalf("with a deadline %d, without %d, ready %d", kd, ka, a)
		}
	})
}

// Waits grow to their bound, never beyond, never to nothing, however many
// faults there were (River: a retry delay overflowed after about 310 errors),
// and are spread over the upper half, so that what failed together does not
// come back together.
func TestBackoff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := testRules
		rules.BackoffBase = time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "base"))
		rules.BackoffMax = time.Duration(rapid.Int64Range(1, int64(1000*time.Hour)).Draw(t, "max"))
		j := &Job{ID: JobID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), Faults: rapid.IntRange(1, 100_000).Draw(t, "faults")}
		want := wantBackoff(j.Faults, &rules)
		if got := rules.backoff(j); got < want/2 || got > want {
			t.Fatalf("%d faults wait %s, want %s to %s", j.Faults, got, want/2, want)
		}
	})
	for _, faults := range []int{1, 2, 5, 9, 10, 31, 32, 33, 34, 310, 1 << 20, math.MaxInt32} {
		d := wantBackoff(min(faults, 100), &testRules)
		low, high := d, time.Duration(0)
		for i := range 1000 {
			got := testRules.backoff(&Job{ID: JobID{byte(i * 7), byte(i * 13), byte(i), byte(i >> 3)}, Faults: faults})
			low, high = min(low, got), max(high, got)
		}
		if low < d/2 || low > d/2+d/20 || high > d || high < d-d/20 {
			t.Errorf("%d faults wait from %s to %s, want the upper half of %s", faults, low, high, d)
		}
	}
}

func drawLane(t *rapid.T) Lane {
	word := rapid.OneOf(rapid.SampledFrom([]string{"", "0", "1", "TASK", "llama3.1:8b", "a&b=c", "ü+%20", "x;y", "k=v,l=w"}), rapid.String())
	return Lane{Account: word.Draw(t, "account"), Offset: time.Duration(rapid.IntRange(0, 70).Draw(t, "offset")) * time.Second,
		Needs: Needs{Kind: word.Draw(t, "kind"), Model: word.Draw(t, "model"), Tier: Tier(rapid.IntRange(0, 4).Draw(t, "tier")),
			HardwareTier: rapid.Byte().Draw(t, "hw"), VRAM: rapid.Uint32().Draw(t, "vram"), Docker: rapid.Bool().Draw(t, "docker"),
			Encryption: rapid.Bool().Draw(t, "enc"), Private: rapid.Bool().Draw(t, "priv"), Labels: word.Draw(t, "labels")}}
}

// A lane comes back from its text as it was; no two share a text; and no other
// text is read.
func TestLaneText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, m := drawLane(t), drawLane(t)
		got, err := ParseLane(l.String())
		if err != nil || got != l {
			t.Fatalf("%q: %+v, %v, want %+v", l.String(), got, err, l)
		}
		if (l == m) != (l.String() == m.String()) {
			t.Fatalf("%+v and %+v are both %q", l, m, l.String())
		}
		text := l.String() + rapid.SampledFrom([]string{"&", "&x=1", "&tier=1", "%", "&kind=", " "}).Draw(t, "more")
		if got, err := ParseLane(text); err == nil && got.String() != text {
			t.Fatalf("%q was read as %+v", text, got)
		}
	})
	for _, text := range []string{"kind=A&acct=b", "tier=01", "tier=9&x=", "off=-1", "off=99999999999", "docker=true", "docker=0", "enc=2", "kind=A&kind=B",
		"hw=256", "kind=a b", "kind=%41", "%zz", "vram=4294967296", "tier=256", "&tier=1"} {
		if l, err := ParseLane(text); err == nil {
			t.Errorf("%q was read as %+v", text, l)
		}
	}
}

// A bound is in the higher tier, and a longer prompt is never in a lower one.
func TestTierClassifier(t *testing.T) {
	for chars, want := range map[uint32]Tier{0: 1, 1: 1, 1499: 1, 1500: 2, 5999: 2, 6000: 3, 23_999: 3, 24_000: 4, math.MaxUint32: 4} {
		if got := DefaultTierBounds.Tier(chars); got != want {
			t.Errorf("%d characters are tier %d, want %d", chars, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		b := TierBounds{rapid.Uint32().Draw(t, "b1"), rapid.Uint32().Draw(t, "b2"), rapid.Uint32().Draw(t, "b3")}
		if b.validate() != nil {
			if 0 < b[0] && b[0] < b[1] && b[1] < b[2] {
				t.Fatal("good bounds are refused")
			}
			return
		}
		a, c := rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "c")
		if ta, tc := b.Tier(a), b.Tier(c); (a <= c) && ta > tc || ta < 1 || ta > MaxTier {
			t.Fatalf("%d: %d, %d: %d", a, ta, c, tc)
		}
		for i, bound := range b {
			if b.Tier(bound) != Tier(i+2) || b.Tier(bound-1) > Tier(i+1) {
				t.Fatalf("bound %d", bound)
			}
		}
	})
}

// The first row that matches is the price.
func TestPriceTable(t *testing.T) {
	kinds := rapid.SampledFrom([]string{"", "LLM_INFER", "TASK"})
	rapid.Check(t, func(t *rapid.T) {
		table := PriceTable(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) PriceRow {
			return PriceRow{Kind: kinds.Draw(t, "kind"), Policy: Policy(rapid.IntRange(0, 2).Draw(t, "policy")),
				Tier: Tier(rapid.IntRange(0, 4).Draw(t, "tier")), Price: Price(rapid.IntRange(-1, 9).Draw(t, "price"))}
		}), 0, 8).Draw(t, "table"))
		kind, policy, tier := rapid.SampledFrom([]string{"LLM_INFER", "TASK"}).Draw(t, "kind"), Policy(rapid.IntRange(1, 2).Draw(t, "policy")), Tier(rapid.IntRange(1, 4).Draw(t, "tier"))
		want := Price(0)
		for _, row := range slices.Backward(table) {
			matches := strings.HasPrefix(kind, row.Kind) && (row.Policy == 0 || row.Policy == policy) && (row.Tier == 0 || row.Tier == tier)
			if matches {
				want = row.Price
			}
		}
		if got := table.Price(kind, policy, tier); got != want {
			t.Fatalf("%v: %d, want %d", table, got, want)
		}
		negative := slices.ContainsFunc(table, func(r PriceRow) bool { return r.Price < 0 })
		if (table.validate() != nil) != negative {
			t.Fatalf("validate: %v", table.validate())
		}
	})
	for p, want := range map[Price]string{10_000: "$0.010", 0: "$0.000", 1: "$0.000001", -1_500_000: "-$1.500", 12_345_678: "$12.345678"} {
		if p.String() != want {
			t.Errorf("%d is %s, want %s", int64(p), p, want)
		}
	}
}

// The four irreversible boundaries are those of seed 002, and the stages of a
// job's log come in the pipeline's order.
func TestStages(t *testing.T) {
	order := []Stage{StageRequest, StageAdmit, StageMatch, StageEncrypt, StageDispatch, StageDecrypt, StageExecute, StagePoE, StageReturn,
		StageVerify, StageSample, StageAnchor, StageDeliver, StageSettle}
	for _, drawn := range []bool{false, true} {
		j := &Job{MaxAttempts: 2, Custody: CustodyPlain}
		var got []Stage
		for _, ev := range []*Event{{Kind: EventSubmit}, {Kind: EventClaim}, {Kind: EventComplete, Drawn: drawn}, {Kind: EventValidate}, {Kind: EventAcknowledge}} {
			tr, err := j.Next(ev, 1, &testRules)
			if err != nil {
				continue // validation of what was not drawn
			}
			j = tr.Job
			for _, e := range tr.Log {
				got = append(got, e.Stages()...)
			}
		}
		if !slices.Equal(got, order) {
			t.Errorf("drawn %v: %v", drawn, got)
		}
	}
	for _, s := range order {
		want := s == "request" || s == "dispatch" || s == "anchor" || s == "settle"
		if s.Irreversible() != want {
			t.Errorf("%s: irreversible %v", s, s.Irreversible())
		}
	}
}

// vaultOf reads the vault's name out of a lane, which is a URL query.
func vaultOf(j *Job) string {
	q, _ := url.ParseQuery(j.Lane)
	return q.Get("vault")
}
