// Package lp encodes byte strings so that their concatenation is unambiguous:
// LP(x) = uint64_be(len(x)) || x. Every hash, signature and key derivation of
// Consign is taken over such fields, so that no two different lists of fields
// share a preimage.
package lp

import "encoding/binary"

// Append appends LP(field) for each field, in order, to dst.
func Append(dst []byte, fields ...[]byte) []byte {
	for _, f := range fields {
		dst = binary.BigEndian.AppendUint64(dst, uint64(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// Size returns how many bytes Append adds for the fields.
func Size(fields ...[]byte) int {
	n := 0
	for _, f := range fields {
		n += 8 + len(f)
	}
	return n
}

// Next reads one field from the front of b and returns it with what follows.
// ok is false, and nothing is returned, where b does not hold a whole field.
// The field shares b's memory.
func Next(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 8 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return nil, nil, false
	}
	return b[8 : 8+n : 8+n], b[8+n:], true
}
