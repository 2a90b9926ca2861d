package consign

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A body of one string, the most that these tests need.
func textBody(s *string) func(*canonical) {
	return func(c *canonical) { c.text("s", s) }
}

// RFC 8785, section 3.2.2.2.
func TestCanonicalStrings(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                    `plain`,
		`"\/`:                      `\"\\/`,
		"\b\t\n\f\r":               `\b\t\n\f\r`,
		"\x00\x01\x0b\x0f\x1f\x7f": `\u0000\u0001\u000b\u000f\u001f` + "\x7f",
		"<>&\u2028\u2029é€😂":       "<>&\u2028\u2029é€😂",
		"\ufffd\uffff":             "\ufffd\uffff",
	} {
		got, err := writeCanonical(textBody(&text))
		if err != nil || string(got) != `{"s":"`+want+`"}` {
			t.Errorf("%q is written %s, %v, want %s", text, got, err, want)
		}
		var back string
		if err := readCanonical(got, textBody(&back)); err != nil || back != text {
			t.Errorf("%s is read as %q, %v", got, back, err)
		}
	}
}

func TestCanonicalStringsRefused(t *testing.T) {
	for _, body := range []string{
		`{"s":"\u0041"}`,       // has a shorter form
		`{"s":"\/"}`,           // needs no escape
		`{"s":"\u000a"}`,       // has a two-character escape
		`{"s":"\u000B"}`,       // upper-case digits
		`{"s":"\ud800"}`,       // a lone surrogate
		`{"s":"\ud83d\ude02"}`, // a pair
		"{\"s\":\"\n\"}",       // a control character as it is
		"{\"s\":\"\xff\"}",
		"{\"s\":\"\xed\xa0\x80\"}", // a surrogate in UTF-8
		`{"s":"\`, `{"s":"\u`, `{"s":"\u00"}`, `{"s":"\x"}`, `{"s":"`, `{"s":`,
		`{"s":""}`, `{"s":null}`, `{"s":1}`,
		`{"s":"` + strings.Repeat("x", maxText+1) + `"}`,
	} {
		var s string
		if err := readCanonical([]byte(body), textBody(&s)); err == nil {
			t.Errorf("%.60q is read as %.60q", body, s)
		}
	}
	for _, text := range []string{"", "\xff", "\xed\xa0\x80", strings.Repeat("x", maxText+1)} {
		if body, err := writeCanonical(textBody(&text)); err == nil {
			t.Errorf("%.20q is written %.60s", text, body)
		}
	}
}

func TestCanonicalIntegers(t *testing.T) {
	body := func(n *int64) func(*canonical) {
		return func(c *canonical) { c.integer("n", n, -maxSafeInteger) }
	}
	for _, tc := range []struct {
		n    int64
		text string
	}{{0, "0"}, {7, "7"}, {-7, "-7"}, {1<<53 - 1, "9007199254740991"}, {-(1<<53 - 1), "-9007199254740991"}} {
		got, err := writeCanonical(body(&tc.n))
		if err != nil || string(got) != `{"n":`+tc.text+`}` {
			t.Errorf("%d is written %s, %v", tc.n, got, err)
		}
		var back int64
		if err := readCanonical(got, body(&back)); err != nil || back != tc.n {
			t.Errorf("%s is read as %d, %v", got, back, err)
		}
	}
	for _, text := range []string{"-0", "00", "01", "+1", "1.0", "1.5", "1e3", "1E3", ".1", "-", "", "--1", "1-1", "0x1",
		"9007199254740992", "-9007199254740992", "99999999999999999999", `"1"`, "null", "true", "NaN", "Infinity"} {
		var n int64
		if err := readCanonical([]byte(`{"n":`+text+`}`), body(&n)); err == nil {
			t.Errorf("%s is read as %d", text, n)
		}
	}
	for _, n := range []int64{1 << 53, -(1 << 53)} {
		if got, err := writeCanonical(body(&n)); err == nil {
			t.Errorf("%d is written %s", n, got)
		}
	}
}

func TestCanonicalTexts(t *testing.T) {
	body := func(list *[]string) func(*canonical) {
		return func(c *canonical) { c.texts("l", list) }
	}
	for text, want := range map[string][]string{`[]`: nil, `["a"]`: {"a"}, `["A","a","é"]`: {"A", "a", "é"}} {
		var list []string
		if err := readCanonical([]byte(`{"l":`+text+`}`), body(&list)); err != nil || !slices.Equal(list, want) {
			t.Errorf("%s is read as %q, %v", text, list, err)
		}
	}
	for _, text := range []string{`["b","a"]`, `["a","a"]`, `["a",]`, `["a" ]`, `[null]`, `["a"`, `[`, `{}`, `[["a"]]`} {
		var list []string
		if err := readCanonical([]byte(`{"l":`+text+`}`), body(&list)); err == nil {
			t.Errorf("%s is read as %q", text, list)
		}
	}
	var many []string // each short enough, all together too long
	for i := range maxBody / 8 {
		many = append(many, fmt.Sprintf("%06d", i))
	}
	if got, err := writeCanonical(body(&many)); err == nil {
		t.Errorf("a long list is written in %d bytes", len(got))
	}
	var list []string
	if err := readCanonical([]byte(`{"l":["`+strings.Join(many, `","`)+`"]}`), body(&list)); err == nil || list != nil {
		t.Errorf("a long list is read: %v", err)
	}
	if got, err := writeCanonical(body(&[]string{"b", "a"})); err == nil {
		t.Errorf("an unsorted list is written %s", got)
	}
}

func TestCanonicalBooleans(t *testing.T) {
	body := func(b *bool) func(*canonical) {
		return func(c *canonical) { c.boolean("b", b) }
	}
	for text, want := range map[string]bool{"true": true, "false": false} {
		got := !want
		if err := readCanonical([]byte(`{"b":`+text+`}`), body(&got)); err != nil || got != want {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"True", "1", "null", `"true"`, "", "tru", "truefalse"} {
		var b bool
		if err := readCanonical([]byte(`{"b":`+text+`}`), body(&b)); err == nil {
			t.Errorf("%s is read as %v", text, b)
		}
	}
}
