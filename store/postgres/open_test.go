package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/postgres"
)

// Many who open a new schema at once wait for each other, whatever isolation
// the server gives those who ask for none.
func TestOpenAtOnce(t *testing.T) {
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			pool := connect(t, pgtest.DSN(t)+" default_transaction_isolation='"+isolation+"'")
			schema := newSchema(t, pool)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					if _, err := postgres.New(context.Background(), pool, postgres.Config{Schema: schema}); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		})
	}
}

// A batch of large payloads is committed in parts: all of it would not fit a
// message of PostgreSQL's.
func TestLargeBatch(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	s := openIn(t, pool, schema)
	payload := make([]byte, 16<<20)
	changes := make([]consign.Change, 5)
	for i := range changes {
		job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Lane: "a"}
		changes[i] = consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Payload: payload}}
	}
	outcomes, err := s.Apply(ctx, changes)
	if err != nil || errors.Join(outcomes...) != nil {
		t.Fatal(outcomes, err)
	}
	var jobs, commits int
	err = pool.QueryRow(ctx, "SELECT count(*), count(DISTINCT xmin::text) FROM "+pgx.Identifier{schema, "specs"}.Sanitize()).Scan(&jobs, &commits)
	if err != nil || jobs != len(changes) || commits != 2 {
		t.Errorf("%d jobs in %d commits, want %d in 2: %v", jobs, commits, len(changes), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	openIn(t, pool, schema)
	if _, err := pool.Exec(ctx, "INSERT INTO "+pgx.Identifier{schema, "migrations"}.Sanitize()+" (version) VALUES (1000)"); err != nil {
		t.Fatal(err)
	}
	var field *consign.FieldError
	if _, err := postgres.New(ctx, pool, postgres.Config{Schema: schema}); !errors.As(err, &field) || field.Field != "config.schema" || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("a schema of a newer version: %v", err)
	}
	if _, err := postgres.New(ctx, pool, postgres.Config{Schema: strings.Repeat("x", 49)}); !errors.As(err, &field) || field.Field != "config.schema" {
		t.Errorf("a name that is too long: %v", err)
	}
	if _, err := postgres.New(ctx, connect(t, "host=/nowhere user=nobody connect_timeout=1"), postgres.Config{}); err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("a server that is not there: %v", err)
	}
}

// One change with text that PostgreSQL does not take fails alone.
func TestBadText(t *testing.T) {
	ctx, s := context.Background(), open(t)
	var changes []consign.Change
	for range 100 {
		job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Lane: "a"}
		changes = append(changes, consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID}})
	}
	changes[17].Job.Reason = "a zero byte: \x00"
	changes[71].Spec.Labels = "not UTF-8: \xff"
	outcomes, err := s.Apply(ctx, changes)
	if err != nil {
		t.Fatal(err)
	}
	var ids []consign.JobID
	for i, err := range outcomes {
		if bad := i == 17 || i == 71; (err != nil) != bad {
			t.Errorf("the outcome of change %d is %v", i, err)
		}
		ids = append(ids, changes[i].Job.ID)
	}
	jobs, err := s.Jobs(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, j := range jobs {
		if (j == nil) != (outcomes[i] != nil) {
			t.Errorf("job %d: stored %t, outcome %v", i, j != nil, outcomes[i])
		}
	}
}

// A lane may be longer than an entry of an index.
func TestLongLane(t *testing.T) {
	ctx, s := context.Background(), open(t)
	var lane strings.Builder
	for lane.Len() < 20_000 { // that does not compress
		lane.WriteString(consign.NewJobID().String())
	}
	job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Lane: lane.String(), Key: 7}
	if outcomes, err := s.Apply(ctx, []consign.Change{{Job: job}}); err != nil || outcomes[0] != nil {
		t.Fatal(outcomes, err)
	}
	heads, err := s.Lanes(ctx)
	if err != nil || len(heads) != 1 || heads[0] != (consign.LaneHead{Lane: job.Lane, Key: 7}) {
		t.Errorf("%d lanes, %v", len(heads), err)
	}
	if page, err := s.Page(ctx, job.Lane, consign.AllShards, consign.Place{}, 10); err != nil || len(page) != 1 {
		t.Error(page, err)
	}
}

// Renewals are heap-only updates, where the page has room: they touch no index.
func TestRenewalsAreHeapOnly(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t)+" pool_max_conns=1")
	schema := newSchema(t, pool)
	s := openIn(t, pool, schema)
	var changes []consign.Change
	var renewals []consign.Renewal
	for range 5 {
		job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateRunning, Claim: consign.NewClaimID(), LeaseFor: time.Hour}
		changes = append(changes, consign.Change{Job: job})
		renewals = append(renewals, consign.Renewal{Job: job.ID, Claim: job.Claim, For: time.Hour})
	}
	if _, err := s.Apply(ctx, changes); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(ctx, renewals); err != nil {
		t.Fatal(err)
	}
	var updates, hot int
	err := pool.QueryRow(ctx, "SELECT pg_stat_get_xact_tuples_updated(c.oid) + pg_stat_get_tuples_updated(c.oid), pg_stat_get_xact_tuples_hot_updated(c.oid) + pg_stat_get_tuples_hot_updated(c.oid) FROM pg_class c WHERE c.oid = $1::regclass",
		pgx.Identifier{schema, "jobs"}.Sanitize()).Scan(&updates, &hot)
	if err != nil || updates != 5 || hot != 5 {
		t.Errorf("%d updates, %d of them heap-only, %v", updates, hot, err)
	}
}

// What one store changes another hears of, and not the first itself.
func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	a, b := openIn(t, pool, schema), openIn(t, pool, schema)
	own, others := make(chan consign.Hint, 1000), make(chan consign.Hint, 1000)
	var group sync.WaitGroup
	group.Go(func() { a.Watch(ctx, func(h consign.Hint) { own <- h }) })
	group.Go(func() { b.Watch(ctx, func(h consign.Hint) { others <- h }) })
	defer group.Wait()
	defer cancel()
	if first := <-own; !first.Queued { // both listen from here on
		t.Error("what was missed before is not hinted at")
	}
	<-others
	job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
	for _, changes := range [][]consign.Change{{{Job: job}}, {{Job: job}}} { // the second one is refused
		if _, err := a.Apply(ctx, changes); err != nil {
			t.Fatal(err)
		}
	}
	if h := <-others; !h.Queued || len(h.Jobs) != 1 || h.Jobs[0] != job.ID {
		t.Errorf("a submit was told as %+v", h)
	}
	done := *job
	done.Version, done.State = 2, consign.StateCancelled
	if _, err := b.Apply(ctx, []consign.Change{{Job: &done}}); err != nil {
		t.Fatal(err)
	}
	if h := <-own; h.Queued || len(h.Jobs) != 1 || h.Jobs[0] != job.ID {
		t.Errorf("a cancel was told as %+v", h)
	}
	// Too many to name them.
	var many []consign.Change
	for range 1000 {
		many = append(many, consign.Change{Job: &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}})
	}
	if _, err := a.Apply(ctx, many); err != nil {
		t.Fatal(err)
	}
	if h := <-others; !h.Queued || len(h.Jobs) != 0 {
		t.Errorf("a thousand submits were told as %d jobs", len(h.Jobs))
	}
	if len(own) > 0 {
		t.Error("a store hears of what it did itself")
	}
}

// A change that only writes a job is not judged under locks: it too leaves the
// log of a forgotten job empty.
func TestForgottenStaysForgotten(t *testing.T) {
	ctx, s := context.Background(), open(t)
	job := consign.Job{ID: consign.NewJobID(), State: consign.StateCompleted}
	for version := range uint64(3) {
		next := job
		next.Version = version + 1
		c := consign.Change{Job: &next, Forget: version == 1, Log: []consign.LogEntry{{Job: job.ID, Seq: consign.Seq(next.Version << 32)}}}
		if outcomes, err := s.Apply(ctx, []consign.Change{c}); err != nil || outcomes[0] != nil {
			t.Fatal(outcomes, err)
		}
	}
	if log, err := s.Log(ctx, job.ID, 0, 10); err != nil || len(log) != 0 {
		t.Errorf("the log of a forgotten job has %d entries, %v", len(log), err)
	}
}

// Of many inserts of one job, each with a part that needs locks, one is taken,
// and none fails for having been overtaken.
func TestInsertRace(t *testing.T) {
	ctx, s := context.Background(), open(t)
	const rounds, racers = 10, 6
	for range rounds {
		id := consign.NewJobID()
		outcomes := make([]error, racers)
		var group sync.WaitGroup
		for i := range racers {
			group.Go(func() {
				got, err := s.Apply(ctx, []consign.Change{{Job: &consign.Job{ID: id, Version: 1}, Counters: []consign.Delta{{Counter: "c", Add: 1}}}})
				if err != nil {
					t.Error(err)
					return
				}
				outcomes[i] = got[0]
			})
		}
		group.Wait()
		won := 0
		for _, err := range outcomes {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, consign.ErrVersion):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d of %d inserts of one job were taken", won, racers)
		}
	}
	if n, err := s.Counter(ctx, "c"); err != nil || n != rounds {
		t.Errorf("the counter is %d, %v", n, err)
	}
}
