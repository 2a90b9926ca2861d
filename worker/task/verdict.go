package task

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// problem is a place of the data, a JSON pointer, and the keyword of the schema
// that it breaks.
type problem struct {
	At      string `json:"at"`
	Keyword string `json:"keyword"`
}

// verdict is what the schema says of the data. All lists are sorted.
type verdict struct {
	Valid    bool      `json:"valid"`
	Missing  []string  `json:"missing,omitempty"` // required, and not in the text
	Problems []problem `json:"problems,omitempty"`
}

// judge validates data.
func (s *schema) judge(data any) verdict {
	err := s.Validate(data)
	if err == nil {
		return verdict{Valid: true}
	}
	missing, problems := map[string]bool{}, map[problem]bool{}
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		leaves(invalid, func(e *jsonschema.ValidationError) {
			if r, ok := e.ErrorKind.(*kind.Required); ok {
				for _, name := range r.Missing {
					missing[pointer(append(slices.Clone(e.InstanceLocation), name))] = true
				}
				return
			}
			problems[problem{pointer(e.InstanceLocation), strings.Join(e.ErrorKind.KeywordPath(), "/")}] = true
		})
	}
	return verdict{
		Missing: slices.Sorted(maps.Keys(missing)),
		Problems: slices.SortedFunc(maps.Keys(problems), func(a, b problem) int {
			return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Keyword, b.Keyword))
		}),
	}
}

// leaves visits the errors that have no causes.
func leaves(e *jsonschema.ValidationError, visit func(*jsonschema.ValidationError)) {
	for _, cause := range e.Causes {
		leaves(cause, visit)
	}
	if len(e.Causes) == 0 {
		visit(e)
	}
}

// firstProblem returns the least pointer at which a schema breaks its metaschema.
func firstProblem(err error) string {
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return ""
	}
	var at []string
	leaves(invalid, func(e *jsonschema.ValidationError) { at = append(at, "#"+pointer(e.InstanceLocation)) })
	return slices.Min(at)
}

// pointer writes a JSON pointer (RFC 6901).
func pointer(path []string) string {
	var b strings.Builder
	for _, token := range path {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	return b.String()
}
