package worker

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// Config says what a worker is and can do. API, Identity and Executors are
// required; every other field's zero value is its default.
type Config struct {
	// API is the queue: a *consign.Queue in this process, or what a
	// transport's dialer returns. A dialer's also has Origin() string, the
	// address that it dialled, which the worker signs so that nobody can pass
	// its registration on to another queue.
	API consign.WorkerAPI
	// Identity is the key that the worker registers with and signs its records
	// with. Its public half names the worker: see sign.LoadOrCreate.
	Identity *sign.Identity
	// Executors run the jobs, by kind: "LLM_INFER", "TASK", or your own.
	Executors map[string]Executor

	// Slots is how many jobs run at once. Defaults to 1.
	Slots int
	// Capabilities is what the worker declares beyond its kinds and slots,
	// which are those of Executors and Slots, and Encryption, which every
	// worker has, whatever is here.
	// MaxContextTier defaults to consign.MaxTier.
	Capabilities consign.Capabilities
	// MaxWarm is how many models the worker can keep loaded. Defaults to
	// unknown.
	MaxWarm int
	// Rates is the declared capacity, by model: characters of prompt per
	// second. The queue bounds an attempt's run time by it. Defaults to none.
	Rates map[string]float64

	// Queue is the only queue that the worker registers with. Defaults to
	// whichever API leads to.
	Queue consign.QueueID

	// EncryptionKeys open the jobs that are sealed to this worker, the current
	// key first: it is what others wrap to, and the ones after it open what was
	// wrapped before it was. Keep them over restarts (seal.Load, seal.Save):
	// what was sealed to a key that is gone has to go to another worker. RSA
	// keys do; the identity's own is never one of them. Defaults to a new
	// MLKEM768-X25519 key that lives as long as the Worker.
	EncryptionKeys []*seal.PrivateKey
	// Pinned reports whether this worker runs the PRIVATE jobs of a submitter,
	// by its ed25519 key; others it refuses. It is called from many goroutines.
	// Defaults to nobody's.
	Pinned func(submitter [32]byte) bool

	// DrainTimeout is how long Run lets jobs finish once its context is done;
	// what still runs then is stopped and given back. Negative: not at all.
	// Defaults to 30 s.
	DrainTimeout time.Duration
	// KeepResult is how long past its lease a finished result is still offered
	// to a queue that does not answer. Negative: not at all. Defaults to 10
	// minutes.
	KeepResult time.Duration
	// CallTimeout bounds a call that the queue should answer at once. A result
	// that did not get through within it is given twice the time on the next
	// try, and so on up to 16 times. Defaults to 30 s.
	CallTimeout time.Duration

	// Seq is the number of the last record that this identity signed in an
	// earlier life. Records are numbered without gaps, so a worker that
	// restarts goes on from there. Defaults to 0.
	Seq int64
	// Journal, unless nil, is given each signed record and its number before
	// it is sent, one at a time and in order: the worker's own copy of what it
	// has signed, and the source of Seq after a restart. On an error the record
	// is discarded and its number used for the next one, the job is given back,
	// and the worker drains and ends with that error. Defaults to none.
	Journal func(seq int64, record []byte) error

	// Logger hears of what no caller can receive: outages, lost claims,
	// results that were refused. Defaults to discarding it.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Slots = or(c.Slots, 1)
	c.DrainTimeout = or(c.DrainTimeout, 30*time.Second)
	c.KeepResult = or(c.KeepResult, 10*time.Minute)
	c.CallTimeout = or(c.CallTimeout, 30*time.Second)
	c.Executors = maps.Clone(c.Executors)
	c.Capabilities.Kinds = slices.Sorted(maps.Keys(c.Executors))
	c.Capabilities.Slots = c.Slots
	c.Capabilities.Encryption = true
	c.Capabilities.MaxContextTier = or(c.Capabilities.MaxContextTier, consign.MaxTier)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// or returns v, or its default where v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (c *Config) validate() error {
	switch {
	case c.API == nil:
		return fieldError("API", "is nil", "give a queue, or what a transport's dialer returns")
	case c.Identity == nil || c.Identity.Public().Algorithm() == "":
		return fieldError("Identity", "is empty", "load one with sign.LoadOrCreate")
	case len(c.Executors) == 0:
		return fieldError("Executors", "is empty", "name at least one kind and what runs it")
	case c.Slots < 0:
		return fieldError("Slots", fmt.Sprintf("is %d", c.Slots), "give at least one")
	case c.CallTimeout < 0:
		return fieldError("CallTimeout", fmt.Sprintf("is %v", c.CallTimeout), "give a time above zero")
	case c.Seq < 0:
		return fieldError("Seq", fmt.Sprintf("is %d", c.Seq), "give the number of the last record, or 0")
	}
	for kind, e := range c.Executors {
		if kind == "" || e == nil {
			return fieldError("Executors", fmt.Sprintf("holds an empty entry: %q", kind), "give every kind a name and an executor")
		}
	}
	return nil
}

func fieldError(field, problem, remedy string) error {
	return &consign.FieldError{Field: "worker.Config." + field, Problem: problem, Remedy: remedy}
}
