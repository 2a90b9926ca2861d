package consign

import (
	"context"
	"errors"
	"time"
)

// Store keeps what a queue must not lose. It is small and dumb: it keeps
// records with versions, indexes them and detects conflicts; every rule is in
// this package. Package storetest is the executable form of this contract.
//
// All methods may be called from many goroutines. Values passed in and handed
// out are shared: neither side modifies them afterwards. A cancelled context
// ends a call early with the context's error; what a cancelled Apply did is
// unknown to its caller.
type Store interface {
	// Apply commits changes in one durable transaction, in order. Each change
	// is all or nothing, and its outcome is in the slice at its index: nil, or
	// ErrVersion, ErrGuard, ErrBound, or an error of its own. A change that
	// fails alters nothing and does not keep the others from being applied.
	// When the second result is not nil no outcome is known: each change may
	// have been applied or not.
	//
	// An acknowledged change survives a crash of the process, as far as the
	// store's medium does.
	Apply(ctx context.Context, changes []Change) ([]error, error)

	// Renew sets each lease to end r.For after the store's present time, where
	// the job is running under that claim, and answers ErrGuard where it is
	// not. No version moves.
	Renew(ctx context.Context, renewals []Renewal) ([]error, error)

	// Jobs returns the jobs, nil where there is none, in the order of ids.
	Jobs(ctx context.Context, ids []JobID) ([]*Job, error)
	// Specs returns the specs, nil where there is none, in the order of ids. A
	// record that cannot be read is none, here as above and in every list: one
	// must not keep others from being read. A job that has no spec when it is
	// claimed fails.
	Specs(ctx context.Context, ids []JobID) ([]*Spec, error)
	// Done returns how a job ended, nil if it has no result.
	Done(ctx context.Context, id JobID) (*Done, error)
	// Log returns at most n entries of the job's log with a number above
	// after, in the order of their numbers.
	Log(ctx context.Context, id JobID, after Seq, n int) ([]LogEntry, error)

	// Lanes returns every lane that has queued jobs, in the order of their
	// text, with the smallest key in it.
	Lanes(ctx context.Context) ([]LaneHead, error)
	// Page returns at most n queued jobs of a lane and of the shards in the
	// mask (bit i for shard i), in claim order (Key, then ID), after the given
	// place.
	Page(ctx context.Context, lane string, shards uint16, after Place, n int) ([]*Job, error)
	// Due returns at most n jobs whose DueAt is set and not after now, earliest
	// first, and the earliest DueAt of those that it did not return (zero if
	// there is none).
	Due(ctx context.Context, now Instant, n int) (due []*Job, next Instant, err error)
	// Lapsed returns at most n running jobs whose lease has ended by the
	// store's own clock, longest lapsed first.
	Lapsed(ctx context.Context, n int) ([]*Job, error)
	// List returns at most n jobs that match the filter, by ID, after the
	// given one.
	List(ctx context.Context, f Filter, after JobID, n int) ([]*Job, error)

	// Effects returns at most n effects that wait to be carried out, oldest
	// first.
	Effects(ctx context.Context, n int) ([]Effect, error)
	// Docs returns the documents of a kind, by key, after the given key, at
	// most n.
	Docs(ctx context.Context, kind, after string, n int) ([]Doc, error)
	// Doc returns one document, or one of version 0 where there is none.
	Doc(ctx context.Context, kind, key string) (Doc, error)
	// Counter returns a counter's value; one that was never written is zero.
	Counter(ctx context.Context, name string) (int64, error)
}

// The outcomes of a change that did not apply.
var (
	// ErrVersion: a record is not at the version that the change expects.
	ErrVersion = errors.New("consign: version conflict")
	// ErrGuard: the change's guard, or a renewal's claim, does not hold.
	ErrGuard = errors.New("consign: guard does not hold")
	// ErrBound: a counter would fall below its bound.
	ErrBound = errors.New("consign: counter below its bound")
)

// ChangeID is 16 random bytes that name a change. A job keeps the ID of the
// last change that wrote it, so that an unknown outcome can be found out by
// reading again.
type ChangeID [16]byte

// Change is one atomic step. Zero fields do nothing. A change names each
// document, counter and effect at most once. Texts are UTF-8 without NUL. Of
// several parts that fail, any one's error is the outcome.
type Change struct {
	ID ChangeID

	// Job is written if the stored version is Job.Version-1; version 1 inserts
	// and needs that there is none. A running job has LeaseFor set, and the
	// store fills LeaseUntil from its own clock. Job.Change is ID. Of the fields
	// from Account to Notify, and MaxAttempts, later versions repeat the first
	// one's: a store need not write them again.
	Job *Job
	// Spec and Done are written with Job and belong to it.
	Spec *Spec
	Done *Done
	// Forget deletes the job's spec, done and log; Delete the job itself, with
	// all that belongs to it. Both apply to Job, whose version must be stored as
	// Job.Version-1. With Forget the rest of Job is written as usual.
	Forget, Delete bool

	// Log holds entries of any jobs, judged after Job is written. Those of a job
	// that is not there, or was ever forgotten, are dropped, and so is one whose
	// number the job's log has.
	Log      []LogEntry
	Effects  []Effect   // to be carried out later, once; one that waits already is left
	Drop     []EffectID // carried out now; ErrVersion if one is not there
	Docs     []Doc      // each written if the stored version is Version-1
	Counters []Delta

	// Guard, if set, must hold at the moment of the commit.
	Guard *Guard
}

// Guard is a condition that the store judges inside the commit: the job is
// running under the claim, and, with Lapsed, its lease has ended by the
// store's clock.
type Guard struct {
	Job    JobID
	Claim  ClaimID
	Lapsed bool
}

// Renewal extends the lease of a claim.
type Renewal struct {
	Job   JobID
	Claim ClaimID
	For   time.Duration
}

// Delta adds to a counter. Deltas commute; one that would leave the counter
// below Min fails its change with ErrBound. A delta of zero or more never
// fails.
type Delta struct {
	Counter string
	Add     int64
	Min     int64
}

// Doc is a record that the store does not look into: a worker, a pairing, a
// pause. Body is JSON, so that a person can query it in a database.
type Doc struct {
	Kind, Key string
	Version   uint64
	Body      []byte // nil deletes
}

// The kinds of documents.
const (
	DocWorker       = "worker"        // WorkerRecord, by worker ID
	DocPairing      = "pairing"       // Pairing, by account and worker ID
	DocPairingCode  = "pairing_code"  // one that is open, by its HMAC
	DocPairingCodes = "pairing_codes" // those of an account, by account
	DocPause        = "pause"         // by what is paused
	DocWebhook      = "webhook"       // Delivery, by OutboxKey
	DocHook         = "webhook_url"   // Hook, by Delivery.Hook
	DocCredit       = "credit"        // what AddCredit added, by its reference
	DocPeer         = "peer"          // a queue that has workers, by its name among its peers
	DocQueue        = "queue"         // the queue whose store it is: one document
)

// LaneHead is a lane that has queued jobs and the smallest key in it.
type LaneHead struct {
	Lane string
	Key  Instant
}

// Place is a position in a lane.
type Place struct {
	Key Instant
	ID  JobID
}

// Before reports whether p comes first in claim order.
func (p Place) Before(q Place) bool {
	if p.Key != q.Key {
		return p.Key < q.Key
	}
	return string(p.ID[:]) < string(q.ID[:])
}

// AllShards is the mask of every shard.
const AllShards uint16 = 1<<Shards - 1

// Filter selects jobs; zero fields select all.
type Filter struct {
	Account string
	State   State
}

// Seq numbers the entries of one job's log: the job's version in the upper 32
// bits, the entry's index within that version in the lower.
type Seq uint64

func seq(version uint64, i int) Seq { return Seq(version<<32 | uint64(uint32(i))) }

// settleSeq is the number of the entry that says that the account was settled.
// It is not a write of the job, so it has a number of its own, after all
// others.
const settleSeq = Seq(1<<63 - 1)

// LogEntry is one line of a job's history: a transition, or a line or part
// that the worker reported.
type LogEntry struct {
	Job     JobID
	Seq     Seq
	At      Instant
	Event   EventKind
	State   State // after the event
	Attempt int
	Worker  WorkerID
	Reason  string
	Report  ReportKind // of an EventReport
	Data    []byte     // of an EventReport: ciphertext when sealed
}

// ReportKind says what a worker's report is.
type ReportKind uint8

// The kinds of reports.
const (
	ReportProgress ReportKind = iota // how far it is, as text
	ReportLog                        // a log line
	ReportPart                       // a part of the result, in order: a preview
)

var reportNames = [...]string{"progress", "log", "part"}

func (k ReportKind) String() string { return reportNames[k] }

// Effect is what a job does to another record, written in the job's own
// change and carried out once, later, by the queue's pump.
type Effect struct {
	ID     EffectID
	Kind   EffectKind
	Target string // an account, a worker ID, a vault
	Amount int64  // settle, refund: millionths
	Reason string
	At     Instant
}

// EffectID names an effect: the job's version that caused it, and its index.
type EffectID struct {
	Job JobID
	Seq Seq
}

// EffectKind is what an effect does.
type EffectKind uint8

// The kinds of effects.
const (
	EffectSettle EffectKind = iota + 1 // the account pays what was held
	EffectRefund                       // the account gets back what was held
	EffectStrike                       // a worker's result was rejected
	EffectShred                        // the job's keys are destroyed
)

var effectNames = [...]string{"", "settle", "refund", "strike", "shred"}

func (k EffectKind) String() string { return effectNames[k] }
