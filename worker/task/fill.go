package task

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// filler fills the properties of a schema from a text.
type filler struct {
	ctx      context.Context
	text     string
	lower    string // text in lower case, or "" when that has other offsets
	entities []entity
	lines    map[string][]namedLine
	*answer
}

// fromText answers with what lines name, what stands near a name, and what is
// the only one of its kind in the text.
func (s *schema) fromText(ctx context.Context, text string, entities []entity) (*answer, error) {
	known := map[string]bool{}
	collectNames(s.Schema, known, 0)
	f := &filler{ctx: ctx, text: text, lower: strings.ToLower(text), entities: entities,
		lines: map[string][]namedLine{}, answer: &answer{Evidence: []evidence{}}}
	if len(f.lower) != len(text) {
		f.lower = ""
	}
	lines, err := namedLines(ctx, text, known)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		f.lines[line.name] = append(f.lines[line.name], line)
	}
	data := f.object(s.Schema, nil)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.verdict = s.judge(data)
	raw, err := encode(data)
	f.Data = raw
	return f.answer, err
}

// maxFillDepth bounds objects within objects.
const maxFillDepth = 8

// collectNames gathers the folded names that may stand before a value.
func collectNames(s *jsonschema.Schema, known map[string]bool, depth int) {
	if depth > maxFillDepth {
		return
	}
	for name, property := range resolve(s).Properties {
		known[fold(name)] = true
		if property = resolve(property); property.Title != "" {
			known[fold(property.Title)] = true
		}
		collectNames(property, known, depth+1)
	}
}

// resolve follows references to the schema that says something.
func resolve(s *jsonschema.Schema) *jsonschema.Schema {
	for s.Ref != nil && s.Types == nil && s.Properties == nil {
		s = s.Ref
	}
	return s
}

// object fills the properties of an object, in the order of their names.
func (f *filler) object(s *jsonschema.Schema, path []string) map[string]any {
	data := map[string]any{}
	s = resolve(s)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if f.ctx.Err() != nil || len(path) > maxFillDepth {
			break
		}
		property := resolve(s.Properties[name])
		at := append(slices.Clone(path), name)
		if property.Properties == nil {
			if v, ok := f.field(property, at); ok {
				data[name] = v
			}
			continue
		}
		if inner := f.object(property, at); len(inner) > 0 || slices.Contains(s.Required, name) {
			data[name] = inner
		}
	}
	return data
}

// field looks for one value, the surest way first. A way that finds several
// different values ends the search: the field is ambiguous.
func (f *filler) field(s *jsonschema.Schema, path []string) (any, bool) {
	want := newWanted(s)
	ways := []struct {
		by   string
		find func(*wanted, []string) []candidate
	}{{"line", f.byLine}, {"near", f.byNearness}, {"only", f.byKind}}
	for _, way := range ways {
		found := distinct(way.find(want, path))
		switch {
		case len(found) == 0:
			continue
		case len(found) > 1:
			f.Ambiguous = append(f.Ambiguous, pointer(path))
			return nil, false
		}
		c := found[0]
		f.Evidence = append(f.Evidence, evidence{pointer(path), way.by, c.at.start, c.at.end})
		return c.value, true
	}
	return nil, false
}

// candidate is a value and the bytes that it stands on.
type candidate struct {
	value any // string, json.Number, bool or []any: what the validator takes
	at    span
}

// distinct keeps the first of each value.
func distinct(list []candidate) []candidate {
	var kept []candidate
	seen := map[string]bool{}
	for _, c := range list {
		key, err := json.Marshal(c.value)
		if err == nil && !seen[string(key)] {
			seen[string(key)] = true
			kept = append(kept, c)
		}
	}
	return kept
}

// names returns the folded names of a field: with the objects around it, its
// own, and its title.
func names(s *jsonschema.Schema, path []string) []string {
	list := []string{fold(strings.Join(path, "")), fold(path[len(path)-1])}
	if s.Title != "" {
		list = append(list, fold(s.Title))
	}
	return slices.Compact(list)
}

// byLine reads the lines that bear one of the field's names; the first name
// that has a line wins.
func (f *filler) byLine(w *wanted, path []string) []candidate {
	for _, name := range names(w.Schema, path) {
		var found []candidate
		for _, line := range f.lines[name] {
			found = append(found, f.read(w, line)...)
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// nearness is how many bytes may stand between a name and its value.
const nearness = 40

// byNearness reads the value that follows the field's name in a sentence: "The
// invoice date is 3 March 2026." Free text has no end there, so it is left out.
func (f *filler) byNearness(w *wanted, path []string) []candidate {
	if w.free() || f.lower == "" {
		return nil
	}
	var found []candidate
	for _, name := range []string{path[len(path)-1], w.Title} {
		phrase := spoken(name)
		for at := 0; phrase != "" && f.ctx.Err() == nil; {
			i := strings.Index(f.lower[at:], phrase)
			if i < 0 {
				break
			}
			start := at + i
			at = start + len(phrase)
			if !insideWord(f.text, start) && !wordGoesOn(f.text, at) {
				found = append(found, f.after(w, at)...)
			}
		}
	}
	return found
}

// after reads the first fitting value that begins soon after a place, in the
// same sentence.
func (f *filler) after(w *wanted, at int) []candidate {
	window := f.text[at:min(len(f.text), at+nearness)]
	if end := strings.IndexAny(window, "\n;"); end >= 0 {
		window = window[:end]
	}
	if end := strings.Index(window, ". "); end >= 0 {
		window = window[:end]
	}
	limit := at + len(window)
	if len(w.enum) > 0 {
		found := f.enums(w, span{at, limit})
		return found[:min(1, len(found))]
	}
	for _, e := range f.within(span{at, len(f.text)}) {
		if e.Start >= limit {
			break
		}
		if c, ok := w.entity(e); ok {
			return []candidate{c}
		}
	}
	return nil
}

// byKind reads the whole text for values whose kind says enough: an enum's
// word, an e-mail address, a URL, a date. A number alone says nothing.
func (f *filler) byKind(w *wanted, _ []string) []candidate {
	if len(w.enum) == 0 && !w.telling() {
		return nil
	}
	return f.read(w, namedLine{value: span{0, len(f.text)}})
}

// within returns the entities that lie in a span.
func (f *filler) within(s span) []entity {
	first, _ := slices.BinarySearchFunc(f.entities, s.start, func(e entity, at int) int { return e.Start - at })
	last, _ := slices.BinarySearchFunc(f.entities, s.end+1, func(e entity, at int) int { return e.End - at })
	return f.entities[first:max(first, last)]
}
