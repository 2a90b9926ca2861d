package task

import (
	"context"
	"fmt"
	"strings"
)

const (
	maxLabels   = 64
	maxExamples = 1000
)

// classifyOptions are the options of classify.
type classifyOptions struct {
	by       string // sentiment, topic or language
	language string
	allowed  []string // sentiments that the caller wants to hear of
	labels   []label  // topics, in the payload's order of names
}

// label is a topic with the texts that describe it: keywords and examples.
type label struct {
	name  string
	texts []string
}

// classification is the result of classify. Label is null where the text or
// the method cannot tell; Reason then says why.
type classification struct {
	Task     string         `json:"task"`
	By       string         `json:"by"`
	Label    *string        `json:"label"`
	Scores   map[string]int `json:"scores"` // per mille
	Compound *int           `json:"compound,omitempty"`
	Evidence int            `json:"evidence"` // sentences, matched words or function words
	Language string         `json:"language"`
	Reason   string         `json:"reason,omitempty"`
}

// Reasons for a null label.
const (
	reasonLanguage = "language_not_covered" // no lexicon for the text's language
	reasonNothing  = "no_evidence"          // nothing in the text speaks for any label
	reasonTie      = "tie"                  // two labels are equally likely
	reasonOther    = "label_not_offered"    // the answer is not among the labels
)

func readClassify(p *payload) (o classifyOptions, err error) {
	if o.language, err = readLanguage(p); err != nil {
		return o, err
	}
	if o.by, err = p.choice("by", "", "sentiment", "topic", "language"); err != nil {
		return o, err
	}
	if o.labels, err = readLabels(p); err != nil {
		return o, err
	}
	if o.by == "" {
		o.by = "topic"
		if sentiments(o.labels) {
			o.by = "sentiment"
		}
	}
	return o, o.check()
}

// check holds the labels against the way to classify.
func (o *classifyOptions) check() error {
	switch o.by {
	case "topic":
		if len(o.labels) < 2 {
			return payloadError("labels", fmt.Sprintf("has %d labels", len(o.labels)), "send at least two to choose from")
		}
	case "sentiment":
		if !sentiments(o.labels) {
			return payloadError("labels", "has a label that is not a sentiment",
				`use positive, negative and neutral, or send "by":"topic"`)
		}
		for _, l := range o.labels {
			o.allowed = append(o.allowed, l.name)
		}
	case "language":
		if o.language != "" || len(o.labels) > 0 {
			return payloadError("by", "is language, which takes no labels and no language", "remove them")
		}
	}
	return nil
}

// sentiments tells that every label is one of VADER's three, by name alone.
func sentiments(labels []label) bool {
	for _, l := range labels {
		switch {
		case l.name != "positive" && l.name != "negative" && l.name != "neutral":
			return false
		case len(l.texts) != 1 || l.texts[0] != l.name:
			return false
		}
	}
	return true
}

func classify(ctx context.Context, text string, o classifyOptions) (classification, error) {
	prose, err := findProse(ctx, text, plain)
	if err != nil {
		return classification{}, err
	}
	language, guesses := o.language, []guess(nil)
	if language == "" {
		language, guesses = detectLanguage(prose.text())
	}
	c := classification{Task: "classify", By: o.by, Scores: map[string]int{}, Language: language}
	switch o.by {
	case "language":
		c.tellLanguage(guesses)
		return c, nil
	case "sentiment":
		return c, c.tellSentiment(ctx, prose, o.allowed)
	}
	return c, c.tellTopic(ctx, prose, o.labels)
}

// tellLanguage gives the language as the label.
func (c *classification) tellLanguage(guesses []guess) {
	for _, g := range guesses[:min(len(guesses), 5)] {
		c.Scores[g.tag] = g.share
	}
	c.Evidence = len(guesses)
	switch {
	case c.Language != undetermined:
		c.Label = &c.Language
	case len(guesses) > 0:
		c.Reason = reasonTie
	default:
		c.Reason = reasonNothing
	}
}

// trimmed tells a label or keyword without text in it.
func isBlank(s string) bool { return strings.TrimSpace(s) == "" }
