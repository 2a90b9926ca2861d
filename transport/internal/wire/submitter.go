package wire

import (
	"time"

	"github.com/consignq/consign"
)

// The types of consign.SubmitterAPI. NewX makes the wire's form of a
// consign.X, and Value turns it back.

// QuoteRequest is a consign.QuoteRequest.
type QuoteRequest struct {
	Kind   string `json:"job_type"`
	Policy Policy `json:"policy"`
	Chars  uint32 `json:"chars,omitempty"`
}

// NewQuoteRequest makes the wire's form.
func NewQuoteRequest(r consign.QuoteRequest) QuoteRequest {
	return QuoteRequest{r.Kind, Policy(r.Policy), r.Chars}
}

// Value turns it back.
func (r QuoteRequest) Value() consign.QuoteRequest {
	return consign.QuoteRequest{Kind: r.Kind, Policy: consign.Policy(r.Policy), Chars: r.Chars}
}

// Quote is a consign.Quote. Text is for people; Price, in millionths, counts.
type Quote struct {
	Text   string        `json:"price"`
	Price  consign.Price `json:"price_millionths"`
	Policy Policy        `json:"policy_resolved"`
	Tier   consign.Tier  `json:"tier"`
}

// NewQuote makes the wire's form.
func NewQuote(q consign.Quote) Quote {
	return Quote{q.Price.String(), q.Price, Policy(q.Policy), q.Tier}
}

// Value turns it back.
func (q Quote) Value() consign.Quote {
	return consign.Quote{Price: q.Price, Policy: consign.Policy(q.Policy), Tier: q.Tier}
}

// SubmitRequest is a consign.SubmitRequest.
type SubmitRequest struct {
	ID           consign.JobID     `json:"job_id,omitzero"`
	Kind         string            `json:"job_type"`
	Model        string            `json:"model,omitempty"`
	Payload      []byte            `json:"payload"`
	Custody      consign.Custody   `json:"custody"`
	PayloadHash  Hash              `json:"payload_hash,omitzero"`
	Header       []byte            `json:"header,omitempty"`
	Chars        uint32            `json:"chars,omitempty"`
	PromptBytes  uint64            `json:"prompt_bytes,omitempty"`
	ClientKey    []byte            `json:"client_pubkey,omitempty"`
	Wraps        []Wrap            `json:"wraps,omitempty"`
	Signature    []byte            `json:"signature,omitempty"`
	Privacy      Privacy           `json:"privacy_class,omitempty"`
	Policy       Policy            `json:"policy,omitempty"`
	Priority     Priority          `json:"priority,omitempty"`
	HardwareTier uint8             `json:"hardware_tier,omitempty"`
	VRAM         uint32            `json:"vram_mib,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Comparator   string            `json:"comparator,omitempty"`
	Delay        time.Duration     `json:"delay_ns,omitempty"`
	QueueTime    time.Duration     `json:"queue_time_ns,omitempty"`
	Deadline     time.Duration     `json:"deadline_ns,omitempty"`
	MaxAttempts  int               `json:"max_attempts,omitempty"`
	Webhook      string            `json:"webhook,omitempty"`
}

// NewSubmitRequest makes the wire's form.
func NewSubmitRequest(r consign.SubmitRequest) SubmitRequest {
	return SubmitRequest{ID: r.ID, Kind: r.Kind, Model: r.Model, Payload: r.Payload, Custody: r.Custody, PayloadHash: Hash(r.PayloadHash),
		Header: r.Header, Chars: r.Chars, PromptBytes: r.PromptBytes, ClientKey: r.ClientKey, Wraps: each(r.Wraps, newWrap), Signature: r.Signature,
		Privacy: Privacy(r.Privacy), Policy: Policy(r.Policy), Priority: Priority(r.Priority), HardwareTier: r.HardwareTier, VRAM: r.VRAM,
		Labels: r.Labels, Comparator: r.Comparator, Delay: r.Delay, QueueTime: r.QueueTime, Deadline: r.Deadline, MaxAttempts: r.MaxAttempts, Webhook: r.Webhook}
}

// Value turns it back.
func (r SubmitRequest) Value() consign.SubmitRequest {
	return consign.SubmitRequest{ID: r.ID, Kind: r.Kind, Model: r.Model, Payload: r.Payload, Custody: r.Custody, PayloadHash: [32]byte(r.PayloadHash),
		Header: r.Header, Chars: r.Chars, PromptBytes: r.PromptBytes, ClientKey: r.ClientKey, Wraps: each(r.Wraps, Wrap.value), Signature: r.Signature,
		Privacy: consign.Privacy(r.Privacy), Policy: consign.Policy(r.Policy), Priority: consign.Priority(r.Priority), HardwareTier: r.HardwareTier, VRAM: r.VRAM,
		Labels: r.Labels, Comparator: r.Comparator, Delay: r.Delay, QueueTime: r.QueueTime, Deadline: r.Deadline, MaxAttempts: r.MaxAttempts, Webhook: r.Webhook}
}

// Wrap is a consign.Wrap.
type Wrap struct {
	Worker consign.WorkerID `json:"worker_id,omitzero"` // left out: the vault
	Wrap   []byte           `json:"wrap"`
}

func newWrap(w consign.Wrap) Wrap  { return Wrap(w) }
func (w Wrap) value() consign.Wrap { return consign.Wrap(w) }

// JobInfo is a consign.JobInfo. Status is the state in the words of the public
// API.
type JobInfo struct {
	ID           consign.JobID        `json:"id"`
	Status       string               `json:"status"`
	State        State                `json:"state"`
	Kind         string               `json:"job_type"`
	Model        string               `json:"model,omitempty"`
	Tier         consign.Tier         `json:"tier"`
	PriceText    string               `json:"price"`
	Price        consign.Price        `json:"price_millionths"`
	Attempts     int                  `json:"attempts"`
	Worker       consign.WorkerID     `json:"worker_id,omitzero"`
	Claim        consign.ClaimID      `json:"claim_id,omitzero"`
	CreatedAt    time.Time            `json:"created_at,omitzero"`
	ClaimedAt    time.Time            `json:"claimed_at,omitzero"`
	EndedAt      time.Time            `json:"ended_at,omitzero"`
	Acknowledged bool                 `json:"acknowledged,omitempty"`
	Reason       string               `json:"reason,omitempty"`
	Verification consign.Verification `json:"verification,omitempty"`
	Result       []byte               `json:"result_base64,omitempty"`
	Opened       []byte               `json:"opened_base64,omitempty"`
	Comparison   *Comparison          `json:"comparison,omitempty"`
	ExitStatus   int32                `json:"exit_status,omitempty"`
}

// NewJobInfo makes the wire's form.
func NewJobInfo(j consign.JobInfo) JobInfo {
	return JobInfo{ID: j.ID, Status: Status(j.State), State: State(j.State), Kind: j.Kind, Model: j.Model, Tier: j.Tier, PriceText: j.Price.String(), Price: j.Price,
		Attempts: j.Attempts, Worker: j.Worker, Claim: j.Claim, CreatedAt: j.CreatedAt, ClaimedAt: j.ClaimedAt, EndedAt: j.EndedAt,
		Acknowledged: j.Acknowledged, Reason: j.Reason, Verification: j.Verification, Result: j.Result, Opened: j.Opened,
		Comparison: newComparison(j.Comparison), ExitStatus: j.ExitStatus}
}

// Value turns it back.
func (j JobInfo) Value() consign.JobInfo {
	return consign.JobInfo{ID: j.ID, State: consign.State(j.State), Kind: j.Kind, Model: j.Model, Tier: j.Tier, Price: j.Price,
		Attempts: j.Attempts, Worker: j.Worker, Claim: j.Claim, CreatedAt: j.CreatedAt, ClaimedAt: j.ClaimedAt, EndedAt: j.EndedAt,
		Acknowledged: j.Acknowledged, Reason: j.Reason, Verification: j.Verification, Result: j.Result, Opened: j.Opened,
		Comparison: j.Comparison.value(), ExitStatus: j.ExitStatus}
}

// SubmitOutcome is a consign.SubmitOutcome: one of the two is there.
type SubmitOutcome struct {
	Job   *JobInfo `json:"job,omitempty"`
	Error *Problem `json:"error,omitempty"`
}

// NewSubmitOutcome makes the wire's form.
func NewSubmitOutcome(o consign.SubmitOutcome) SubmitOutcome {
	if o.Err != nil {
		p := NewProblem(o.Err)
		return SubmitOutcome{Error: &p}
	}
	j := NewJobInfo(o.Job)
	return SubmitOutcome{Job: &j}
}

// Value turns it back.
func (o SubmitOutcome) Value() consign.SubmitOutcome {
	switch {
	case o.Error != nil:
		return consign.SubmitOutcome{Err: o.Error.Err()}
	case o.Job != nil:
		return consign.SubmitOutcome{Job: o.Job.Value()}
	}
	return consign.SubmitOutcome{Err: unreadable("has neither a job nor an error", "ask for the job")}
}

// LogEntry is a consign.LogEntry.
type LogEntry struct {
	Job     consign.JobID    `json:"job_id"`
	Seq     consign.Seq      `json:"seq,string"` // text in JSON: it needs all of its 64 bits
	At      time.Time        `json:"at,omitzero"`
	Event   EventKind        `json:"event"`
	Status  string           `json:"status"`
	State   State            `json:"state"`
	Attempt int              `json:"attempt,omitempty"`
	Worker  consign.WorkerID `json:"worker_id,omitzero"`
	Reason  string           `json:"reason,omitempty"`
	Report  ReportKind       `json:"report"`
	Data    []byte           `json:"data,omitempty"`
}

// NewLogEntry makes the wire's form.
func NewLogEntry(e consign.LogEntry) LogEntry {
	return LogEntry{e.Job, e.Seq, e.At.Time(), EventKind(e.Event), Status(e.State), State(e.State), e.Attempt, e.Worker, e.Reason, ReportKind(e.Report), e.Data}
}

// Value turns it back.
func (e LogEntry) Value() consign.LogEntry {
	return consign.LogEntry{Job: e.Job, Seq: e.Seq, At: consign.At(e.At), Event: consign.EventKind(e.Event), State: consign.State(e.State),
		Attempt: e.Attempt, Worker: e.Worker, Reason: e.Reason, Report: consign.ReportKind(e.Report), Data: e.Data}
}

// Explanation is a consign.Explanation.
type Explanation struct {
	Job      consign.JobID  `json:"id"`
	Status   string         `json:"status"`
	State    State          `json:"state"`
	Reason   string         `json:"reason"`
	Workers  int            `json:"workers"`
	Capable  int            `json:"capable"`
	Idle     int            `json:"idle"`
	Filtered map[string]int `json:"filtered,omitempty"`
	Paused   bool           `json:"paused,omitempty"`
	Vault    string         `json:"vault,omitempty"`
}

// NewExplanation makes the wire's form.
func NewExplanation(x consign.Explanation) Explanation {
	filtered := make(map[string]int, len(x.Filtered))
	for why, n := range x.Filtered {
		filtered[string(why)] = n
	}
	return Explanation{x.Job, Status(x.State), State(x.State), x.Reason, x.Workers, x.Capable, x.Idle, filtered, x.Paused, x.Vault}
}

// Value turns it back.
func (x Explanation) Value() consign.Explanation {
	filtered := make(map[consign.Reason]int, len(x.Filtered))
	for why, n := range x.Filtered {
		filtered[consign.Reason(why)] = n
	}
	return consign.Explanation{Job: x.Job, State: consign.State(x.State), Reason: x.Reason, Workers: x.Workers, Capable: x.Capable, Idle: x.Idle,
		Filtered: filtered, Paused: x.Paused, Vault: x.Vault}
}

// Keys is a consign.Keys.
type Keys struct {
	Queue    consign.QueueID `json:"queue_id"`
	QueueKey string          `json:"queue_key,omitempty"`
	Vault    []byte          `json:"vault,omitempty"`
	Workers  []WorkerKeys    `json:"workers,omitempty"`
}

// NewKeys makes the wire's form.
func NewKeys(k consign.Keys) Keys {
	return Keys{k.Queue, k.QueueKey, k.Vault, each(k.Workers, newWorkerKeys)}
}

// Value turns it back.
func (k Keys) Value() consign.Keys {
	return consign.Keys{Queue: k.Queue, QueueKey: k.QueueKey, Vault: k.Vault, Workers: each(k.Workers, WorkerKeys.value)}
}

// WorkerKeys is a consign.WorkerKeys.
type WorkerKeys struct {
	ID        consign.WorkerID `json:"worker_id"`
	Algorithm string           `json:"algorithm"`
	PublicKey []byte           `json:"public_key"`
	KeyBundle []byte           `json:"key_bundle,omitempty"`
}

func newWorkerKeys(k consign.WorkerKeys) WorkerKeys { return WorkerKeys(k) }
func (k WorkerKeys) value() consign.WorkerKeys      { return consign.WorkerKeys(k) }

// Pairing is a consign.Pairing.
type Pairing struct {
	Account              string           `json:"account,omitempty"`
	Worker               consign.WorkerID `json:"worker_id"`
	Pending              bool             `json:"pending,omitempty"`
	Submitter            []byte           `json:"submitter_pubkey,omitempty"`
	WorkerFingerprint    string           `json:"worker_fingerprint,omitempty"`
	SubmitterFingerprint string           `json:"submitter_fingerprint,omitempty"`
}

// NewPairing makes the wire's form.
func NewPairing(p consign.Pairing) Pairing { return Pairing(p) }

// Value turns it back.
func (p Pairing) Value() consign.Pairing { return consign.Pairing(p) }

// Pairings is a list of them.
type Pairings struct {
	Pairings []Pairing `json:"pairings"`
}

// NewPairings makes the wire's form.
func NewPairings(ps []consign.Pairing) Pairings {
	return Pairings{append([]Pairing{}, each(ps, NewPairing)...)}
}

// Value turns it back.
func (p Pairings) Value() []consign.Pairing { return each(p.Pairings, Pairing.Value) }

// PairingCode is a consign.PairingCode.
type PairingCode struct {
	Code      string    `json:"code"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewPairingCode makes the wire's form.
func NewPairingCode(c consign.PairingCode) PairingCode { return PairingCode(c) }

// Value turns it back.
func (c PairingCode) Value() consign.PairingCode { return consign.PairingCode(c) }
