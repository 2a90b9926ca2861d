package consign

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Needs is what a job asks of a worker. Jobs with equal needs are
// interchangeable for a scheduler, so the value is comparable.
type Needs struct {
	Kind         string // "LLM_INFER", "TASK", "CONTAINER", or the owner's own
	Model        string // "" where the kind needs none
	Tier         Tier   // 1 to 4
	HardwareTier uint8  // 0: any (seed 003, "hardware_tier")
	VRAM         uint32 // MiB, 0: any
	Docker       bool
	Encryption   bool   // the payload is sealed
	Private      bool   // only workers paired with the account
	Recipients   string // of them, only these: worker IDs joined by ".", sorted; "" for any
	Labels       string // "k=v,k=v", sorted; the worker must carry each
	Vault        string // where its key is: see Vault.Names; "" for none, or not known
}

// vaulted reports whether a coordinator needs a vault to hand the job out. That
// of jobs that were queued before vaults had names may be any.
func (n *Needs) vaulted() bool { return n.Vault != "" || n.Encryption && n.Recipients == "" }

// reaches reports whether jobs with these needs may go to the worker, as far
// as they name any.
func (n *Needs) reaches(worker string) bool {
	if n.Recipients == "" {
		return true
	}
	for id := range strings.SplitSeq(n.Recipients, ".") {
		if id == worker {
			return true
		}
	}
	return false
}

// Priority orders jobs of equal policy.
type Priority uint8

// The priorities. Standard is the zero value.
const (
	PriorityStandard Priority = iota
	PriorityHigh
	PriorityLow
)

var priorityNames = [...]string{"standard", "high", "low"}

func (p Priority) String() string { return priorityNames[p] }

// keyOffset is how much later than its ready time a ticket stands in line.
// Every ticket ages at the same rate, so two tickets never change places, one
// integer index keeps the order, and nothing starves: a low CHEAP job goes
// before any job that became ready 65 s after it.
func keyOffset(priority Priority, policy Policy) time.Duration {
	var d time.Duration
	switch priority {
	case PriorityStandard:
		d = 10 * time.Second
	case PriorityLow:
		d = 60 * time.Second
	case PriorityHigh:
	}
	if policy == PolicyCheap {
		d += 5 * time.Second
	}
	return d
}

// deadlineSlack is how long before its deadline a ticket stands in line at the
// latest.
const deadlineSlack = 30 * time.Second

// ticketKey is a ticket's place: min(ready + offset, deadline - slack), and
// never before it is ready.
func ticketKey(ready Instant, offset time.Duration, deadline Instant) Instant {
	key := ready.Add(offset)
	if deadline != 0 {
		key = min(key, deadline.Add(-deadlineSlack))
	}
	return max(key, ready)
}

// Lane is a line of tickets that any worker of the right kind may take from
// the front: equal needs, one account, one offset. Accounts have lanes of
// their own so that equal priorities are served round-robin between them,
// however many jobs one of them has queued.
type Lane struct {
	Needs   Needs
	Account string
	Offset  time.Duration
}

// String encodes the lane as a store keeps it: a URL query with sorted keys,
// without the fields that are zero, as in
// "acct=acme&kind=LLM_INFER&model=llama3.1%3A8b&off=10&tier=2". ParseLane
// reads it.
func (l Lane) String() string {
	b := make([]byte, 0, 128) // enough for most, and so on the stack
	add := func(key, value string) {
		if value == "" {
			return
		}
		if len(b) > 0 {
			b = append(b, '&')
		}
		b = append(b, key...)
		b = append(b, '=')
		b = append(b, url.QueryEscape(value)...)
	}
	number := func(key string, n int) {
		if n != 0 {
			add(key, strconv.Itoa(n))
		}
	}
	flag := func(key string, set bool) {
		if set {
			add(key, "1")
		}
	}
	add("acct", l.Account)
	flag("docker", l.Needs.Docker)
	flag("enc", l.Needs.Encryption)
	number("hw", int(l.Needs.HardwareTier))
	add("kind", l.Needs.Kind)
	add("labels", l.Needs.Labels)
	add("model", l.Needs.Model)
	number("off", int(l.Offset/time.Second))
	flag("priv", l.Needs.Private)
	number("tier", int(l.Needs.Tier))
	add("to", l.Needs.Recipients)
	add("vault", l.Needs.Vault)
	number("vram", int(l.Needs.VRAM))
	return string(b)
}

// ParseLane reads what Lane.String wrote, and nothing else.
func ParseLane(text string) (Lane, error) {
	var l Lane
	for pair := range strings.SplitSeq(text, "&") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			return Lane{}, fmt.Errorf("consign: lane %q: %w", text, err)
		}
		l.set(key, value)
	}
	if l.String() != text {
		return Lane{}, fmt.Errorf("consign: lane %q is not in canonical form", text)
	}
	return l, nil
}

// set takes in one field. What it cannot read it leaves out, and then the lane
// does not encode to the same text again.
func (l *Lane) set(key, value string) {
	number := func(bits int) uint64 {
		n, _ := strconv.ParseUint(value, 10, bits)
		return n
	}
	switch n := &l.Needs; key {
	case "acct":
		l.Account = value
	case "docker":
		n.Docker = value == "1"
	case "enc":
		n.Encryption = value == "1"
	case "hw":
		n.HardwareTier = uint8(number(8))
	case "kind":
		n.Kind = value
	case "labels":
		n.Labels = value
	case "model":
		n.Model = value
	case "off":
		l.Offset = time.Duration(number(31)) * time.Second
	case "priv":
		n.Private = value == "1"
	case "tier":
		n.Tier = Tier(number(8))
	case "to":
		n.Recipients = value
	case "vault":
		n.Vault = value
	case "vram":
		n.VRAM = uint32(number(32))
	}
}

// Shards is how many parts a lane is cut into, by job, so that several
// coordinators can claim from different places.
const Shards = 16

// Shard returns the job's part.
func (id JobID) Shard() uint8 { return id[15] % Shards }
