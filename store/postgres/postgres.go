// Package postgres keeps a queue in PostgreSQL 15 or later. Several
// coordinators may work on one database: none leads.
//
// The caller owns the pool. The store keeps no state in a session, so it works
// behind a pooler in transaction mode; docs/postgres.md says how to set both
// up.
package postgres

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
)

// Config is what a Store is made of. The zero value is the default.
type Config struct {
	// Schema holds the queue's tables: one queue, one schema. It is made if it
	// is not there. Defaults to "consign".
	Schema string
	// Logger gets the rows that cannot be read. Defaults to slog.Default.
	Logger *slog.Logger
}

// Store is a consign.Store in a schema of a PostgreSQL database. Make one with
// New.
type Store struct {
	pool   *pgxpool.Pool
	sql    statements
	schema string
	logger *slog.Logger
	tag    [8]byte // names this store among those that notify

	reported reported

	mu     sync.Mutex
	hint   hint // gathers until it is sent
	listen int  // how many watch: without any, nobody else is told either
}

var (
	_ consign.Store    = (*Store)(nil)
	_ consign.Notifier = (*Store)(nil)
	_ consign.Clock    = (*Store)(nil)
)

// New returns the store in a schema of the pool's database, whose tables it
// makes or brings up to date. It returns a *consign.FieldError for a bad
// Config or a schema that a newer version of this package has written, and
// what PostgreSQL says if it cannot be reached or refuses.
func New(ctx context.Context, pool *pgxpool.Pool, c Config) (*Store, error) {
	if c.Schema == "" {
		c.Schema = "consign"
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := migrateQueue(ctx, pool, c.Schema); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Store{pool: pool, sql: newStatements(c.Schema), schema: c.Schema, logger: c.Logger}
	_, _ = rand.Read(s.tag[:])
	return s, nil
}

// Exists reports whether a queue is in the schema, of whatever version, and
// makes nothing. It returns what PostgreSQL says if it cannot be reached or
// refuses.
func Exists(ctx context.Context, pool *pgxpool.Pool, c Config) (there bool, err error) {
	if c.Schema == "" {
		c.Schema = "consign"
	}
	err = pool.QueryRow(ctx, "SELECT count(*) = 2 FROM pg_tables WHERE schemaname = $1 AND tablename IN ('jobs', 'migrations')", c.Schema).Scan(&there)
	return there, explain(err)
}

func (c *Config) validate() error {
	if len(c.Schema) > maxSchema {
		return &consign.FieldError{Field: "config.schema", Problem: "is too long: " + c.Schema, Remedy: "give a name of at most 48 bytes"}
	}
	return nil
}

// maxSchema leaves room for what is added to the name to name a channel, in
// the 63 bytes of a name.
const maxSchema = 48

// Plans keep the planner to the indexes, for one transaction: a plan that was
// cheap while a table was small would be kept while it grows. What joins reads
// what it writes by an index, too, and then hashes. So the plan is the same for
// all parameters, and is made once: to plan a write of few jobs anew takes as
// long as to carry it out.
const (
	readPlan = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)" +
		", set_config('plan_cache_mode', 'force_generic_plan', true)"
	writePlan = readPlan + ", set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true)"
)

// query runs one statement in one round trip, and calls row for each of its
// rows.
func (s *Store) query(ctx context.Context, row func(pgx.Rows) error, sql string, args ...any) error {
	var b pgx.Batch
	b.Queue(readPlan)
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := row(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	return explain(s.pool.SendBatch(ctx, &b).Close())
}

// micros is a duration as the tables keep it.
func micros(d time.Duration) int64 { return int64(d / time.Microsecond) }

func duration(micros int64) time.Duration { return time.Duration(micros) * time.Microsecond }
