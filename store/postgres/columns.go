package postgres

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// column is a column of a table, and how records of a type become its values.
type column[R any] struct {
	name, kind string
	values     func([]R) any
}

// col makes a column of what a function says of each record. Its values are a
// type that pgx knows without asking the server.
func col[R, T any](name, kind string, value func(R) T) column[R] {
	return column[R]{name, kind, func(records []R) any {
		values := make(pgtype.FlatArray[T], len(records))
		for i, r := range records {
			values[i] = value(r)
		}
		return values
	}}
}

// args are the records column by column: the parameters of unnest.
func args[R any](columns []column[R], records []R) []any {
	out := make([]any, len(columns))
	for i, c := range columns {
		out[i] = c.values(records)
	}
	return out
}

// unnest is a table made of parameters, the first of which has the number.
func unnest[R any](columns []column[R], first int) string {
	var b strings.Builder
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(first+i) + "::" + c.kind + "[]")
	}
	return "unnest(" + b.String() + ")"
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
