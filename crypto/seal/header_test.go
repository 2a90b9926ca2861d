package seal

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/internal/lp"
)

func encode(t testing.TB, h Header) []byte {
	t.Helper()
	b, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaderRoundTrip(t *testing.T) {
	for _, change := range []func(*Header){
		func(*Header) {},
		func(h *Header) { h.Model = "" },
		func(h *Header) { h.Kind, h.Comparator = strings.Repeat("k", MaxText), strings.Repeat("é", MaxText/2) },
		func(h *Header) { h.Chars, h.PromptBytes = 1<<32-1, 4*(1<<32-1) },
		func(h *Header) { h.Privacy, h.Custody = Private, Sealed },
		func(h *Header) { h.Custody, h.ResultKey = Transit, testKeys()[MLKEM768X25519].Public() },
	} {
		h := testHeader()
		change(&h)
		b := encode(t, h)
		if len(b) > MaxHeader {
			t.Errorf("%d bytes", len(b))
		}
		back, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(encode(t, back), b) || !back.ResultKey.Equal(h.ResultKey) {
			t.Errorf("came back as %+v", back)
		}
	}
}

// fieldsOf takes a header apart, so that a test can change one field.
func fieldsOf(t testing.TB, header []byte) (out [][]byte) {
	t.Helper()
	for len(header) > 0 {
		field, rest, ok := lp.Next(header)
		if !ok {
			t.Fatal("not LP fields")
		}
		out, header = append(out, field), rest
	}
	return out
}

func TestParseHeaderRefuses(t *testing.T) {
	h := testHeader()
	h.Chars, h.PromptBytes = 5, 6
	good := encode(t, h)
	fields := fieldsOf(t, good)
	if len(fields) != 15 {
		t.Fatalf("%d fields", len(fields))
	}
	rsaKey, low := testKeys()[RSAOAEP].Public().Bytes(), append([]byte{0, 0x20}, make([]byte, 32)...)
	for name, tc := range map[string]struct {
		i     int
		field string
		want  error
	}{
		"another format":        {0, "consign/payload/v2", ErrHeader},
		"another suite":         {1, "AES", ErrSuite},
		"a suite without end":   {1, strings.Repeat("A", MaxHeader), ErrHeader},
		"short queue":           {2, "q", ErrHeader},
		"long job":              {3, strings.Repeat("j", 17), ErrHeader},
		"zero job":              {3, strings.Repeat("\x00", 16), ErrHeader},
		"no submitter":          {4, "", ErrHeader},
		"no kind":               {5, "", ErrHeader},
		"long kind":             {5, strings.Repeat("k", MaxText+1), ErrHeader},
		"kind not UTF-8":        {5, "\xff", ErrHeader},
		"model not UTF-8":       {6, "\xff", ErrHeader},
		"long model":            {6, strings.Repeat("k", MaxText+1), ErrHeader},
		"chars of 8 bytes":      {7, strings.Repeat("\x00", 7) + "\x05", ErrHeader},
		"more chars than bytes": {7, "\x00\x00\x00\x07", ErrHeader},
		"fewer chars than fit":  {7, "\x00\x00\x00\x01", ErrHeader},
		"bytes of 4 bytes":      {8, "\x00\x00\x00\x06", ErrHeader},
		"privacy":               {9, "public", ErrHeader},
		"custody":               {10, "plain", ErrHeader},
		"no comparator":         {11, "", ErrHeader},
		"class options":         {12, "", ErrHeader},
		"no result key":         {13, "", ErrHeader},
		"result key of RSA":     {13, string(rsaKey), ErrHeader},
		"weak result key":       {13, string(low), ErrHeader},
		"unknown result key":    {13, "\xff\xff" + strings.Repeat("k", 32), ErrHeader},
		"short commit":          {14, strings.Repeat("c", 31), ErrHeader},
	} {
		changed := slices.Clone(fields)
		changed[tc.i] = []byte(tc.field)
		if _, err := ParseHeader(lp.Append(nil, changed...)); !errors.Is(err, tc.want) || errors.Is(err, ErrSuite) != (tc.want == ErrSuite) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for name, b := range map[string][]byte{
		"a byte after":    append(slices.Clone(good), 0),
		"a field after":   lp.Append(slices.Clone(good), nil),
		"two swapped":     lp.Append(nil, slices.Concat(fields[:2], [][]byte{fields[3], fields[2]}, fields[4:])...),
		"too long":        append(slices.Clone(good), make([]byte, MaxHeader)...),
		"a giant field":   append(lp.Append(nil, fields[:2]...), bytes.Repeat([]byte{0xff}, 16)...),
		"one left out":    lp.Append(nil, slices.Concat(fields[:6], fields[7:])...),
		"format and done": lp.Append(nil, fields[0]),
	} {
		if _, err := ParseHeader(b); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		if _, err := ParseHeader(good[:n]); !errors.Is(err, ErrHeader) && !errors.Is(err, ErrSuite) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if h.ResultKey = (PublicKey{}); h.ResultKey.Bytes() != nil && len(h.ResultKey.Bytes()) != 0 {
		t.Error("the zero key has bytes")
	}
	if _, err := h.Encode(); !errors.Is(err, ErrHeader) {
		t.Errorf("no result key: %v", err)
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(encode(f, testHeader()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrHeader) && !errors.Is(err, ErrSuite) {
				t.Errorf("%v", err)
			}
			return
		}
		if again, err := h.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x, %v", b, again, err)
		}
	})
}
