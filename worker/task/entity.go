package task

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of entities.
const (
	kindEmail    = "email"
	kindURL      = "url"
	kindDate     = "date"     // YYYY-MM-DD
	kindDateTime = "datetime" // RFC 3339
	kindAmount   = "amount"   // with a currency, ISO 4217
	kindPhone    = "phone"    // E.164, or the digits of a national number
	kindNumber   = "number"
)

// maxEntities bounds what one job returns.
const maxEntities = 1000

// entity is something found in a text, in a normal form, with the bytes of the
// text that it stands on.
type entity struct {
	Type     string   `json:"type"`
	Value    string   `json:"value,omitempty"`
	Currency string   `json:"currency,omitempty"`
	Either   []string `json:"either,omitempty"` // both readings of an ambiguous date, instead of a value
	Start    int      `json:"start"`
	End      int      `json:"end"`
}

// entityScanner looks for one kind after the other; what a kind has found, the
// later kinds do not see.
type entityScanner struct {
	text     string // the piece under the scanner
	offset   int    // where the piece begins
	language string
	taken    []bool // bytes of the piece that belong to an entity
	found    []entity
}

// findEntities returns the entities of a text in its order. It works piece by
// piece, a piece being some lines, so that a cancelled job stops soon.
func findEntities(ctx context.Context, text, language string) ([]entity, error) {
	s := &entityScanner{language: language}
	for _, piece := range pieces(text) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.text, s.offset = text[piece.start:piece.end], piece.start
		s.taken = make([]bool, len(s.text))
		s.scan()
	}
	slices.SortFunc(s.found, func(a, b entity) int { return cmp.Compare(a.Start, b.Start) })
	return s.found, nil
}

func (s *entityScanner) scan() {
	s.findURLs()
	s.findEmails()
	s.findDates()
	s.findPhones()
	s.findAmounts()
	s.findNumbers()
}

// each offers the matches of a pattern to read, and keeps those it accepts.
func (s *entityScanner) each(re *regexp.Regexp, read func(match []int) (entity, bool)) {
	for _, m := range re.FindAllStringSubmatchIndex(s.text, -1) {
		if slices.Contains(s.taken[m[0]:m[1]], true) {
			continue
		}
		e, ok := read(m)
		if !ok {
			continue
		}
		e.Start, e.End = s.offset+m[0], s.offset+m[1]
		s.found = append(s.found, e)
		for i := m[0]; i < m[1]; i++ {
			s.taken[i] = true
		}
	}
}

// pieces cuts a text into pieces of about clipLength at ends of lines; a longer
// line is cut at a space, or anywhere when it has none.
func pieces(text string) []span {
	var list []span
	at := 0
	for len(text)-at > clipLength {
		window := text[at : at+clipLength]
		n := strings.LastIndexByte(window, '\n') + 1
		if n == 0 {
			n = strings.LastIndexByte(window, ' ') + 1
		}
		if n == 0 {
			n = wholeRunes(window)
		}
		list = append(list, span{at, at + n})
		at += n
	}
	return append(list, span{at, len(text)})
}

// wholeRunes returns the length of s without a cut character at its end.
func wholeRunes(s string) int {
	for n := len(s); n > len(s)-utf8.UTFMax; n-- {
		if r, _ := utf8.DecodeLastRuneInString(s[:n]); r != utf8.RuneError {
			return n
		}
	}
	return len(s)
}

// insideWord tells that the character before i makes what starts there a part
// of a longer word or number: v1.2, x86, 1.2.3.
func insideWord(text string, i int) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:i])
	if r == '.' || r == ',' || r == '/' || r == '-' {
		before, _ := utf8.DecodeLastRuneInString(text[:i-1])
		return unicode.IsDigit(before) || r != ',' && joins(before)
	}
	return joins(r)
}

// wordGoesOn tells that a word or number goes on at i.
func wordGoesOn(text string, i int) bool {
	r, size := utf8.DecodeRuneInString(text[i:])
	if r == '.' || r == ',' || r == '/' || r == '-' || r == ':' {
		after, _ := utf8.DecodeRuneInString(text[i+size:])
		return unicode.IsDigit(after)
	}
	return joins(r)
}

// joins tells a character that makes one word with a number beside it. Letters
// of scripts without spaces do not.
func joins(r rune) bool {
	return r == '_' || r == '@' || unicode.IsDigit(r) || unicode.IsLetter(r) && !unspaced(string(r))
}
