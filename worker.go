package consign

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Capabilities is what a worker declares that it can do. They change rarely;
// what changes all the time is in the Heartbeat.
type Capabilities struct {
	Kinds          []string // kinds that it executes
	Models         []string // models that it has or can load; "*" for any
	MaxContextTier Tier     // longest prompts that it takes on
	HardwareTier   uint8
	VRAM           uint32 // MiB
	Docker         bool
	Encryption     bool // can open sealed payloads
	Labels         map[string]string
	Slots          int // jobs at once, at least 1
}

// The bounds of what a worker declares, which is kept and looked through with
// each of its heartbeats.
const (
	maxDeclared = 4096    // kinds, models, models that are warm, rates
	maxSlots    = 1 << 16 // and so claims
)

func tooMany(field string, n, most int) error {
	return fieldError(field, fmt.Sprintf("are %d", n), fmt.Sprintf("declare at most %d", most))
}

func (c *Capabilities) validate() error {
	switch {
	case len(c.Kinds) > maxDeclared:
		return tooMany("worker.kinds", len(c.Kinds), maxDeclared)
	case len(c.Models) > maxDeclared:
		return tooMany("worker.models", len(c.Models), maxDeclared)
	case c.Slots > maxSlots:
		return tooMany("worker.slots", c.Slots, maxSlots)
	case len(c.Kinds) == 0:
		return fieldError("worker.kinds", "is empty", "name at least one kind that the worker executes")
	case slices.ContainsFunc(c.Kinds, notName):
		return fieldError("worker.kinds", "holds what is no name", "name the kinds that the worker executes, each in UTF-8 of 1 to 1,024 bytes")
	case slices.ContainsFunc(c.Models, notName):
		return fieldError("worker.models", "holds what is no name", "name the models that the worker has, each in UTF-8 of 1 to 1,024 bytes, or \"*\"")
	case c.MaxContextTier < 1 || c.MaxContextTier > MaxTier:
		return fieldError("worker.max_context_tier", "is "+c.MaxContextTier.String(), "declare a tier from 1 to 4")
	case c.Slots < 1:
		return fieldError("worker.slots", "is "+strconv.Itoa(c.Slots), "declare at least one slot")
	}
	return checkLabels("worker.labels", c.Labels)
}

func (h *Heartbeat) validate() error {
	switch {
	case len(h.Warm) > maxDeclared:
		return tooMany("worker.warm", len(h.Warm), maxDeclared)
	case len(h.Rates) > maxDeclared:
		return tooMany("worker.rates", len(h.Rates), maxDeclared)
	case len(h.Claims) > maxSlots:
		return tooMany("worker.claims", len(h.Claims), maxSlots)
	case h.FreeSlots < 0:
		return fieldError("worker.free_slots", "is negative", "declare zero or more")
	case h.MaxWarm < 0:
		return fieldError("worker.max_warm", "is negative", "declare how many models can be kept loaded, or zero for unknown")
	}
	for _, m := range h.Warm {
		if notName(m.Name) || m.Since < 0 {
			return fieldError("worker.warm", fmt.Sprintf("holds %.80q, loaded for %v", m.Name, m.Since), "name each model that is loaded, and for how long it has been")
		}
	}
	for model, rate := range h.Rates {
		if !text(model) || !(rate > 0) || math.IsInf(rate, 1) { // NaN is not above zero
			return fieldError("worker.rates", fmt.Sprintf("holds %v for %.80q", rate, model), "declare characters per second above zero, or leave the model out")
		}
	}
	return h.Capabilities.validate()
}

// notName reports a name that is empty or cannot stand in a record.
func notName(s string) bool { return s == "" || !text(s) }

// maxLabels bounds the labels of a job or a worker.
const maxLabels = 64

func checkLabels(field string, labels map[string]string) error {
	if len(labels) > maxLabels {
		return fieldError(field, fmt.Sprintf("are %d", len(labels)), fmt.Sprintf("give at most %d", maxLabels))
	}
	for k, v := range labels {
		if notName(k) || !text(v) || strings.ContainsAny(k, "=,") || strings.ContainsAny(v, "=,") {
			return fieldError(field, fmt.Sprintf("hold %.80q", k+"="+v), "use names and values in UTF-8 of at most 1,024 bytes, without '=' and ','")
		}
	}
	return nil
}

// clone returns a copy that shares nothing with the declarer.
func (c Capabilities) clone() Capabilities {
	c.Kinds, c.Models, c.Labels = slices.Clone(c.Kinds), slices.Clone(c.Models), maps.Clone(c.Labels)
	return c
}

// class returns a text that is equal for workers that can run the same jobs.
// pairedWith lists, sorted, the accounts whose PRIVATE jobs it may run.
func (c *Capabilities) class(pairedWith []string) string {
	var b strings.Builder
	list := func(items []string) {
		items = slices.Sorted(slices.Values(items))
		for _, s := range slices.Compact(items) {
			b.WriteString(strconv.Quote(s))
		}
		b.WriteByte('|')
	}
	list(c.Kinds)
	list(c.Models)
	for _, n := range [...]int{int(c.MaxContextTier), int(c.HardwareTier), int(c.VRAM), bit(c.Docker), bit(c.Encryption)} {
		b.WriteString(strconv.Itoa(n))
		b.WriteByte('|')
	}
	b.WriteString(joinLabels(c.Labels))
	b.WriteByte('|')
	list(pairedWith)
	return b.String()
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// joinLabels writes labels as Needs.Labels has them.
func joinLabels(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// keys returns the keys of the worker, for who wraps to it.
func (r *WorkerRecord) keys() WorkerKeys {
	return WorkerKeys{ID: r.ID, Algorithm: r.Algorithm, PublicKey: r.PublicKey, KeyBundle: r.KeyBundle}
}

// WorkerRecord is what the queue keeps of a worker, as the JSON body of a Doc
// of kind DocWorker whose key is the worker ID.
type WorkerRecord struct {
	ID        WorkerID `json:"worker_id"`
	Algorithm string   `json:"algorithm"`
	PublicKey []byte   `json:"public_key"`
	KeyBundle []byte   `json:"key_bundle,omitempty"` // as it last registered
	Operator  string   `json:"operator,omitempty"`   // the account that enrolled it
	Standing  Standing `json:"standing"`
	Reason    string   `json:"reason,omitempty"` // of its last strike or review
	FirstSeen Instant  `json:"first_seen"`
}
