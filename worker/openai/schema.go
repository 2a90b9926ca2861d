package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a schema. A stranger wrote it, and neither our validation nor an
// engine's grammar compiler can be interrupted.
const (
	maxSchema      = 64 << 10
	maxSchemaNodes = 4_000    // JSON values, with every $ref written out
	maxSchemaWork  = 64 << 20 // nodes times bytes of the result
	maxSchemaDepth = 64
	maxPattern     = 256
)

// schema is what a result has to look like.
type schema struct {
	source   json.RawMessage
	compiled *jsonschema.Schema
	nodes    int
}

func readSchema(value []byte) (*schema, error) {
	if len(value) > maxSchema {
		return nil, badSchema(fmt.Sprintf("has %d bytes", len(value)), fmt.Sprintf("send at most %d", maxSchema))
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	root, ok := document.(map[string]any)
	if err != nil || !ok {
		return nil, badSchema("is not an object", `send {"type":"object","properties":{...}}`)
	}
	b := bound{root: root, nodes: map[string]int{}}
	nodes, err := b.count(root, 0)
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(pattern)
	const name = "consign:json_schema"
	if err := c.AddResource(name, root); err != nil {
		return nil, badSchema("is not a JSON Schema", "check it against its $schema")
	}
	compiled, err := c.Compile(name)
	if err != nil {
		return nil, badSchema("does not compile", "use drafts 4 to 2020-12, and patterns in RE2 syntax of at most 256 bytes")
	}
	return &schema{source: value, compiled: compiled, nodes: nodes}, nil
}

// check says what is wrong with a result.
func (s *schema) check(result string) error {
	if s.nodes*len(result) > maxSchemaWork {
		return errors.New("is too long to be checked against its schema")
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(result))
	if err != nil {
		return errors.New("is not JSON")
	}
	if err := s.compiled.Validate(v); err != nil {
		return errors.New("does not follow json_schema")
	}
	return nil
}

func badSchema(problem, remedy string) error { return bad("json_schema", problem, remedy) }

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("schemas are not loaded") }

func pattern(p string) (jsonschema.Regexp, error) {
	if len(p) > maxPattern {
		return nil, errors.New("pattern is too long")
	}
	return regexp.Compile(p)
}

// bound counts a schema's nodes with references written out, which a chain of
// {"allOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/a"}]} multiplies.
type bound struct {
	root  map[string]any
	nodes map[string]int // by $ref; 0 while being counted
}

func (b *bound) count(v any, depth int) (int, error) {
	if depth > maxSchemaDepth {
		return 0, badSchema("is nested too deeply", fmt.Sprintf("nest at most %d levels", maxSchemaDepth))
	}
	total := 1
	add := func(n int, err error) error {
		if total += n; err == nil && total > maxSchemaNodes {
			err = badSchema("is too large once its references are written out", fmt.Sprintf("keep it below %d values", maxSchemaNodes))
		}
		return err
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := add(b.count(item, depth+1)); err != nil {
				return 0, err
			}
		}
	case map[string]any:
		for key, member := range v {
			if err := add(b.count(member, depth+1)); err != nil {
				return 0, err
			}
			text, ok := member.(string)
			if !ok {
				continue
			}
			switch key {
			case "$ref":
				if err := add(b.reference(text, depth+1)); err != nil {
					return 0, err
				}
			case "$id", "id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef":
				return 0, badSchema("uses "+key, "leave it out, and refer with $ref to #/$defs/...")
			}
		}
	}
	return total, nil
}

// reference counts what a $ref stands for, once.
func (b *bound) reference(ref string, depth int) (int, error) {
	n, seen := b.nodes[ref]
	switch {
	case seen && n == 0:
		return 0, badSchema("refers to itself through "+cut(ref, 60), "write the levels out that you need")
	case seen:
		return n, nil
	}
	section, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/"), "/")
	defs, _ := b.root[section].(map[string]any)
	target, ok := defs[name]
	if !ok || section != "$defs" && section != "definitions" || strings.ContainsAny(name, "/~%") {
		return 0, badSchema("has the reference "+cut(ref, 60), "refer to what is in #/$defs/NAME or #/definitions/NAME, without '/', '~' and '%' in names")
	}
	b.nodes[ref] = 0
	n, err := b.count(target, depth)
	b.nodes[ref] = n
	return n, err
}
