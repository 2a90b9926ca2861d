package consign

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
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
	text := id.uuid()
	return string(text[:])
}

func (id JobID) uuid() (text [36]byte) {
	hex.Encode(text[:8], id[:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return text
}

// String returns the ID in lower-case hexadecimal.
func (id ClaimID) String() string { return hex.EncodeToString(id[:]) }

// String returns the ID in lower-case hexadecimal.
func (id WorkerID) String() string { return hex.EncodeToString(id[:]) }

// String returns the ID in lower-case hexadecimal.
func (id QueueID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id JobID) MarshalText() ([]byte, error) {
	text := id.uuid()
	return text[:], nil
}

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id ClaimID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id WorkerID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// MarshalText implements encoding.TextMarshaler with the form of String.
func (id QueueID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText accepts what ParseJobID accepts.
func (id *JobID) UnmarshalText(text []byte) error {
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		var digits [32]byte
		copy(digits[:], text[:8])
		copy(digits[8:], text[9:13])
		copy(digits[12:], text[14:18])
		copy(digits[16:], text[19:23])
		copy(digits[20:], text[24:])
		if unhex(id[:], digits[:]) {
			return nil
		}
	}
	return parseID(id[:], "job_id", text)
}

// UnmarshalText accepts 32 hexadecimal digits.
func (id *ClaimID) UnmarshalText(text []byte) error { return parseID(id[:], "claim_id", text) }

// UnmarshalText accepts 64 hexadecimal digits.
func (id *WorkerID) UnmarshalText(text []byte) error { return parseID(id[:], "worker_id", text) }

// UnmarshalText accepts 64 hexadecimal digits.
func (id *QueueID) UnmarshalText(text []byte) error { return parseID(id[:], "queue_id", text) }

// ParseJobID reads a UUID (8-4-4-4-12) or 32 hexadecimal digits. Its error is
// a *FieldError.
func ParseJobID(s string) (id JobID, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}

// parseID fills dst from exactly 2*len(dst) hexadecimal digits.
func parseID(dst []byte, field string, text []byte) error {
	if unhex(dst, text) {
		return nil
	}
	return fieldError(field, fmt.Sprintf("is not an identifier: %.80q", text),
		fmt.Sprintf("send %d hexadecimal digits", 2*len(dst)))
}

// unhex fills dst from exactly 2*len(dst) hexadecimal digits, or leaves it as it is.
func unhex(dst, digits []byte) bool {
	var b [32]byte
	if len(digits) != 2*len(dst) {
		return false
	}
	n, err := hex.Decode(b[:], digits)
	if err == nil {
		copy(dst, b[:n])
	}
	return err == nil
}
