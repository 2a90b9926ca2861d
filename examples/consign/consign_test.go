package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/worker"
)

// rig is a store that the tool is tried on.
type rig struct {
	*testing.T
	target, schema string
}

// call runs the tool.
func (r rig) call(args ...string) (string, error) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, append([]string{"-schema", r.schema}, args...), r.target, &out)
	return out.String(), err
}

func (r rig) must(args ...string) string {
	r.Helper()
	out, err := r.call(args...)
	if err != nil {
		r.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// read runs the tool for JSON.
func (r rig) read(into any, args ...string) {
	r.Helper()
	out := r.must(append(args, "-json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		r.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// with gives f a queue on the store, as a coordinator is one.
func (r rig) with(c consign.Config, f func(*consign.Queue) error) {
	r.Helper()
	store, end, err := open(r.Context(), r.target, r.schema, false)
	if err == nil {
		t := &tool{store: store}
		err = errors.Join(t.withQueue(r.Context(), c, f), end())
	}
	if err != nil {
		r.Fatal(err)
	}
}

func onEach(t *testing.T, test func(rig)) {
	t.Run("sqlite", func(t *testing.T) {
		test(rig{t, "sqlite:" + filepath.Join(t.TempDir(), "queue.db"), "consign"})
	})
	t.Run("postgres", func(t *testing.T) {
		dsn, schema := pgtest.DSN(t), "admin "+consign.NewJobID().String()[:8]
		t.Cleanup(func() {
			pool, err := pgxpool.New(context.Background(), dsn)
			if err == nil {
				_, err = pool.Exec(context.Background(), "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE")
				pool.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
		test(rig{t, "postgres:" + dsn, schema})
	})
}

// A store's life: it is made, jobs come, are explained, cancelled, retried and
// exported, and at last forgotten.
func TestLife(t *testing.T) {
	onEach(t, func(r rig) {
		if _, err := r.call("list"); err == nil || !strings.Contains(err.Error(), "consign migrate") {
			t.Errorf("a store that is not there: %v", err)
		}
		r.must("migrate")
		r.must("migrate")
		one := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Model: "m", Payload: []byte("a text"), Custody: consign.CustodyPlain,
			Labels: map[string]string{"region": "eu", "disk": "fast"}, Priority: consign.PriorityHigh, Deadline: time.Hour, MaxAttempts: 3, QueueTime: time.Minute}
		other := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte("another"), Custody: consign.CustodyPlain}
		r.with(consign.Config{Prices: consign.PriceTable{{Price: 5}}}, func(q *consign.Queue) error {
			_, err := q.Submitter("bob").Submit(t.Context(), other)
			if !errors.Is(err, consign.ErrCredit) {
				t.Errorf("without credit: %v", err)
			}
			err = errors.Join(q.AddCredit(t.Context(), "acme", 10, "1"), q.AddCredit(t.Context(), "bob", 5, "2"))
			_, e := q.Submitter("acme").Submit(t.Context(), one)
			_, e2 := q.Submitter("bob").Submit(t.Context(), other)
			return errors.Join(err, e, e2)
		})
		var jobs []jobView
		if r.read(&jobs, "list"); len(jobs) != 2 {
			t.Fatalf("there are %+v", jobs)
		}
		if r.read(&jobs, "list", "-account", "acme", "-state", "queued"); len(jobs) != 1 || jobs[0].ID != one.ID || jobs[0].Kind != "TASK" {
			t.Errorf("acme has %+v", jobs)
		}
		if out := r.must("list", "-n", "1"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "There may be more") {
			t.Errorf("the first job:\n%s", out)
		}
		id := one.ID.String()
		out := r.must("explain", id)
		for _, want := range []string{"is queued: it waits for a worker", "labels disk=fast,region=eu", "submit"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		if _, err := r.call("retry", id); err == nil || !strings.Contains(err.Error(), "only what has ended") {
			t.Errorf("retry of a queued job: %v", err)
		}
		if out := r.must("cancel", "-reason", "the region is closed", id); !strings.Contains(out, "cancelled") {
			t.Errorf("cancel:\n%s", out)
		}
		if out := r.must("list", "-account", "acme"); !strings.Contains(out, "the region is closed") {
			t.Errorf("why it was cancelled is not in\n%s", out)
		}
		var x explanation
		if r.read(&x, "explain", id); x.Job.State != "cancelled" || len(x.Log) < 2 {
			t.Errorf("it is explained as %+v", x)
		}
		var again, twice []outcome
		r.read(&again, "retry", id)
		r.read(&twice, "retry", id)
		if len(again) != 1 || len(twice) != 1 || again[0] != twice[0] || again[0].State != "queued" || again[0].New == one.ID {
			t.Fatalf("retry: %+v, twice: %+v", again, twice)
		}
		same(r, one.ID, again[0].New)
		r.with(consign.Config{}, func(q *consign.Queue) error {
			b, err := q.Balance(t.Context(), "acme")
			if b.Held != 5 || b.Available != 5 {
				t.Errorf("the balance is %+v", b)
			}
			return err
		})
		if _, err := r.call("cancel", id, consign.NewJobID().String()); err == nil || !strings.Contains(err.Error(), "is not in this store") {
			t.Errorf("cancel of one that is not there: %v", err)
		}
	})
}

// same checks that a job asks for what another one asked for.
func same(r rig, a, b consign.JobID) {
	r.Helper()
	store, end, err := open(r.Context(), r.target, r.schema, false)
	if err != nil {
		r.Fatal(err)
	}
	defer end() //nolint:errcheck
	jobs, err := store.Jobs(r.Context(), []consign.JobID{a, b})
	if err != nil {
		r.Fatal(err)
	}
	specs, err := store.Specs(r.Context(), []consign.JobID{a, b})
	if err != nil {
		r.Fatal(err)
	}
	x, y := *specs[0], *specs[1]
	y.ID = x.ID
	before, _ := json.Marshal(x)
	after, _ := json.Marshal(y)
	if !bytes.Equal(before, after) {
		r.Errorf("the spec was\n%s\nand is\n%s", before, after)
	}
	j, k := jobs[0], jobs[1]
	if j.Account != k.Account || j.Lane != k.Lane || j.Price != k.Price || j.MaxAttempts != k.MaxAttempts || j.QueueTime != k.QueueTime ||
		j.InputHash != k.InputHash || j.Deadline.Sub(j.CreatedAt) != k.Deadline.Sub(k.CreatedAt) {
		r.Errorf("the job was\n%+v\nand is\n%+v", j, k)
	}
}

// What is past its retention is forgotten, and only that.
func TestPurge(t *testing.T) {
	onEach(t, func(r rig) {
		r.must("migrate")
		ids := []consign.JobID{consign.NewJobID(), consign.NewJobID()}
		r.with(consign.Config{Retention: time.Millisecond, AckRetention: time.Millisecond}, func(q *consign.Queue) error {
			var errs []error
			for _, id := range ids {
				_, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
				errs = append(errs, err)
			}
			_, err := q.Submitter("acme").Cancel(t.Context(), ids[0])
			return errors.Join(append(errs, err)...)
		})
		r.must("purge")
		var jobs []jobView
		if r.read(&jobs, "list"); len(jobs) != 2 {
			t.Fatalf("there are %+v", jobs)
		}
		for _, j := range jobs {
			if j.Purged != (j.ID == ids[0]) {
				t.Errorf("after purge: %+v", j)
			}
		}
		if _, err := r.call("retry", ids[0].String()); err == nil || !strings.Contains(err.Error(), "was purged") {
			t.Errorf("retry of a purged job: %v", err)
		}
		if out := r.must("explain", ids[0].String()); !strings.Contains(out, "past its retention") {
			t.Errorf("explain:\n%s", out)
		}
	})
}

// late is a store whose clock is an hour behind this machine's.
type late struct{ consign.Store }

func (late) Now(context.Context) (consign.Instant, error) {
	return consign.At(time.Now().Add(-time.Hour)), nil
}

// What is due is so by the store's clock: this machine's may be ahead.
func TestPurgeByTheStoresClock(t *testing.T) {
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var out bytes.Buffer
	tool := &tool{store: late{store}, out: &out}
	id := consign.NewJobID()
	err = tool.withQueue(t.Context(), consign.Config{Retention: 30 * time.Minute}, func(q *consign.Queue) error {
		acme := q.Submitter("acme")
		_, err := acme.Submit(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
		_, e := acme.Cancel(t.Context(), id)
		return errors.Join(err, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tool.purge(ctx); err != nil || !strings.HasPrefix(out.String(), "0 jobs were due") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// What is exported is all there is, and its receipt holds; the identity of
// another queue signs nothing.
func TestExport(t *testing.T) {
	onEach(t, func(r rig) {
		r.must("migrate")
		path := filepath.Join(t.TempDir(), "identity")
		identity, err := sign.LoadOrCreate(path)
		if err != nil {
			t.Fatal(err)
		}
		id, worked := consign.NewJobID(), sign.Generate()
		r.with(consign.Config{Identity: identity}, func(q *consign.Queue) error {
			w, err := worker.New(worker.Config{API: q, Identity: worked, Executors: map[string]worker.Executor{
				consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
					return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
				})}})
			if err != nil {
				return err
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- w.Run(ctx) }()
			defer func() { stop(); <-ended }()
			if _, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: []byte("a text"), Custody: consign.CustodyPlain}); err != nil {
				return err
			}
			_, err = q.Submitter("acme").Wait(t.Context(), id)
			return err
		})
		var x exported
		out := r.must("export", "-identity", path, id.String())
		if err := json.Unmarshal([]byte(out), &x); err != nil || strings.Count(out, "\n") != 1 {
			t.Fatalf("%v in %s", err, out)
		}
		if string(x.Spec.Payload) != "a text" || string(x.Result) != "A TEXT" || x.Job.State != "completed" || len(x.Log) < 3 {
			t.Errorf("exported is %s", out)
		}
		var record sign.Envelope
		if err := record.UnmarshalJSON(x.Record); err != nil {
			t.Fatal(err)
		}
		if _, err := consign.VerifyAcceptance(*x.Acceptance, identity.Public()); err != nil {
			t.Error(err)
		}
		receipt := consign.Receipt{Record: record, Acceptance: *x.Acceptance}
		if _, _, err := receipt.Verify(consign.Exchange{Queue: identity.Public(), Worker: worked.Public(), Job: id, Payload: x.Spec.Payload, Result: x.Result}); err != nil {
			t.Error(err)
		}
		other := filepath.Join(t.TempDir(), "other")
		if _, err := sign.LoadOrCreate(other); err != nil {
			t.Fatal(err)
		}
		if _, err := r.call("export", "-identity", other, id.String()); err == nil || !strings.Contains(err.Error(), "another identity") {
			t.Errorf("with the identity of another queue: %v", err)
		}
		if _, err := r.call("retry", id.String()); err == nil || !strings.Contains(err.Error(), "is completed") {
			t.Errorf("retry of a completed job: %v", err)
		}
	})
}

// A queue without an identity looks after the store of one that has; where that
// one's is lost, another takes its place when it is told to.
func TestDisown(t *testing.T) {
	onEach(t, func(r rig) {
		r.must("migrate")
		if out := r.must("disown"); !strings.Contains(out, "belongs to no queue") {
			t.Errorf("disown of what is nobody's:\n%s", out)
		}
		old, other := consign.Config{Identity: sign.Generate()}, consign.Config{Identity: sign.Generate()}
		id := consign.NewJobID()
		submit := func(q *consign.Queue) error {
			_, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
			return err
		}
		r.with(old, submit)
		r.must("cancel", id.String())
		r.must("retry", id.String())
		r.must("purge")
		store, end, err := open(t.Context(), r.target, r.schema, false)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join((&tool{store: store}).withQueue(t.Context(), other, submit), end())
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "config.identity" {
			t.Errorf("another queue on the store: %v", err)
		}
		if out := r.must("disown"); !strings.Contains(out, consign.QueueIDOf(old.Identity.Public()).String()) {
			t.Errorf("disown:\n%s", out)
		}
		r.with(other, submit)
	})
}

// A job that cannot be made again as it was is refused with the reason.
func TestAgainRefuses(t *testing.T) {
	for want, m := range map[string]func(*consign.Job, *consign.Spec){
		"is running":      func(j *consign.Job, _ *consign.Spec) { j.State = consign.StateRunning },
		"is completed":    func(j *consign.Job, _ *consign.Spec) { j.State = consign.StateCompleted },
		"was purged":      func(j *consign.Job, _ *consign.Spec) { j.Purged = true },
		"sealed for this": func(_ *consign.Job, s *consign.Spec) { s.Custody = consign.CustodyTransit },
		"is of tier 3":    func(_ *consign.Job, s *consign.Spec) { s.Tier = 3 },
		"":                func(*consign.Job, *consign.Spec) {},
	} {
		job := &consign.Job{ID: consign.NewJobID(), State: consign.StateFailed, Lane: consign.Lane{Needs: consign.Needs{Kind: "mine"}}.String()}
		spec := &consign.Spec{ID: job.ID, Kind: "mine", Payload: []byte("x"), Custody: consign.CustodyPlain, Chars: 1, Tier: 1}
		m(job, spec)
		r, _, err := again(job, spec)
		if want == "" && (err != nil || r.Kind != "mine") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A coordinator has the file: the tool says so, and leaves it alone.
func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck
	_, err = rig{t, "sqlite:" + path, ""}.call("list")
	if !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("the error is %v", err)
	}
}

func TestUsage(t *testing.T) {
	r := rig{t, "sqlite:" + filepath.Join(t.TempDir(), "queue.db"), "consign"}
	if out, _ := r.call("-h"); !strings.Contains(out, "explain JOB") || !strings.Contains(out, "CONSIGN_STORE") || !strings.Contains(out, "-json") {
		t.Errorf("help:\n%s", out)
	}
	r.must("migrate")
	for want, args := range map[string][]string{
		"there is no command":    {"frobnicate"},
		"is not an identifier":   {"explain", "42"},
		"usage: consign":         {"explain"},
		"takes no job":           {"list", consign.NewJobID().String()},
		"there is no state":      {"list", "-state", "done"},
		"-n is below 1":          {"list", "-n", "0"},
		"which store":            {"-store", "", "list"},
		"does not begin with":    {"-store", "mysql:x", "list"},
		"there is no file":       {"-store", "sqlite:/nowhere/queue.db", "list"},
		"no connection string":   {"-store", "postgres:no equals sign", "list"},
		"name one new file":      {"backup"},
		"such as pg_dump":        {"-store", "postgres://host/db", "backup", "copy.db"},
		"flag provided but not ": {"list", "-frob"},
	} {
		if _, err := r.call(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	t.Setenv("CONSIGN_STORE", "postgres://me:hunter2@host/db")
	if out, _ := (rig{t, "postgres://me:hunter2@host/db", "consign"}).call("-h"); strings.Contains(out, "hunter2") {
		t.Errorf("the help shows the password:\n%s", out)
	}
	if got := plain("\x1b[2Jred\n"); got != "?[2Jred?" {
		t.Errorf("a terminal would obey %q", got)
	}
}

// What keeps the tool from a database is told with what to check, and without
// the password.
func TestNoDatabase(t *testing.T) {
	c, err := pgxpool.ParseConfig(pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	at := c.ConnConfig
	for want, dsn := range map[string]string{
		"there is no such database":    fmt.Sprintf("host=%s port=%d user=%s dbname=nowhere", at.Host, at.Port, at.User),
		"does not let this user in":    fmt.Sprintf("host=%s port=%d user=nobody_at_all dbname=%s", at.Host, at.Port, at.Database),
		"the server cannot be reached": "host=127.0.0.1 port=1 user=me dbname=queue",
	} {
		for _, command := range []string{"list", "migrate"} {
			_, err := rig{t, "postgres:" + dsn + " password=hunter2", "consign"}.call(command)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", command, err)
			}
		}
	}
}

// A queue in a file is copied while a coordinator has it, whole, and what is
// none is not.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "queue.db"), filepath.Join(dir, "copy.db")
	r := rig{t, "sqlite:" + path, "consign"}
	r.must("migrate")
	id := consign.NewJobID()
	r.with(consign.Config{}, func(q *consign.Queue) error {
		_, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
		if err != nil {
			return err
		}
		if out := r.must("backup", to); !strings.Contains(out, "copy.db") {
			t.Errorf("backup: %s", out)
		}
		return nil
	})
	var jobs []jobView
	if (rig{t, "sqlite:" + to, "consign"}).read(&jobs, "list"); len(jobs) != 1 || jobs[0].ID != id {
		t.Errorf("the copy has %+v", jobs)
	}
	if _, err := r.call("backup", to); err == nil || !strings.Contains(err.Error(), "name a new file") {
		t.Errorf("over another one: %v", err)
	}
	other := filepath.Join(dir, "other.db")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{other, filepath.Join(dir, "none.db")} {
		if _, err := (rig{t, "sqlite:" + from, "consign"}).call("backup", filepath.Join(dir, "second.db")); err == nil {
			t.Errorf("%s was copied", from)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 5 { // and two locks
		t.Errorf("there are %v", files)
	}
}

// What nothing came of shows no table: the errors say it all.
func TestNothingDone(t *testing.T) {
	r := rig{t, "sqlite:" + filepath.Join(t.TempDir(), "queue.db"), "consign"}
	r.must("migrate")
	for _, command := range []string{"retry", "cancel"} {
		if out, err := r.call(command, consign.NewJobID().String()); err == nil || out != "" {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}

// A worker is removed, shown so, and taken back.
func TestWorkers(t *testing.T) {
	onEach(t, func(r rig) {
		r.must("migrate")
		key := sign.Generate()
		id := consign.WorkerID(key.Public().ID())
		register := func() (err error) {
			r.with(consign.Config{}, func(q *consign.Queue) error {
				c, e := q.Challenge(t.Context())
				if e != nil {
					return e
				}
				reg := consign.Registration{Algorithm: key.Public().Algorithm(), PublicKey: key.Public().Bytes(), Origin: "inproc", Nonce: c.Nonce,
					Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: 1}}
				if reg.Signature, e = key.Sign(consign.RegistrationMessage(c.Queue, reg.Origin, reg.Nonce, nil)); e != nil {
					return e
				}
				_, err = q.Register(t.Context(), reg)
				return nil
			})
			return err
		}
		if err := register(); err != nil {
			t.Fatal(err)
		}
		var views []workerView
		r.read(&views, "remove", "-reason", "it sells what it reads", id.String())
		if len(views) != 1 || views[0].ID != id || views[0].Standing != "removed" {
			t.Errorf("removed: %+v", views)
		}
		if err := register(); !errors.Is(err, consign.ErrRemoved) || !strings.Contains(err.Error(), "it sells what it reads") {
			t.Errorf("it registers: %v", err)
		}
		if out := r.must("workers"); !strings.Contains(out, "removed") || !strings.Contains(out, "it sells what it reads") {
			t.Errorf("workers:\n%s", out)
		}
		r.must("clear", id.String())
		if err := register(); err != nil {
			t.Errorf("cleared: %v", err)
		}
		var after []workerView
		if r.read(&after, "workers"); len(after) != 1 || after[0].Standing != "active" || after[0].Reason != "" {
			t.Errorf("cleared: %+v", after)
		}
		for _, args := range [][]string{{"remove"}, {"remove", "x"}, {"remove", strings.Repeat("0", 64)}, {"workers", consign.NewJobID().String()}} {
			if out, err := r.call(args...); err == nil || out != "" {
				t.Errorf("%v: %v\n%s", args, err, out)
			}
		}
	})
}
