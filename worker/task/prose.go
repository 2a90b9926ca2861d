package task

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"unicode/utf8"
)

// prose is a text with everything that is not running text blanked: code,
// tables, headings, markers of lists, quotes and comments. The mask has the
// text's length, so an offset in one is an offset in the other.
type prose struct {
	mask   []byte
	blocks []span // paragraphs, in order
}

// span is a range of bytes, end exclusive.
type span struct{ start, end int }

// format says how a text is written.
type format int

const (
	plain  format = iota // every line is prose
	marked               // Markdown, or plain text that looks like it
	source               // source code: its comments are the prose
)

// formatOf guesses by the first 64 KiB: a text is source when two of five lines
// outside fences look like code.
func formatOf(text string) format {
	code, all, fenced := 0, 0, false
	for line := range strings.Lines(text[:min(len(text), 64<<10)]) {
		switch {
		case isFence(line):
			fenced = !fenced
		case fenced || strings.TrimSpace(line) == "" || commentMarker(line) > 0:
		default:
			all++
			if line[0] == '\t' || isCode(line) {
				code++
			}
		}
	}
	if code*5 >= all*2 && code > 2 {
		return source
	}
	return marked
}

// findProse finds the paragraphs of a text.
func findProse(ctx context.Context, text string, f format) (*prose, error) {
	p := &proseScanner{prose: prose{mask: []byte(text)}, format: f}
	at, look := 0, 0
	for line := range strings.Lines(text) {
		if at >= look {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			look = at + clipLength
		}
		p.line(span{at, at + len(line)}, line)
		at += len(line)
	}
	p.close()
	return &p.prose, nil
}

// proseScanner goes through a text line by line.
type proseScanner struct {
	prose
	format format
	open   span // the paragraph being read; empty when end is 0
	fenced bool
	doc    bool // within a Python docstring
}

func (p *proseScanner) line(at span, line string) {
	keep := 0
	switch trimmed := strings.TrimSpace(line); {
	case trimmed == "":
		p.close()
		return
	case p.format == plain:
	case isFence(line):
		p.fenced = !p.fenced
		p.skip(at)
		return
	case p.fenced || isHeading(trimmed) || isRule(trimmed) || isTableRow(trimmed):
		p.skip(at)
		return
	case p.format == source:
		if keep = p.comment(line); keep < 0 {
			p.skip(at)
			return
		}
	case isCode(line):
		p.skip(at)
		return
	default:
		var item bool
		if keep, item = marker(line); item {
			p.close()
		}
	}
	blank(p.mask[at.start : at.start+keep])
	p.extend(at)
}

// comment returns the length of a comment's marker, 0 for a line of prose, -1
// for code.
func (p *proseScanner) comment(line string) int {
	trimmed := strings.TrimSpace(line)
	if quotes := strings.Count(line, `"""`) + strings.Count(line, `'''`); quotes > 0 {
		within := p.doc
		p.doc = p.doc != (quotes%2 == 1)
		if within {
			return -1 // the closing line
		}
		return strings.IndexAny(line, `"'`) + 3
	}
	if p.doc {
		if strings.HasPrefix(trimmed, ">>>") {
			return -1
		}
		return 0
	}
	if n := commentMarker(line); n > 0 {
		return n
	}
	indented := line[0] == '\t' || strings.HasPrefix(line, "    ")
	if indented || isCode(line) || codeInner.MatchString(trimmed) || !sentenceLike(trimmed) {
		return -1
	}
	return 0
}

// skip blanks a line and ends the paragraph before it.
func (p *proseScanner) skip(at span) {
	p.close()
	blank(p.mask[at.start:at.end])
}

// extend adds a line to the paragraph.
func (p *proseScanner) extend(at span) {
	if p.open.end == 0 {
		p.open.start = at.start
	}
	p.open.end = at.end
}

func (p *proseScanner) close() {
	block := p.mask[p.open.start:p.open.end]
	if p.open.end > 0 && !(p.format == source && isLicence(block)) {
		p.blocks = append(p.blocks, p.open)
		unwrap(block)
	}
	p.open = span{}
}

// isLicence tells the paragraph that a source file opens with.
func isLicence(block []byte) bool {
	block = bytes.TrimSpace(block)
	return bytes.HasPrefix(block, []byte("Copyright")) || bytes.HasPrefix(block, []byte("SPDX-"))
}

// unwrap makes a hard-wrapped paragraph one line: a line break there means
// nothing, but UAX #29 would end a sentence at it.
func unwrap(b []byte) {
	for i, c := range b {
		if c == '\n' || c == '\r' || c == '\t' || c == '\v' || c == '\f' {
			b[i] = ' '
		}
	}
}

// blank overwrites with spaces, byte for byte.
func blank(b []byte) { copy(b, bytes.Repeat([]byte{' '}, len(b))) }

func isFence(line string) bool {
	t := strings.TrimLeft(line, " \t>")
	return strings.HasPrefix(t, "```") && !strings.Contains(strings.TrimLeft(strings.TrimSpace(t), "`"), "`") ||
		strings.HasPrefix(t, "~~~")
}

func isHeading(t string) bool {
	level := len(t) - len(strings.TrimLeft(t, "#"))
	return level > 0 && level <= 6 && level < len(t) && t[level] == ' '
}

// isRule tells a line of punctuation alone: ---, ===, * * *, |--|--|.
func isRule(t string) bool {
	return len(t) >= 3 && strings.Trim(t, "-=*_~#+|: ") == ""
}

func isTableRow(t string) bool {
	return strings.HasPrefix(t, "|") || strings.Count(t, " | ") >= 2 || strings.Count(t, "\t") >= 2
}

var markers = regexp.MustCompile(`^(?:\s*>)*\s*(?:(?:[-*+•·–]|\d{1,3}[.)])\s+)?`)

// marker returns the length of a line's quote and list markers, and whether a
// list item begins.
func marker(line string) (n int, item bool) {
	n = len(markers.FindString(line))
	return n, strings.Trim(line[:n], "> \t\n\r") != ""
}

var comments = regexp.MustCompile(`^\s*(?:///?!?|#+!?|--|;;+|/\*+|\*+/|\*|<!--)(?:\s+|$)`)

func commentMarker(line string) int { return len(comments.FindString(line)) }

var (
	codeStart = regexp.MustCompile(`^\s*(?:func|def|class|package|import|from \S+ import|var|const|let|type \w+ (?:struct|interface|func)|struct|public|private|protected|static|#include|#define|#ifdef|#endif|@\w+\(|case .*:$|default:$|else\b|elif|try:|except\b|switch\b|fn|using|namespace|SELECT|INSERT|UPDATE|<[/!?a-zA-Z])`)
	codeInner = regexp.MustCompile(`:=|==|!=|&&|\|\||=>|->|\(\)[;.{:,)]|\+\+|\+=|\w\[\w*\]|\w\(\w*\)\s*$|^\s*[\w.\[\]]+ = |\w\.\w+\(`)
)

// isCode tells a line of source code: by how it ends, by how it begins, or by
// operators that prose does not use.
func isCode(line string) bool {
	t := strings.TrimSpace(line)
	if t == "" || len(t) > 400 {
		return false
	}
	switch last := t[len(t)-1]; {
	case strings.Trim(t, "{}()[];,") == "":
		return true
	case last == '{' || last == ';' && strings.ContainsAny(t, "=(){}"):
		return true
	case strings.ContainsAny(t, "=&|>+[(") && codeInner.MatchString(t):
		return !sentenceLike(t)
	}
	return codeStart.MatchString(t) && !sentenceLike(t)
}

// sentenceLike wants several words and an end of sentence.
func sentenceLike(t string) bool {
	last, _ := utf8.DecodeLastRuneInString(t)
	return strings.Count(t, " ") >= 3 && strings.ContainsRune(".!?:。！？", last) || strings.Count(t, " ") >= 8
}
