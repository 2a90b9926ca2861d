package pg

import (
	"errors"
	"strings"
	"testing"

	"github.com/consignq/consign"
)

// A database is named in each of the forms that people try, and what is wrong
// with one is told without its password.
func TestOpen(t *testing.T) {
	for _, name := range []string{"postgres://me@host/db", "postgresql://me@host/db", "postgres:postgres://me@host/db", "postgres:host=host user=me dbname=db"} {
		pool, ok, err := Open(t.Context(), name)
		if err != nil || !ok {
			t.Fatalf("%s: %t, %v", name, ok, err)
		}
		if c := pool.Config().ConnConfig; c.Host != "host" || c.User != "me" || c.Database != "db" {
			t.Errorf("%s: %s@%s/%s", name, c.User, c.Host, c.Database)
		}
		pool.Close()
	}
	for _, name := range []string{"memdb", "sqlite:queue.db", "postgres:", "postgres", "", "mysql://host/db"} {
		if _, ok, err := Open(t.Context(), name); ok || err != nil {
			t.Errorf("%q: %t, %v", name, ok, err)
		}
	}
	for _, name := range []string{"postgres://me:hunter2@host:port/db", "postgres:password=hunter2 oops"} {
		_, ok, err := Open(t.Context(), name)
		if field, is := errors.AsType[*consign.FieldError](err); !ok || !is || field.Field != "-store" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %t, %v", name, ok, err)
		}
	}
}
