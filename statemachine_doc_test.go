package consign

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestStateMachinePage holds docs/state-machine.md to the transition table:
// `go test . -run TestStateMachinePage -update` draws it anew.
func TestStateMachinePage(t *testing.T) {
	const page = "docs/state-machine.md"
	want := stateMachinePage()
	if *update {
		if err := os.WriteFile(page, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the transition table says: go test . -run TestStateMachinePage -update", page)
	}
}

// What the page says of each state and event; a new one without a word here
// fails the test by its empty cell.
var (
	stateWords = map[State]string{
		StateBlocked:    "waits for the jobs before it in its graph",
		StateQueued:     "has a ticket: waits for a worker, or for its delay or backoff to pass",
		StateRunning:    "a worker holds the claim",
		StateValidating: "has a result that others are recomputing",
		StateCompleted:  "has an accepted result",
		StateFailed:     "had its attempts, or cannot be run by anyone",
		StateCancelled:  "was cancelled by its submitter, or by the queue's owner",
		StateExpired:    "passed its deadline or queue time",
	}
	eventWords = map[EventKind]string{
		EventSubmit:      "admitted, its price held",
		EventUnblock:     "its graph lets it run",
		EventClaim:       "a worker took the ticket",
		EventComplete:    "a verified result came back under the current claim; `validating` if it is drawn",
		EventValidate:    "validation closed with a decision",
		EventReject:      "the result's record or signature is bad; the worker gets a strike",
		EventFail:        "the worker could not run it; at once `failed` if the payload is at fault",
		EventRelease:     "the worker gives the claim back unused; costs no attempt",
		EventLeaseLost:   "no heartbeat within the lease, by the store's clock",
		EventLimit:       "the attempt ran longer than it may",
		EventExpire:      "the deadline or the queue time passed",
		EventCancel:      "the submitter does not want it any more",
		EventAcknowledge: "the submitter has what it needs",
		EventPurge:       "past retention: only the ID stays, for a day",
	}
)

func stateMachinePage() []byte {
	var b bytes.Buffer
	b.WriteString(`# The life of a job

<!-- Drawn from the transition table in transition.go. Do not edit: go test . -run TestStateMachinePage -update -->

` + "```mermaid\nstateDiagram-v2\n")
	for from := StateNone; from <= StateExpired; from++ {
		drawState(&b, from)
	}
	b.WriteString("```\n\n")
	b.WriteString(`What the diagram does not have is a ` + "`*TransitionError`" + ` and changes nothing. The events of ended jobs,
acknowledge and purge, keep the state and are left out of it.

## States

| state | means | ends |
|---|---|---|
`)
	for s := StateBlocked; s <= StateExpired; s++ {
		ends := "no"
		if s.Terminal() {
			ends = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", s, stateWords[s], ends)
	}
	b.WriteString("\n## Transitions\n\n| in state | event | leads to | because |\n|---|---|---|---|\n")
	for from, events := range transitions {
		for _, kind := range slices.Sorted(maps.Keys(events)) {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", State(from), kind, stateList(events[kind]), eventWords[kind])
		}
	}
	b.WriteString(`
A fault (reject, fail, lease_lost, limit) sends the job back to ` + "`queued`" + ` after a backoff that doubles, or to ` + "`failed`" + ` once
it has had MaxAttempts of them. Nothing reaches ` + "`blocked`" + ` and ` + "`validating`" + ` yet: job graphs and sampled re-execution are
not wired into the queue.

## Stages

The log has one entry for each transition, and the fourteen stages of the pipeline follow from the entries. The four in
bold are irreversible.

| log entry | stages |
|---|---|
`)
	for _, e := range []LogEntry{
		{Event: EventSubmit, State: StateQueued}, {Event: EventClaim, State: StateRunning}, {Event: EventComplete, State: StateCompleted},
		{Event: EventComplete, State: StateValidating}, {Event: EventValidate, State: StateCompleted}, {Event: EventSettle, State: StateCompleted},
	} {
		fmt.Fprintf(&b, "| %s, then %s | %s |\n", e.Event, e.State, stageList(e.Stages()))
	}
	return b.Bytes()
}

// drawState draws the arrows out of a state, one for each target.
func drawState(b *bytes.Buffer, from State) {
	labels := map[State][]string{}
	for _, kind := range slices.Sorted(maps.Keys(transitions[from])) {
		for _, to := range transitions[from][kind] {
			if to != from {
				labels[to] = append(labels[to], kind.String())
			}
		}
	}
	name := from.String()
	if from == StateNone {
		name = "[*]"
	}
	for _, to := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(b, "    %s --> %s : %s\n", name, to, strings.Join(labels[to], ", "))
	}
	if from.Terminal() {
		fmt.Fprintf(b, "    %s --> [*]\n", from)
	}
}

func stateList(states []State) string {
	var names []string
	for _, s := range states {
		names = append(names, s.String())
	}
	return strings.Join(names, " or ")
}

func stageList(stages []Stage) string {
	var names []string
	for _, s := range stages {
		if s.Irreversible() {
			names = append(names, "**"+string(s)+"**")
		} else {
			names = append(names, string(s))
		}
	}
	return strings.Join(names, ", ")
}

// TestStateMachineWords: every state and event of the table has its words.
func TestStateMachineWords(t *testing.T) {
	for from, events := range transitions {
		if State(from) != StateNone && stateWords[State(from)] == "" {
			t.Errorf("no words for state %s", State(from))
		}
		for kind := range events {
			if eventWords[kind] == "" {
				t.Errorf("no words for event %s", kind)
			}
		}
	}
}
