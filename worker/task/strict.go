package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// maxDepth bounds the nesting of any JSON that a job brings.
const maxDepth = 64

// checkJSON accepts exactly one JSON value in valid UTF-8, without duplicate
// keys, nested at most maxDepth deep. The error is a *PayloadError on field, or
// on the path of the duplicate key.
func checkJSON(field string, raw []byte) error {
	if err := checkUTF8(field, raw); err != nil {
		return err
	}
	w := walker{d: json.NewDecoder(bytes.NewReader(raw)), field: field}
	w.d.UseNumber()
	if err := w.value(""); err != nil {
		return err
	}
	if _, err := w.d.Token(); err != io.EOF {
		return payloadError(field, "has data after its JSON value", "send one JSON value only")
	}
	return nil
}

// walker reads one JSON value token by token.
type walker struct {
	d     *json.Decoder
	field string
	depth int
}

// value reads the value at path ("" for the whole).
func (w *walker) value(path string) error {
	token, err := w.d.Token()
	if err != nil {
		return w.malformed()
	}
	switch token {
	case json.Delim('{'):
		return w.nested(path, w.object)
	case json.Delim('['):
		return w.nested(path, w.array)
	}
	return nil
}

func (w *walker) nested(path string, read func(string) error) error {
	if w.depth++; w.depth > maxDepth {
		return payloadError(w.field, "is nested too deeply", fmt.Sprintf("nest at most %d levels", maxDepth))
	}
	defer func() { w.depth-- }()
	if err := read(path); err != nil {
		return err
	}
	if _, err := w.d.Token(); err != nil { // the closing bracket
		return w.malformed()
	}
	return nil
}

func (w *walker) object(path string) error {
	seen := map[string]bool{}
	for w.d.More() {
		token, err := w.d.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			return w.malformed()
		}
		at := join(path, key)
		if seen[key] {
			return payloadError(at, "appears twice", "send it once")
		}
		seen[key] = true
		if err := w.value(at); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) array(path string) error {
	for w.d.More() {
		if err := w.value(path); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) malformed() error {
	return payloadError(w.field, fmt.Sprintf("is not valid JSON near byte %d", w.d.InputOffset()), "send valid JSON")
}

// join writes a path below the payload; a key without characters shows as "".
func join(path, key string) string {
	if key == "" {
		key = `""`
	}
	if path == "" {
		return key
	}
	return path + "." + key
}
