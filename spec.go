package consign

// Spec is what never changes of a job: written once with the submit, read when
// the job is claimed.
type Spec struct {
	ID           JobID
	Kind         string
	Model        string // as requested
	Header       []byte // H of a sealed payload, verbatim; nil for plain
	Payload      []byte // the stored bytes: ciphertext when sealed
	Custody      Custody
	Comparator   string
	ClientKey    []byte // the submitter's public key for the result; nil: none
	Wraps        []Wrap // the job's key, to each worker that may run it when sealed; else nil
	Signature    []byte // the submitter's, of a sealed PRIVATE job
	Webhook      string // URL that is told of the job's end; "" for none
	Privacy      Privacy
	Policy       Policy
	Priority     Priority
	HardwareTier uint8
	VRAM         uint32
	Labels       string
	Chars        uint32
	Tier         Tier
}

// Done is what a job ends with: written once, with the transition that
// accepted the result.
type Done struct {
	ID         JobID
	Claim      ClaimID
	Worker     WorkerID
	Result     []byte // the stored bytes: ciphertext when sealed
	ExitStatus int32
	// Record is what the worker signed, packed: see SignedRecord. Of a foreign
	// worker it is the receipt as it came; nil where receipts are off.
	Record       []byte
	Digest       [32]byte
	AcceptedAt   Instant
	Verification Verification
	Comparison   *Comparison // that the record commits to; nil: none
	Acceptance   *Acceptance // signed when it is fetched; nil where receipts are off
}

// vaulted reports whether the job's key is in the queue's vault.
func (c Custody) vaulted() bool { return c == CustodyEscrow || c == CustodyTransit }

// sealedBySubmitter reports whether the payload comes sealed.
func (c Custody) sealedBySubmitter() bool { return c == CustodyEscrow || c == CustodySealed }

// Privacy says which workers may run a job.
type Privacy uint8

// PUBLIC jobs go to any worker, PRIVATE ones only to those that the submitter
// has been paired with (seed 001).
const (
	PrivacyPublic Privacy = iota
	PrivacyPrivate
)

var privacyNames = [...]string{"PUBLIC", "PRIVATE"}

func (p Privacy) String() string { return privacyNames[p] }
