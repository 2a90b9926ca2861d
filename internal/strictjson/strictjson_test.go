package strictjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestObject(t *testing.T) {
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{`{}`, true},
		{` {"a": 1, "b": [true]} `, true},
		{`{"a":1,"A":2}`, true}, // two keys: nothing here folds case
		{`{"a":1,"a":1}`, false},
		{`{"a":1,"\u0061":1}`, false},
		{`{` + many(40) + `"z":1}`, true},
		{`{` + many(40) + `"k0":1}`, false},
		{`{` + many(40) + `"k39":1}`, false},
		{`{"a":1}x`, false},
		{`{"a":1}{}`, false},
		{`{"a":1,}`, false},
		{`["a"]`, false},
		{`null`, false},
		{``, false},
		{"{\"\xff\":1}", false},
	} {
		err := Object([]byte(tc.text), func(string, []byte) error { return nil })
		if (err == nil) != tc.ok {
			t.Errorf("Object(%q) = %v, want ok %v", tc.text, err, tc.ok)
		}
	}
}

// many are n members of an object.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	return b.String()
}

func TestString(t *testing.T) {
	if s, err := String([]byte(`"a\nb"`)); err != nil || s != "a\nb" {
		t.Errorf("String = %q, %v", s, err)
	}
	for _, text := range []string{``, `null`, `1`, `"a`, `"a" "b"`, "\"\xff\""} {
		if s, err := String([]byte(text)); err == nil {
			t.Errorf("String(%q) = %q, want an error", text, s)
		}
	}
}

// Whatever Object accepts, encoding/json accepts too, with as many members.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":{"c":[null,"x"]}}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		err := Object(data, func(_ string, value []byte) error {
			n++
			if !json.Valid(value) {
				t.Errorf("member %q is not JSON", value)
			}
			return nil
		})
		if err != nil {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(data, &m); err != nil || len(m) != n {
			t.Errorf("%d members of %q, encoding/json has %d, %v", n, data, len(m), err)
		}
	})
}
