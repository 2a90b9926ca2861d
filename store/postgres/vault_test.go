package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/vault/vaulttest"
	"github.com/consignq/consign/worker"
)

func newVault(tb testing.TB, pool *pgxpool.Pool, schema string) *postgres.Vault {
	tb.Helper()
	v, err := postgres.NewVault(context.Background(), pool, postgres.Config{Schema: schema})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestVaultStorage(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	vaulttest.Storage(t, func(t *testing.T) vault.Storage { return newVault(t, pool, newSchema(t, pool)) })
}

// Behind a pooler nothing is prepared.
func TestVaultUnprepared(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			c, err := pgxpool.ParseConfig(pgtest.DSN(t))
			check(t, err)
			c.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(context.Background(), c)
			check(t, err)
			t.Cleanup(pool.Close)
			vaulttest.Storage(t, func(t *testing.T) vault.Storage { return newVault(t, pool, newSchema(t, pool)) })
		})
	}
}

// A storage that counts, and retires, sees what others committed while it waited,
// whatever isolation the server gives those who ask for none.
func TestVaultIsolation(t *testing.T) {
	for _, isolation := range []string{"repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			pool := connect(t, pgtest.DSN(t)+" default_transaction_isolation='"+isolation+"'")
			vaulttest.Storage(t, func(t *testing.T) vault.Storage { return newVault(t, pool, newSchema(t, pool)) })
		})
	}
}

func TestVaultContract(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	vaulttest.Run(t, func(t *testing.T) consign.Vault {
		return keys(t, newVault(t, pool, newSchema(t, pool)), vault.NewKEK(), vault.Config{})
	})
}

func keys(t *testing.T, s vault.Storage, k vault.KEK, c vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.New(t.Context(), s, k, c)
	check(t, err)
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The queue's schema will do, whichever comes first, and a record that does not
// fit is refused.
func TestVaultOpen(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	for _, first := range []string{"queue", "vault"} {
		schema := newSchema(t, pool)
		if first == "queue" {
			openIn(t, pool, schema)
		}
		v := newVault(t, pool, schema)
		newVault(t, pool, schema)
		openIn(t, pool, schema)
		check(t, v.Put(t.Context(), vault.Record{Job: consign.JobID{1}}))
		if rs, err := newVault(t, pool, schema).Get(t.Context(), consign.JobID{1}); err != nil || len(rs) != 1 {
			t.Errorf("%s first: it has %v (%v)", first, rs, err)
		}
		long := vault.Record{Sealed: make([]byte, vault.MaxSealed+1)}
		if v.Put(t.Context(), long) == nil || v.Replace(t.Context(), []vault.Record{long}) == nil {
			t.Error("a record that does not fit is taken in")
		}
	}
}

// spy notes every form in which a key was ever given to the storage.
type spy struct {
	vault.Storage
	mu    sync.Mutex
	forms []vault.Record
}

func (s *spy) Put(ctx context.Context, r vault.Record) error {
	s.mu.Lock()
	s.forms = append(s.forms, r)
	s.mu.Unlock()
	return s.Storage.Put(ctx, r)
}

func (s *spy) Replace(ctx context.Context, rs []vault.Record) error {
	s.mu.Lock()
	s.forms = append(s.forms, slices.Clone(rs)...)
	s.mu.Unlock()
	return s.Storage.Replace(ctx, rs)
}

// found returns the forms of a job's keys that stand in the server's files, by
// their first bytes: the WAL has a header in the midst of what crosses a page.
func (s *spy) found(raw []byte, job consign.JobID) (all []vault.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.forms {
		if r.Job == job && bytes.Contains(raw, r.Sealed[:40]) {
			all = append(all, r)
		}
	}
	return all
}

const pageSize = 8192 // of tables and of the WAL

// files returns all that the server has on the disk: tables, the WAL, and the
// rest, each from the start of a page.
func files(t *testing.T, server *pgtest.Server, pool *pgxpool.Pool) (raw []byte) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "CHECKPOINT")
	check(t, err)
	data := filepath.Join(server.Dir(), "data")
	check(t, filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		raw = append(raw, b...)
		raw = append(raw, make([]byte, (pageSize-len(raw)%pageSize)%pageSize)...)
		return err
	}))
	return raw
}

// foundRecords is a storage of what was found.
type foundRecords struct {
	vault.Storage
	all []vault.Record
}

func (s *foundRecords) Put(_ context.Context, r vault.Record) error {
	s.all = append(s.all, r)
	return nil
}
func (s *foundRecords) Get(_ context.Context, job consign.JobID) (rs []vault.Record, err error) {
	for _, r := range s.all {
		if r.Job == job {
			rs = append(rs, r)
		}
	}
	return rs, nil
}
func (s *foundRecords) Replace(context.Context, []vault.Record) error    { return nil }
func (s *foundRecords) Delete(context.Context, []vault.Record) error     { return nil }
func (s *foundRecords) Retire(context.Context, [][8]byte, [8]byte) error { return nil }
func (s *foundRecords) All(context.Context) iter.Seq2[vault.Record, error] {
	return func(yield func(vault.Record, error) bool) {
		for _, r := range s.all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// opens reports whether a KEK opens a record: a vault that has that alone starts.
func opens(t *testing.T, r vault.Record, k vault.KEK) bool {
	t.Helper()
	_, err := vault.New(t.Context(), &foundRecords{all: []vault.Record{r}}, k, vault.Config{})
	if err != nil && !errors.Is(err, vault.ErrKEK) {
		t.Fatal(err)
	}
	return err == nil
}

// Jobs in each of the terminal states, acknowledged or purged, through a whole
// queue: until the key is
// rotated, what was shredded can be had from the server's files and the KEK, and
// once RotateKEK has returned nothing can but what is live.
func TestVaultForgets(t *testing.T) {
	server := pgtest.Private(t)
	pool := connect(t, server.DSN)
	store := openIn(t, pool, "queue")
	storage := &spy{Storage: newVault(t, pool, "")}
	path := filepath.Join(t.TempDir(), "kek")
	older, err := vault.KEKFromFile(path)
	check(t, err)
	v := keys(t, storage, older, vault.Config{Store: store})
	ended, live := endedAndLive(t, store, v)

	raw := files(t, server, pool)
	for state, job := range ended {
		found := storage.found(raw, job)
		if len(found) == 0 || !opens(t, found[0], older) {
			t.Errorf("%s: the search would not find a key", state)
		}
	}
	check(t, v.RotateKEK(t.Context(), path))
	surviving, err := vault.KEKFromFile(path)
	check(t, err)
	raw = files(t, server, pool)
	for state, job := range ended {
		for _, r := range storage.found(raw, job) {
			if opens(t, r, surviving) {
				t.Errorf("%s: a shredded key is there, and opens", state)
			}
		}
	}
	found := storage.found(raw, live)
	i := slices.IndexFunc(found, func(r vault.Record) bool { return opens(t, r, surviving) })
	if i < 0 {
		t.Fatal("the key of a live job is not there")
	}
	// Whatever is under the surviving key, whole or in part, is of a live record.
	for at := 0; ; at++ {
		n := bytes.Index(raw[at:], found[i].Sealed[:8])
		if n < 0 {
			break
		}
		at += n
		if at%pageSize+40 > pageSize {
			continue // cut by the header of the WAL's next page
		}
		if !slices.ContainsFunc(storage.forms, func(r vault.Record) bool {
			return (r.Job.IsZero() || r.Job == live) && bytes.HasPrefix(raw[at:], r.Sealed[:40])
		}) {
			t.Fatal("something that was shredded is under the surviving key")
		}
	}
	if file, err := os.ReadFile(path); err != nil || bytes.Contains(file, []byte(older.Text()[:16])) {
		t.Errorf("the old key is in its file (%v)", err)
	}
}

// endedAndLive runs a job to each terminal state, in both custodies, until its
// key is shredded: since it was acknowledged, or since it was purged and never
// was. It leaves one that is live.
func endedAndLive(t *testing.T, store consign.Store, v consign.Vault) (ended map[string]consign.JobID, live consign.JobID) {
	ctx := t.Context()
	ended = make(map[string]consign.JobID)
	for how, retention := range map[string]time.Duration{"acknowledged": 0, "purged": time.Millisecond} {
		q, stop := startQueue(t, consign.Config{Store: store, Vault: v, Identity: identity(1), Retention: retention})
		endAll(t, store, q, how, ended)
		stop()
	}
	q, stop := startQueue(t, consign.Config{Store: store, Vault: v, Identity: identity(1)})
	defer stop()
	live = consign.NewJobID()
	_, err := submitting(t, q).Submit(ctx, consign.SubmitRequest{ID: live, Kind: consign.KindTask, Payload: []byte("x"), Delay: time.Hour})
	check(t, err)
	for { // the queue's pump
		effects, err := store.Effects(ctx, 1)
		check(t, err)
		if len(effects) == 0 {
			return ended, live
		}
		time.Sleep(time.Millisecond)
	}
}

func submitting(t *testing.T, q *consign.Queue) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{API: q.Submitter("acme"), QueueKey: identity(1).Public(), Keyring: client.NewKeyring()})
	check(t, err)
	return c
}

func endAll(t *testing.T, store consign.Store, q *consign.Queue, how string, ended map[string]consign.JobID) {
	ctx := t.Context()
	runner, err := worker.New(worker.Config{API: q, Identity: identity(2), Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
			if string(task.Payload) == "failed" {
				return worker.Output{}, worker.ErrPayload
			}
			return worker.Output{Result: task.Payload}, nil
		})}})
	check(t, err)
	working, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = runner.Run(working) }()
	defer func() { stop(); <-stopped }()
	c := submitting(t, q)
	for _, custody := range []consign.Custody{consign.CustodyEscrow, consign.CustodyTransit} {
		for _, end := range []string{"completed", "failed", "cancelled", "expired", "expired by deadline"} {
			r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(end), Custody: custody}
			switch end {
			case "cancelled":
				r.Delay = time.Hour
			case "expired":
				r.Labels, r.QueueTime = map[string]string{"moon": "full"}, 100*time.Millisecond
			case "expired by deadline":
				r.Labels, r.Deadline = map[string]string{"moon": "full"}, 100*time.Millisecond
			}
			_, err := c.Submit(ctx, r)
			check(t, err)
			if end == "cancelled" {
				_, err := c.Cancel(ctx, r.ID)
				check(t, err)
			}
			ended[fmt.Sprint(end, ", ", custody, ", ", how)] = r.ID
			for job := (*consign.Job)(nil); job == nil || !job.State.Terminal() || how == "purged" && !job.Purged; {
				time.Sleep(time.Millisecond)
				jobs, err := store.Jobs(ctx, []consign.JobID{r.ID})
				check(t, err)
				if job = jobs[0]; job.State.Terminal() && !strings.HasPrefix(end, job.State.String()) {
					t.Fatalf("it is %s, not %s", job.State, end)
				}
			}
			if how == "acknowledged" {
				check(t, c.Acknowledge(ctx, r.ID))
			}
		}
	}
}

// Two processes share the keys and change the KEK as ParseKEK says, while both
// take in jobs: none is lost, and none is left under the old key.
func TestVaultRekeyOfTwo(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	storage := &spy{Storage: newVault(t, pool, schema)}
	older, newer := vault.NewKEK(), vault.NewKEK()
	parse := func(text string) vault.KEK {
		k, err := vault.ParseKEK(text)
		check(t, err)
		return k
	}
	both := []*vault.Vault{keys(t, storage, older, vault.Config{}), keys(t, storage, older, vault.Config{})}
	var group sync.WaitGroup
	kept := make([]map[consign.JobID]consign.SealedPayload, len(both))
	working, stop := context.WithCancel(t.Context())
	for i, v := range both {
		kept[i] = make(map[consign.JobID]consign.SealedPayload)
		group.Go(func() {
			for working.Err() == nil {
				r := consign.SealRequest{Job: consign.NewJobID(), Kind: consign.KindTask, Comparator: consign.ComparatorNone, Payload: []byte("x")}
				p, err := v.Seal(t.Context(), r)
				if err != nil {
					t.Error(err)
					return
				}
				kept[i][r.Job] = p
			}
		})
	}
	for _, k := range []vault.KEK{parse(newer.Text() + older.Text()), parse(older.Text() + newer.Text()), newer} {
		for _, v := range both {
			check(t, v.Rekey(t.Context(), k))
		}
	}
	stop()
	group.Wait()
	again := keys(t, newVault(t, pool, schema), newer, vault.Config{})
	for i := range kept {
		for job, p := range kept[i] {
			if _, err := again.OpenPayload(t.Context(), job, p); err != nil {
				t.Fatalf("a key is lost: %v", err)
			}
		}
	}
}

// TestVaultRemembers: the search of TestVaultForgets finds what a rotation that
// keeps the old key would leave.
func TestVaultRemembers(t *testing.T) {
	server := pgtest.Private(t)
	pool := connect(t, server.DSN)
	storage := &spy{Storage: newVault(t, pool, "")}
	older := vault.NewKEK()
	v := keys(t, storage, older, vault.Config{})
	job := consign.NewJobID()
	_, err := v.Seal(t.Context(), consign.SealRequest{Job: job, Kind: consign.KindTask, Comparator: consign.ComparatorNone, Payload: []byte("x")})
	check(t, err)
	check(t, v.Shred(t.Context(), job))
	both, err := vault.ParseKEK(older.Text() + vault.NewKEK().Text())
	check(t, err)
	check(t, v.Rekey(t.Context(), both))
	if !slices.ContainsFunc(storage.found(files(t, server, pool), job), func(r vault.Record) bool { return opens(t, r, both) }) {
		t.Error("the search does not find it")
	}
}
