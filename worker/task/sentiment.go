package task

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/jonreiter/govader"
)

// vader holds the lexicon: read on first use, never written after it.
var vader = sync.OnceValue(govader.NewSentimentIntensityAnalyzer)

// neutralBand is VADER's own threshold, in per mille: a compound score within
// it is neutral (Hutto and Gilbert 2014).
const neutralBand = 50

// tellSentiment scores each sentence with VADER, which was made for sentences,
// and takes the mean. VADER knows English only; a text in no language that we
// can tell is tried, since short English ("Great phone!!") has no function words.
func (c *classification) tellSentiment(ctx context.Context, p *prose, allowed []string) error {
	if c.Language != "en" && c.Language != undetermined {
		c.Reason = reasonLanguage
		return nil
	}
	list, err := findSentences(ctx, p, c.Language)
	if err != nil {
		return err
	}
	m, err := measure(ctx, list)
	if err != nil {
		return err
	}
	c.Evidence = m.telling
	if m.telling == 0 && c.Language == undetermined || len(list) == 0 {
		c.Reason = reasonNothing
		return nil
	}
	n := m.parts
	compound := mean(m.compound, n)
	c.Compound = &compound
	c.Scores = map[string]int{"positive": mean(m.positive, n), "negative": mean(m.negative, n), "neutral": mean(m.neutral, n)}
	name := sentimentOf(compound)
	if len(allowed) > 0 && !slices.Contains(allowed, name) {
		c.Reason = reasonOther
		return nil
	}
	c.Label = &name
	return nil
}

func sentimentOf(compound int) string {
	switch {
	case compound >= neutralBand:
		return "positive"
	case compound <= -neutralBand:
		return "negative"
	}
	return "neutral"
}

// mood sums VADER's scores over sentences, in per mille.
type mood struct {
	compound, positive, negative, neutral int
	parts                                 int // sentences, or pieces of overlong ones
	telling                               int // those that are not neutral
}

func measure(ctx context.Context, list []sentence) (m mood, err error) {
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return m, err
		}
		for _, part := range clip(s.text) {
			m.add(vader().PolarityScores(part))
		}
	}
	return m, nil
}

// add rounds at once. VADER computes in floating point, where processors may
// differ in the sixteenth digit; three digits of it are kept.
func (m *mood) add(s govader.Sentiment) {
	m.parts++
	m.compound += thousandths(s.Compound)
	m.positive += thousandths(s.Positive)
	m.negative += thousandths(s.Negative)
	m.neutral += thousandths(s.Neutral)
	if s.Compound != 0 {
		m.telling++
	}
}

func thousandths(x float64) int { return int(math.Round(x * 1000)) }

// mean rounds half away from zero.
func mean(sum, n int) int {
	if sum < 0 {
		return -mean(-sum, n)
	}
	return (sum + n/2) / n
}
