package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/consignq/consign"
)

// maxEntries is how many entries the list or map of a name may have in a
// request: what the queue takes, or what a request carries at once. Requests are
// checked before they are read, since an empty entry of two bytes in a body is a
// hundred in the memory.
func maxEntries(name []byte) uint64 {
	switch string(name) {
	case "kinds", "models", "warm", "rates", "items", "lines", "wraps":
		return 4096
	case "claims":
		return 1 << 16
	case "labels":
		return 64
	case "jobs":
		return MaxJobs
	case "request_ids", "abandon":
		return MaxRequests
	case "completions":
		return MaxCompletions
	}
	return 4096 // of a name that no request has
}

// longestName is how many bytes a name that maxEntries or free knows takes at
// most in JSON: each letter can be an escape of six.
const longestName = 6 * len("completions")

// plain is the name that encoding/json takes a member's for: it reads escapes,
// and does not tell cases apart, nor letters that become the same one in another
// case.
func plain(name []byte) []byte {
	common := func(c byte) bool { return c >= 'a' && c <= 'z' || c == '_' }
	if len(name) > longestName || !slices.ContainsFunc(name, func(c byte) bool { return !common(c) }) {
		return name
	}
	if bytes.IndexByte(name, '\\') >= 0 {
		var text string
		if json.Unmarshal(slices.Concat([]byte{'"'}, name, []byte{'"'}), &text) != nil {
			return name // the decoder says so
		}
		name = []byte(text)
	}
	return folded(name)
}

// folded is a name as it compares without regard to case: ſ and the sign of
// kelvin become s and k.
func folded(name []byte) []byte { return bytes.ToLower(bytes.ToUpper(name)) }

// What one request may carry.
const (
	MaxJobs        = 1000
	MaxRequests    = 1024
	MaxCompletions = 256
)

func tooManyEntries(name []byte, most uint64) error {
	field := body
	if len(name) > 0 {
		field = string(name[:min(len(name), 80)])
	}
	return &consign.FieldError{Field: field, Problem: fmt.Sprintf("has more than %d entries", most), Remedy: "send fewer, or several requests"}
}

// free reports a member that is the caller's own JSON, which is kept as text.
func free(name []byte) bool { return string(name) == "payload" || string(name) == "output" }

// checkJSON counts the entries of each list and map of a request in JSON. It
// does not tell JSON from what is none: what it lets through is still to be
// decoded.
func checkJSON(data []byte) error {
	var levels [maxDepth + 1]level
	depth := -1
	total := 0
	var name []byte // the latest string, which is a member's name before a colon
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			end := textEnd(data, i+1)
			name = data[i+1 : end]
			i = end
		case '{', '[':
			var of []byte
			if depth < 0 || !levels[depth].list {
				of = name
			}
			known := plain(of)
			if depth == 0 && !levels[0].list && free(known) {
				i = skipValue(data, i)
				continue
			}
			if depth == maxDepth {
				return unreadable(fmt.Sprintf("nests deeper than %d levels", maxDepth), "send what docs/wire-protocol.md describes")
			}
			depth++
			levels[depth] = level{name: of, most: maxEntries(known), list: c == '['}
		case '}', ']':
			if depth--; depth < -1 {
				return nil // the decoder says so
			}
		case ',':
			total++
			if depth < 0 {
				continue
			}
			l := &levels[depth]
			if l.commas++; l.commas >= l.most {
				return tooManyEntries(l.name, l.most)
			}
			if total >= maxValues {
				return unreadable(fmt.Sprintf("holds more than %d values", maxValues), "send several requests")
			}
		}
	}
	return nil
}

// level is a list or a map that checkJSON is in.
type level struct {
	name   []byte
	most   uint64
	commas uint64
	list   bool
}

// textEnd is where the string ends that starts before at: its quote, or the
// end of data.
func textEnd(data []byte, at int) int {
	for at < len(data) {
		n := bytes.IndexByte(data[at:], '"')
		if n < 0 {
			break
		}
		escapes := 0
		for i := at + n - 1; i >= at && data[i] == '\\'; i-- {
			escapes++
		}
		at += n
		if escapes%2 == 0 {
			return at
		}
		at++
	}
	return len(data)
}

// skipValue returns where the list or map ends that starts at at.
func skipValue(data []byte, at int) int {
	depth := 0
	for ; at < len(data); at++ {
		switch data[at] {
		case '"':
			at = textEnd(data, at+1)
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return at
			}
		}
	}
	return at
}
