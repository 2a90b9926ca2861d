package sign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/consignq/consign/internal/strictjson"
)

var (
	// ErrEnvelope is wrapped where bytes are not an envelope.
	ErrEnvelope = errors.New("sign: bad envelope")
	// ErrType is wrapped where an envelope is of another type than expected.
	ErrType = errors.New("sign: wrong payload type")
)

// The bounds of an envelope that a reader accepts.
const (
	MaxEnvelope   = 1 << 20 // bytes of JSON
	MaxSignatures = 16
)

// Envelope is a DSSE envelope (github.com/secure-systems-lab/dsse, v1): a
// payload, its type, and signatures over both. Nothing in it is to be believed
// before Verify.
type Envelope struct {
	PayloadType string
	Payload     []byte
	Signatures  []Signature
}

// Signature is one signature of an Envelope. KeyID is a hint for people and
// logs; it is not signed and never chooses a key.
type Signature struct {
	KeyID string
	Sig   []byte
}

// PAE returns DSSE's pre-authentication encoding, the bytes that are signed:
//
//	"DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload
//
// where SP is one space and LEN the length in bytes in decimal digits.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len("DSSEv1")+2*20+4+len(payloadType)+len(payload))
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// SignEnvelope returns an envelope of the payload with one signature. The
// envelope shares the payload's memory. It fails only where Identity.Sign
// fails.
func SignEnvelope(id *Identity, payloadType string, payload []byte) (Envelope, error) {
	sig, err := id.Sign(PAE(payloadType, payload))
	if err != nil {
		return Envelope{}, err
	}
	keyID := id.public.ID()
	return Envelope{
		PayloadType: payloadType,
		Payload:     payload,
		Signatures:  []Signature{{KeyID: hex.EncodeToString(keyID[:]), Sig: sig}},
	}, nil
}

// Name returns the SHA-256 of the PAE. It names what was signed and does not
// move with the signature: an RSA-PSS key signs the same bytes in many ways.
func (e Envelope) Name() [32]byte {
	return sha256.Sum256(PAE(e.PayloadType, e.Payload))
}

// Verify returns the payload if it is of the expected type and one of the
// signatures is the key's. The type is checked before anything else, so that
// bytes signed for one purpose are never taken for another (CVE-2022-35929).
// The error wraps ErrType, ErrEnvelope (no signature, or more than
// MaxSignatures) or ErrSignature.
func (e Envelope) Verify(payloadType string, key PublicKey) ([]byte, error) {
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("%w: %.80q, expected %q", ErrType, e.PayloadType, payloadType)
	}
	if n := len(e.Signatures); n == 0 || n > MaxSignatures {
		return nil, envelopeError("it has %d signatures, not 1 to %d", n, MaxSignatures)
	}
	message := PAE(e.PayloadType, e.Payload)
	var err error
	for _, s := range e.Signatures {
		if err = key.Verify(message, s.Sig); err == nil {
			return e.Payload, nil
		}
	}
	return nil, err
}

// MarshalJSON writes the form that UnmarshalJSON reads, keys in the order of the
// alphabet. It wraps ErrEnvelope for text that is not UTF-8. Call it rather than
// json.Marshal, which reads all that it wrote once more.
func (e Envelope) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 256+base64.StdEncoding.EncodedLen(len(e.Payload)))
	b = append(b, `{"payload":"`...)
	b = base64.StdEncoding.AppendEncode(b, e.Payload)
	b = append(b, `","payloadType":`...)
	b, err := appendText(b, "payloadType", e.PayloadType)
	if err != nil {
		return nil, err
	}
	b = append(b, `,"signatures":[`...)
	for i, s := range e.Signatures {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"keyid":`...)
		if b, err = appendText(b, "keyid", s.KeyID); err != nil {
			return nil, err
		}
		b = append(b, `,"sig":"`...)
		b = base64.StdEncoding.AppendEncode(b, s.Sig)
		b = append(b, `"}`...)
	}
	return append(b, "]}"...), nil
}

func appendText(b []byte, name, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, envelopeError("the %s is not UTF-8", name)
	}
	quoted, err := json.Marshal(s)
	return append(b, quoted...), err
}

// UnmarshalJSON reads an envelope of at most MaxEnvelope bytes. Whitespace and
// the order of the keys are free, keyid may be absent; unknown and duplicate
// keys, keys of another case, null, and base64 that is not the standard one
// with its padding are refused. (DSSE has readers ignore unknown keys; ours
// lets nothing unsigned ride along.) Errors wrap ErrEnvelope, and leave e as
// it was.
func (e *Envelope) UnmarshalJSON(data []byte) error {
	if len(data) > MaxEnvelope {
		return envelopeError("it has %d bytes, more than %d", len(data), MaxEnvelope)
	}
	var out Envelope
	found := 0 // of the three, none of which can come twice
	err := strictjson.Object(data, func(key string, value []byte) (err error) {
		found++
		switch key {
		case "payload":
			out.Payload, err = readBase64(value)
		case "payloadType":
			out.PayloadType, err = strictjson.String(value)
		case "signatures":
			out.Signatures, err = readSignatures(value)
		default:
			err = fmt.Errorf("unknown key %.80q", key)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnvelope, err)
	}
	if found != 3 {
		return envelopeError("it lacks one of payload, payloadType and signatures")
	}
	*e = out
	return nil
}

func readSignatures(data []byte) ([]Signature, error) {
	var out []Signature
	err := strictjson.Array(data, func(value []byte) error {
		if len(out) == MaxSignatures {
			return fmt.Errorf("more than %d signatures", MaxSignatures)
		}
		s, err := readSignature(value)
		out = append(out, s)
		return err
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no signature")
	}
	return out, err
}

func readSignature(data []byte) (s Signature, err error) {
	err = strictjson.Object(data, func(key string, value []byte) (err error) {
		switch key {
		case "keyid":
			s.KeyID, err = strictjson.String(value)
		case "sig":
			s.Sig, err = readBase64(value)
		default:
			err = fmt.Errorf("unknown key %.80q", key)
		}
		return err
	})
	if err == nil && len(s.Sig) == 0 {
		err = errors.New("an empty signature")
	}
	return s, err
}

func readBase64(data []byte) ([]byte, error) {
	s, err := strictjson.String(data)
	if err != nil {
		return nil, err
	}
	return decodeBase64(s)
}

var strictBase64 = base64.StdEncoding.Strict()

// decodeBase64 accepts what base64.StdEncoding writes and nothing else. Strict
// alone would still skip line breaks.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64 with a line break")
	}
	return strictBase64.DecodeString(s)
}

func envelopeError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrEnvelope, fmt.Sprintf(format, args...))
}
