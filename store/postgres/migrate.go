package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrateQueue brings a queue's tables up to date.
func migrateQueue(ctx context.Context, pool *pgxpool.Pool, schema string) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	scripts := make([]string, len(files))
	for n, file := range files {
		sql, err := migrations.ReadFile("migrations/" + file.Name())
		if err != nil {
			return err
		}
		scripts[n] = string(sql)
	}
	return migrate(ctx, pool, schema, "migrations", scripts)
}

// migrate carries out the scripts that the table says the schema has not had,
// in one transaction that others wait for.
func migrate(ctx context.Context, pool *pgxpool.Pool, schema, table string, scripts []string) error {
	at := func(sql string) string {
		return strings.ReplaceAll(in(schema, sql), "%migrations", pgx.Identifier{table}.Sanitize())
	}
	// What others did while we waited is to be seen, whatever the server's default.
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lockKey(schema)); err != nil {
			return err
		}
		version, err := schemaVersion(ctx, tx, schema, table, at)
		if err != nil {
			return err
		}
		if version > len(scripts) {
			return &consign.FieldError{Field: "config.schema", Problem: fmt.Sprintf("%q is of version %d, and this program knows %d", schema, version, len(scripts)),
				Remedy: "run a newer version of this program, or give another schema"}
		}
		if version == 0 {
			if err := createSchema(ctx, tx, schema, at); err != nil {
				return err
			}
		}
		for n := version; n < len(scripts); n++ {
			if _, err := tx.Conn().PgConn().Exec(ctx, at(scripts[n])).ReadAll(); err != nil {
				return fmt.Errorf("migration to version %d: %w", n+1, err)
			}
			if _, err := tx.Exec(ctx, at("INSERT INTO @%migrations (version) VALUES ($1)"), n+1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("postgres: schema %q: %w", schema, explain(err))
	}
	return nil
}

// createSchema makes the schema, unless somebody with the right to do so made
// it for us, and the table of what has been done to it.
func createSchema(ctx context.Context, tx pgx.Tx, schema string, at func(string) string) error {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := tx.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{schema}.Sanitize()); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, at("CREATE TABLE @%migrations (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"))
	return err
}

// schemaVersion is how many migrations the schema has seen.
func schemaVersion(ctx context.Context, tx pgx.Tx, schema, table string, at func(string) string) (version int, err error) {
	var there bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = $2)", schema, table).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = tx.QueryRow(ctx, at("SELECT coalesce(max(version), 0) FROM @%migrations")).Scan(&version)
	return version, err
}

// in names the schema in a statement, where it says "@".
func in(schema, sql string) string {
	return strings.ReplaceAll(sql, "@", pgx.Identifier{schema}.Sanitize()+".")
}

// lockKey is what those who migrate one schema exclude each other by.
func lockKey(schema string) int64 {
	h := fnv.New64a()
	h.Write([]byte("consign/migrate/" + schema))
	return int64(h.Sum64())
}

// code is the SQLSTATE of an error of the server's, "" of any other.
func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
