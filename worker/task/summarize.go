package task

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	defaultSentences = 3
	maxSentences     = 100
	// alike is the cosine from which a sentence repeats one already taken.
	alike = one * 6 / 10
	// substance is how many terms a sentence needs to be worth quoting, unless
	// no sentence has that many.
	substance = 4
	// padding: a sentence below a fourth of the best one's rank is not quoted
	// only because it still fits max_chars.
	padding = 4
)

// summaryOptions are the options of summarize.
type summaryOptions struct {
	sentences int
	maxChars  int // 0: no bound
	language  string
	format    string
}

// summary is the result of summarize.
type summary struct {
	Task      string           `json:"task"`
	Summary   string           `json:"summary"`
	Sentences []quotedSentence `json:"sentences"`
	Language  string           `json:"language"`
	Of        int              `json:"of"` // sentences of prose in the text
	Reason    string           `json:"reason,omitempty"`
}

// quotedSentence is a sentence and the bytes of the text that it stands on.
type quotedSentence struct {
	Text  string `json:"text"`
	Start int    `json:"start"`
	End   int    `json:"end"`
	Score int    `json:"score"` // per mille of the best sentence
}

func readSummarize(p *payload) (o summaryOptions, err error) {
	if o.sentences, err = p.count("sentences", maxSentences, 0); err != nil {
		return o, err
	}
	if o.maxChars, err = p.count("max_chars", MaxText, 0); err != nil {
		return o, err
	}
	if o.language, err = readLanguage(p); err != nil {
		return o, err
	}
	o.format, err = p.choice("format", "auto", "plain", "markdown", "code")
	if o.sentences == 0 {
		o.sentences = defaultSentences
		if o.maxChars > 0 {
			o.sentences = maxSentences
		}
	}
	return o, err
}

// readLanguage takes the optional BCP 47 tag that overrides detection.
func readLanguage(p *payload) (string, error) {
	var tag string
	const want = `a language tag of two or three letters, such as "de"`
	found, err := p.take("language", &tag, want)
	if err != nil || !found {
		return "", err
	}
	if len(tag) < 2 || len(tag) > 3 || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyz") != "" {
		return "", payloadError("language", "is "+quote(tag), "send "+want)
	}
	return tag, nil
}

// formatOf returns how to read the text.
func (o summaryOptions) formatOf(text string) format {
	switch o.format {
	case "plain":
		return plain
	case "markdown":
		return marked
	case "code":
		return source
	}
	return formatOf(text)
}

// summarize quotes the sentences that stand for the others.
func summarize(ctx context.Context, text string, o summaryOptions) (summary, error) {
	p, err := findProse(ctx, text, o.formatOf(text))
	if err != nil {
		return summary{}, err
	}
	language := o.language
	if language == "" {
		language, _ = detectLanguage(p.text())
	}
	s := summary{Task: "summarize", Sentences: []quotedSentence{}, Language: language}
	list, err := findSentences(ctx, p, language)
	if err != nil {
		return s, err
	}
	s.Of = len(list)
	if len(list) == 0 {
		s.Reason = "no_prose"
		return s, nil
	}
	r, err := rankSentences(ctx, list, language)
	if err != nil {
		return s, err
	}
	for _, i := range r.pick(list, o) {
		s.Sentences = append(s.Sentences, quotedSentence{
			Text: list[i].text, Start: list[i].start, End: list[i].end,
			Score: perMille(r.rank[i], slices.Max(r.rank)),
		})
		s.Summary = joinSentences(s.Summary, list[i].text)
	}
	if len(s.Sentences) == 0 {
		s.Reason = "max_chars_below_shortest_sentence"
	}
	return s, nil
}

// text returns the prose alone, for language detection.
func (p *prose) text() string {
	var b strings.Builder
	for _, block := range p.blocks {
		if b.Len() > languageSampleBytes {
			break
		}
		b.WriteString(collapse(string(p.mask[block.start:block.end])))
		b.WriteByte('\n')
	}
	return b.String()
}

// ranking is sentences as vectors with their ranks.
type ranking struct {
	vectors []vector
	rank    []uint64
}

func rankSentences(ctx context.Context, list []sentence, language string) (*ranking, error) {
	bags := make([][]string, len(list))
	a := newAnalyzer(language)
	for i, s := range list {
		if i%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		bags[i] = a.terms(s.text)
	}
	r := &ranking{vectors: vectors(bags)}
	graph, err := links(ctx, r.vectors)
	if err != nil {
		return nil, err
	}
	r.rank, err = pageRank(ctx, graph)
	return r, err
}

// pick chooses by rank, leaves out what repeats a choice or does not fit, and
// returns the choices in the text's order.
func (r *ranking) pick(list []sentence, o summaryOptions) []int {
	var chosen []int
	room, best := o.maxChars, slices.Max(r.rank)
	for _, i := range r.order() {
		if len(chosen) == o.sentences {
			break
		}
		size := utf8.RuneCountInString(list[i].text) + 1
		if o.maxChars > 0 && (size > room+1 || r.rank[i]*padding < best) || r.repeats(i, chosen) {
			continue
		}
		chosen = append(chosen, i)
		room -= size
	}
	slices.Sort(chosen)
	return chosen
}

// order returns the sentences of substance by rank, the earlier first among
// equals; the others follow, for a text that has nothing better.
func (r *ranking) order() []int {
	order := make([]int, len(r.rank))
	for i := range order {
		order[i] = i
	}
	thin := func(i int) int {
		if len(r.vectors[i].terms) < substance {
			return 1
		}
		return 0
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(thin(a), thin(b)), cmp.Compare(r.rank[b], r.rank[a]), cmp.Compare(a, b))
	})
	return order
}

func (r *ranking) repeats(i int, chosen []int) bool {
	return slices.ContainsFunc(chosen, func(j int) bool {
		return r.vectors[i].cosine(&r.vectors[j]) >= alike
	})
}

// joinSentences puts a space between two sentences, unless the script has none.
func joinSentences(a, b string) string {
	if a == "" {
		return b
	}
	if last, _ := utf8.DecodeLastRuneInString(a); last >= 0x3000 && last <= 0xFFEF {
		return a + b
	}
	return a + " " + b
}
