package consign

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

// Config is what a queue is made of. Store is required; the zero value of
// everything else is the default.
type Config struct {
	// Store keeps the jobs.
	Store Store
	// Identity signs acceptances; its public key names the queue, and a store
	// belongs to the queue that ran on it first: Run refuses another. Queues that
	// share a store have the same. Defaults to a new ed25519 identity, whose
	// receipts nobody can check and whose sealed jobs nobody can run once this
	// process has ended: give one from sign.LoadOrCreate to keep them. On a store
	// that belongs to a queue it does for Cancel and the like: registrations and
	// sealed jobs are refused with ErrClosed.
	Identity *sign.Identity
	// Vault holds the keys of sealed jobs. Defaults to none: then jobs in
	// custody escrow or transit are refused.
	Vault Vault
	// Scheduler matches jobs and workers. Defaults to FourSignals.
	Scheduler Scheduler
	// Kinds are the kinds of jobs that are taken. Defaults to DefaultKinds.
	Kinds []Kind
	// Tiers are the context tiers' bounds. Defaults to DefaultTierBounds.
	Tiers TierBounds
	// Prices is the price table. Defaults to none: every job is free.
	Prices PriceTable
	// NoReceipts takes results without a signed record: for workers that are
	// part of the queue's own program. Their results are "unverified".
	NoReceipts bool

	// Webhooks takes jobs with a webhook, and puts their ends into the store's
	// outbox, for a webhook.Sender. Defaults to refusing them.
	Webhooks bool

	// Lease is how long an attempt holds without a heartbeat; workers send one
	// every third of it. Defaults to 30 s.
	Lease time.Duration
	// AttemptLimit is how long an attempt may run, heartbeats or not. Defaults
	// to none.
	AttemptLimit time.Duration
	// QueueTime is how long a job waits for a worker before it expires.
	// Defaults to for ever.
	QueueTime time.Duration
	// MaxAttempts is after how many faults a job fails. Defaults to 5.
	MaxAttempts int
	// BackoffBase and BackoffMax are the wait after a job's first fault, which
	// doubles, and its bound. Default to 1 s and 5 min.
	BackoffBase, BackoffMax time.Duration
	// Retention is how long a job that has ended is kept, AckRetention how
	// long after it was acknowledged. Default to 24 h and 10 min.
	Retention, AckRetention time.Duration
	// DrainTimeout is how long a queue that is told to end waits for what
	// workers still return. Defaults to 30 s.
	DrainTimeout time.Duration
	// MaxPayload and MaxResult are the largest in bytes. Default to 16 MiB.
	MaxPayload, MaxResult int

	// Logger gets what no caller can receive. Defaults to slog.Default.
	Logger *slog.Logger
}

// Kind is a sort of job: who takes it and what is expected of it.
type Kind struct {
	Name string
	// Models are the models that may be asked for. Defaults to any.
	Models []string
	// NeedsModel refuses jobs that name no model.
	NeedsModel bool
	// Docker sends jobs only to workers that run containers.
	Docker bool
	// Auto is what PolicyAuto resolves to. Defaults to PolicyCheap.
	Auto Policy
	// Comparator is how two results are compared. Defaults to ComparatorNone:
	// results are never compared.
	Comparator string
}

// The names of the DefaultKinds.
const (
	KindInference = "LLM_INFER"
	KindTask      = "TASK"
	KindContainer = "CONTAINER"
)

// DefaultKinds are inference, tasks and containers (seeds 000 and 001).
func DefaultKinds() []Kind {
	return []Kind{
		{Name: KindInference, NeedsModel: true, Auto: PolicyFast},
		{Name: KindTask, Auto: PolicyCheap, Comparator: "exact"},
		{Name: KindContainer, Docker: true, Auto: PolicyCheap},
	}
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	def(&c.Lease, 30*time.Second)
	def(&c.BackoffBase, time.Second)
	def(&c.BackoffMax, 5*time.Minute)
	def(&c.Retention, 24*time.Hour)
	def(&c.AckRetention, 10*time.Minute)
	def(&c.DrainTimeout, 30*time.Second)
	if c.Scheduler == nil {
		c.Scheduler = FourSignals{}
	}
	if c.Kinds == nil {
		c.Kinds = DefaultKinds()
	}
	if c.Tiers == (TierBounds{}) {
		c.Tiers = DefaultTierBounds
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = 5
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = 16 << 20
	}
	if c.MaxResult == 0 {
		c.MaxResult = 16 << 20
	}
	if c.Identity == nil {
		c.Identity = sign.Generate()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c *Config) validate() error {
	if c.Store == nil {
		return fieldError("config.store", "is missing", "give a Store, memdb.New() for one")
	}
	for name, d := range map[string]time.Duration{"lease": c.Lease, "attempt_limit": c.AttemptLimit, "queue_time": c.QueueTime,
		"backoff_base": c.BackoffBase, "backoff_max": c.BackoffMax, "retention": c.Retention, "ack_retention": c.AckRetention, "drain_timeout": c.DrainTimeout} {
		if d < 0 {
			return fieldError("config."+name, "is negative", "give a duration above zero, or zero for the default")
		}
	}
	if c.MaxAttempts < 0 || c.MaxPayload < 0 || c.MaxResult < 0 {
		return fieldError("config", "has a negative bound", "give numbers above zero, or zero for the defaults")
	}
	if c.Lease < 3*time.Millisecond {
		return fieldError("config.lease", "is "+c.Lease.String(), "give at least 3 ms")
	}
	seen := map[string]bool{}
	for i, k := range c.Kinds {
		if k.Name == "" || seen[k.Name] {
			return fieldError(fmt.Sprintf("config.kinds[%d].name", i), fmt.Sprintf("is empty or twice there: %q", k.Name), "name each kind once")
		}
		seen[k.Name] = true
	}
	if err := c.Tiers.validate(); err != nil {
		return err
	}
	return c.Prices.validate()
}

func (c *Config) kind(name string) (Kind, bool) {
	for _, k := range c.Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
