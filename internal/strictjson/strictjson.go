// Package strictjson takes JSON apart member by member and refuses what
// encoding/json forgives: duplicate keys, keys of another case, null for a
// string, bad UTF-8, bytes after the value. Two readers that forgive
// differently can be made to see two different documents in one signed text.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Object calls member for each member of the object that is the whole of
// data, in the order of the text. The value is the member's JSON text.
func Object(data []byte, member func(key string, value []byte) error) error {
	seen := make(map[string]bool)
	return walk(data, '{', func(dec *json.Decoder) error {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		if seen[key] {
			return fmt.Errorf("duplicate key %.80q", key)
		}
		seen[key] = true
		value, err := next(dec)
		if err != nil {
			return err
		}
		return member(key, value)
	})
}

// Array calls element for each element of the array that is the whole of data.
func Array(data []byte, element func(value []byte) error) error {
	return walk(data, '[', func(dec *json.Decoder) error {
		value, err := next(dec)
		if err != nil {
			return err
		}
		return element(value)
	})
}

// String returns the string that is the whole of data.
func String(data []byte) (string, error) {
	if !utf8.Valid(data) || len(data) == 0 || data[0] != '"' {
		return "", errors.New("not a JSON string")
	}
	var s string
	err := json.Unmarshal(data, &s)
	return s, err
}

// walk checks that data is one JSON value that starts with open, and calls
// item until the value's end.
func walk(data []byte, open json.Delim, item func(*json.Decoder) error) error {
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

func next(dec *json.Decoder) (json.RawMessage, error) {
	var value json.RawMessage
	err := dec.Decode(&value)
	return value, err
}
