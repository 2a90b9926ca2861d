package consign

import (
	"fmt"
	"time"
)

// Job is the narrow, changing part of a unit of work: what a scheduler, a
// lease and a submitter's poll need. What never changes is in its Spec, what
// is written once at the end in its Done. A *Job that left the engine or a
// store is never modified; Next returns another.
type Job struct {
	ID      JobID
	Version uint64   // 1 when first stored, one more with every write
	Change  ChangeID // names the write that made this version
	State   State

	Account   string        // who submitted, pays and may read it
	Lane      string        // the text of its Lane
	Offset    time.Duration // its lane's, see keyOffset
	Custody   Custody       // who can read the payload
	InputHash [32]byte
	Price     Price
	CreatedAt Instant
	Deadline  Instant // the whole job's; zero: none
	QueueTime time.Duration
	Chars     uint32 // of the prompt, Unicode code points
	Notify    bool   // its end goes into the outbox of webhooks

	// The ticket, while queued.
	Ticket       TicketKind
	ReadyAt      Instant // not claimable before
	Key          Instant // place in its lane
	LastWorker   WorkerID
	ExcludeUntil Instant // LastWorker does not get it before, while another can
	QueueUntil   Instant // expires if still unclaimed; zero: never

	// The attempt, while running; the accepted one once completed.
	Attempt     int // attempts started, the current one included
	MaxAttempts int
	Faults      int // attempts that count against the job: its backoff grows with them
	Claim       ClaimID
	Worker      WorkerID
	ClaimedAt   Instant
	LimitAt     Instant // the attempt is void after; zero: only the lease bounds it
	LeaseFor    time.Duration
	LeaseUntil  Instant // filled by the store from its own clock

	// The end.
	EndedAt Instant
	AckedAt Instant
	Purged  bool   // a tombstone: spec, done and log are gone
	Reason  string // why it is in its state, for people

	// DueAt is when time alone next moves the job: queue time, attempt limit,
	// deadline, retention, tombstone. Zero: never.
	DueAt Instant
}

// State is where a job is in its life.
type State uint8

// The states of a job. The last four are terminal: a job never leaves them.
const (
	StateNone       State = iota // not stored yet
	StateBlocked                 // waits for the jobs before it in its graph
	StateQueued                  // has a ticket
	StateRunning                 // a worker holds the claim
	StateValidating              // has a result, which others are recomputing
	StateCompleted
	StateFailed
	StateCancelled
	StateExpired
)

var stateNames = [...]string{"none", "blocked", "queued", "running", "validating", "completed", "failed", "cancelled", "expired"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Terminal reports whether the job has ended.
func (s State) Terminal() bool { return s >= StateCompleted }

// TicketKind says which attempt a ticket is for. A worker is never told.
type TicketKind uint8

// The kinds of tickets.
const (
	TicketFirst TicketKind = iota
	TicketRetry
	TicketReplica
)

var ticketNames = [...]string{"first", "retry", "replica"}

func (k TicketKind) String() string { return ticketNames[k] }

// EventKind is something that happens to a job.
type EventKind uint8

// The events. Each is one row of the transition table.
const (
	EventSubmit      EventKind = iota + 1 // admitted, credits held
	EventUnblock                          // its graph lets it run
	EventClaim                            // a worker took the ticket
	EventComplete                         // a verified result came back under the current claim
	EventValidate                         // validation closed with a decision
	EventReject                           // the result's commitment or signature is bad
	EventFail                             // the worker says that it could not
	EventRelease                          // the worker gives the claim back unused
	EventLeaseLost                        // no heartbeat within the lease
	EventLimit                            // the attempt is past its limit
	EventExpire                           // queue time or deadline passed
	EventCancel                           // the submitter does not want it any more
	EventAcknowledge                      // the submitter has the result, or has seen the end
	EventPurge                            // past retention
	EventSettle                           // the account was charged or repaid (log only)
	EventReport                           // a log line or streamed part of the worker (log only)
)

var eventNames = [...]string{"", "submit", "unblock", "claim", "complete", "validate", "reject", "fail", "release",
	"lease_lost", "limit", "expire", "cancel", "acknowledge", "purge", "settle", "report"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// FailKind says whose fault a failed attempt is.
type FailKind uint8

// The kinds of failure that a worker reports.
const (
	// FailTransient is nobody's fault (crash, timeout, out of memory, an
	// upstream that is down): the job is tried again elsewhere.
	FailTransient FailKind = iota
	// FailRefused means that this worker cannot run this job (a model that it
	// lost, a limit of its own): tried again elsewhere, without backoff.
	FailRefused
	// FailPayload means that the job itself cannot be run by anyone: it fails
	// at once, and never counts against the worker.
	FailPayload
)

var failNames = [...]string{"transient", "refused", "payload"}

func (k FailKind) String() string { return failNames[k] }

// Event is an EventKind with what it carries.
type Event struct {
	Kind   EventKind
	Change ChangeID // names the write that will store the outcome

	Claim  ClaimID       // claim: the new one
	Worker WorkerID      // claim
	Lease  time.Duration // claim
	Limit  Instant       // claim: zero for none

	Behind time.Duration // submit: how far behind its time it stands, since others came first

	Drawn bool     // complete: sampled for validation
	Fail  FailKind // fail

	Verification Verification // complete: how far the result was checked

	Reason string
}

// TransitionError says that an event cannot happen to a job in its state. The
// job is unchanged.
type TransitionError struct {
	Job   JobID
	State State
	Event EventKind
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("consign: job %s is %s: %s is not possible", e.Job, e.State, e.Event)
}
