package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/consignq/consign"
)

var bounded = []string{"kinds", "models", "warm", "rates", "items", "lines", "wraps", "claims", "labels", "jobs", "request_ids", "abandon", "completions", "anything"}

// TestBoundsAreExact: in both forms, as a list and as a map, however deep, and
// beside what looks like a list and is text.
func TestBoundsAreExact(t *testing.T) {
	for _, name := range bounded {
		most := int(maxEntries([]byte(name))) //nolint:gosec // small
		for _, n := range []int{most, most + 1} {
			list, entries := make([]any, n), make(map[string]any, n)
			for i := range n {
				list[i], entries[fmt.Sprint(i)] = `a,"],}`, 1
			}
			for _, value := range []any{list, entries} {
				for depth, m := 0, map[string]any{name: value, "a": `{"x":[1,`, "z\"\\": []any{}}; depth < 3; depth++ {
					for _, c := range codecs {
						data, err := c.Encode(m)
						if err != nil {
							t.Fatal(err)
						}
						if c == JSON {
							err = checkJSON(data)
						} else {
							err = checkMsgpack(data, true)
						}
						bad, refused := errors.AsType[*consign.FieldError](err)
						if refused != (n > most) || refused && bad.Field != name {
							t.Errorf("%s of %d in a %T, %d deep, in %v: %v", name, n, value, depth, c, err)
						}
					}
					m = map[string]any{"inner": m, "list": []any{m["a"], map[string]any{}}}
				}
			}
		}
	}
}

// TestBoundsInAnySpelling: encoding/json takes a name in another case, or with
// escapes, for the member, so its bound holds. What labels are called is free.
func TestBoundsInAnySpelling(t *testing.T) {
	for _, name := range bounded {
		escaped := ""
		for _, c := range name {
			escaped += fmt.Sprintf(`\u%04X`, c)
		}
		most := int(maxEntries([]byte(name))) //nolint:gosec // small
		for _, spelling := range []string{
			name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], escaped, fmt.Sprintf(`\u%04x`, name[0]-32) + name[1:],
			strings.ReplaceAll(name, "s", "ſ"), strings.ReplaceAll(name, "k", "\u212a"), strings.ReplaceAll(name, "s", `\u017f`),
		} {
			for _, n := range []int{most, most + 1} {
				err := checkJSON([]byte(`{"x":[],"` + spelling + `":[{}` + strings.Repeat(`,{}`, n-1) + `]}`))
				bad, refused := errors.AsType[*consign.FieldError](err)
				if refused != (n > most) || refused && bad.Field != spelling {
					t.Errorf("%d of %s: %v", n, spelling, err)
				}
			}
		}
	}
	var r SubmitRequest
	if err := JSON.Decode([]byte(`{"labels":{"Labels":"JOBS","comp\u006cetions":"a\\b","\"":"x","KINDS":"`+strings.Repeat(",", 5000)+`"}}`), &r); err != nil || len(r.Labels) != 4 {
		t.Errorf("labels: %v, %v", r.Labels, err)
	}
	deep := `{"PAY\u006coad":[` + strings.Repeat("[],", 5000) + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `]}`
	if err := checkJSON([]byte(deep)); err != nil {
		t.Errorf("a payload: %v", err)
	}
}

// TestBoundsBeforeMemory: a body of empty entries is refused without building
// any.
func TestBoundsBeforeMemory(t *testing.T) {
	n := 1 << 20
	for what, data := range map[string][]byte{
		"a list":        []byte(`{"wraps":[{}` + strings.Repeat(",{}", n) + `]}`),
		"another case":  []byte(`{"WRAPS":[{}` + strings.Repeat(",{}", n) + `]}`),
		"escaped":       []byte(`{"wr\u0061ps":[{}` + strings.Repeat(",{}", n) + `]}`),
		"list of lists": []byte(`{"wraps":[` + strings.Repeat(`[`+strings.Repeat("{},", 4000)+"{}],", 300) + `{}]}`),
	} {
		var r SubmitRequest
		allocated := testing.AllocsPerRun(1, func() {
			if err := JSON.Decode(data, &r); err == nil {
				t.Errorf("%s was read", what)
			}
		})
		if allocated > 100 {
			t.Errorf("%s: %v allocations", what, allocated)
		}
	}
}

// tooLong walks a text by encoding/json's decoder, and names the first list or
// map that has too many entries.
func tooLong(data []byte) (name string, found bool) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		name    string
		list    bool
		key     string
		isKey   bool
		entries uint64
	}
	var levels []*level
	for {
		token, err := dec.Token()
		if err != nil {
			return "", false
		}
		var in *level
		if n := len(levels); n > 0 {
			in = levels[n-1]
		}
		if in != nil && !in.list && token != json.Delim('}') {
			if in.isKey = !in.isKey; in.isKey {
				in.key = token.(string)
				continue
			}
		}
		closing := token == json.Delim('}') || token == json.Delim(']')
		if in != nil && !closing {
			if in.entries++; in.entries > maxEntries(folded([]byte(in.name))) {
				return in.name, true
			}
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			l := &level{list: token == json.Delim('[')}
			if in != nil && !in.list {
				l.name = in.key
			}
			if len(levels) == 1 && free(folded([]byte(l.name))) {
				skip := 1
				for skip > 0 {
					switch inner, err := dec.Token(); {
					case err != nil:
						return "", false
					case inner == json.Delim('{') || inner == json.Delim('['):
						skip++
					case inner == json.Delim('}') || inner == json.Delim(']'):
						skip--
					}
				}
				continue
			}
			levels = append(levels, l)
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}

// agrees fails where checkJSON and encoding/json see another list.
func agrees(t *testing.T, data []byte) {
	t.Helper()
	if !json.Valid(data) {
		_ = checkJSON(data) // without a panic
		return
	}
	name, found := tooLong(data)
	err := checkJSON(data)
	bad, _ := errors.AsType[*consign.FieldError](err)
	deep := bad != nil && strings.Contains(bad.Problem, "deeper")
	if name == "" {
		name = body
	}
	spelled := bytes.IndexByte(data, '\\') >= 0 // the error has the name as it was sent
	if !deep && ((err != nil) != found || found && bad.Field != name && !spelled) {
		t.Errorf("%.300q: %v, and %s has too many entries: %v", data, err, name, found)
	}
}

func TestBoundsAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	refused := 0
	for range 3000 {
		data := []byte(randomRequest(random, 0))
		agrees(t, data)
		if _, found := tooLong(data); found {
			refused++
		}
		agrees(t, data[:random.IntN(len(data)+1)])
	}
	if refused < 100 {
		t.Errorf("%d of 3,000 texts had too many entries", refused)
	}
}

// randomRequest is a value whose labels and completions are near their bounds.
func randomRequest(r *rand.Rand, depth int) string {
	gap := strings.Repeat(" ", r.IntN(2))
	name := []string{"labels", "completions", "payload", "output", "a,b[", `q\"{`, "Labels", `\u0063ompletions`}[r.IntN(8)]
	n := r.IntN(4)
	if r.IntN(10) == 0 {
		n = []int{63, 64, 65, 66, 255, 256, 257}[r.IntN(7)]
	}
	inner := func() string {
		if depth < 4 && n < 5 {
			return randomRequest(r, depth+1)
		}
		return []string{"1", "true", `"],{"`, `"\\"`, "[]", "{}"}[r.IntN(6)]
	}
	items := make([]string, n)
	for i := range items {
		items[i] = gap + inner() + gap
	}
	list := "[" + strings.Join(items, ",") + gap + "]"
	if r.IntN(2) == 0 && n < 300 {
		for i := range items {
			items[i] = fmt.Sprintf(`"k%d"%s:%s`, i, gap, items[i])
		}
		list = gap + "{" + strings.Join(items, ",") + "}"
	}
	return `{"x":"` + `,[` + `","` + name + `":` + gap + list + `}`
}

func FuzzBounds(f *testing.F) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 10 {
		f.Add([]byte(randomRequest(random, 2)))
	}
	f.Add([]byte(`{"labels":{"a":"b"},"payload":[[1,2],{"labels":[3]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		agrees(t, data)
		_ = checkMsgpack(data, true)
	})
}
