package task

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/turkish"
	"github.com/clipperhouse/uax29/v2/words"
)

var stemmers = map[string]func(*snowballstem.Env) bool{
	"da": danish.Stem, "de": german.Stem, "en": english.Stem, "es": spanish.Stem,
	"fi": finnish.Stem, "fr": french.Stem, "hu": hungarian.Stem, "it": italian.Stem,
	"nb": norwegian.Stem, "nl": dutch.Stem, "pt": portuguese.Stem, "ro": romanian.Stem,
	"ru": russian.Stem, "sv": swedish.Stem, "tr": turkish.Stem,
}

// longestStem bounds what is stemmed: a longer "word" is data, not language.
const longestStem = 64

// analyzer turns text of one language into terms. It remembers the stems that
// it found, since a text repeats its words; it is not safe for concurrent use.
type analyzer struct {
	stop  map[string]bool
	stem  func(*snowballstem.Env) bool // nil where Snowball lacks the language
	stems map[string]string
}

func newAnalyzer(language string) *analyzer {
	return &analyzer{stop: stopwords[language], stem: stemmers[language], stems: map[string]string{}}
}

// terms returns the words of a text that carry its subject: lower case, without
// function words, stemmed where Snowball has the language. Scripts that write no
// spaces give their pairs of neighbouring characters instead (Chinese, Japanese,
// Thai, Lao, Khmer, Burmese), the usual stand-in for a dictionary.
func (a *analyzer) terms(text string) []string {
	var list, run []string // run: neighbouring characters of a script without spaces
	for iter := words.FromString(text); iter.Next(); {
		word := iter.Value()
		if unspaced(word) {
			run = append(run, word)
			continue
		}
		list, run = appendPairs(list, run), run[:0]
		if word = strings.ToLower(word); isWord(word) && !a.stop[word] {
			list = append(list, a.root(word))
		}
	}
	return appendPairs(list, run)
}

// root returns the stem of a lower-case word.
func (a *analyzer) root(word string) string {
	if a.stem == nil || len(word) > longestStem {
		return word
	}
	root, ok := a.stems[word]
	if !ok {
		env := snowballstem.NewEnv(word)
		a.stem(env)
		root = env.Current()
		a.stems[word] = root
	}
	return root
}

func appendPairs(list, run []string) []string {
	if len(run) == 1 {
		return append(list, run[0])
	}
	for i := 1; i < len(run); i++ {
		list = append(list, run[i-1]+run[i])
	}
	return list
}

// unspaced tells a character of a script that writes no spaces between words.
func unspaced(word string) bool {
	r, _ := utf8.DecodeRuneInString(word)
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// isWord wants a letter or a digit and, of a letter alone, more than one.
func isWord(word string) bool {
	if utf8.RuneCountInString(word) < 2 {
		return false
	}
	return strings.ContainsFunc(word, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}
