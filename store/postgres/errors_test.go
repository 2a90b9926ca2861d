package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
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

// A disk that is full is an error that says so, after which everything can
// still be read; once there is room the store goes on.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	server := pgtest.Private(t, "fsync = off")
	disk := filepath.Join(server.Dir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	as, err := user.Lookup("postgres")
	if err != nil || syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m,mode=700,uid="+as.Uid+",gid="+as.Gid) != nil {
		t.Skip("a small disk cannot be mounted here")
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	pool := connect(t, server.DSN)
	s := openIn(t, pool, "queue")
	for _, sql := range []string{"CREATE TABLESPACE small LOCATION '" + disk + "'", "ALTER TABLE queue.specs SET TABLESPACE small"} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	submit := func(n int) (ids []consign.JobID, err error) {
		payload := make([]byte, 64<<10)
		for i := range payload { // that does not compress
			payload[i] = byte(i * i >> 8 * 31)
		}
		var changes []consign.Change
		for range n {
			id := consign.NewJobID()
			copy(payload, id[:])
			changes = append(changes, consign.Change{Job: &consign.Job{ID: id, Version: 1, State: consign.StateQueued, Lane: "a"},
				Spec: &consign.Spec{ID: id, Payload: bytes.Clone(payload)}})
			ids = append(ids, id)
		}
		outcomes, err := s.Apply(ctx, changes)
		return ids, errors.Join(append(outcomes, err)...)
	}
	for _, n := range []int{1, 100} { // inserted, and copied
		var kept []consign.JobID
		for err = nil; err == nil; {
			if kept = append(kept, consign.JobID{}); len(kept) > 2000 {
				t.Fatal("the disk does not fill up")
			}
			_, err = submit(n)
		}
		if !strings.Contains(err.Error(), "make room") {
			t.Errorf("batches of %d: %v", n, err)
		}
		if _, err := s.Page(ctx, "a", consign.AllShards, consign.Place{}, 10); err != nil {
			t.Errorf("batches of %d: while the disk is full: %v", n, err)
		}
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	ids, err := submit(100)
	if err != nil {
		t.Fatalf("after there is room: %v", err)
	}
	if specs, err := s.Specs(ctx, ids); err != nil || len(specs) != 100 || specs[99] == nil {
		t.Error(err)
	}
}
