package consign

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// JobID names a job: 16 random bytes (a UUIDv4), chosen by the submitter so
// that a sealed header can bind it; it is the idempotency key of the submit.
// A version with a time inside would tell a worker that a replica is older
// than a first run.
type JobID [16]byte

// ClaimID names an attempt everywhere outside the store: 16 random bytes. It
// is the fencing token of every call that a worker makes about a job.
type ClaimID [16]byte

// WorkerID names a worker: its ed25519 public key, or the SHA-256 of its RSA
// key's SubjectPublicKeyInfo (DER).
type WorkerID [32]byte

// QueueID names a queue: the SHA-256 of the queue's public key.
type QueueID [32]byte

// NewJobID returns a random UUIDv4.
func NewJobID() JobID {
	id := JobID(random16())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// NewClaimID returns 16 random bytes.
func NewClaimID() ClaimID { return ClaimID(random16()) }

func random16() (b [16]byte) {
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return b
}

// IsZero reports whether the ID is unset.
func (id JobID) IsZero() bool { return id == JobID{} }

// IsZero reports whether the ID is unset.
func (id ClaimID) IsZero() bool { return id == ClaimID{} }

// IsZero reports whether the ID is unset.
func (id WorkerID) IsZero() bool { return id == WorkerID{} }

// String returns the ID in UUID form.
func (id JobID) String() string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// String returns the ID in lower-case hexadecimal.
func (id ClaimID) String() string { return hex.EncodeToString(id[:]) }

// String returns the ID in lower-case hexadecimal.
func (id WorkerID) String() string { return hex.EncodeToString(id[:]) }

// String returns the ID in lower-case hexadecimal.
func (id QueueID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id JobID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id ClaimID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id WorkerID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id QueueID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts what ParseJobID accepts.
func (id *JobID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseJobID(string(text))
	return err
}

// UnmarshalText accepts 32 hexadecimal digits.
func (id *ClaimID) UnmarshalText(text []byte) error {
	return unhex(id[:], "claim_id", string(text))
}

// UnmarshalText accepts 64 hexadecimal digits.
func (id *WorkerID) UnmarshalText(text []byte) error {
	return unhex(id[:], "worker_id", string(text))
}

// UnmarshalText accepts 64 hexadecimal digits.
func (id *QueueID) UnmarshalText(text []byte) error {
	return unhex(id[:], "queue_id", string(text))
}

// ParseJobID reads a UUID (8-4-4-4-12) or 32 hexadecimal digits. Its error is
// a *FieldError.
func ParseJobID(s string) (JobID, error) {
	var id JobID
	digits := s
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits = strings.ReplaceAll(s, "-", "")
	}
	err := unhex(id[:], "job_id", digits)
	return id, err
}

// unhex fills dst from exactly 2*len(dst) hexadecimal digits.
func unhex(dst []byte, field, digits string) error {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(dst) {
		return fieldError(field, fmt.Sprintf("is not an identifier: %.80q", digits),
			fmt.Sprintf("send %d hexadecimal digits", 2*len(dst)))
	}
	copy(dst, b)
	return nil
}
