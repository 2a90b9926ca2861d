package task

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// extractOptions are the options of extract.
type extractOptions struct {
	schema   *schema // nil: everything that can be recognised
	language string
}

// extraction is the result of extract: either findings or an answer.
type extraction struct {
	Task      string `json:"task"`
	Language  string `json:"language"`
	Truncated bool   `json:"truncated,omitempty"` // more was there than is returned or looked at
	*findings
	*answer
}

// findings is what a text holds when no schema asks for anything.
type findings struct {
	Entities []entity   `json:"entities"`
	JSON     []embedded `json:"json"`
}

// embedded is JSON that stands in the text, white space aside unchanged.
type embedded struct {
	Value json.RawMessage `json:"value"`
	Start int             `json:"start"`
	End   int             `json:"end"`
}

// answer is data in the shape of the schema, as far as the text has it. No
// value is invented: each stands on the bytes that Evidence names.
type answer struct {
	verdict
	Data      json.RawMessage `json:"data"`
	Ambiguous []string        `json:"ambiguous,omitempty"` // the text has several values: none was taken
	Evidence  []evidence      `json:"evidence"`
}

// evidence says where a value was found: by a line that names it ("line"), near
// its name ("near"), as the only one of its kind ("only"), or as JSON ("json").
type evidence struct {
	Field string `json:"field"` // JSON pointer into the data
	By    string `json:"by"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}

func readExtract(p *payload) (o extractOptions, err error) {
	if o.schema, err = readSchema(p); err != nil {
		return o, err
	}
	o.language, err = readLanguage(p)
	return o, err
}

func extract(ctx context.Context, text string, o extractOptions) (extraction, error) {
	r := extraction{Task: "extract", Language: o.language}
	if o.language == "" {
		r.Language, _ = detectLanguage(text)
	}
	values, err := findJSON(ctx, text)
	if err != nil {
		return r, err
	}
	entities, err := findEntities(ctx, text, r.Language)
	if err != nil {
		return r, err
	}
	r.Truncated = len(entities) > maxEntities || len(values) == maxEmbedded
	if o.schema == nil {
		r.findings = &findings{Entities: append([]entity{}, entities[:min(len(entities), maxEntities)]...), JSON: quoteJSON(text, values)}
		return r, nil
	}
	a, skipped, err := o.schema.fromJSON(ctx, text, values)
	if err == nil && a == nil {
		a, err = o.schema.fromText(ctx, text, entities)
	}
	r.answer = a
	r.Truncated = skipped || len(values) == maxEmbedded
	return r, err
}

func quoteJSON(text string, values []span) []embedded {
	list := []embedded{}
	for _, at := range values {
		list = append(list, embedded{compact(text[at.start:at.end]), at.start, at.end})
	}
	return list
}

// compact removes white space between tokens, and nothing else.
func compact(raw string) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, []byte(raw)) != nil {
		return json.RawMessage("null") // not reached: raw was validated
	}
	return b.Bytes()
}

// fromJSON answers with the first JSON value of the text that the schema
// accepts; else with the first that has a property of the schema, and what is
// wrong with it. It reports whether a value was too large to be looked at.
func (s *schema) fromJSON(ctx context.Context, text string, values []span) (best *answer, skipped bool, err error) {
	for _, at := range values {
		if err := ctx.Err(); err != nil {
			return nil, skipped, err
		}
		raw := text[at.start:at.end]
		if s.nodes*len(raw) > maxWork {
			skipped = true
			continue
		}
		data, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(raw)))
		if err != nil {
			continue
		}
		a := &answer{verdict: s.judge(data), Data: compact(raw), Evidence: []evidence{{"", "json", at.start, at.end}}}
		if a.Valid {
			return a, skipped, nil
		}
		if best == nil && s.knows(data) {
			best = a
		}
	}
	return best, skipped, nil
}

// knows tells that data is an object with a property of the schema.
func (s *schema) knows(data any) bool {
	object, _ := data.(map[string]any)
	for name := range object {
		if resolve(s.Schema).Properties[name] != nil {
			return true
		}
	}
	return false
}
