package task

import (
	"context"
	"regexp"
	"strings"
	"unicode"
)

// namedLine is a line such as "Total: 12.50 EUR", "**Name** - Ada" or
// "name=Ada": a name in folded form and the value's place in the text.
type namedLine struct {
	name  string
	value span
	items []span // the list items below a line without a value
}

var (
	namePattern = regexp.MustCompile(`^[ \t]*(?:[-*+•>|][ \t]+|\|[ \t]*)?["*_` + "`" + `]{0,3}([\p{L}][\p{L}\p{N} _./()'-]{0,59}?)["*_` + "`" + `]{0,3}[ \t]*(?:[:：=|]|[ \t][-–—][ \t])["*_` + "`" + `]{0,3}[ \t]*`)
	nextName    = regexp.MustCompile(`[,;|][ \t]+([\p{L}][\p{L}\p{N} _-]{0,39}?)[ \t]*[:=]`)
)

// namedLines finds the lines that name a value. Only a name that is known ends
// a value before the end of its line ("Name: Ada, Age: 36").
func namedLines(ctx context.Context, text string, known map[string]bool) ([]namedLine, error) {
	var list []namedLine
	at, look, open := 0, 0, -1 // open: the entry of list that waits for items
	for line := range strings.Lines(text) {
		if at >= look {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			look = at + clipLength
		}
		switch before := len(list); {
		case open >= 0 && isItem(line):
			list[open].items = append(list[open].items, itemOf(line, at))
		case strings.TrimSpace(line) != "":
			list = appendNames(list, line, at, known)
			if open = -1; len(list) > before && list[len(list)-1].value.empty() {
				open = len(list) - 1
			}
		}
		at += len(line)
	}
	return list, nil
}

// appendNames reads a line, and the rest of it after each known name.
func appendNames(list []namedLine, line string, at int, known map[string]bool) []namedLine {
	for line != "" {
		m := namePattern.FindStringSubmatchIndex(line)
		if m == nil || strings.HasPrefix(line[m[1]:], "//") { // https://
			return list
		}
		end, next := len(line), len(line)
		for _, n := range nextName.FindAllStringSubmatchIndex(line[m[1]:], -1) {
			if known[fold(line[m[1]+n[2]:m[1]+n[3]])] {
				end, next = m[1]+n[0], m[1]+n[2]
				break
			}
		}
		list = append(list, namedLine{name: fold(line[m[2]:m[3]]), value: trimSpan(line, span{m[1], end}).shift(at)})
		line, at = line[next:], at+next
	}
	return list
}

func isItem(line string) bool {
	_, item := marker(line)
	return item
}

func itemOf(line string, at int) span {
	n, _ := marker(line)
	return trimSpan(line, span{n, len(line)}).shift(at)
}

// trimSpan takes white space and emphasis from the ends of a value.
func trimSpan(text string, s span) span {
	const ends = " \t\r\n*_`|"
	raw := text[s.start:s.end]
	s.start += len(raw) - len(strings.TrimLeft(raw, ends))
	s.end = max(s.start, s.end-(len(raw)-len(strings.TrimRight(raw, ends))))
	return s
}

func (s span) empty() bool      { return s.start >= s.end }
func (s span) shift(n int) span { return span{s.start + n, s.end + n} }

// fold makes invoiceDate, invoice_date and "Invoice date" one name.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

// spoken splits a name into the words that a sentence would use: invoiceDate
// and invoice_date give "invoice date".
func spoken(name string) string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		if r == '_' || r == '-' || r == '.' || unicode.IsUpper(r) && lower {
			b.WriteByte(' ')
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(unicode.ToLower(r))
		}
		lower = unicode.IsLower(r)
	}
	return b.String()
}
