package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

// BundleType is the payload type of a key bundle's envelope.
const BundleType = "application/vnd.consign.keys+json"

const bundleFormat = "consign/keys/v1"

// The bounds of a key bundle.
const (
	MaxBundleAge  = 30 * 24 * time.Hour
	MaxBundleKeys = 8
	maxBundle     = 64 << 10  // bytes of its body
	maxSeq        = 1<<53 - 1 // beyond it JSON readers see another number
)

// Bundle is a worker's encryption keys, signed by the key that is its identity.
type Bundle struct {
	Worker    [32]byte
	Seq       int64 // one more with each bundle that the worker makes, from 1
	NotBefore time.Time
	NotAfter  time.Time   // MaxBundleAge after NotBefore at most; not valid from then on
	Keys      []PublicKey // the worker's first choice first
}

// Valid reports whether now is within the bundle's time.
func (b Bundle) Valid(now time.Time) bool {
	return !now.Before(b.NotBefore) && now.Before(b.NotAfter)
}

// bundleJSON is the body, keys in the order of the alphabet. None of its
// strings needs an escape, so that what encoding/json writes is RFC 8785's
// canonical form.
type bundleJSON struct {
	Format    string   `json:"format"`
	Keys      []string `json:"keys"`
	NotAfter  int64    `json:"not_after"` // microseconds since 1970
	NotBefore int64    `json:"not_before"`
	Seq       int64    `json:"seq"`
	WorkerID  string   `json:"worker_id"`
}

// SignBundle signs the worker's key bundle. Times are kept to the microsecond.
// It wraps ErrBundle if VerifyBundle would refuse it whatever the time.
func SignBundle(worker *sign.Identity, b Bundle) (sign.Envelope, error) {
	b.NotBefore, b.NotAfter = b.NotBefore.Truncate(time.Microsecond), b.NotAfter.Truncate(time.Microsecond)
	if err := b.validate(worker.Public()); err != nil {
		return sign.Envelope{}, err
	}
	body, err := b.body()
	if err != nil {
		return sign.Envelope{}, err
	}
	return sign.SignEnvelope(worker, BundleType, body)
}

// VerifyBundle returns the key bundle in an envelope. worker is the signing key
// that the caller trusts, and highest the highest seq that it has seen of that
// worker, 0 if none: it is the caller's to keep. The error wraps ErrBundle
// (with sign.ErrType, sign.ErrSignature or sign.ErrEnvelope where it is those),
// ErrBundleTime, or ErrBundleReplayed if seq is lower than highest.
func VerifyBundle(e sign.Envelope, worker sign.PublicKey, now time.Time, highest int64) (Bundle, error) {
	if len(e.Signatures) != 1 {
		return Bundle{}, bundleError("it has %d signatures, not 1", len(e.Signatures))
	}
	body, err := e.Verify(BundleType, worker)
	if err != nil {
		return Bundle{}, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	b, err := parseBundle(body)
	if err != nil {
		return Bundle{}, err
	}
	if err := b.validate(worker); err != nil {
		return Bundle{}, err
	}
	if !b.Valid(now) {
		return Bundle{}, fmt.Errorf("%w: it is %v, and the bundle is valid from %v to %v", ErrBundleTime, now, b.NotBefore, b.NotAfter)
	}
	if b.Seq < highest {
		return Bundle{}, fmt.Errorf("%w: its seq is %d, and %d was seen", ErrBundleReplayed, b.Seq, highest)
	}
	return b, nil
}

func (b *Bundle) body() ([]byte, error) {
	out := bundleJSON{Format: bundleFormat, Keys: make([]string, len(b.Keys)), NotAfter: b.NotAfter.UnixMicro(),
		NotBefore: b.NotBefore.UnixMicro(), Seq: b.Seq, WorkerID: hex.EncodeToString(b.Worker[:])}
	for i, key := range b.Keys {
		out.Keys[i] = key.String()
	}
	body, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	return body, nil
}

// parseBundle reads a body, writes it again and compares: whatever the reading
// let pass, only the canonical bytes are accepted.
func parseBundle(body []byte) (Bundle, error) {
	if len(body) > maxBundle {
		return Bundle{}, bundleError("it has %d bytes, more than %d", len(body), maxBundle)
	}
	var in bundleJSON
	if err := json.Unmarshal(body, &in); err != nil {
		return Bundle{}, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	if len(in.Keys) > MaxBundleKeys {
		return Bundle{}, bundleError("it has %d keys, more than %d", len(in.Keys), MaxBundleKeys)
	}
	b := Bundle{Seq: in.Seq, NotBefore: time.UnixMicro(in.NotBefore).UTC(), NotAfter: time.UnixMicro(in.NotAfter).UTC()}
	worker, err := hex.DecodeString(in.WorkerID)
	if err != nil || len(worker) != len(b.Worker) {
		return Bundle{}, bundleError("worker_id is %.80q", in.WorkerID)
	}
	copy(b.Worker[:], worker)
	for _, text := range in.Keys {
		var key PublicKey
		if err := key.UnmarshalText([]byte(text)); err != nil {
			return Bundle{}, fmt.Errorf("%w: %w", ErrBundle, err)
		}
		b.Keys = append(b.Keys, key)
	}
	again, err := b.body()
	if err != nil {
		return Bundle{}, err
	}
	if !bytes.Equal(again, body) {
		return Bundle{}, bundleError("it is not a %s in canonical form", bundleFormat)
	}
	return b, nil
}

// validate holds for what is signed and what is verified.
func (b *Bundle) validate(worker sign.PublicKey) error {
	age := b.NotAfter.Sub(b.NotBefore)
	switch {
	case worker.Algorithm() == "" || b.Worker != worker.ID():
		return bundleError("it is worker %x's, not the signer's", b.Worker)
	case b.Seq < 1 || b.Seq > maxSeq:
		return bundleError("seq is %d, not 1 to 2^53-1", b.Seq)
	case b.NotBefore.UnixMicro() < 0 || b.NotAfter.UnixMicro() > maxSeq || age <= 0 || age > MaxBundleAge:
		return bundleError("it is valid from %v to %v, and may be for %v at most", b.NotBefore, b.NotAfter, MaxBundleAge)
	case len(b.Keys) == 0 || len(b.Keys) > MaxBundleKeys:
		return bundleError("it has %d keys, not 1 to %d", len(b.Keys), MaxBundleKeys)
	}
	for i, key := range b.Keys {
		switch {
		case key.bytes == "":
			return bundleError("key %d is empty", i)
		case slices.ContainsFunc(b.Keys[:i], key.Equal):
			return bundleError("key %d comes twice", i)
		case key.rsa != nil && sha256.Sum256([]byte(key.bytes[2:])) == b.Worker:
			return bundleError("key %d is the signing key: make another to encrypt with", i)
		}
	}
	return nil
}

func bundleError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBundle, fmt.Sprintf(format, args...))
}
