// Package seal encrypts payloads, results and streamed parts between a
// submitter and the worker that runs its job, so that what lies between them
// stores ciphertext alone. docs/sealed-format.md gives every byte of it.
//
// A submitter seals a payload under a key made for that one job (NewCEK,
// SealPayload) and wraps that key: to the queue's vault, which wraps it again
// to the worker that claims the job, or directly to workers that it pinned
// (Wrap). The worker takes the key out (Unwrap), opens the payload
// (OpenPayload), and seals its result to the submitter's public key
// (SealResult), which alone can open it (OpenResult).
//
// Every reader here is total: no input makes it panic, or allocate more than a
// small multiple of its own length. Every refusal wraps one of the errors
// below.
package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// What is refused, for errors.Is. Whose fault it is follows from which it is.
var (
	// ErrHeader: bytes are not a header, or a Header cannot be encoded.
	ErrHeader = errors.New("seal: bad header")
	// ErrSuite: the header names a suite that this version does not know.
	ErrSuite = errors.New("seal: unknown suite")
	// ErrAssignment: the header is another job's than the one assigned.
	ErrAssignment = errors.New("seal: header differs from the assignment")
	// ErrCommit: the content key is not the one that the header commits to.
	ErrCommit = errors.New("seal: not the key that the header commits to")
	// ErrPayloadMismatch: the payload is authentic, and not of the length that
	// its header declares. It is the job's fault.
	ErrPayloadMismatch = errors.New("seal: payload differs from its header")
	// ErrSubmitter: a PRIVATE job is from a submitter that was not pinned.
	ErrSubmitter = errors.New("seal: submitter is not pinned")
	// ErrSubmission: a PRIVATE job is not signed by the submitter that its
	// header names.
	ErrSubmission = errors.New("seal: bad submitter's signature")
	// ErrBox: a box does not open: another key or context, or it was altered,
	// cut, or put together from others.
	ErrBox = errors.New("seal: box does not open")
	// ErrPadding: a box is authentic, and its padding is not the one that its
	// content has: who sealed it does not follow the format.
	ErrPadding = errors.New("seal: bad padding")
	// ErrKey: a key, or the file that holds it, is refused.
	ErrKey = errors.New("seal: bad key")
	// ErrKeyUnknown: a wrap is to a key that is not among those given. It was
	// rotated away, which is nobody's fault.
	ErrKeyUnknown = errors.New("seal: key unknown")
	// ErrWrap: bytes are not a wrap.
	ErrWrap = errors.New("seal: bad wrap")
	// ErrUnwrap: a wrap to a key that is at hand does not open: it was made
	// for another purpose, job, worker, claim or header, or was altered.
	ErrUnwrap = errors.New("seal: wrap does not open")
	// ErrBundle: a key bundle is not one, or not this worker's.
	ErrBundle = errors.New("seal: bad key bundle")
	// ErrBundleTime: a key bundle is not valid yet, or no longer.
	ErrBundleTime = errors.New("seal: key bundle is not valid now")
	// ErrBundleReplayed: a key bundle is older than one that was seen.
	ErrBundleReplayed = errors.New("seal: key bundle was replaced by a newer one")
	// ErrPartReplayed: a part comes a second time. Ignore it.
	ErrPartReplayed = errors.New("seal: part was opened before")
	// ErrPartGap: a part comes before one that precedes it. Fetch that first.
	ErrPartGap = errors.New("seal: a part is missing before this one")
	// ErrPartEnded: the last part came before.
	ErrPartEnded = errors.New("seal: parts have ended")
	// ErrTCommit: T and r are not what was committed to.
	ErrTCommit = errors.New("seal: not the comparison value that was committed to")
	// ErrResultMismatch: the comparison value is not that of the result, so
	// what the worker had compared is not what it delivered.
	ErrResultMismatch = errors.New("seal: result differs from its comparison value")
)

// CEK is a content encryption key, the secret of one job. All its other keys
// come from it. It prints as nothing, so that no log gets to hold it.
type CEK struct{ b [32]byte }

// NewCEK returns a new random key.
func NewCEK() CEK {
	var k CEK
	_, _ = rand.Read(k.b[:]) // never fails: crypto/rand crashes the program instead
	return k
}

// ParseCEK reads the form of Bytes. It wraps ErrKey for any length but 32, and
// for zeros, which no one draws and a forgotten field is full of.
func ParseCEK(b []byte) (CEK, error) {
	if len(b) != 32 || [32]byte(b) == [32]byte{} {
		return CEK{}, keyError("a content key is 32 random bytes")
	}
	return CEK{[32]byte(b)}, nil
}

// Bytes returns the key, to reveal it or to keep it.
func (k CEK) Bytes() []byte { return k.b[:] }

// Format keeps the key out of whatever is printed.
func (k CEK) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("CEK(secret)")) }

// The keys of a job, by what they are for.
const (
	infoPayload = "consign/key/payload/v1"
	infoCommit  = "consign/key/commit/v1"
	infoCompare = "consign/key/compare/v1"
)

// derive returns HKDF-SHA256(CEK, salt job, info), 32 bytes.
func (k CEK) derive(job [16]byte, info string) [32]byte {
	b, err := hkdf.Key(sha256.New, k.b[:], job[:], info, 32)
	if err != nil {
		panic("seal: " + err.Error()) // never: only an output over 8,160 bytes fails
	}
	return [32]byte(b)
}

// commits reports, in constant time, whether the header is this key's.
//
// XChaCha20-Poly1305 alone does not commit to its key: whoever knows two keys
// can make one ciphertext that opens under both. To find two content keys with
// one commit is to find a collision of HKDF-SHA256.
func (k CEK) commits(h *Header) bool {
	commit := k.derive(h.Job, infoCommit)
	return subtle.ConstantTimeCompare(commit[:], h.Commit[:]) == 1
}

// Check wraps ErrCommit if the header commits to another key. OpenPayload checks
// it for a worker; a vault asks before it keeps a key.
func (k CEK) Check(h Header) error {
	if !k.commits(&h) {
		return fmt.Errorf("%w: job %x", ErrCommit, h.Job)
	}
	return nil
}

// SealPayload encrypts a job's payload. It returns H, encoded, and the
// ciphertext, which travel and are stored together; keep both and resend them,
// for to seal again under one job ID is a conflict. Chars, PromptBytes and
// Commit of h are filled in here, whatever they hold.
//
// It wraps ErrHeader if h is not complete, or the payload has more than 2^32-1
// characters, and ErrKey for the zero CEK.
func SealPayload(h Header, cek CEK, payload []byte) (header, ciphertext []byte, err error) {
	if cek == (CEK{}) {
		return nil, nil, keyError("the content key is empty")
	}
	chars := Chars(payload)
	if uint64(chars) > math.MaxUint32 { // unsigned, for where int has 32 bits
		return nil, nil, headerError("%d characters are more than 2^32-1", chars)
	}
	h.Chars, h.PromptBytes = uint32(chars), uint64(len(payload)) //nolint:gosec // just checked
	h.Commit = cek.derive(h.Job, infoCommit)
	if header, err = h.Encode(); err != nil {
		return nil, nil, err
	}
	return header, Box(cek.derive(h.Job, infoPayload), header, payload), nil
}

// Chars returns the number of characters of a payload, as its header declares
// it: Unicode code points, where a byte that begins no well-formed UTF-8
// sequence counts as one.
func Chars(payload []byte) int { return utf8.RuneCount(payload) }

// Assignment is what a worker knows of a job before it opens it.
type Assignment struct {
	Queue      [32]byte
	Job        [16]byte
	Kind       string
	Model      string // as requested
	Chars      uint32
	Custody    string
	Comparator string

	// Signature is the submitter's, which a PRIVATE job must have.
	Signature []byte
	// Pinned reports whether the worker was paired with the submitter of a
	// PRIVATE job, by its ed25519 key. Nil: with none.
	Pinned func(submitter [32]byte) bool
}

// OpenPayload is how a worker opens a payload. In this order: the header must
// be one (ErrHeader, ErrSuite) and the assigned job's (ErrAssignment); if it
// says PRIVATE, its submitter must be pinned (ErrSubmitter) and have signed
// header and ciphertext (ErrSubmission); the key must be the one that the
// header commits to (ErrCommit); the ciphertext must open, to its last byte
// (ErrBox, ErrPadding); and the payload must be as long as the header says
// (ErrPayloadMismatch). On an error it returns no payload.
func OpenPayload(header, ciphertext []byte, cek CEK, a Assignment) (Header, []byte, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return Header{}, nil, err
	}
	if err := a.check(&h); err != nil {
		return Header{}, nil, err
	}
	if h.Privacy == Private {
		if a.Pinned == nil || !a.Pinned(h.Submitter) {
			return Header{}, nil, fmt.Errorf("%w: ed25519 key %x", ErrSubmitter, h.Submitter)
		}
		if err := h.verifySubmission(header, ciphertext, a.Signature); err != nil {
			return Header{}, nil, err
		}
	}
	payload, err := h.open(header, ciphertext, cek)
	if err != nil {
		return Header{}, nil, err
	}
	return h, payload, nil
}

// check wraps ErrAssignment if the header is another job's.
func (a *Assignment) check(h *Header) error {
	var field string
	switch {
	case h.Queue != a.Queue:
		field = "queue_id"
	case h.Job != a.Job:
		field = "job_id"
	case h.Kind != a.Kind:
		field = "kind"
	case h.Model != a.Model:
		field = "model"
	case h.Chars != a.Chars:
		field = "chars"
	case h.Custody != a.Custody:
		field = "custody"
	case h.Comparator != a.Comparator:
		field = "comparator"
	default:
		return nil
	}
	return fmt.Errorf("%w in its %s", ErrAssignment, field)
}

// OpenRevealedPayload opens a payload whose key was revealed, for the submitter
// itself and for whoever judges a dispute. Unlike a worker they have no
// assignment and ask for no signature; of OpenPayload's errors the others
// remain.
func OpenRevealedPayload(header, ciphertext []byte, cek CEK) (Header, []byte, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return Header{}, nil, err
	}
	payload, err := h.open(header, ciphertext, cek)
	if err != nil {
		return Header{}, nil, err
	}
	return h, payload, nil
}

// open decrypts the payload behind a parsed header.
func (h *Header) open(header, ciphertext []byte, cek CEK) ([]byte, error) {
	if err := cek.Check(*h); err != nil {
		return nil, err
	}
	payload, err := OpenBox(cek.derive(h.Job, infoPayload), header, ciphertext)
	if err != nil {
		return nil, err
	}
	if n := uint64(len(payload)); n != h.PromptBytes {
		return nil, fmt.Errorf("%w: %d bytes, declared %d", ErrPayloadMismatch, n, h.PromptBytes)
	}
	if n := Chars(payload); uint64(n) != uint64(h.Chars) { //nolint:gosec // not negative
		return nil, fmt.Errorf("%w: %d characters, declared %d", ErrPayloadMismatch, n, h.Chars)
	}
	return payload, nil
}

// mac returns HMAC-SHA256(key, message).
func mac(key [32]byte, message []byte) [32]byte {
	h := hmac.New(sha256.New, key[:])
	h.Write(message)
	return [32]byte(h.Sum(nil))
}
