package consign

import (
	"slices"
	"strings"
	"time"
)

// Scheduler decides which worker runs which job. FourSignals is the default;
// a researcher's own goes into Config.Scheduler. Both methods must be pure:
// the same arguments, the same answer.
//
// Trust is not a scheduler's to decide: whether a worker may see a PRIVATE job,
// and whether its standing lets it work at all, is judged before Fits.
type Scheduler interface {
	// Fits says why a worker can never run jobs with these needs, or "" if it
	// can. The answer is kept for as long as neither changes, so it must not
	// depend on the worker's load.
	Fits(n *Needs, c *Capabilities) Reason
	// Score says how good a match is, as a head start: the ticket competes for
	// this worker as if it stood so much earlier in line, and this worker
	// competes for the ticket against others by the same measure. No ticket
	// waits longer, because of scores, than their widest difference.
	//
	// Within a lane the line is kept: only the tickets at the front of lanes
	// compete. A worker's next ticket is looked for among those within a second
	// of the first and those for its warm models; a ticket's worker among the
	// longest-waiting ones of each capability class, warm ones first.
	Score(t *Ticket, w *WorkerState, now Instant) time.Duration
}

// Reason says why something does not fit, for people; "" means that it does.
type Reason string

// The reasons of FourSignals and of the queue itself.
const (
	ReasonKind         Reason = "does not execute this kind"
	ReasonModel        Reason = "does not have the model"
	ReasonTier         Reason = "takes only shorter prompts"
	ReasonHardwareTier Reason = "is of a lower hardware tier"
	ReasonVRAM         Reason = "has too little VRAM"
	ReasonDocker       Reason = "cannot run containers"
	ReasonEncryption   Reason = "cannot open sealed payloads"
	ReasonLabels       Reason = "lacks a label"
	ReasonTrust        Reason = "is not paired with the submitter"
	ReasonKey          Reason = "does not have the job's key"
	ReasonVault        Reason = "is at a coordinator without the job's vault"
)

// Ticket is a queued job as a Scheduler sees it.
type Ticket struct {
	Needs   *Needs
	Chars   uint32  // of the prompt
	ReadyAt Instant // since when it could have run
	Key     Instant // its place in line
}

// WorkerState is a worker as a Scheduler sees it.
type WorkerState struct {
	ID           WorkerID
	Capabilities Capabilities
	FreeSlots    int
	Warm         []Residency
	MaxWarm      int                // models that it can keep loaded; 0: unknown
	Rates        map[string]float64 // declared characters per second, by model
	Uptime       float64            // measured, 0 to 1; 1 until there is evidence
}

// Residency is a model that is loaded on a worker, and since when.
type Residency struct {
	Model string
	Since Instant
}

// FourSignals is the default Scheduler: capability, capacity, best fit,
// standing, in this order (seed 003, section 3.3). The zero value is ready.
type FourSignals struct{}

// Fits is the first signal, which is binary: has the worker what the job
// needs?
func (FourSignals) Fits(n *Needs, c *Capabilities) Reason {
	switch {
	case !slices.Contains(c.Kinds, n.Kind):
		return ReasonKind
	case n.Tier > c.MaxContextTier:
		return ReasonTier
	case n.Model != "" && !slices.Contains(c.Models, n.Model) && !slices.Contains(c.Models, "*"):
		return ReasonModel
	case n.HardwareTier > c.HardwareTier:
		return ReasonHardwareTier
	case n.VRAM > c.VRAM:
		return ReasonVRAM
	case n.Docker && !c.Docker:
		return ReasonDocker
	case n.Encryption && !c.Encryption:
		return ReasonEncryption
	case !carriesLabels(c.Labels, n.Labels):
		return ReasonLabels
	}
	return ""
}

func carriesLabels(have map[string]string, need string) bool {
	for pair := range strings.SplitSeq(need, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok && have[k] != v {
			return false
		}
	}
	return true
}

// The weights of FourSignals. Within a second of line the fit decides; a
// loaded model is worth more, because loading one takes longer than that. One
// that was just loaded is worth most: evicting it at once is how 1 % of a
// fleet's requests came to cause 71 % of its loads (horde-worker-reGen #336).
const (
	weightCapacity = 100 * time.Millisecond // an idle worker over a full one
	weightTier     = 200 * time.Millisecond // each tier that goes unused
	weightSurplus  = 100 * time.Millisecond // hardware that goes unused
	weightStanding = 200 * time.Millisecond // uptime of 1 over 0
	weightWarm     = 10 * time.Second       // the model is loaded
	weightEvict    = 5 * time.Second        // loading it would evict another
	weightThrash   = 30 * time.Second       // ... all of which are fresh
	minResidency   = 30 * time.Second       // that is how long a model is fresh
)

// Score is the other three signals.
func (FourSignals) Score(t *Ticket, w *WorkerState, now Instant) time.Duration {
	n, c := t.Needs, &w.Capabilities
	var score time.Duration
	if c.Slots > 0 {
		score += weightCapacity * time.Duration(w.FreeSlots) / time.Duration(c.Slots)
	}
	score -= weightTier * time.Duration(c.MaxContextTier-n.Tier)
	if c.HardwareTier > n.HardwareTier || c.Docker && !n.Docker {
		score -= weightSurplus
	}
	score -= time.Duration(float64(weightStanding) * (1 - w.Uptime))
	if n.Model != "" {
		score += affinity(n.Model, w, now)
	}
	return score
}

// affinity rates what running the model would do to the worker's memory.
func affinity(model string, w *WorkerState, now Instant) time.Duration {
	fresh := true
	for _, r := range w.Warm {
		if r.Model == model {
			return weightWarm
		}
		fresh = fresh && now.Sub(r.Since) < minResidency
	}
	switch {
	case w.MaxWarm == 0 || len(w.Warm) < w.MaxWarm:
		return 0
	case fresh:
		return -weightEvict - weightThrash
	default:
		return -weightEvict
	}
}
