package task

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"github.com/abadojack/whatlanggo"
)

// undetermined is the BCP 47 tag for a language that the text does not show.
const undetermined = "und"

// languageSample bounds the text that detection reads, in words and in bytes.
// It also keeps whatlanggo within the range that its distances were made for.
const (
	languageSample      = 1000
	languageSampleBytes = 4096
)

// guess is a language with its share of the evidence, in per mille.
type guess struct {
	tag   string
	share int
}

// detectLanguage returns the language of a text and what else it may be, best
// first. It trusts, in this order: the script where a script has one language,
// function words (the, und, les), and letter trigrams. The tag is "und" where
// none of them is clear.
func detectLanguage(text string) (string, []guess) {
	if tag := cjk(text); tag != "" {
		return tag, []guess{{tag, 1000}}
	}
	guesses := byFunctionWords(text)
	if clear(guesses) {
		return guesses[0].tag, guesses
	}
	if tag := byTrigrams(text); tag != "" {
		return tag, []guess{{tag, 1000}}
	}
	return undetermined, guesses
}

// cjk tells Chinese from Japanese by kana: Japanese prose is hardly ever below
// a fifth of kana, Chinese has none. (whatlanggo compares the counts of kana
// and Han instead and calls a news text full of kanji Chinese.)
func cjk(text string) string {
	var han, kana, letters int
	for _, r := range sample(text) {
		if !unicode.IsLetter(r) {
			continue
		}
		letters++
		switch {
		case unicode.In(r, unicode.Hiragana, unicode.Katakana):
			kana++
		case unicode.Is(unicode.Han, r):
			han++
		}
	}
	switch {
	case letters == 0 || (han+kana)*2 < letters:
		return ""
	case kana*10 >= han+kana:
		return "ja"
	}
	return "zh"
}

// functionWords maps a word to the languages whose list holds it.
var functionWords = func() map[string][]string {
	words := map[string][]string{}
	for _, tag := range stopLanguages() {
		for word := range stopwords[tag] {
			words[word] = append(words[word], tag)
		}
	}
	return words
}()

// byFunctionWords counts function words; one that several languages share
// counts for each of them in part.
func byFunctionWords(text string) []guess {
	const whole = 60
	hits := map[string]int{}
	sum, n := 0, 0
	for word := range strings.FieldsFuncSeq(sample(text), notInWord) {
		if n++; n > languageSample {
			break
		}
		tags := functionWords[strings.ToLower(word)]
		for _, tag := range tags {
			hits[tag] += whole / len(tags)
			sum += whole / len(tags)
		}
	}
	if sum < 2*whole { // fewer than two telling words
		return nil
	}
	guesses := make([]guess, 0, len(hits))
	for tag, n := range hits {
		guesses = append(guesses, guess{tag, perMille(uint64(n), uint64(sum))})
	}
	slices.SortFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.tag, b.tag))
	})
	return guesses
}

// clear asks for a third more evidence than the runner-up has.
func clear(g []guess) bool {
	return len(g) == 1 || len(g) > 1 && g[0].share*3 >= g[1].share*4
}

func notInWord(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.Is(unicode.Mn, r) && r != '\''
}

// byTrigrams asks whatlanggo. When two languages tie it returns either, by map
// order, with confidence 0; so a doubtful answer is never used.
func byTrigrams(text string) string {
	s := sample(text)
	info := whatlanggo.Detect(s)
	if info.Script == nil || !info.IsReliable() {
		return ""
	}
	if unicode.Is(unicode.Latin, []rune(s)[0]) && len(s) < 24 {
		return ""
	}
	if tag := info.Lang.Iso6391(); tag != "" {
		return tag
	}
	return ""
}

// sample returns the start of a text, cut between characters.
func sample(text string) string {
	if len(text) <= languageSampleBytes {
		return text
	}
	return strings.ToValidUTF8(text[:languageSampleBytes], "")
}
