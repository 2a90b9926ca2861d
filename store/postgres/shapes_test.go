package postgres

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// kept are the fields that no write but the first one changes.
var kept = map[string]bool{"ID": true, "Account": true, "Lane": true, "Offset": true, "Custody": true, "InputHash": true, "Price": true,
	"CreatedAt": true, "Deadline": true, "QueueTime": true, "Chars": true, "Notify": true, "MaxAttempts": true}

// Whatever field of a job has a value, no statement loses it: those for one
// kind of write leave what they do not expect to the one for everything.
func TestShapesLoseNothing(t *testing.T) {
	s := openStore(t)
	now := consign.At(time.Now())
	id := consign.NewJobID()
	new := consign.Job{ID: id, Version: 1, State: consign.StateQueued, ReadyAt: now, Key: now, QueueUntil: now + 1, DueAt: now + 1}
	run := consign.Job{ID: id, Version: 2, State: consign.StateRunning, ReadyAt: now, Attempt: 1, ClaimedAt: now, LimitAt: now + 9, DueAt: now + 9,
		Claim: consign.NewClaimID(), Worker: consign.WorkerID{1}, LeaseFor: time.Hour}
	end := consign.Job{ID: id, Version: 3, State: consign.StateCompleted, ReadyAt: now, Attempt: 1, ClaimedAt: now, EndedAt: now + 5, DueAt: now + 99,
		Claim: run.Claim, Worker: run.Worker}
	for _, c := range []struct {
		shape shape
		first *consign.Job
		write consign.Job
		done  *consign.Done
	}{
		{created, nil, new, nil},
		{started, &new, run, nil},
		{finished, &run, end, &consign.Done{Claim: end.Claim, Worker: end.Worker, Result: []byte("r"), ExitStatus: 3}},
	} {
		expected := 0
		for _, f := range reflect.VisibleFields(reflect.TypeFor[consign.Job]()) {
			write := c.write
			change := consign.Change{Job: &write, Done: c.done, Log: []consign.LogEntry{{Seq: consign.Seq(write.Version << 32), Reason: f.Name}}}
			if f.Name != "Version" && f.Name != "State" && f.Name != "LeaseUntil" {
				set(reflect.ValueOf(&write).Elem().FieldByIndex(f.Index))
			}
			if change.Log[0].Job = write.ID; c.done != nil {
				done := *c.done
				done.ID, change.Done = write.ID, &done
			}
			r := row{base: write.Version - 1, job: &write, done: change.Done}
			if shapeOf(&r) == c.shape {
				expected++
			}
			if c.first != nil {
				first := *c.first
				first.Version = write.Version - 1
				if kept[f.Name] {
					reflect.ValueOf(&first).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(write).FieldByIndex(f.Index))
				}
				insertVersion(t, s, &first)
			}
			apply(t, s, change)
			got := read(t, s, write.ID)
			if write.LeaseFor > 0 {
				if got.LeaseUntil < now {
					t.Errorf("shape %d with %s: a lease until %d", c.shape, f.Name, got.LeaseUntil)
				}
				got.LeaseUntil = write.LeaseUntil
			}
			if got != write {
				t.Errorf("shape %d with %s:\n%+v was written,\n%+v is read", c.shape, f.Name, write, got)
			}
			log, err := s.Log(context.Background(), write.ID, 0, 10)
			if err != nil || !reflect.DeepEqual(log, change.Log) {
				t.Errorf("shape %d with %s: the log is %+v, %v", c.shape, f.Name, log, err)
			}
			if done, err := s.Done(context.Background(), write.ID); err != nil || c.done != nil && (done == nil || done.ExitStatus != 3 || string(done.Result) != "r" || done.Claim != c.done.Claim) {
				t.Errorf("shape %d with %s: the end is %+v, %v", c.shape, f.Name, done, err)
			}
			apply(t, s, consign.Change{Job: &consign.Job{ID: write.ID, Version: write.Version + 1}, Delete: true})
		}
		if expected < len(kept) {
			t.Errorf("shape %d: %d writes were taken for it", c.shape, expected)
		}
	}
}

// set gives a field a value that is not its zero.
func set(v reflect.Value) {
	switch v.Kind() {
	case reflect.Array:
		set(v.Index(v.Len() - 1))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64: // a duration has whole microseconds
		v.SetInt(7_000_000)
	case reflect.Int:
		v.SetInt(7)
	default:
		v.SetUint(1)
	}
}

// insertVersion stores a job at whatever version.
func insertVersion(t *testing.T, s *Store, j *consign.Job) {
	t.Helper()
	for version := uint64(1); version <= j.Version; version++ {
		write := *j
		write.Version = version
		apply(t, s, consign.Change{Job: &write})
	}
}

// A write of a version that is not the next one is refused, each of several
// alone, whichever statement makes it.
func TestShapesJudgeVersions(t *testing.T) {
	s := openStore(t)
	for _, state := range []consign.State{consign.StateRunning, consign.StateCompleted, consign.StateCancelled} {
		var changes []consign.Change
		for i := range 10 {
			j := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
			apply(t, s, consign.Change{Job: &j})
			j.State, j.Version = state, 2+uint64(i%2) // every second one is wrong
			c := consign.Change{Job: &j}
			if state == consign.StateRunning {
				j.Claim, j.LeaseFor = consign.NewClaimID(), time.Hour
			}
			if state == consign.StateCompleted {
				c.Done = &consign.Done{ID: j.ID}
				if i > 3 { // the others have neither, as no job of a queue
					j.Claim, j.Worker = consign.NewClaimID(), consign.WorkerID{1}
					c.Done.Claim, c.Done.Worker = j.Claim, j.Worker
				}
			}
			changes = append(changes, c)
		}
		outcomes, err := s.Apply(context.Background(), changes)
		if err != nil {
			t.Fatal(err)
		}
		for i, err := range outcomes {
			want := map[bool]error{true: consign.ErrVersion}[i%2 == 1]
			if got := read(t, s, changes[i].Job.ID); err != want || (got.State == state) != (want == nil) {
				t.Errorf("%s: change %d has the outcome %v, and the job is %s", state, i, err, got.State)
			}
			if done, err := s.Done(context.Background(), changes[i].Job.ID); err != nil || (done != nil) != (changes[i].Done != nil && want == nil) {
				t.Errorf("%s: change %d has the end %v, %v", state, i, done, err)
			}
		}
	}
}

// New jobs that come in a crowd are copied, and go in with whatever else is in
// the batch; those that were there before are refused.
func TestCopy(t *testing.T) {
	ctx, s := context.Background(), openStore(t)
	there := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Account: "first"}
	other := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
	apply(t, s, consign.Change{Job: &there}, consign.Change{Job: &other})
	for _, twice := range []bool{false, true} {
		var changes []consign.Change
		var ids []consign.JobID
		for i := range 3 * copyFrom {
			j := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Account: fmt.Sprint("é ", i), Notify: i%2 == 0, Price: -1, Chars: 1 << 31}
			c := consign.Change{Job: j, Log: []consign.LogEntry{{Job: j.ID, Seq: 1 << 32, Reason: "new"}}}
			if i%3 > 0 {
				c.Spec = &consign.Spec{ID: j.ID, Kind: "TASK", Payload: make([]byte, 1000*i%70_000), Wraps: []consign.Wrap{{Wrap: []byte{1}}}}
			}
			changes, ids = append(changes, c), append(ids, j.ID)
		}
		next := other
		next.Version, next.State = other.Version+1, consign.StateCancelled
		changes = append(changes, consign.Change{Job: &next})
		want := make([]error, len(changes))
		if twice {
			again := there
			again.Account = "second"
			changes, want = append(changes, consign.Change{Job: &again}), append(want, consign.ErrVersion)
		}
		outcomes, err := s.Apply(ctx, changes)
		if err != nil || !reflect.DeepEqual(outcomes, want) {
			t.Fatalf("with one that is there: %t: %v, %v", twice, outcomes, err)
		}
		jobs, err := s.Jobs(ctx, ids)
		if err != nil {
			t.Fatal(err)
		}
		specs, err := s.Specs(ctx, ids)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if !reflect.DeepEqual(jobs[i], changes[i].Job) || !reflect.DeepEqual(specs[i], changes[i].Spec) {
				t.Errorf("job %d is read as\n%+v with %+v", i, jobs[i], specs[i])
			}
			if log, err := s.Log(ctx, id, 0, 10); err != nil || !reflect.DeepEqual(log, changes[i].Log) {
				t.Errorf("job %d has the log %v, %v", i, log, err)
			}
		}
		if other = read(t, s, other.ID); other.State != consign.StateCancelled || other.Version != next.Version {
			t.Errorf("what was beside the new jobs is at version %d", other.Version)
		}
	}
	if got := read(t, s, there.ID); got != there {
		t.Errorf("a job was inserted twice: %+v", got)
	}
}

func openStore(t *testing.T) *Store {
	t.Helper()
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	schema := "shapes " + consign.NewJobID().String()
	s, err := New(ctx, pool, Config{Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := pool.Exec(ctx, "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			t.Error(err)
		}
	})
	return s
}

func apply(t *testing.T, s *Store, changes ...consign.Change) {
	t.Helper()
	outcomes, err := s.Apply(context.Background(), changes)
	if err := errors.Join(append(outcomes, err)...); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *Store, id consign.JobID) consign.Job {
	t.Helper()
	jobs, err := s.Jobs(context.Background(), []consign.JobID{id})
	if err != nil || jobs[0] == nil {
		t.Fatal(jobs, err)
	}
	return *jobs[0]
}
