package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// A connection prepares a statement once, or never if it must not: behind a
// pooler the next transaction may have another session.
func TestStatementsArePreparedOnce(t *testing.T) {
	ctx := context.Background()
	for mode, want := range map[string]int{"cache_statement": 1, "cache_describe": 0, "exec": 0, "simple_protocol": 0} {
		pool, err := pgxpool.New(ctx, pgtest.DSN(t)+" pool_max_conns=1 default_query_exec_mode="+mode)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		s := openStore(t)
		s.pool = pool
		for range 3 {
			j := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
			apply(t, s, consign.Change{Job: &j})
			j.Version, j.State, j.Claim, j.LeaseFor = 2, consign.StateRunning, consign.NewClaimID(), time.Hour
			apply(t, s, consign.Change{Job: &j})
			apply(t, s, consign.Change{Counters: []consign.Delta{{Counter: "c", Add: 1}}})
		}
		for _, statement := range []string{s.sql.create, s.sql.start, s.sql.insist} {
			var prepared int
			if err := pool.QueryRow(ctx, "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", statement).Scan(&prepared); err != nil || prepared != want {
				t.Errorf("%s: %d times prepared, not %d, %v: %s", mode, prepared, want, err, statement)
			}
		}
	}
}

// No statement is planned anew for its parameters: of few jobs, that takes as
// long as to write them. Those that insert new jobs come without settings, and
// are planned so five times before PostgreSQL finds that it makes no difference.
func TestStatementsArePlannedOnce(t *testing.T) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, pgtest.DSN(t)+" pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	s := openStore(t)
	s.pool = pool
	for range 8 {
		j := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
		apply(t, s, consign.Change{Job: &j, Spec: &consign.Spec{ID: j.ID}})
		j.Version, j.State, j.Claim, j.Worker, j.LeaseFor = 2, consign.StateRunning, consign.NewClaimID(), consign.WorkerID{1}, time.Hour
		apply(t, s, consign.Change{Job: &j})
		if _, err := s.Specs(ctx, []consign.JobID{j.ID}); err != nil {
			t.Fatal(err)
		}
		j.Version, j.State, j.LeaseFor = 3, consign.StateCompleted, 0
		apply(t, s, consign.Change{Job: &j, Done: &consign.Done{ID: j.ID, Claim: j.Claim, Worker: j.Worker}})
		j.Version, j.State, j.Claim = 4, consign.StateQueued, consign.ClaimID{}
		apply(t, s, consign.Change{Job: &j, Counters: []consign.Delta{{Counter: "c", Add: 1}}})
	}
	for _, statement := range []string{s.sql.create, s.sql.createSpecs, s.sql.start, s.sql.specs, s.sql.finish, s.sql.insist} {
		var once, anew int
		err := pool.QueryRow(ctx, "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1", statement).Scan(&once, &anew)
		if most := map[string]int{s.sql.create: 5, s.sql.createSpecs: 5}[statement]; err != nil || once == 0 || anew > most {
			t.Errorf("%d uses of a plan, %d plans for parameters, %v: %s", once, anew, err, statement)
		}
	}
}
