package wire

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/consignq/consign"
)

// The types that are a word on the wire.
type (
	// Policy is AUTO, FAST or CHEAP.
	Policy consign.Policy
	// Privacy is PUBLIC or PRIVATE.
	Privacy consign.Privacy
	// Priority is standard, high or low.
	Priority consign.Priority
	// State is a job's state as docs/state-machine.md names it. Status says the
	// same with fewer words.
	State consign.State
	// EventKind is what happened to a job.
	EventKind consign.EventKind
	// FailKind is whose fault a failure is: transient, refused or payload.
	FailKind consign.FailKind
	// ReportKind is progress, log or part.
	ReportKind consign.ReportKind
)

// Status is a job's state in the words of the public API.
func Status(s consign.State) string {
	switch s {
	case consign.StateBlocked, consign.StateQueued:
		return "pending"
	case consign.StateRunning:
		return "assigned"
	}
	return s.String()
}

func (p Policy) MarshalText() ([]byte, error) { return word("policy", p, consign.PolicyCheap) }
func (p Privacy) MarshalText() ([]byte, error) {
	return word("privacy_class", p, consign.PrivacyPrivate)
}
func (p Priority) MarshalText() ([]byte, error)   { return word("priority", p, consign.PriorityLow) }
func (s State) MarshalText() ([]byte, error)      { return word("state", s, consign.StateExpired) }
func (k EventKind) MarshalText() ([]byte, error)  { return word("event", k, consign.EventReport) }
func (k FailKind) MarshalText() ([]byte, error)   { return word("kind", k, consign.FailPayload) }
func (k ReportKind) MarshalText() ([]byte, error) { return word("kind", k, consign.ReportPart) }

func (p *Policy) UnmarshalText(b []byte) error { return unword("policy", b, p, consign.PolicyCheap) }
func (p *Privacy) UnmarshalText(b []byte) error {
	return unword("privacy_class", b, p, consign.PrivacyPrivate)
}
func (p *Priority) UnmarshalText(b []byte) error {
	return unword("priority", b, p, consign.PriorityLow)
}
func (s *State) UnmarshalText(b []byte) error { return unword("state", b, s, consign.StateExpired) }
func (k *EventKind) UnmarshalText(b []byte) error {
	return unword("event", b, k, consign.EventReport)
}
func (k *FailKind) UnmarshalText(b []byte) error { return unword("kind", b, k, consign.FailPayload) }
func (k *ReportKind) UnmarshalText(b []byte) error {
	return unword("kind", b, k, consign.ReportPart)
}

// named is an enumeration of the root package.
type named interface {
	~uint8
	fmt.Stringer
}

// word returns the name of v, the wire's form of a T of which last is the
// highest.
func word[W ~uint8, T named](field string, v W, last T) ([]byte, error) {
	if uint8(v) > uint8(last) {
		return nil, &consign.FieldError{Field: field, Problem: fmt.Sprintf("is %d", uint8(v)), Remedy: "use one of " + words(last)}
	}
	return []byte(T(v).String()), nil
}

func unword[W ~uint8, T named](field string, name []byte, v *W, last T) error {
	for t := range last + 1 {
		if t.String() == string(name) {
			*v = W(t)
			return nil
		}
	}
	return &consign.FieldError{Field: field, Problem: fmt.Sprintf("is %.80q", name), Remedy: "use one of " + words(last)}
}

func words[T named](last T) string {
	var all []string
	for t := range last + 1 {
		if s := t.String(); s != "" {
			all = append(all, s)
		}
	}
	return strings.Join(all, ", ")
}

// Hash is 32 bytes as 64 hexadecimal digits.
type Hash [32]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText accepts 64 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) == 2*len(h) {
		if _, err := hex.Decode(h[:], b); err == nil {
			return nil
		}
	}
	return &consign.FieldError{Field: "hash", Problem: fmt.Sprintf("is not a SHA-256: %.80q", b), Remedy: "send 64 hexadecimal digits"}
}

// each maps a list.
func each[A, B any](as []A, f func(A) B) []B {
	if as == nil {
		return nil
	}
	bs := make([]B, len(as))
	for i, a := range as {
		bs[i] = f(a)
	}
	return bs
}
