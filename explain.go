package consign

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Explanation says why a job is in its state and what it waits for. The
// workers are those that this coordinator knows.
type Explanation struct {
	Job      JobID
	State    State
	Reason   string         // in one sentence, for people
	Workers  int            // registered and alive
	Capable  int            // of them, could run the job
	Idle     int            // of them, have a free slot right now
	Filtered map[Reason]int // of the others, how many each reason keeps away
	Paused   bool
	// Vault names the vault that the job's key is in, where this coordinator
	// does not have it, and so leaves the job to one that does; "unnamed" for a
	// job that was queued before vaults had names. Else it is "".
	Vault string
}

// explain answers an operation with the state of its job.
func (e *engine) explain(o *op, j *Job) {
	x := Explanation{Job: j.ID, State: j.State, Reason: firstOf(j.Reason, stateReasons[j.State]), Filtered: map[Reason]int{}}
	if j.State == StateQueued {
		if err := e.survey(&x, j); err != nil {
			e.out.bad = append(e.out.bad, err)
		}
		x.Reason = x.sentence(j, e.now)
	}
	if o.call != nil {
		e.out.replies = append(e.out.replies, reply{call: o.call, job: j, info: x})
		o.call = nil
	}
}

// survey counts what each worker would say to the job.
func (e *engine) survey(x *Explanation, j *Job) error {
	l, err := e.ready.lane(j.Lane)
	if err != nil {
		return err
	}
	x.Paused = l.paused
	if l.Needs.vaulted() && !e.matcher.hasVault(l.Needs.Vault) {
		x.Vault = firstOf(l.Needs.Vault, "unnamed")
	}
	for _, c := range e.matcher.order {
		x.Workers += c.workers
		if why := e.matcher.fits(l.group, c); why != "" {
			x.Filtered[why] += c.workers
			continue
		}
		x.Capable += c.workers
		x.Idle += c.waiting.Len()
	}
	return nil
}

func (x *Explanation) sentence(j *Job, now Instant) string {
	switch {
	case x.Paused:
		return "its lane is paused: resume it"
	case j.ReadyAt > now:
		return fmt.Sprintf("it is not ready before %s: %s", j.ReadyAt.Time().Format("15:04:05.000"), firstOf(j.Reason, "it was submitted with a delay"))
	case x.Vault != "":
		return fmt.Sprintf("its key is in the vault %s, which this coordinator does not have: it waits for one that does", x.Vault)
	case x.Workers == 0:
		return "no worker is registered"
	case x.Capable == 0:
		return fmt.Sprintf("no registered worker can run it: %s", x.filters())
	case x.Idle == 0:
		return fmt.Sprintf("it waits in line: all slots of the %d workers that can run it are taken", x.Capable)
	}
	return fmt.Sprintf("it is next: %d slots of the %d workers that can run it are free", x.Idle, x.Capable)
}

// stateReasons is what there is to say of a job that nothing happened to.
var stateReasons = map[State]string{
	StateBlocked:    "it waits for the jobs before it",
	StateRunning:    "a worker runs it",
	StateValidating: "it has a result, which others are recomputing",
	StateCompleted:  "its result was accepted",
}

// plural puts a Reason's verb into the plural.
var plural = strings.NewReplacer("does not", "do not", "is not", "are not", "is of", "are of", "is at", "are at", "takes", "take", "has too", "have too", "lacks", "lack")

func (x *Explanation) filters() string {
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(x.Filtered)) {
		text := string(why)
		if x.Filtered[why] != 1 {
			text = plural.Replace(text)
		}
		parts = append(parts, fmt.Sprintf("%d %s", x.Filtered[why], text))
	}
	return strings.Join(parts, ", ")
}

// whyQueued is why nobody took a job that has now expired.
func (e *engine) whyQueued(j *Job) string {
	x := Explanation{Filtered: map[Reason]int{}}
	if e.survey(&x, j) != nil {
		return ""
	}
	return "; at the end: " + x.sentence(j, e.now)
}
