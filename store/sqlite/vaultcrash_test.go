package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/vault"
)

// steps ends the process by SIGKILL at one of the moments before and after
// every write of the store and of the vault.
type steps struct {
	left atomic.Int64
	late bool // a fault: a key is kept only after the job
}

func (s *steps) pass() {
	if s.left.Add(-1) == 0 {
		me, err := os.FindProcess(os.Getpid())
		if err == nil {
			_ = me.Kill()
		}
		select {}
	}
}

type steppedStore struct {
	consign.Store
	*steps
}

func (s steppedStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	s.pass()
	defer s.pass()
	return s.Store.Apply(ctx, changes)
}

type steppedStorage struct {
	vault.Storage
	*steps
}

func (s steppedStorage) Put(ctx context.Context, r vault.Record) error {
	s.pass()
	if s.late && !r.Job.IsZero() {
		time.AfterFunc(time.Minute, func() { _ = s.Storage.Put(context.Background(), r) })
		return nil
	}
	defer s.pass()
	return s.Storage.Put(ctx, r)
}

func (s steppedStorage) Delete(ctx context.Context, rs []vault.Record) error {
	s.pass()
	defer s.pass()
	return s.Storage.Delete(ctx, rs)
}

// liveUntilKilled is the child: it submits jobs, cancels and acknowledges some
// of them, and prints the ID of each that it was told is there.
func liveUntilKilled(dir, step, fault string) error {
	ctx := context.Background()
	n, err := strconv.Atoi(step)
	if err != nil {
		return err
	}
	s := &steps{late: fault == "late"}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "queue.db")})
	if err != nil {
		return err
	}
	q, _, _, err := queueWithKeys(dir, store, s, time.Now)
	if err != nil {
		return err
	}
	go func() { _ = q.Run(ctx) }()
	s.left.Store(int64(n))
	sub := q.Submitter("acme")
	for i := range 4 {
		job, err := sub.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Append(nil, i), Custody: consign.CustodyTransit})
		if err != nil {
			return err
		}
		fmt.Println(job.ID)
		if i%2 == 1 {
			if _, err := sub.Cancel(ctx, job.ID); err != nil {
				return err
			}
			if err := sub.Acknowledge(ctx, job.ID); err != nil {
				return err
			}
			if err := untilGone(ctx, store); err != nil {
				return err
			}
		}
	}
	s.left.Store(0)
	fmt.Println("end")
	return nil
}

func queueWithKeys(dir string, store *sqlite.Store, s *steps, now func() time.Time) (*consign.Queue, *vault.Vault, *sqlite.Vault, error) {
	ctx := context.Background()
	storage, err := sqlite.OpenVault(ctx, filepath.Join(dir, "keys.db"))
	if err != nil {
		return nil, nil, nil, err
	}
	k, err := vault.KEKFromFile(filepath.Join(dir, "kek"))
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := vault.New(ctx, steppedStorage{storage, s}, k, vault.Config{Store: store, Now: now})
	if err != nil {
		return nil, nil, nil, err
	}
	q, err := consign.New(consign.Config{Store: steppedStore{store, s}, Vault: v, NoReceipts: true, DrainTimeout: time.Second})
	return q, v, storage, err
}

// untilGone waits for the effects to be carried out.
func untilGone(ctx context.Context, store consign.Store) error {
	for {
		effects, err := store.Effects(ctx, 1)
		if err != nil || len(effects) == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// TestVaultKills: a process is killed before and after every write of the two
// files. No job that is there has lost its key, and after a sweep no key is
// there without its job.
func TestVaultKills(t *testing.T) {
	kills, err := killAtEachStep(t, "")
	check(t, err)
	t.Logf("%d kills", kills)
}

// TestVaultKillsMutant: one that keeps a key after its job is found out.
func TestVaultKillsMutant(t *testing.T) {
	if _, err := killAtEachStep(t, "late"); err == nil || !strings.Contains(err.Error(), "has lost its key") {
		t.Errorf("the test says %v", err)
	}
}

func killAtEachStep(t *testing.T, fault string) (kills int, err error) {
	for step := 1; step <= 80; step++ {
		dir := t.TempDir()
		said, err := runUntilKilled(dir, step, fault)
		if err == nil {
			err = inspectKeys(t, dir, said)
		}
		if err != nil {
			return kills, fmt.Errorf("step %d: %w", step, err)
		}
		if len(said) > 0 && said[len(said)-1] == "end" {
			return kills, nil
		}
		kills++
	}
	return kills, errors.New("the child does not come to an end")
}

// runUntilKilled returns what the child said.
func runUntilKilled(dir string, step int, fault string) ([]string, error) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "CONSIGN_VAULT_FOLDER="+dir, "CONSIGN_VAULT_STEP="+strconv.Itoa(step), "CONSIGN_VAULT_FAULT="+fault)
	var stderr strings.Builder
	child.Stderr = &stderr
	out, _ := child.Output() // it was killed
	if text := stderr.String(); text != "" && text != "<nil>\n" {
		return nil, fmt.Errorf("the child failed: %s", text)
	}
	return strings.Fields(string(out)), nil
}

// inspectKeys returns what is wrong with the two files.
func inspectKeys(t *testing.T, dir string, said []string) error {
	t.Helper()
	ctx := t.Context()
	store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "queue.db")})
	check(t, err)
	defer store.Close()                                                //nolint:errcheck
	later := func() time.Time { return time.Now().Add(2 * time.Hour) } // orphans are that old
	q, v, storage, err := queueWithKeys(dir, store, new(steps), later)
	check(t, err)
	defer storage.Close() //nolint:errcheck
	jobs, err := store.List(ctx, consign.Filter{}, consign.JobID{}, 100)
	check(t, err)
	there, live := make(map[string]bool), make(map[consign.JobID]bool)
	for _, j := range jobs {
		there[j.ID.String()] = true
		if live[j.ID] = !j.Purged && j.AckedAt == 0; !live[j.ID] {
			continue
		}
		specs, err := store.Specs(ctx, []consign.JobID{j.ID})
		check(t, err)
		if _, err := v.OpenPayload(ctx, j.ID, consign.SealedPayload{Header: specs[0].Header, Payload: specs[0].Payload}); err != nil {
			return fmt.Errorf("job %s has lost its key: %w", j.ID, err)
		}
	}
	for _, id := range said {
		if id != "end" && !there[id] {
			return fmt.Errorf("job %s was acknowledged, and is lost", id)
		}
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- q.Run(running) }()
	err = untilGone(ctx, store)
	stop()
	<-ended
	check(t, err)
	_, err = v.Sweep(ctx)
	check(t, err)
	for r, err := range storage.All(ctx) {
		check(t, err)
		if !r.Job.IsZero() && !live[r.Job] {
			return fmt.Errorf("job %s has a key, and is not there or needs none", r.Job)
		}
	}
	return nil
}

// TestVaultCrashInForget: the process ends at any moment of a Delete. What it was
// not to delete is there, and after the next Open nothing else is.
func TestVaultCrashInForget(t *testing.T) {
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(3, 4))
	v := openVault(t, dir)
	s := newSpy(sqlite.Faulty{Vault: v, KeepsWAL: true})
	var rs []vault.Record
	for range 12 { // few enough to be in the WAL yet
		r := vault.Record{Job: consign.NewJobID(), Sealed: noise(rng, 150)}
		check(t, s.Put(t.Context(), r))
		rs = append(rs, r)
	}
	check(t, s.Delete(t.Context(), rs[:6]))
	whole := func(wal []byte) []byte { return wal }
	moments := map[string]string{"before": copyVault(t, dir, whole)}
	check(t, v.Checkpoint())
	moments["moved"] = copyVault(t, dir, whole)
	moments["headless"] = copyVault(t, dir, func(wal []byte) []byte { clear(wal[:sqlite.WALHead]); return wal })
	moments["half blank"] = copyVault(t, dir, func(wal []byte) []byte { clear(wal[:len(wal)/2]); return wal })
	moments["blank"] = copyVault(t, dir, func(wal []byte) []byte { clear(wal); return wal })
	for name, at := range moments {
		again := openVault(t, at)
		for i, r := range rs {
			got, err := again.Get(t.Context(), r.Job)
			if err != nil || len(got) != min(i/6, 1) {
				t.Fatalf("%s: record %d: %v (%v)", name, i, got, err)
			}
			if n := s.traces(t, at, r.Job); (n > 0) != (i >= 6) {
				t.Fatalf("%s: %d traces of record %d", name, n, i)
			}
		}
	}
	// The order matters: of a WAL that has lost its end alone, the beginning
	// comes back.
	at := copyVault(t, dir, func(wal []byte) []byte { clear(wal[len(wal)/2:]); return wal })
	if s.traces(t, at, rs[0].Job) == 0 {
		t.Error("the WAL has nothing of what was deleted: this test shows nothing")
	}
}

// copyVault copies the files as they are, with the WAL changed.
func copyVault(t *testing.T, dir string, change func([]byte) []byte) string {
	t.Helper()
	to := t.TempDir()
	file, err := os.ReadFile(filepath.Join(dir, "keys.db"))
	check(t, err)
	wal, err := os.ReadFile(filepath.Join(dir, "keys.db-wal"))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(to, "keys.db"), file, 0o600))
	check(t, os.WriteFile(filepath.Join(to, "keys.db-wal"), change(wal), 0o600))
	return to
}

// No statement reads the whole table, but for the one that is to.
func TestVaultPlans(t *testing.T) {
	plans, err := openVault(t, t.TempDir()).VaultPlans()
	check(t, err)
	for query, plan := range plans {
		if strings.Contains(plan, "SCAN records;") || strings.Contains(plan, "TEMP B-TREE") {
			t.Errorf("%s: %s", query, plan)
		}
	}
	if len(plans) != 7 {
		t.Errorf("there are %d plans", len(plans))
	}
}
