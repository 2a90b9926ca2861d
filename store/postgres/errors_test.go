package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/postgres"
)

// River #1324: one row that cannot be read stalled its whole batch. Here it is
// logged, or is the error where it alone was asked for, and the others are read.
func TestCorruptRows(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	ids := []consign.JobID{consign.NewJobID(), consign.NewJobID()} // good, bad
	count := func(jobs []*consign.Job, err error) (int, error) { return len(jobs), err }
	for _, c := range []struct {
		table, set string // of the bad job's row
		read       func(s *postgres.Store) (int, error)
		want       int
	}{
		{"jobs", "state = 77", func(s *postgres.Store) (int, error) { return count(s.List(ctx, consign.Filter{}, consign.JobID{}, 9)) }, 1},
		{"jobs", "state = 77", func(s *postgres.Store) (int, error) {
			jobs, _, err := s.Due(ctx, 9, 9)
			return len(jobs), err
		}, 1},
		{"jobs", "worker = 'short'", func(s *postgres.Store) (int, error) {
			return count(s.Page(ctx, "a", consign.AllShards, consign.Place{}, 9))
		}, 1},
		{"jobs", "chars = -1", func(s *postgres.Store) (int, error) { return there(s.Jobs(ctx, ids)) }, 1},
		{"jobs", "log = '\\x05'", func(s *postgres.Store) (int, error) {
			log, err := s.Log(ctx, ids[1], 0, 9)
			return len(log), err
		}, 1}, // the one beside the row
		{"reports", "report = 777", func(s *postgres.Store) (int, error) {
			log, err := s.Log(ctx, ids[1], 0, 9)
			return len(log), err
		}, 1},
		{"specs", "wraps = '[7]'", func(s *postgres.Store) (int, error) { return there(s.Specs(ctx, ids)) }, 1},
		{"specs", "tier = 300", func(s *postgres.Store) (int, error) { return there(s.Specs(ctx, ids)) }, 1},
		{"effects", "kind = 777", func(s *postgres.Store) (int, error) {
			effects, err := s.Effects(ctx, 9)
			return len(effects), err
		}, 1},
		{"done", "acceptance = '7'", func(s *postgres.Store) (int, error) {
			done, err := s.Done(ctx, ids[1])
			return map[bool]int{true: 1}[done != nil && err == nil], err
		}, 0},
	} {
		t.Run(c.table+" "+c.set, func(t *testing.T) {
			var logged bytes.Buffer
			schema := newSchema(t, pool)
			s, err := postgres.New(ctx, pool, postgres.Config{Schema: schema, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				job := &consign.Job{ID: id, Version: 1, State: consign.StateQueued, Lane: "a", DueAt: 7}
				entries := []consign.LogEntry{{Job: id, Seq: 1 << 32}}
				outcomes, err := s.Apply(ctx, []consign.Change{
					{Job: job, Spec: &consign.Spec{ID: id}, Done: &consign.Done{ID: id}, Log: entries, Effects: []consign.Effect{{ID: consign.EffectID{Job: id}, Kind: consign.EffectStrike}}},
					{Log: []consign.LogEntry{{Job: id, Seq: 2 << 32, Event: consign.EventReport}}}})
				if err := errors.Join(append(outcomes, err)...); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := c.read(s); err != nil || n < c.want || logged.Len() > 0 {
				t.Fatalf("before: %d, %v, %s", n, err, &logged)
			}
			key := map[bool]string{true: "id", false: "job"}[c.table == "jobs" || c.table == "specs" || c.table == "done"]
			if _, err := pool.Exec(ctx, "UPDATE "+pgx.Identifier{schema, c.table}.Sanitize()+" SET "+c.set+" WHERE "+key+" = $1", ids[1].String()); err != nil {
				t.Fatal(err)
			}
			_, _ = c.read(s)
			n, err := c.read(s)
			if times := strings.Count(logged.String(), "a row is left out"); times != map[bool]int{false: 1}[c.table == "done"] {
				t.Errorf("it is logged %d times: %s", times, &logged)
			}
			if n != c.want {
				t.Errorf("%d are read, want %d: %v", n, c.want, err)
			}
			said := logged.String() + fmt.Sprint(err)
			if !strings.Contains(said, "of table "+c.table) || !strings.Contains(said, "repair the row") || !strings.Contains(said, ids[1].String()) {
				t.Errorf("it says %q", said)
			}
			if bad := new(postgres.CorruptError); (c.table == "done") != errors.As(err, &bad) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// A row that cannot be read counts for none of those that were asked for: many
// in front of the others keep none of them from being read, and no list ends
// before its end (River #1318, with rows of #1324).
func TestManyCorruptRows(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	s, err := postgres.New(ctx, pool, postgres.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const bad, good, n = 20, 5, 3
	var changes []consign.Change
	var damaged []string
	logged := consign.NewJobID()
	changes = append(changes, consign.Change{Job: &consign.Job{ID: logged, Version: 1}})
	for i := range bad + good {
		queued := &consign.Job{ID: consign.JobID{0: byte(i), 1: 1}, Version: 1, State: consign.StateQueued, Lane: "a", Key: consign.Instant(i), DueAt: consign.Instant(1 + i)}
		running := &consign.Job{ID: consign.JobID{0: byte(i), 1: 2}, Version: 1, State: consign.StateRunning, LeaseFor: time.Duration(1+i) * time.Microsecond}
		changes = append(changes, consign.Change{Job: queued, Effects: []consign.Effect{{ID: consign.EffectID{Job: queued.ID}, Kind: consign.EffectStrike}},
			Log: []consign.LogEntry{{Job: logged, Seq: consign.Seq(2<<32 + i), Event: consign.EventReport}}}, consign.Change{Job: running})
		if i < bad {
			damaged = append(damaged, queued.ID.String(), running.ID.String())
		}
	}
	outcomes, err := s.Apply(ctx, changes)
	if err := errors.Join(append(outcomes, err)...); err != nil {
		t.Fatal(err)
	}
	in := pgx.Identifier{schema}.Sanitize() + "."
	for _, damage := range []string{"jobs SET chars = -1 WHERE id = ANY($1)", "effects SET kind = 777 WHERE job = ANY($1)",
		fmt.Sprintf("reports SET report = 777 WHERE cardinality($1::uuid[]) > 0 AND seq < %d", 2<<32+bad)} {
		if _, err := pool.Exec(ctx, "UPDATE "+in+damage, damaged); err != nil {
			t.Fatal(err)
		}
	}
	count := func(jobs []*consign.Job, err error) (int, error) { return len(jobs), err }
	for name, read := range map[string]func(n int) (int, error){
		"Page": func(n int) (int, error) { return count(s.Page(ctx, "a", consign.AllShards, consign.Place{}, n)) },
		"Page of all shards but one": func(n int) (int, error) {
			return count(s.Page(ctx, "a", consign.AllShards&^2, consign.Place{}, n))
		},
		"Due": func(n int) (int, error) {
			jobs, next, err := s.Due(ctx, 1000, n)
			if n < good && next != consign.Instant(bad+n+1) {
				t.Errorf("of those that are due, %d is next", next)
			}
			return len(jobs), err
		},
		"Lapsed": func(n int) (int, error) { return count(s.Lapsed(ctx, n)) },
		"List": func(n int) (int, error) {
			return count(s.List(ctx, consign.Filter{State: consign.StateQueued}, consign.JobID{}, n))
		},
		"Effects": func(n int) (int, error) {
			effects, err := s.Effects(ctx, n)
			return len(effects), err
		},
		"Log": func(n int) (int, error) {
			log, err := s.Log(ctx, logged, 0, n)
			return len(log), err
		},
	} {
		for want, most := range map[int]int{0: 0, 1: 1, n: n, good: 1000} {
			if got, err := read(most); err != nil || got != want {
				t.Errorf("%s: %d of at most %d are read, want %d: %v", name, got, most, want, err)
			}
		}
	}
}

// Jobs whose rows are damaged are in nobody's way: a queue that is opened on
// them completes all others, and the log says which rows they are.
func TestQueueBesideCorruptRows(t *testing.T) {
	ctx := context.Background()
	var logged bytes.Buffer
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	suite := queuetest.Suite{RealTime: true, Place: func(t *testing.T) func() consign.Store {
		return func() consign.Store {
			s, err := postgres.New(ctx, pool, postgres.Config{Schema: schema, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}}
	sets := []struct{ table, set string }{{"jobs", "state = 77"}, {"jobs", "chars = -1"}, {"jobs", "last_worker = 'short'"}, {"specs", "wraps = '[7]'"}}
	suite.BesideCorruptRows(t, len(sets), func(t *testing.T, _ consign.Store, ids []consign.JobID) {
		for i, s := range sets {
			if _, err := pool.Exec(ctx, "UPDATE "+pgx.Identifier{schema, s.table}.Sanitize()+" SET "+s.set+" WHERE id = $1", ids[i].String()); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, column := range []string{"chars", "last_worker", "wraps"} { // nobody asks for a job of no state
		if !strings.Contains(logged.String(), column) {
			t.Errorf("the log does not name the column %s: %s", column, logged.String())
		}
	}
}

func there[T any](found []*T, err error) (n int, _ error) {
	for _, f := range found {
		if f != nil {
			n++
		}
	}
	return n, err
}

// A server that refuses says what to do, and the store goes on when it no
// longer does.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	dsn := pgtest.DSN(t)
	for _, c := range []struct{ dsn, want string }{
		{"host=/nowhere user=nobody connect_timeout=1", "check that it runs, and host and port"},
		{dsn + " dbname=none_such", "check dbname in the connection string"},
		{dsn + " user=none_such", "check user and password"},
		{dsn + " default_transaction_read_only=on", "connect to the primary"},
	} {
		if _, err := postgres.New(ctx, connect(t, c.dsn), postgres.Config{Schema: "refused"}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.dsn, err)
		}
	}

	pool := connect(t, dsn+" pool_max_conns=1")
	s := openIn(t, pool, newSchema(t, pool))
	job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
	for _, mode := range []string{"on", "off"} {
		if _, err := pool.Exec(ctx, "SET default_transaction_read_only = "+mode); err != nil {
			t.Fatal(err)
		}
		outcomes, err := s.Apply(ctx, []consign.Change{{Job: job}})
		if mode == "on" && (err == nil || !strings.Contains(err.Error(), "connect to the primary")) || mode == "off" && errors.Join(append(outcomes, err)...) != nil {
			t.Errorf("read only %s: %v %v", mode, outcomes, err)
		}
		if _, err := s.Jobs(ctx, []consign.JobID{job.ID}); err != nil {
			t.Errorf("read only %s: %v", mode, err)
		}
	}
}
