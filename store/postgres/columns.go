package postgres

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// column is a column of a table, and how a record of a type becomes its value:
// a field of COPY's rows, or an element of an array that is a parameter.
type column[R any] struct {
	name, kind string
	types      arrayType
	field      func(b []byte, r R) []byte
}

// col makes a column of what a function says of each record.
func col[R any, T value](name, kind string, of func(R) T) column[R] {
	put := putter[T]()
	return column[R]{name, kind, arrayTypes[kind], func(b []byte, r R) []byte { return put(b, of(r)) }}
}

// value is what a column holds.
type value interface {
	int64 | int32 | int16 | bool | string | *string | []byte | pgtype.UUID
}

// putter returns what appends a value in PostgreSQL's binary form, after its
// length; -1 stands for null.
func putter[T value]() func(b []byte, v T) []byte {
	var put any
	switch any(*new(T)).(type) {
	case int64:
		put = putInt64
	case int32:
		put = putInt32
	case int16:
		put = putInt16
	case bool:
		put = putBool
	case string:
		put = putString
	case *string:
		put = putText
	case []byte:
		put = putBytes
	case pgtype.UUID:
		put = putUUID
	}
	return put.(func([]byte, T) []byte)
}

func putInt64(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

func putInt32(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func putInt16(b []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 2), uint16(v))
}

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0, 0, 0, 1, 1)
	}
	return append(b, 0, 0, 0, 1, 0)
}

func putString(b []byte, v string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func putText(b []byte, v *string) []byte {
	if v == nil {
		return putNull(b)
	}
	return putString(b, *v)
}

func putBytes(b, v []byte) []byte {
	if v == nil {
		return putNull(b)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func putUUID(b []byte, v pgtype.UUID) []byte {
	if !v.Valid {
		return putNull(b)
	}
	return append(append(b, 0, 0, 0, 16), v.Bytes[:]...)
}

func putNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

// unnest is a table made of parameters, the first of which has the number, and
// of what else there is to each of its rows. The arrays are read side by side in
// a list: FROM would copy each into a table of its own first, and those of a few
// jobs cost more than to insert the jobs.
func unnest[R any](columns []column[R], first int, beside ...string) string {
	var list []string
	for i, c := range columns {
		list = append(list, "unnest($"+strconv.Itoa(first+i)+"::"+c.kind+"[]) AS "+c.name)
	}
	return "(SELECT " + strings.Join(append(list, beside...), ", ") + ")"
}

// names lists columns, each with the prefix.
func names[R any](columns []column[R], prefix string) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(prefix + c.name)
	}
	return b.String()
}

// assign lists assignments to columns from a source, one of them to something
// else.
func assign[R any](columns []column[R], source, except, value string) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		if c.name == except {
			b.WriteString(c.name + " = " + value)
		} else {
			b.WriteString(c.name + " = " + source + c.name)
		}
	}
	return b.String()
}

// nulls stands in for columns.
func nulls[R any](columns []column[R]) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("NULL::" + c.kind)
	}
	return b.String()
}

// uuid is an ID as a parameter.
func uuid(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }
