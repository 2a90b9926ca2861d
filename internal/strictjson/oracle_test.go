package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// The readers by encoding/json's decoder that Object, Array and String stand
// for: they are three times as slow, and say what is right.

func slowObject(data []byte, member func(key string, value []byte) error) error {
	seen := make(map[string]bool)
	return slowWalk(data, '{', func(dec *json.Decoder) error {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if seen[key] {
			return fmt.Errorf("duplicate key %.80q", key)
		}
		seen[key] = true
		value, err := slowNext(dec)
		if err != nil {
			return err
		}
		return member(key, value)
	})
}

func slowArray(data []byte, element func(value []byte) error) error {
	return slowWalk(data, '[', func(dec *json.Decoder) error {
		value, err := slowNext(dec)
		if err != nil {
			return err
		}
		return element(value)
	})
}

func slowString(data []byte) (string, error) {
	if !utf8.Valid(data) || len(data) == 0 || data[0] != '"' {
		return "", errors.New("not a JSON string")
	}
	var s string
	err := json.Unmarshal(data, &s)
	return s, err
}

func slowWalk(data []byte, open json.Delim, item func(*json.Decoder) error) error {
	if !utf8.Valid(data) || !json.Valid(data) {
		return errors.New("not one valid JSON value")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if token != open {
		return fmt.Errorf("JSON value does not start with %v", open)
	}
	for dec.More() {
		if err := item(dec); err != nil {
			return err
		}
	}
	return nil
}

func slowNext(dec *json.Decoder) (json.RawMessage, error) {
	var value json.RawMessage
	err := dec.Decode(&value)
	return value, err
}

// agree fails where a reader and its oracle see something else in a text.
func agree(t *testing.T, data []byte) {
	t.Helper()
	read := func(object func([]byte, func(string, []byte) error) error, array func([]byte, func([]byte) error) error, text func([]byte) (string, error)) (all []string) {
		note := func(what string, err error) {
			all = append(all, fmt.Sprint(what, " ", err == nil))
		}
		note("object", object(data, func(key string, value []byte) error {
			all = append(all, fmt.Sprintf("%q: %q", key, value))
			return nil
		}))
		note("array", array(data, func(value []byte) error {
			all = append(all, fmt.Sprintf("%q", value))
			return nil
		}))
		s, err := text(data)
		if err != nil {
			s = ""
		}
		note(fmt.Sprintf("string %q", s), err)
		return all
	}
	got, want := read(Object, Array, String), read(slowObject, slowArray, slowString)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("of %.200q\n%.500q is read, and encoding/json reads\n%.500q", data, got, want)
	}
}

// TestAgreesWithEncodingJSON on texts that are one byte away from right.
func TestAgreesWithEncodingJSON(t *testing.T) {
	for _, depth := range []int{maxDepth - 1, maxDepth, maxDepth + 1} {
		for _, pair := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			agree(t, []byte(strings.Repeat(pair[0], depth)+"1"+strings.Repeat(pair[1], depth)))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	const bytes = "{}[]:,\"\\/ \t\r\n0123456789.eE+-truefalsn\x00\x1f\x7f\xc3\xa9\xff\xed\xa0\x80\xf0\x9f\x98\x80ub"
	for range 50_000 {
		text := []byte(randomValue(random, 0))
		agree(t, text)
		for range random.IntN(3) {
			i := random.IntN(len(text) + 1)
			switch c := bytes[random.IntN(len(bytes))]; random.IntN(3) {
			case 0: // one more
				text = append(text[:i:i], append([]byte{c}, text[i:]...)...)
			case 1: // one less
				text = append(text[:max(i-1, 0):max(i-1, 0)], text[i:]...)
			default:
				if i < len(text) {
					text[i] = c
				}
			}
		}
		agree(t, text)
	}
}

// randomValue is a JSON text with every kind of value, escape and space.
func randomValue(r *rand.Rand, depth int) string {
	gap := strings.Repeat([]string{" ", "\n", "\r\t", "", "", "", ""}[r.IntN(7)], r.IntN(3))
	list := func(n int, item func() string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = gap + item() + gap
		}
		return strings.Join(all, ",")
	}
	kind := r.IntN(8)
	if depth > 3 {
		kind = 4 + r.IntN(4)
	}
	switch kind {
	case 0, 1, 2:
		n := r.IntN(5)
		if r.IntN(20) == 0 {
			n = 30
		}
		return gap + "{" + list(n, func() string { return randomText(r) + gap + ":" + gap + randomValue(r, depth+1) }) + gap + "}" + gap
	case 3:
		return "[" + list(r.IntN(5), func() string { return randomValue(r, depth+1) }) + "]"
	case 4, 5:
		return randomText(r)
	case 6:
		return []string{"0", "-0", "7", "-12", "0.5", "1e9", "1E-9", "-1.25e+30", "01", "1.", ".5", "-", "+1", "1e", "0x1", "NaN"}[r.IntN(16)]
	}
	return []string{"true", "false", "null", "nul", "True"}[r.IntN(5)]
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('"')
	for range r.IntN(4) {
		b.WriteString([]string{"a", "b", "é", "😀", `\n`, `\"`, `\\`, `\/`, `\u0061`, `\u00e9`, `\ud83d\ude00`, `\ud83d`, `\u12`, `\x`, "\xff", "\x01", "\u2028"}[min(r.IntN(40), 16)])
	}
	b.WriteByte('"')
	return b.String()
}

func FuzzAgreesWithEncodingJSON(f *testing.F) {
	for _, text := range []string{`{"a":1,"b":{"c":[null,"x"]}}`, ` [1, -2.5e3, "\u00e9", true] `, `"\ud83d\ude00" `, `{"a":1,"\u0061":1}`, "\"\xff\"", `[1,]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// BenchmarkObject reads an envelope's text.
func BenchmarkObject(b *testing.B) {
	text := []byte(`{"payload":"` + strings.Repeat("eyJhIjoxfQ", 100) + `","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"` +
		strings.Repeat("0123456789abcdef", 4) + `","sig":"` + strings.Repeat("AbCd", 22) + `"}]}`)
	for name, read := range map[string]func([]byte, func(string, []byte) error) error{"scanner": Object, "encoding-json": slowObject} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(text, func(string, []byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
