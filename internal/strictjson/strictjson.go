// Package strictjson takes JSON apart member by member and refuses what
// encoding/json forgives: duplicate keys, keys of another case, null for a
// string, bad UTF-8, bytes after the value. Two readers that forgive
// differently can be made to see two different documents in one signed text.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

var (
	errInvalid   = errors.New("not one valid JSON value")
	errNotString = errors.New("not a JSON string")
)

// Object calls member for each member of the object that is the whole of
// data, in the order of the text, until that returns an error. The value is the
// member's JSON text, a part of data. Nothing is called where data is not one
// valid JSON value.
func Object(data []byte, member func(key string, value []byte) error) error {
	var seen keys
	return each(data, '{', func(quoted, value []byte) error {
		key, err := String(quoted)
		if err != nil {
			return err
		}
		if seen.has(key) {
			return fmt.Errorf("duplicate key %.80q", key)
		}
		return member(key, value)
	})
}

// Array calls element for each element of the array that is the whole of data,
// likewise.
func Array(data []byte, element func(value []byte) error) error {
	return each(data, '[', func(_, value []byte) error { return element(value) })
}

// String returns the string that is the whole of data.
func String(data []byte) (string, error) {
	if len(data) == 0 || data[0] != '"' || !utf8.Valid(data) {
		return "", errNotString
	}
	end, plain := text(data, 0)
	if end < 0 || space(data, end) != len(data) {
		return "", errNotString
	}
	if plain {
		return string(data[1 : end-1]), nil
	}
	var s string
	err := json.Unmarshal(data, &s)
	return s, err
}

// keys are those that an object has had so far.
type keys struct {
	few  []string
	many map[string]bool // instead, once there are more than are looked through one by one
}

// has reports whether there is the key, and adds it.
func (k *keys) has(key string) bool {
	switch {
	case k.many[key] || slices.Contains(k.few, key):
		return true
	case k.many != nil:
		k.many[key] = true
	case len(k.few) < 16:
		k.few = append(k.few, key)
	default:
		k.many = map[string]bool{key: true}
		for _, other := range k.few {
			k.many[other] = true
		}
		k.few = nil
	}
	return false
}

// each checks that data is one JSON value, an object or an array as open says,
// and gives what it holds to found. It keeps nothing of that: there may be
// millions.
func each(data []byte, open byte, found func(key, value []byte) error) error {
	if !utf8.Valid(data) {
		return errInvalid
	}
	start := space(data, 0)
	end := value(data, start, 0)
	if end < 0 || space(data, end) != len(data) {
		return errInvalid
	}
	if data[start] != open {
		return fmt.Errorf("JSON value does not start with %c", open)
	}
	_, err := items(data, start, 1, found)
	return err
}
