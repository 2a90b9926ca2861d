package consign

import (
	"context"
	"iter"
	"time"
)

// SubmitterAPI is a queue as one account sees it, wherever it runs:
// Queue.Submitter returns one, and so does a transport's dialer. Another
// account's job is ErrNotFound.
//
// Every method may return ErrClosed, and ctx's error once it is done.
type SubmitterAPI interface {
	// Quote prices a job and resolves its policy and tier. It returns a
	// *FieldError for a bad request.
	Quote(ctx context.Context, r QuoteRequest) (Quote, error)
	// Submit admits a job durably and returns it. The same ID with the same
	// content returns the job that there is. It returns a *FieldError for a
	// bad request, ErrConflict for an ID used with other content, ErrIDTaken,
	// ErrCredit, and ErrNoWorker for a PRIVATE job without a paired worker.
	Submit(ctx context.Context, r SubmitRequest) (JobInfo, error)
	// SubmitMany submits each; one's failure does not keep the others out. Those
	// of equal needs, priority and policy stand in line in the order of rs.
	SubmitMany(ctx context.Context, rs []SubmitRequest) []SubmitOutcome
	// Get returns the job as it is now. ErrNotFound.
	Get(ctx context.Context, id JobID) (JobInfo, error)
	// Wait returns the job once it has ended. When ctx is done first it
	// returns the job as it is and ctx's error. ErrNotFound.
	Wait(ctx context.Context, id JobID) (JobInfo, error)
	// Events yields the job's log after a number, as it grows, and ends with
	// the job. An error ends it too: ErrNotFound, or ctx's.
	Events(ctx context.Context, id JobID, after Seq) iter.Seq2[LogEntry, error]
	// Cancel ends a job that has no result yet. ErrNotFound; a
	// *TransitionError where it is too late.
	Cancel(ctx context.Context, id JobID) (JobInfo, error)
	// Acknowledge says that the submitter has what it needs: the job's keys
	// are destroyed and it may be forgotten. ErrNotFound; a *TransitionError
	// before the job has ended. It is idempotent.
	Acknowledge(ctx context.Context, id JobID) error
	// Receipt returns the worker's record and the queue's acceptance of it.
	// ErrNotFound where the job has no accepted result.
	Receipt(ctx context.Context, id JobID) (Receipt, error)
	// Explain says why the job is in its state and what it waits for.
	// ErrNotFound.
	Explain(ctx context.Context, id JobID) (Explanation, error)
	// Keys returns the keys that this account may seal jobs to.
	Keys(ctx context.Context) (Keys, error)

	// NewPairing returns a code by which a worker pairs itself with the
	// account, whose PRIVATE jobs the ed25519 key signs. It is good once, for
	// ten minutes. It returns a *FieldError for a bad key, and ErrBusy while
	// five codes are open.
	NewPairing(ctx context.Context, submitter []byte) (PairingCode, error)
	// Pairings lists the account's pairings, by worker.
	Pairings(ctx context.Context) ([]Pairing, error)
	// ConfirmPairing ends the pending of a pairing: from now on PRIVATE jobs go
	// to the worker. The fingerprint is the one that the worker itself shows,
	// and has come by another way than the queue. It returns a *FieldError for
	// one that is another key's, and ErrNotFound. It is idempotent.
	ConfirmPairing(ctx context.Context, w WorkerID, fingerprint string) (Pairing, error)
	// RevokePairing ends a pairing, pending or not. Jobs that the worker is
	// running go on. It is idempotent.
	RevokePairing(ctx context.Context, w WorkerID) error
}

// Keys is whom a submitter can wrap a job's key to.
type Keys struct {
	Queue QueueID
	// QueueKey is the queue's public key in the text form of sign.PublicKey,
	// whose hash Queue is. A submitter that pins it now knows the queue again.
	QueueKey string
	// Vault is the key of the queue's vault, for the custody escrow, in the
	// form of seal.PublicKey.Bytes; nil where the queue has no vault.
	Vault []byte
	// Workers are those paired with the account that have registered
	// encryption keys. What they are worth is the submitter's to judge, by the
	// fingerprints that it pinned.
	Workers []WorkerKeys
}

// WorkerKeys is the keys of a worker: the one that it signs with, and its
// signed bundle of encryption keys.
type WorkerKeys struct {
	ID        WorkerID
	Algorithm string // as in Registration
	PublicKey []byte
	KeyBundle []byte // a DSSE envelope as JSON; nil: none
}

// WorkerAPI is a queue as a worker meets it: it registers and gets a Session.
// One that crosses a network also has a method Origin() string, the address
// that was dialled, for the worker to sign; without it that is "inproc".
type WorkerAPI interface {
	// Challenge returns what the worker has to sign to register.
	Challenge(ctx context.Context) (Challenge, error)
	// Register proves that the worker holds its key and opens a session. It
	// returns a *FieldError for bad capabilities or a bad signature and
	// ErrRemoved for a worker that may not work here.
	Register(ctx context.Context, r Registration) (Session, error)
}

// Session is what a registered worker does. It may be used from many
// goroutines. Heartbeat and Claim return ErrSession once the session has
// ended: register again and go on, claims outlive sessions. One that holds
// something open is an io.Closer, too. Methods that name a
// claim return ErrLeaseLost where it is not current: stop the work, nothing
// was changed.
type Session interface {
	// Heartbeat declares capabilities and state, and renews the leases of the
	// claims that it lists.
	Heartbeat(ctx context.Context, h Heartbeat) (HeartbeatReply, error)
	// Claim blocks until there is a job for this worker or ctx is done. One
	// call is one free slot. It returns ErrBusy for a worker that holds as many
	// claims as it declared slots, and ErrRemoved for one that may not take
	// work.
	Claim(ctx context.Context) (Assignment, error)
	// Report adds to the job's log and renews the lease.
	Report(ctx context.Context, r Report) error
	// Complete returns a result. nil means that it is durably accepted; the
	// same completion again gets the same answer, another one under the same
	// claim ErrConflict. ErrBadResult says which part of the record does not
	// hold: the result is rejected, and the claim is over.
	Complete(ctx context.Context, c Completion) error
	// Fail says that the worker could not run the job, and why.
	Fail(ctx context.Context, f Failure) error
	// Release gives a claim back unused.
	Release(ctx context.Context, r Release) error
	// ClaimPairing pairs the worker with the account that made the code. The
	// pairing is pending, and does not name the account; pin its Submitter key
	// once its fingerprint is the one that the submitter shows. It returns a
	// *FieldError for a code that is not open, and ErrBusy after five such
	// within an hour.
	ClaimPairing(ctx context.Context, code string) (Pairing, error)
}

// QuoteRequest asks what a job would cost.
type QuoteRequest struct {
	Kind   string
	Policy Policy
	Chars  uint32
}

// Quote is the answer.
type Quote struct {
	Price  Price
	Policy Policy // never PolicyAuto
	Tier   Tier
}

// SubmitRequest describes a job. Kind, Payload and Custody are required.
type SubmitRequest struct {
	ID      JobID // the idempotency key; zero: the queue picks one after admission
	Kind    string
	Model   string
	Payload []byte // the stored bytes: ciphertext, unless Custody is CustodyPlain
	Custody Custody

	// PayloadHash, if set, must be the SHA-256 of Header and Payload, in that
	// order.
	PayloadHash [32]byte
	// Header is H of a sealed payload, opaque to the queue.
	Header []byte
	// Chars is the prompt's length in characters: all of the payload, as the
	// queue cannot know which part of it is the prompt. For a plain payload it
	// is counted; where both are given they must agree. For a sealed one it is
	// required, with PromptBytes.
	Chars       uint32
	PromptBytes uint64
	ClientKey   []byte // the submitter's public key for the result
	// Wraps carries the key of a sealed payload: one wrap to the vault, without
	// a worker, in escrow; one or more to pinned workers when sealed.
	Wraps []Wrap
	// Signature is the submitter's over a sealed PRIVATE job: see
	// seal.SignSubmission. Workers require it.
	Signature []byte

	Privacy      Privacy
	Policy       Policy
	Priority     Priority
	HardwareTier uint8
	VRAM         uint32 // MiB
	Labels       map[string]string
	Comparator   string // how two results are compared; "" takes the kind's

	Delay       time.Duration // not claimable before
	QueueTime   time.Duration // expires if unclaimed for so long; zero takes Config.QueueTime
	Deadline    time.Duration // for the whole job, from now; zero: none
	MaxAttempts int           // zero takes Config.MaxAttempts

	// Webhook is an http or https URL that is told once the job has ended, in
	// the form of Standard Webhooks 1.0, where Config.Webhooks is set.
	Webhook string
}

// Wrap is a job's key, encrypted to a worker's key or the vault's.
type Wrap struct {
	Worker WorkerID // zero: the vault
	Wrap   []byte
}

// SubmitOutcome is one answer of SubmitMany: a job or an error.
type SubmitOutcome struct {
	Job JobInfo
	Err error
}

// JobInfo is a job as its submitter sees it.
type JobInfo struct {
	ID           JobID
	State        State
	Kind         string
	Model        string
	Tier         Tier
	Price        Price
	Attempts     int
	Worker       WorkerID // of the current or the accepted attempt
	Claim        ClaimID  // likewise
	CreatedAt    time.Time
	ClaimedAt    time.Time
	EndedAt      time.Time
	Acknowledged bool
	Reason       string
	Verification Verification // once completed
	Result       []byte       // once completed: the stored bytes, ciphertext when sealed
	// Opened is the result of a job in transit without a ClientKey, which the
	// vault opened. Receipts are about Result.
	Opened     []byte
	Comparison *Comparison // that the worker committed to in its record; nil: none
	ExitStatus int32
}

// Challenge is a nonce that proves that a registration is fresh.
type Challenge struct {
	Queue QueueID
	Nonce []byte
}

// Registration is a worker's proof of its identity.
type Registration struct {
	Algorithm string // "ed25519" or "rsa-pss-sha256"
	PublicKey []byte
	// Origin is the address that the worker dialled; "inproc" in one process.
	Origin string
	Nonce  []byte
	// Signature is over LP("consign/register/v1") LP(queue_id) LP(origin)
	// LP(nonce) LP(SHA-256(key bundle)); see RegistrationMessage.
	Signature []byte
	// KeyBundle carries the worker's encryption keys; opaque to the queue.
	KeyBundle    []byte
	Capabilities Capabilities
}

// Heartbeat says that a worker is alive and what it can do now.
type Heartbeat struct {
	Capabilities Capabilities
	FreeSlots    int
	Warm         []WarmModel
	MaxWarm      int // models that it can keep loaded; 0: unknown
	// Rates is the declared capacity: characters of prompt per second, by
	// model ("" for kinds without one). It bounds an attempt's run time.
	Rates  map[string]float64
	Claims []Claim // the claims whose leases to renew
}

// WarmModel is a model that a worker has loaded.
type WarmModel struct {
	Name  string
	Since time.Duration // for how long
}

// Claim names an attempt of a job.
type Claim struct {
	Job   JobID
	Claim ClaimID
}

// HeartbeatReply answers a heartbeat.
type HeartbeatReply struct {
	// Lost lists the claims that are no longer current: stop them.
	Lost []Claim
	// Interval is when the next heartbeat is expected.
	Interval time.Duration
}

// Assignment is a claimed job. Nothing in it tells a replica, a retry or a
// probe from a first run.
type Assignment struct {
	Queue      QueueID
	Job        JobID
	Claim      ClaimID
	Kind       string
	Model      string
	Policy     Policy
	Tier       Tier
	Chars      uint32
	Header     []byte
	Payload    []byte
	Custody    Custody
	Comparator string
	ClientKey  []byte
	Wrap       []byte        // the job's key, wrapped to this claim or this worker; nil for a plain one
	Signature  []byte        // the submitter's, of a sealed PRIVATE job
	Lease      time.Duration // how long the claim holds without a heartbeat, from when it was granted
	Limit      time.Duration // for the whole attempt, likewise; zero: only the lease bounds it
	// Receipts says whether the queue requires a signed record.
	Receipts bool
}

// Report is what a worker says of a job while it runs.
type Report struct {
	Claim
	Items []ReportItem
}

// ReportItem is one line, part or note of progress.
type ReportItem struct {
	Kind ReportKind
	Data []byte
}

// Completion is a result with the proof of who made it.
type Completion struct {
	Claim
	Result     []byte // the stored bytes: ciphertext when sealed
	ExitStatus int32
	// Record is the DSSE envelope of the signed execution record, as JSON; nil
	// where the queue requires no receipts, and only there. From a foreign
	// worker it is a ForeignReceipt as JSON.
	Record []byte
	// Comparison opens the record's t_commit; nil where that is zero.
	Comparison *Comparison
}

// Comparison is the comparison value of a sealed result, which the worker's
// record commits to (docs/sealed-format.md). Only the queue and the submitter
// get it.
type Comparison struct {
	T      [32]byte
	R      [32]byte
	Sketch []byte // nil: none
}

// Failure is an attempt that came to nothing.
type Failure struct {
	Claim
	Kind   FailKind
	Reason string
}

// Release gives a claim back.
type Release struct {
	Claim
	Reason string
}
