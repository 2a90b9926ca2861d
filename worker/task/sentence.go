package task

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/sentences"
)

// sentence is a sentence of a text. Its text is what stands between start and
// end, with white space collapsed and markers of quotes and comments removed.
type sentence struct {
	span
	text string
}

// findSentences cuts prose into sentences: UAX #29, and then what UAX #29 leaves
// to the user of it, abbreviations and initials.
func findSentences(ctx context.Context, p *prose, language string) ([]sentence, error) {
	var list []sentence
	for _, block := range p.blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		list = appendSentences(list, string(p.mask[block.start:block.end]), block.start, language)
	}
	return list, nil
}

func appendSentences(list []sentence, block string, offset int, language string) []sentence {
	start, end := 0, 0
	flush := func() {
		if s, ok := newSentence(block, span{start, end}, offset); ok {
			list = append(list, s)
		}
		start = end
	}
	for iter := sentences.FromString(block); iter.Next(); {
		end += len(iter.Value())
		if end-start > longestMerge || !continues(block[start:end], block[end:], language) {
			flush()
		}
	}
	end = len(block)
	flush()
	return list
}

// longestMerge bounds a sentence that abbreviations keep open, in bytes.
const longestMerge = 2000

func newSentence(block string, s span, offset int) (sentence, bool) {
	raw := block[s.start:s.end]
	if !strings.ContainsFunc(raw, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return sentence{}, false
	}
	left := len(raw) - len(strings.TrimLeftFunc(raw, unicode.IsSpace))
	right := len(strings.TrimRightFunc(raw, unicode.IsSpace))
	return sentence{
		span: span{offset + s.start + left, offset + s.start + right},
		text: collapse(raw),
	}, true
}

// collapse makes each run of white space one space and trims the ends.
func collapse(s string) string { return strings.Join(strings.Fields(s), " ") }

// continues tells that a sentence did not end where UAX #29 says: its last word
// is an abbreviation, an initial, or a German ordinal.
func continues(before, after, language string) bool {
	t := strings.TrimRight(before, " _*")
	if !strings.HasSuffix(t, ".") || strings.HasSuffix(t, "..") || after == "" {
		return false
	}
	word := t[strings.LastIndexAny(t, " (\"'[_*")+1:]
	word = strings.ToLower(strings.TrimSuffix(word, "."))
	r, size := utf8.DecodeRuneInString(word)
	switch {
	case size == len(word) && unicode.IsLetter(r) && word != "i" && !unspaced(word):
		return true // an initial
	case ordinals[language] && len(word) <= 2 && isDigits(word):
		return true
	}
	return abbreviations[word]
}

// ordinals are the languages that write an ordinal number with a full stop.
var ordinals = map[string]bool{"da": true, "de": true, "nb": true, "fi": true, "hu": true, "cs": true}

// abbreviations that stand before the word that they belong to, so that they
// hardly ever end a sentence.
var abbreviations = wordSet(`mr mrs ms dr prof sr st rev gen col sgt capt lt hon messrs vs cf e.g i.e fig figs eq no nos vol pp ca approx prop ax def obs
	hr fr nr bzw z.b d.h u.a bspw vgl evtl ggf inkl mio mrd str abs s.o s.u geb
	m mme mlle mm p.ex env art av bd
	sra srta dña d.ª ud uds ee.uu aprox pág págs
	sig sig.ra dott ing pag
	dhr mevr bijv o.a t.a.v`)
