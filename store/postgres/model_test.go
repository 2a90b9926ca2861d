package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/internal/testkit/queuetest"
)

// onServer is whole queues on one schema, which is emptied for each: making
// one takes longer.
func onServer(t *testing.T) queuetest.Suite {
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	openIn(t, pool, schema)
	in := pgx.Identifier{schema}.Sanitize() + "."
	return queuetest.Suite{RealTime: true, Checks: 10, Place: func(t *testing.T) func() consign.Store {
		if _, err := pool.Exec(context.Background(), "TRUNCATE "+in+strings.Join([]string{"jobs", "specs", "done", "reports", "effects", "docs", "counters"}, ", "+in)); err != nil {
			t.Fatal(err)
		}
		return func() consign.Store { return openIn(t, pool, schema) }
	}}
}

func TestQueueModel(t *testing.T)   { onServer(t).Model(t) }
func TestQueueMutants(t *testing.T) { onServer(t).Mutants(t) }
func TestQueueReplay(t *testing.T)  { onServer(t).Replay(t) }
func TestQueueOwner(t *testing.T)   { onServer(t).Owner(t) }
