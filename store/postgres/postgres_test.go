package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/storetest"
)

func TestContract(t *testing.T) { storetest.Run(t, open) }

// TestModel empties one schema for each of its sequences: making one takes
// longer than most of them.
func TestModel(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	s := openIn(t, pool, schema)
	in := pgx.Identifier{schema}.Sanitize() + "."
	storetest.Model(t, func(t *testing.T) consign.Store {
		if _, err := pool.Exec(context.Background(), "TRUNCATE "+in+strings.Join([]string{"jobs", "specs", "done", "reports", "effects", "docs", "counters"}, ", "+in)); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// open returns an empty store in a schema of its own.
func open(t *testing.T) consign.Store {
	pool := connect(t, pgtest.DSN(t))
	return openIn(t, pool, newSchema(t, pool))
}

func openIn(tb testing.TB, pool *pgxpool.Pool, schema string) *postgres.Store {
	tb.Helper()
	s, err := postgres.New(context.Background(), pool, postgres.Config{Schema: schema})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// connect returns a pool that closes with the test.
func connect(tb testing.TB, dsn string) *pgxpool.Pool {
	tb.Helper()
	pool, err := pgxpool.New(context.Background(), dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

var schemas atomic.Int64

// newSchema names a schema that nobody else uses, and has it dropped after the
// test. The name needs quotes.
func newSchema(tb testing.TB, pool *pgxpool.Pool) string {
	tb.Helper()
	schema := fmt.Sprintf("Consign %s %d", strings.ToLower(consign.NewJobID().String()[:8]), schemas.Add(1))
	tb.Cleanup(func() {
		if _, err := pool.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			tb.Error(err)
		}
	})
	return schema
}

// Now is the clock that leases go by: that of the server, which is set here.
func TestNow(t *testing.T) {
	ctx := t.Context()
	pool := connect(t, pgtest.DSN(t))
	skew := pgx.Identifier{newSchema(t, pool)}.Sanitize()
	if _, err := pool.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+skew+`; CREATE FUNCTION `+skew+`.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
		AS $$SELECT pg_catalog.clock_timestamp() + interval '1 hour'$$`); err != nil {
		t.Fatal(err)
	}
	config := pool.Config()
	config.ConnConfig.RuntimeParams["search_path"] = skew + ", pg_catalog"
	set, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	before := time.Now()
	at, err := openIn(t, set, newSchema(t, pool)).Now(ctx)
	if err != nil || at.Sub(consign.At(before)) < time.Hour || at.Sub(consign.At(time.Now())) > time.Hour {
		t.Errorf("the store's time is %s, an hour from %s (%v)", at.Time(), before, err)
	}
}
