package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/consignq/consign/internal/lp"
)

// The first fields of every header: its format, and the only suite so far.
const (
	headerLabel = "consign/payload/v1"
	// Suite is how keys are derived and payloads encrypted.
	Suite = "HKDF-SHA256+XChaCha20-Poly1305"
)

// The values of Header.Privacy and Header.Custody.
const (
	Public  = "PUBLIC"
	Private = "PRIVATE"

	Sealed  = "sealed"  // wrapped to workers that the submitter pinned
	Escrow  = "escrow"  // wrapped to the vault
	Transit = "transit" // sealed by the coordinator at intake
)

// The bounds of a header that a reader accepts.
const (
	MaxHeader = 8192 // bytes
	MaxText   = 1024 // bytes of UTF-8 in one text
)

// Header is H: what is said of a sealed job in the open. It is encrypted with
// as associated data, and its hash is in every wrap, so that none of it can be
// changed under way.
type Header struct {
	Queue        [32]byte
	Job          [16]byte
	Submitter    [32]byte // PRIVATE: its ed25519 key; PUBLIC: a salted hash of the account
	Kind         string
	Model        string // as requested; may be empty
	Chars        uint32 // of the payload, see Chars
	PromptBytes  uint64 // of the payload
	Privacy      string // Public or Private
	Custody      string // Sealed, Escrow or Transit
	Comparator   string
	ClassOptions [32]byte  // digest of the options that a class fixes; zero: none
	ResultKey    PublicKey // that the result is sealed to; HPKE, not RSA
	Commit       [32]byte  // to the content key
}

// Encode returns the header's one encoding. It wraps ErrHeader if a field has
// no valid value.
func (h Header) Encode() ([]byte, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	chars := binary.BigEndian.AppendUint32(nil, h.Chars)
	promptBytes := binary.BigEndian.AppendUint64(nil, h.PromptBytes)
	fields := [][]byte{[]byte(headerLabel), []byte(Suite), h.Queue[:], h.Job[:], h.Submitter[:], []byte(h.Kind), []byte(h.Model),
		chars, promptBytes, []byte(h.Privacy), []byte(h.Custody), []byte(h.Comparator), h.ClassOptions[:], h.ResultKey.Bytes(), h.Commit[:]}
	return lp.Append(make([]byte, 0, lp.Size(fields...)), fields...), nil
}

// HeaderHash returns the SHA-256 of an encoded header.
func HeaderHash(header []byte) [32]byte { return sha256.Sum256(header) }

// ParseHeader reads what Encode writes, and nothing else. It wraps ErrSuite if
// the suite is another, and ErrHeader for everything else.
func ParseHeader(header []byte) (Header, error) {
	if len(header) > MaxHeader {
		return Header{}, headerError("%d bytes are more than %d", len(header), MaxHeader)
	}
	r := fields{rest: header}
	if string(r.next()) != headerLabel {
		return Header{}, headerError("it does not start with %q", headerLabel)
	}
	if suite := r.next(); r.bad {
		return Header{}, headerError("it is cut short")
	} else if string(suite) != Suite {
		return Header{}, fmt.Errorf("%w: %.80q", ErrSuite, suite)
	}
	var h Header
	var chars [4]byte
	var promptBytes [8]byte
	r.fixed(h.Queue[:])
	r.fixed(h.Job[:])
	r.fixed(h.Submitter[:])
	h.Kind = string(r.next())
	h.Model = string(r.next())
	r.fixed(chars[:])
	r.fixed(promptBytes[:])
	h.Privacy = string(r.next())
	h.Custody = string(r.next())
	h.Comparator = string(r.next())
	r.fixed(h.ClassOptions[:])
	resultKey := r.next()
	r.fixed(h.Commit[:])
	if !r.done() {
		return Header{}, headerError("it is not the fifteen fields, each of its length, and nothing more")
	}
	h.Chars, h.PromptBytes = binary.BigEndian.Uint32(chars[:]), binary.BigEndian.Uint64(promptBytes[:])
	var err error
	if h.ResultKey, err = ParsePublicKey(resultKey); err != nil {
		return Header{}, fmt.Errorf("%w: result_pk: %w", ErrHeader, err)
	}
	if err := h.validate(); err != nil {
		return Header{}, err
	}
	return h, nil
}

// validate holds for what is written and what is read.
func (h *Header) validate() error {
	for _, text := range []struct{ name, value string }{{"kind", h.Kind}, {"model", h.Model}, {"comparator", h.Comparator}} {
		if len(text.value) > MaxText || !utf8.ValidString(text.value) || text.value == "" && text.name != "model" {
			return headerError("%s is not 1 to %d bytes of UTF-8", text.name, MaxText)
		}
	}
	switch {
	case h.Job == [16]byte{}:
		return headerError("job_id is zero")
	case h.Privacy != Public && h.Privacy != Private:
		return headerError("privacy is %.40q, not %s or %s", h.Privacy, Public, Private)
	case h.Custody != Sealed && h.Custody != Escrow && h.Custody != Transit:
		return headerError("custody is %.40q, not %s, %s or %s", h.Custody, Sealed, Escrow, Transit)
	case h.PromptBytes < uint64(h.Chars) || h.PromptBytes > 4*uint64(h.Chars):
		return headerError("%d characters cannot take %d bytes: each takes one to four", h.Chars, h.PromptBytes)
	case h.ResultKey.hpke == nil:
		return headerError("result_pk is not an HPKE key")
	}
	return nil
}

// fields reads LP fields, and remembers if one was not there.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) next() []byte {
	field, rest, ok := lp.Next(r.rest)
	if !ok {
		r.bad = true
		return nil
	}
	r.rest = rest
	return field
}

// fixed reads a field of exactly the length of dst.
func (r *fields) fixed(dst []byte) {
	if field := r.next(); len(field) == len(dst) {
		copy(dst, field)
	} else {
		r.bad = true
	}
}

// done reports whether all fields were there, and nothing is after them.
func (r *fields) done() bool { return !r.bad && len(r.rest) == 0 }

func headerError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrHeader, fmt.Sprintf(format, args...))
}
