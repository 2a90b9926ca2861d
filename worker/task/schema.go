package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a schema. A stranger wrote it, and validation cannot be interrupted.
const (
	// maxSchemaNodes counts JSON values with every $ref written out.
	maxSchemaNodes = 10_000
	// maxWork bounds schema nodes times bytes of the JSON to validate.
	maxWork = 64 << 20
	// maxPattern and maxMatched bound a regular expression and what it is
	// matched with; a longer string does not match.
	maxPattern = 256
	maxMatched = 16 << 10
)

// schema is a compiled JSON Schema and its size.
type schema struct {
	*jsonschema.Schema
	nodes int
}

// readSchema takes "schema". Nothing is loaded from the network or from files:
// a $ref reaches only into the schema itself.
func readSchema(p *payload) (*schema, error) {
	var raw json.RawMessage
	if found, err := p.take("schema", &raw, "a JSON Schema"); err != nil || !found {
		return nil, err
	}
	if len(raw) > MaxSchema {
		return nil, schemaError(fmt.Sprintf("has %d bytes", len(raw)), fmt.Sprintf("send at most %d", MaxSchema))
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	root, ok := document.(map[string]any)
	if err != nil || !ok {
		return nil, schemaError("is not an object", `send {"type":"object","properties":{...}}`)
	}
	delete(root, "$id") // a name, not an address: references stay inside
	draft, _ := root["$schema"].(string)
	g := guard{root: root, draft4: strings.Contains(draft, "draft-04"), nodes: map[string]int{}}
	nodes, err := g.count(root)
	if err != nil {
		return nil, err
	}
	compiled, err := compile(root)
	if err != nil {
		return nil, err
	}
	return &schema{compiled, nodes}, nil
}

func compile(root map[string]any) (*jsonschema.Schema, error) {
	const name = "consign:schema"
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(refuse{})
	c.UseRegexpEngine(boundedRegexp)
	for _, name := range []string{"phone", "tel"} { // not in the standard: any text will do, we look for numbers
		c.RegisterFormat(&jsonschema.Format{Name: name, Validate: func(any) error { return nil }})
	}
	if err := c.AddResource(name, root); err != nil {
		return nil, schemaError("is not a JSON Schema", "check it against its $schema")
	}
	compiled, err := c.Compile(name)
	if err == nil {
		return compiled, nil
	}
	var invalid *jsonschema.SchemaValidationError
	if errors.As(err, &invalid) {
		if at := firstProblem(invalid.Err); at != "" {
			return nil, schemaError("is not a JSON Schema at "+at, "correct it there")
		}
	}
	return nil, schemaError("does not compile", "use drafts 4 to 2020-12, patterns in RE2 syntax, and references inside the schema")
}

func schemaError(problem, remedy string) error { return payloadError("schema", problem, remedy) }

// refuse is the loader of whatever a schema refers to outside itself.
type refuse struct{}

func (refuse) Load(string) (any, error) { return nil, errors.New("task: schemas are not loaded") }

// re2 is a regular expression that does not look at long strings.
type re2 struct{ *regexp.Regexp }

func (r re2) MatchString(s string) bool { return len(s) <= maxMatched && r.Regexp.MatchString(s) }

func boundedRegexp(pattern string) (jsonschema.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, errors.New("task: pattern is too long")
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	return re2{re}, nil
}

// guard counts a schema's nodes with references written out, which is what a
// bomb such as {"allOf":[{"$ref":"#/a"},{"$ref":"#/a"}]}, nested, multiplies.
type guard struct {
	root   map[string]any
	draft4 bool           // where "id" is what "$id" became
	nodes  map[string]int // by $ref; 0 while being counted
}

func (g *guard) count(v any) (int, error) {
	n := 1
	add := func(v any) error {
		m, err := g.count(v)
		if n += m; err == nil && n > maxSchemaNodes {
			err = schemaError("is too large once its references are written out",
				fmt.Sprintf("keep it below %d values", maxSchemaNodes))
		}
		return err
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := add(item); err != nil {
				return 0, err
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if err := g.keyword(key, v[key], &n); err != nil {
				return 0, err
			}
			if err := add(v[key]); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// keyword refuses what leads out of the schema or into itself.
func (g *guard) keyword(key string, member any, n *int) error {
	text, ok := member.(string)
	if !ok {
		return nil
	}
	if key == "id" && !g.draft4 {
		return nil
	}
	switch key {
	case "$id", "id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef":
		return schemaError("uses "+key+" below its root", "refer with $ref to #/$defs/...")
	case "$ref":
		m, err := g.reference(text)
		*n += m
		return err
	}
	return nil
}

// reference counts what a $ref stands for, once.
func (g *guard) reference(ref string) (int, error) {
	n, seen := g.nodes[ref]
	if seen && n == 0 {
		return 0, schemaError("refers to itself through "+quote(ref), "write the levels out that you need")
	}
	if seen {
		return n, nil
	}
	target, err := g.resolve(ref)
	if err != nil {
		return 0, err
	}
	g.nodes[ref] = 0
	n, err = g.count(target)
	g.nodes[ref] = n
	return n, err
}

// resolve follows a JSON pointer (RFC 6901) within the schema.
func (g *guard) resolve(ref string) (any, error) {
	pointer, local := strings.CutPrefix(ref, "#/")
	if !local {
		return nil, schemaError("has the reference "+quote(ref), "refer to #/$defs/... only: nothing is loaded")
	}
	var at any = g.root
	for token := range strings.SplitSeq(pointer, "/") {
		token, err := url.PathUnescape(token)
		node, ok := at.(map[string]any)
		if at = node[pointerToken.Replace(token)]; err != nil || !ok || at == nil {
			return nil, schemaError("has no target for the reference "+quote(ref), "define it")
		}
	}
	return at, nil
}

var pointerToken = strings.NewReplacer("~1", "/", "~0", "~")
