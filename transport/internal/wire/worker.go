package wire

import (
	"time"

	"github.com/consignq/consign"
)

// The types of consign.WorkerAPI and consign.Session.

// Challenge is a consign.Challenge.
type Challenge struct {
	Queue consign.QueueID `json:"queue_id"`
	Nonce []byte          `json:"nonce"`
}

// NewChallenge makes the wire's form.
func NewChallenge(c consign.Challenge) Challenge { return Challenge(c) }

// Value turns it back.
func (c Challenge) Value() consign.Challenge { return consign.Challenge(c) }

// Registration is a consign.Registration.
type Registration struct {
	Algorithm    string       `json:"algorithm"`
	PublicKey    []byte       `json:"public_key"`
	Origin       string       `json:"origin"`
	Nonce        []byte       `json:"nonce"`
	Signature    []byte       `json:"signature"`
	KeyBundle    []byte       `json:"key_bundle,omitempty"`
	Capabilities Capabilities `json:"capabilities"`
}

// NewRegistration makes the wire's form.
func NewRegistration(r consign.Registration) Registration {
	return Registration{r.Algorithm, r.PublicKey, r.Origin, r.Nonce, r.Signature, r.KeyBundle, Capabilities(r.Capabilities)}
}

// Value turns it back.
func (r Registration) Value() consign.Registration {
	return consign.Registration{Algorithm: r.Algorithm, PublicKey: r.PublicKey, Origin: r.Origin, Nonce: r.Nonce, Signature: r.Signature,
		KeyBundle: r.KeyBundle, Capabilities: consign.Capabilities(r.Capabilities)}
}

// Capabilities is a consign.Capabilities.
type Capabilities struct {
	Kinds          []string          `json:"kinds"`
	Models         []string          `json:"models,omitempty"`
	MaxContextTier consign.Tier      `json:"max_context_tier"`
	HardwareTier   uint8             `json:"hardware_tier,omitempty"`
	VRAM           uint32            `json:"vram_mib,omitempty"`
	Docker         bool              `json:"docker,omitempty"`
	Encryption     bool              `json:"encryption,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Slots          int               `json:"slots"`
}

// Heartbeat is a consign.Heartbeat.
type Heartbeat struct {
	Capabilities Capabilities       `json:"capabilities"`
	FreeSlots    int                `json:"free_slots"`
	Warm         []WarmModel        `json:"warm,omitempty"`
	MaxWarm      int                `json:"max_warm,omitempty"`
	Rates        map[string]float64 `json:"rates,omitempty"`
	Claims       []Claim            `json:"claims,omitempty"`
}

// NewHeartbeat makes the wire's form.
func NewHeartbeat(h consign.Heartbeat) Heartbeat {
	return Heartbeat{Capabilities(h.Capabilities), h.FreeSlots, each(h.Warm, newWarmModel), h.MaxWarm, h.Rates, each(h.Claims, NewClaim)}
}

// Value turns it back.
func (h Heartbeat) Value() consign.Heartbeat {
	return consign.Heartbeat{Capabilities: consign.Capabilities(h.Capabilities), FreeSlots: h.FreeSlots, Warm: each(h.Warm, WarmModel.value),
		MaxWarm: h.MaxWarm, Rates: h.Rates, Claims: each(h.Claims, Claim.Value)}
}

// WarmModel is a consign.WarmModel.
type WarmModel struct {
	Name  string        `json:"name"`
	Since time.Duration `json:"since_ns"`
}

func newWarmModel(m consign.WarmModel) WarmModel { return WarmModel(m) }
func (m WarmModel) value() consign.WarmModel     { return consign.WarmModel(m) }

// Claim is a consign.Claim.
type Claim struct {
	Job   consign.JobID   `json:"job_id"`
	Claim consign.ClaimID `json:"claim_id"`
}

// NewClaim makes the wire's form.
func NewClaim(c consign.Claim) Claim { return Claim(c) }

// Value turns it back.
func (c Claim) Value() consign.Claim { return consign.Claim(c) }

// HeartbeatReply is a consign.HeartbeatReply.
type HeartbeatReply struct {
	Lost     []Claim       `json:"lost,omitempty"`
	Interval time.Duration `json:"interval_ns"`
}

// NewHeartbeatReply makes the wire's form.
func NewHeartbeatReply(r consign.HeartbeatReply) HeartbeatReply {
	return HeartbeatReply{each(r.Lost, NewClaim), r.Interval}
}

// Value turns it back.
func (r HeartbeatReply) Value() consign.HeartbeatReply {
	return consign.HeartbeatReply{Lost: each(r.Lost, Claim.Value), Interval: r.Interval}
}

// Assignment is a consign.Assignment.
type Assignment struct {
	Queue      consign.QueueID `json:"queue_id"`
	Job        consign.JobID   `json:"job_id"`
	Claim      consign.ClaimID `json:"claim_id"`
	Kind       string          `json:"job_type"`
	Model      string          `json:"model,omitempty"`
	Policy     Policy          `json:"policy,omitempty"`
	Tier       consign.Tier    `json:"tier"`
	Chars      uint32          `json:"chars,omitempty"`
	Header     []byte          `json:"header,omitempty"`
	Payload    []byte          `json:"payload"`
	Custody    consign.Custody `json:"custody"`
	Comparator string          `json:"comparator,omitempty"`
	ClientKey  []byte          `json:"client_pubkey,omitempty"`
	Wrap       []byte          `json:"wrap,omitempty"`
	Signature  []byte          `json:"signature,omitempty"`
	Lease      time.Duration   `json:"lease_ns"`
	Limit      time.Duration   `json:"limit_ns,omitempty"`
	Receipts   bool            `json:"receipts"`
}

// NewAssignment makes the wire's form.
func NewAssignment(a consign.Assignment) Assignment {
	return Assignment{a.Queue, a.Job, a.Claim, a.Kind, a.Model, Policy(a.Policy), a.Tier, a.Chars, a.Header, a.Payload, a.Custody, a.Comparator,
		a.ClientKey, a.Wrap, a.Signature, a.Lease, a.Limit, a.Receipts}
}

// Value turns it back.
func (a Assignment) Value() consign.Assignment {
	return consign.Assignment{Queue: a.Queue, Job: a.Job, Claim: a.Claim, Kind: a.Kind, Model: a.Model, Policy: consign.Policy(a.Policy), Tier: a.Tier,
		Chars: a.Chars, Header: a.Header, Payload: a.Payload, Custody: a.Custody, Comparator: a.Comparator, ClientKey: a.ClientKey, Wrap: a.Wrap,
		Signature: a.Signature, Lease: a.Lease, Limit: a.Limit, Receipts: a.Receipts}
}

// Report is a consign.Report.
type Report struct {
	Claim
	Items []ReportItem `json:"items"`
}

// ReportItem is a consign.ReportItem.
type ReportItem struct {
	Kind ReportKind `json:"kind"`
	Data []byte     `json:"data"`
}

// NewReport makes the wire's form.
func NewReport(r consign.Report) Report {
	return Report{NewClaim(r.Claim), each(r.Items, func(i consign.ReportItem) ReportItem { return ReportItem{ReportKind(i.Kind), i.Data} })}
}

// Value turns it back.
func (r Report) Value() consign.Report {
	return consign.Report{Claim: r.Claim.Value(), Items: each(r.Items, func(i ReportItem) consign.ReportItem {
		return consign.ReportItem{Kind: consign.ReportKind(i.Kind), Data: i.Data}
	})}
}

// Completion is a consign.Completion.
type Completion struct {
	Claim
	Result     []byte      `json:"result"`
	ExitStatus int32       `json:"exit_status,omitempty"`
	Record     []byte      `json:"record,omitempty"`
	Comparison *Comparison `json:"comparison,omitempty"`
}

// NewCompletion makes the wire's form.
func NewCompletion(c consign.Completion) Completion {
	return Completion{NewClaim(c.Claim), c.Result, c.ExitStatus, c.Record, newComparison(c.Comparison)}
}

// Value turns it back.
func (c Completion) Value() consign.Completion {
	return consign.Completion{Claim: c.Claim.Value(), Result: c.Result, ExitStatus: c.ExitStatus, Record: c.Record, Comparison: c.Comparison.value()}
}

// Comparison is a consign.Comparison.
type Comparison struct {
	T      Hash   `json:"t"`
	R      Hash   `json:"r"`
	Sketch []byte `json:"sketch,omitempty"`
}

func newComparison(c *consign.Comparison) *Comparison {
	if c == nil {
		return nil
	}
	return &Comparison{Hash(c.T), Hash(c.R), c.Sketch}
}

func (c *Comparison) value() *consign.Comparison {
	if c == nil {
		return nil
	}
	return &consign.Comparison{T: [32]byte(c.T), R: [32]byte(c.R), Sketch: c.Sketch}
}

// Failure is a consign.Failure.
type Failure struct {
	Claim
	Kind   FailKind `json:"kind"`
	Reason string   `json:"reason"`
}

// NewFailure makes the wire's form.
func NewFailure(f consign.Failure) Failure {
	return Failure{NewClaim(f.Claim), FailKind(f.Kind), f.Reason}
}

// Value turns it back.
func (f Failure) Value() consign.Failure {
	return consign.Failure{Claim: f.Claim.Value(), Kind: consign.FailKind(f.Kind), Reason: f.Reason}
}

// Release is a consign.Release.
type Release struct {
	Claim
	Reason string `json:"reason"`
}

// NewRelease makes the wire's form.
func NewRelease(r consign.Release) Release { return Release{NewClaim(r.Claim), r.Reason} }

// Value turns it back.
func (r Release) Value() consign.Release {
	return consign.Release{Claim: r.Claim.Value(), Reason: r.Reason}
}
