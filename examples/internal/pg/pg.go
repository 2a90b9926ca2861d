// Package pg is what coordinator and consign have in common about databases.
package pg

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign/examples/internal/cli"
)

// Open returns the connections to the database that -store names: postgres:DSN
// with any DSN of pgx's, or one that is a URL as it is. ok is false where it
// names no database. Nothing is dialled yet. It returns a *consign.FieldError.
func Open(ctx context.Context, store string) (pool *pgxpool.Pool, ok bool, err error) {
	kind, dsn, _ := strings.Cut(store, ":")
	if kind != "postgres" && kind != "postgresql" || dsn == "" {
		return nil, false, nil
	}
	if strings.HasPrefix(dsn, "//") {
		dsn = store
	}
	if pool, err = pgxpool.New(ctx, dsn); err != nil { // pgx keeps the password to itself
		err = cli.FieldError("store", "has no connection string of PostgreSQL: "+err.Error(), `give postgres://USER@HOST/DATABASE, or postgres: and words like "host=HOST user=USER dbname=DATABASE"`)
	}
	return pool, true, err
}
