package task

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// wanted is what a schema asks of one value.
type wanted struct {
	*jsonschema.Schema
	kinds []string // of entities, in the order of preference; none for free text
	enum  []string
	flag  bool    // true or false
	whole bool    // no fraction
	item  *wanted // of an array
}

// formats are the entities that a string format asks for.
var formats = map[string][]string{
	"email": {kindEmail}, "idn-email": {kindEmail}, "uri": {kindURL}, "iri": {kindURL}, "url": {kindURL},
	"date": {kindDate}, "date-time": {kindDateTime}, "phone": {kindPhone}, "tel": {kindPhone},
}

func newWanted(s *jsonschema.Schema) *wanted {
	w := &wanted{Schema: s}
	if s.Enum != nil {
		for _, v := range s.Enum.Values {
			if text, ok := v.(string); ok && !isBlank(text) {
				w.enum = append(w.enum, text)
			}
		}
	}
	types := []string{}
	if s.Types != nil {
		types = s.Types.ToStrings()
	}
	switch {
	case slices.Contains(types, "array"):
		w.item = &wanted{Schema: s}
		if item := itemSchema(s); item != nil {
			w.item = newWanted(item)
		}
	case slices.Contains(types, "integer"), slices.Contains(types, "number"):
		w.kinds = []string{kindNumber, kindAmount}
		w.whole = !slices.Contains(types, "number")
	case slices.Contains(types, "boolean"):
		w.flag = true
	case s.Format != nil:
		w.kinds = formats[s.Format.Name]
	}
	return w
}

// itemSchema returns the schema of an array's items, nil if each has its own.
func itemSchema(s *jsonschema.Schema) *jsonschema.Schema {
	if s.Items2020 != nil {
		return resolve(s.Items2020)
	}
	if item, ok := s.Items.(*jsonschema.Schema); ok {
		return resolve(item)
	}
	return nil
}

// free tells that any text would do.
func (w *wanted) free() bool {
	return len(w.kinds) == 0 && len(w.enum) == 0 || w.item != nil
}

// telling tells that the kind alone shows which value is meant.
func (w *wanted) telling() bool {
	if w.item != nil {
		return w.item.telling()
	}
	return len(w.kinds) > 0 && !w.numeric()
}

func (w *wanted) numeric() bool { return slices.Contains(w.kinds, kindNumber) }

// entity makes a value of an entity that fits.
func (w *wanted) entity(e entity) (candidate, bool) {
	if !slices.Contains(w.kinds, e.Type) || e.Value == "" {
		return candidate{}, false
	}
	at := span{e.Start, e.End}
	if !w.numeric() {
		return candidate{e.Value, at}, true
	}
	return candidate{json.Number(e.Value), at}, !w.whole || !strings.Contains(e.Value, ".")
}

// read reads the value, or values, that stand in a line's value.
func (f *filler) read(w *wanted, line namedLine) []candidate {
	text := f.text[line.value.start:line.value.end]
	switch {
	case w.item != nil:
		return f.list(w.item, line)
	case line.value.empty():
		return nil
	case len(w.enum) > 0:
		return f.enums(w, line.value)
	case w.flag:
		if v, ok := flags[strings.ToLower(strings.Trim(text, " .!"))]; ok {
			return []candidate{{v, line.value}}
		}
		return nil
	case len(w.kinds) == 0:
		return []candidate{{text, line.value}}
	}
	var found []candidate
	for _, e := range f.within(line.value) {
		if len(e.Either) > 0 && slices.Contains(w.kinds, e.Type) { // ambiguous by itself
			found = append(found, candidate{e.Either[0], line.value}, candidate{e.Either[1], line.value})
		}
		if c, ok := w.entity(e); ok {
			found = append(found, c)
		}
	}
	return found
}

var listSeparator = regexp.MustCompile(`\s*[,;、，；]\s*`)

// list reads an array: the items below a line, all entities of its kind, or the
// parts between commas.
func (f *filler) list(item *wanted, line namedLine) []candidate {
	spans := line.items
	if len(spans) == 0 && !line.value.empty() {
		if spans = []span{line.value}; item.free() {
			spans = f.split(line.value)
		}
	}
	values := []any{}
	for _, s := range spans {
		for _, c := range f.read(item, namedLine{value: s}) {
			values = append(values, c.value)
		}
	}
	if len(values) == 0 {
		return nil
	}
	return []candidate{{values, span{spans[0].start, spans[len(spans)-1].end}}}
}

func (f *filler) split(s span) []span {
	var list []span
	at := s.start
	for _, m := range listSeparator.FindAllStringIndex(f.text[s.start:s.end], -1) {
		list = append(list, trimSpan(f.text, span{at, s.start + m[0]}))
		at = s.start + m[1]
	}
	list = append(list, trimSpan(f.text, span{at, s.end}))
	return slices.DeleteFunc(list, span.empty)
}

// enums finds the words of an enum, whatever their case.
func (f *filler) enums(w *wanted, s span) []candidate {
	var found []candidate
	for _, value := range w.enum {
		if f.ctx.Err() != nil {
			return nil
		}
		if at, ok := f.word(value, s); ok {
			found = append(found, candidate{value, at})
		}
	}
	return found
}

// word finds the first place where value stands by itself. Case counts only in
// a text whose lower case has another length (Turkish İ).
func (f *filler) word(value string, s span) (span, bool) {
	text, needle := f.lower, strings.ToLower(value)
	if text == "" {
		text, needle = f.text, value
	}
	for at := s.start; ; {
		i := strings.Index(text[at:s.end], needle)
		if i < 0 {
			return span{}, false
		}
		place := span{at + i, at + i + len(needle)}
		if !insideWord(f.text, place.start) && !wordGoesOn(f.text, place.end) {
			return place, true
		}
		at = place.end
	}
}

// flags are the words for true and false.
var flags = func() map[string]bool {
	m := map[string]bool{}
	for word := range wordSet(`true yes y on ja oui sí si sim vero wahr 是 はい да tak`) {
		m[word] = true
	}
	for word := range wordSet(`false no n off nein non não nee falso falsch 否 いいえ нет nie`) {
		m[word] = false
	}
	return m
}()
