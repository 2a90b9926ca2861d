package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/postgres"
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

// TestOthers has a schema for each of its cases, which run side by side.
func TestOthers(t *testing.T) {
	pool := connect(t, pgtest.DSN(t)+" pool_max_conns=40")
	do := func(t *testing.T, s consign.Store, sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), strings.ReplaceAll(sql, "@jobs", pgx.Identifier{s.(*postgres.Store).Schema(), "jobs"}.Sanitize()), args...); err != nil {
			t.Fatal(err)
		}
	}
	queuetest.Suite{RealTime: true, Shared: true,
		Place: func(t *testing.T) func() consign.Store {
			schema := newSchema(t, pool)
			return func() consign.Store { return openIn(t, pool, schema) }
		},
		Spoil: func(t *testing.T, s consign.Store, ids []consign.JobID) {
			var texts []string
			for _, id := range ids {
				texts = append(texts, id.String())
			}
			do(t, s, "UPDATE @jobs SET chars = -1, due_at = 1, lease_until = 1 WHERE id = ANY($1::uuid[])", texts)
		},
		Poison: func(t *testing.T, s consign.Store, id consign.JobID) {
			do(t, s, fmt.Sprintf("ALTER TABLE @jobs ADD CHECK (id <> '%s' OR state <> %d)", id, consign.StateRunning))
		},
	}.Others(t)
}
