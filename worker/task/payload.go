package task

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// payload is a job's JSON object, read member by member. A member is taken
// once; what was not taken when done is called is unknown.
type payload struct {
	task    string
	text    string
	members map[string]json.RawMessage
}

// parsePayload checks the form of the whole and takes "task" and "text".
func parsePayload(raw []byte) (*payload, error) {
	if len(raw) > MaxPayload {
		return nil, payloadError("payload", fmt.Sprintf("has %d bytes", len(raw)),
			fmt.Sprintf("send at most %d", MaxPayload))
	}
	if err := checkJSON("payload", raw); err != nil {
		return nil, err
	}
	p := &payload{}
	if err := json.Unmarshal(raw, &p.members); err != nil || p.members == nil {
		return nil, payloadError("payload", "is not a JSON object", `send {"task":"summarize","text":"..."}`)
	}
	var err error
	if p.task, err = p.required("task", "send summarize, classify or extract"); err != nil {
		return nil, err
	}
	if p.text, err = p.required("text", "send the text to work on"); err != nil {
		return nil, err
	}
	if len(p.text) > MaxText {
		return nil, payloadError("text", fmt.Sprintf("has %d bytes", len(p.text)),
			fmt.Sprintf("send at most %d; split longer texts into several jobs", MaxText))
	}
	return p, nil
}

// take decodes a member into v and reports whether it was there.
func (p *payload) take(name string, v any, want string) (bool, error) {
	raw, ok := p.members[name]
	if !ok {
		return false, nil
	}
	delete(p.members, name)
	if string(raw) == "null" || json.Unmarshal(raw, v) != nil {
		return true, payloadError(name, "has the wrong type", "send "+want)
	}
	return true, nil
}

// required takes a string that must be there and must hold more than spaces.
func (p *payload) required(name, remedy string) (string, error) {
	var s string
	found, err := p.take(name, &s, "a string")
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", payloadError(name, "is missing", remedy)
	case strings.TrimSpace(s) == "":
		return "", payloadError(name, "is empty", remedy)
	}
	return s, nil
}

// choice takes an optional string out of a few; the first one is the default.
func (p *payload) choice(name string, of ...string) (string, error) {
	s := of[0]
	want := "one of " + strings.Join(of, ", ")
	if _, err := p.take(name, &s, want); err != nil {
		return "", err
	}
	if !slices.Contains(of, s) {
		return "", payloadError(name, "is "+quote(s), "send "+want)
	}
	return s, nil
}

// count takes an optional whole number between 1 and most.
func (p *payload) count(name string, most, unset int) (int, error) {
	n := unset
	want := fmt.Sprintf("a whole number from 1 to %d", most)
	found, err := p.take(name, &n, want)
	if err != nil {
		return 0, err
	}
	if found && (n < 1 || n > most) {
		return 0, payloadError(name, "is "+strconv.Itoa(n), "send "+want)
	}
	return n, nil
}

// done refuses members that nobody took: a misspelt option is never ignored.
func (p *payload) done() error {
	if len(p.members) == 0 {
		return nil
	}
	unknown := make([]string, 0, len(p.members))
	for name := range p.members {
		unknown = append(unknown, name)
	}
	return payloadError(join("", slices.Min(unknown)), "is not a field of "+p.task, "remove it, or check its spelling")
}

// quote shows a stranger's string, cut short.
func quote(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return strconv.Quote(s)
}

// checkUTF8 refuses bytes, and \u escapes, that are not Unicode text:
// encoding/json would replace them silently and the job would be another.
func checkUTF8(field string, raw []byte) error {
	if !utf8.Valid(raw) {
		return payloadError(field, "is not valid UTF-8", "encode it as UTF-8")
	}
	if loneSurrogate(raw) {
		return payloadError(field, `holds half of a \u surrogate pair`, "send both halves, or the character itself")
	}
	return nil
}

// loneSurrogate looks for \uD800-\uDFFF that is not part of a pair.
func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		unit, ok := escapedUnit(raw[i:])
		if !ok {
			i++ // another escape, such as \\ or \n
			continue
		}
		i += 5
		if unit < 0xD800 || unit > 0xDFFF {
			continue
		}
		low, ok := escapedUnit(raw[i+1:])
		if unit > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
			return true
		}
		i += 6
	}
	return false
}

// escapedUnit reads the UTF-16 unit of a \uXXXX at the start of b.
func escapedUnit(b []byte) (uint64, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return unit, err == nil
}
