package consign

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The bodies of records and acceptances are canonical JSON (RFC 8785), of which
// they use objects, strings, integers, booleans and arrays of strings. There
// are no floats and no null, and all keys are ASCII, so that the order by UTF-16
// code units that the RFC asks for is the order of their bytes.
//
// Each body has one method that lists its members in that order and serves
// both directions, so that writer and reader cannot differ.

// The bounds of a body.
const (
	maxSafeInteger = 1<<53 - 1 // beyond it a reader with IEEE 754 numbers sees another number
	maxText        = 1024      // bytes of UTF-8 in one string
	maxBody        = 64 << 10  // bytes
)

// canonical writes a body, or reads one. The first failure sticks, and all
// calls after it do nothing.
type canonical struct {
	out     []byte // what was written
	in      string // what is still to be read
	reading bool
	packed  bool // no JSON, but the form of packRecord
	comma   bool // a member came before, in the object that is open
	err     error
}

// writeCanonical returns the body that members lists.
func writeCanonical(members func(*canonical)) ([]byte, error) {
	c := &canonical{out: make([]byte, 0, 1536)}
	c.object(members)
	if len(c.out) > maxBody {
		c.fail("has %d bytes, more than %d", len(c.out), maxBody)
	}
	return c.out, c.err
}

// readCanonical fills what members lists from the body. It then writes it again
// and compares: whatever the reading let pass, only the canonical bytes are
// accepted.
func readCanonical(body []byte, members func(*canonical)) error {
	if len(body) > maxBody {
		return fmt.Errorf("has %d bytes, more than %d", len(body), maxBody)
	}
	c := &canonical{in: string(body), reading: true}
	c.object(members)
	if c.err != nil {
		return c.err
	}
	again, err := writeCanonical(members)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, body) {
		return errors.New("is not in canonical form")
	}
	return nil
}

func (c *canonical) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// token writes the literal text, or reads exactly it.
func (c *canonical) token(text string) {
	switch {
	case c.err != nil || c.packed:
	case !c.reading:
		c.out = append(c.out, text...)
	case strings.HasPrefix(c.in, text):
		c.in = c.in[len(text):]
	default:
		c.fail("has %.40q where %q belongs", c.in, text)
	}
}

func (c *canonical) object(members func(*canonical)) {
	outer := c.comma
	c.comma = false
	c.token("{")
	members(c)
	if c.reading && !c.packed && c.err == nil && !strings.HasPrefix(c.in, "}") {
		c.fail("has %.60q, a key that is unknown, or comes twice or out of order", strings.TrimPrefix(c.in, ","))
	}
	c.token("}")
	c.comma = outer
}

// key writes or reads a member's key. Keys are the source's own, in its order,
// and need no escapes.
func (c *canonical) key(key string) {
	if c.reading && !c.packed && c.err == nil && !c.has(key) {
		c.fail("has %.60q where the key %q belongs", c.in, key)
	}
	if c.comma {
		c.token(",")
	}
	c.comma = true
	c.token(`"`)
	c.token(key)
	c.token(`":`)
}

// has reports whether the member that comes next has the key.
func (c *canonical) has(key string) bool {
	rest := c.in
	if c.comma {
		rest = strings.TrimPrefix(rest, ",")
	}
	rest, quoted := strings.CutPrefix(rest, `"`)
	rest, found := strings.CutPrefix(rest, key)
	return quoted && found && strings.HasPrefix(rest, `":`)
}

// absent reports whether an optional member is to be skipped: it is left out
// where it is zero, and only there, so that one value has one form.
func (c *canonical) absent(key string, zero bool) bool {
	if c.packed {
		return c.packAbsent(zero)
	}
	if c.reading {
		return !c.has(key)
	}
	return zero
}

// constant is a member with one possible value, in plain ASCII.
func (c *canonical) constant(key, value string) {
	c.key(key)
	if c.reading && !c.packed && c.err == nil && !strings.HasPrefix(c.in, `"`+value+`"`) {
		c.fail("has another %s than %q", key, value)
	}
	c.token(`"`)
	c.token(value)
	c.token(`"`)
}

// text is a string that must not be empty.
func (c *canonical) text(key string, s *string) {
	c.key(key)
	c.string(s)
	if c.err == nil && *s == "" {
		c.fail("has an empty %q", key)
	}
}

// optText is a string that is left out where it is empty.
func (c *canonical) optText(key string, s *string) {
	if c.absent(key, *s == "") {
		return
	}
	c.key(key)
	c.string(s)
}

// hex is a byte string of a fixed length, in lower-case hexadecimal.
func (c *canonical) hex(key string, b []byte) {
	if c.packed {
		c.packBytes(b)
		return
	}
	c.key(key)
	c.token(`"`)
	switch n := hex.EncodedLen(len(b)); {
	case c.err != nil:
	case !c.reading:
		c.out = hex.AppendEncode(c.out, b)
	case len(c.in) < n || !unhexLower(b, c.in[:n]):
		c.fail("has a %q that is not %d digits of 0-9 and a-f", key, n)
	default:
		c.in = c.in[n:]
	}
	c.token(`"`)
}

// unhexLower fills dst from as many lower-case digits as it has room for.
func unhexLower(dst []byte, digits string) bool {
	for i := range dst {
		high, low := nibble(digits[2*i]), nibble(digits[2*i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// nibble returns the value of a lower-case hexadecimal digit, 255 for others.
func nibble(digit byte) byte {
	switch {
	case '0' <= digit && digit <= '9':
		return digit - '0'
	case 'a' <= digit && digit <= 'f':
		return digit - 'a' + 10
	default:
		return 255
	}
}

// uuid is a job ID in the form of its String.
func (c *canonical) uuid(key string, id *JobID) {
	if c.packed {
		c.packBytes(id[:])
		return
	}
	if !c.reading {
		s := id.String()
		c.text(key, &s)
		return
	}
	var s string
	c.text(key, &s)
	if c.err != nil {
		return
	}
	parsed, err := ParseJobID(s)
	if err != nil {
		c.fail("has a %q that is not a UUID", key)
	}
	*id = parsed
}

// integer is a whole number from minimum to 2^53-1.
func (c *canonical) integer(key string, n *int64, minimum int64) {
	if c.packed {
		c.packInteger(n)
		return
	}
	c.key(key)
	if c.reading && c.err == nil {
		digits := c.in[:len(c.in)-len(strings.TrimLeft(c.in, "-0123456789"))]
		var err error
		if *n, err = strconv.ParseInt(digits, 10, 64); err != nil {
			c.fail("has a %q that is not an integer", key)
			return
		}
		c.in = c.in[len(digits):]
	}
	if c.err == nil && (*n < minimum || *n > maxSafeInteger) {
		c.fail("has a %q that is not in %d to 2^53-1", key, minimum)
	}
	if !c.reading && c.err == nil {
		c.out = strconv.AppendInt(c.out, *n, 10)
	}
}

// optInteger is a number of at least 1 that is left out where it is zero.
func (c *canonical) optInteger(key string, n *int64) {
	if c.absent(key, *n == 0) {
		return
	}
	c.integer(key, n, 1)
}

func (c *canonical) boolean(key string, b *bool) {
	c.key(key)
	if c.reading {
		*b = strings.HasPrefix(c.in, "true")
	}
	c.token(strconv.FormatBool(*b))
}

// texts is an array of distinct strings in the order of their bytes. It may
// be empty.
func (c *canonical) texts(key string, list *[]string) {
	c.key(key)
	c.token("[")
	for i := 0; c.err == nil; i++ {
		if c.reading {
			if strings.HasPrefix(c.in, "]") {
				break
			}
			*list = append(*list, "")
		} else if i == len(*list) {
			break
		}
		if i > 0 {
			c.token(",")
		}
		c.string(&(*list)[i])
		if i > 0 && c.err == nil && (*list)[i-1] >= (*list)[i] {
			c.fail("has a %q that is not sorted, or names one thing twice", key)
		}
	}
	c.token("]")
}

// string writes or reads a JSON string as RFC 8785 has it (section 3.2.2.2):
// two-character escapes where they exist, \u00xx for other control characters,
// everything else as it is.
func (c *canonical) string(s *string) {
	if c.err != nil {
		return
	}
	if c.packed {
		c.packString(s)
		return
	}
	if c.reading {
		c.readString(s)
	} else if !utf8.ValidString(*s) {
		c.fail("has a text that is not UTF-8: %.40q", *s)
	} else {
		c.out = appendString(c.out, *s)
	}
	if len(*s) > maxText {
		c.fail("has a text of %d bytes, more than %d", len(*s), maxText)
	}
}

// escapes holds the characters with a two-character escape, and that escape.
const escapes = `""\\` + "\bb\ff\nn\rr\tt"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0 // of what needs no escape
	for i := range len(s) {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		if j := strings.IndexByte(escapes, b); j >= 0 {
			dst = append(dst, '\\', escapes[j+1])
		} else {
			dst = fmt.Appendf(dst, `\u%04x`, b)
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// readString reads what appendString writes. Other escapes do not occur in
// canonical form, so no surrogate can occur, alone or paired.
func (c *canonical) readString(s *string) {
	c.token(`"`)
	end := strings.IndexAny(c.in, `"\`)
	if end >= 0 && c.in[end] == '"' { // as nearly all texts are
		*s, c.in = c.in[:end], c.in[end+1:]
		return
	}
	var text []byte
	for c.err == nil {
		switch end := strings.IndexAny(c.in, `"\`); {
		case end < 0:
			c.fail("ends within a string")
		case c.in[end] == '"':
			*s, c.in = string(text)+c.in[:end], c.in[end+1:]
			return
		default:
			text = append(text, c.in[:end]...)
			c.in = c.in[end:]
			text = append(text, c.readEscape())
		}
	}
}

func (c *canonical) readEscape() byte {
	if len(c.in) >= 2 {
		for j := 0; j < len(escapes); j += 2 {
			if escapes[j+1] == c.in[1] {
				c.in = c.in[2:]
				return escapes[j]
			}
		}
	}
	var b [1]byte
	if len(c.in) >= 6 && strings.HasPrefix(c.in, `\u00`) && unhexLower(b[:], c.in[4:6]) {
		c.in = c.in[6:]
		return b[0]
	}
	c.fail("has an escape that canonical form does not: %.6q", c.in)
	return 0
}
