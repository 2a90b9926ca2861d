package task

import (
	"context"
	"strings"
)

// closeCall is the lead, in per mille of cosine, below which two labels tie.
const closeCall = 5

// tellTopic compares the text with the centroid of each label's texts: TF-IDF
// and cosine, the Rocchio classifier (Manning, Raghavan and Schütze 2008, 14.2).
// Words that no label knows count for none.
func (c *classification) tellTopic(ctx context.Context, p *prose, labels []label) error {
	text, err := countTerms(ctx, p, c.Language)
	if err != nil {
		return err
	}
	index, err := newCentroids(ctx, labels, c.Language)
	if err != nil {
		return err
	}
	query := index.query(text)
	c.Evidence = len(query)
	best, second := -1, -1
	for i, l := range labels {
		score := perMille(index.cosine(query, i), one)
		c.Scores[l.name] = score
		if best < 0 || score > c.Scores[labels[best].name] {
			best, second = i, best
		} else if second < 0 || score > c.Scores[labels[second].name] {
			second = i
		}
	}
	winner := labels[best].name
	switch lead := c.Scores[winner] - c.Scores[labels[second].name]; {
	case c.Scores[winner] == 0:
		c.Reason = reasonNothing
	case lead < closeCall:
		c.Reason = reasonTie
	default:
		c.Label = &winner
	}
	return nil
}

// countTerms counts the terms of a text, paragraph by paragraph.
func countTerms(ctx context.Context, p *prose, language string) (map[string]int, error) {
	a := newAnalyzer(language)
	counts := map[string]int{}
	for _, block := range p.blocks {
		for _, part := range clip(string(p.mask[block.start:block.end])) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for _, term := range a.terms(part) {
				counts[term]++
			}
		}
	}
	return counts, nil
}

// centroids holds each label's terms with their weights.
type centroids struct {
	weights []map[string]uint64
	lengths []uint64
	idf     map[string]uint64
}

// newCentroids weighs a term by how few of the labels use it.
func newCentroids(ctx context.Context, labels []label, language string) (*centroids, error) {
	a := newAnalyzer(language)
	counts := make([]map[string]int, len(labels))
	df := map[string]int{}
	for i, l := range labels {
		counts[i] = map[string]int{}
		for _, text := range l.texts {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			for _, term := range a.terms(text) {
				if counts[i][term]++; counts[i][term] == 1 {
					df[term]++
				}
			}
		}
	}
	c := &centroids{idf: map[string]uint64{}}
	for term, n := range df {
		c.idf[term] = idf(len(labels), n) - idf(1, 1) + one/16
	}
	for _, bag := range counts {
		weights := c.query(bag)
		c.weights = append(c.weights, weights)
		c.lengths = append(c.lengths, length(weights))
	}
	return c, nil
}

// query weighs the counted terms that some label knows; a repeated word counts
// by the logarithm.
func (c *centroids) query(counts map[string]int) map[string]uint64 {
	weights := map[string]uint64{}
	for term, n := range counts {
		if w, ok := c.idf[term]; ok {
			weights[term] = (one + log2(uint64(n))) * w >> 16
		}
	}
	return weights
}

// cosine compares a query with the centroid of label i. Sums of whole numbers
// do not depend on the order of a map.
func (c *centroids) cosine(query map[string]uint64, i int) uint64 {
	dot := uint64(0)
	for term, w := range query {
		dot += w * c.weights[i][term] >> 16
	}
	return ratio(dot, length(query), c.lengths[i])
}

func length(weights map[string]uint64) uint64 {
	square := uint64(0)
	for _, w := range weights {
		square += w * w >> 16
	}
	return isqrt(square << 16)
}

// clipLength bounds what is analysed between two looks at the context, bytes.
const clipLength = 16 << 10

// clip cuts a long text at spaces, so that cancelling does not wait for it.
func clip(text string) []string {
	var parts []string
	for len(text) > clipLength {
		at := strings.LastIndexByte(text[:clipLength], ' ')
		if at <= 0 {
			at = len(strings.ToValidUTF8(text[:clipLength], ""))
		}
		parts = append(parts, text[:at])
		text = text[at:]
	}
	return append(parts, text)
}
