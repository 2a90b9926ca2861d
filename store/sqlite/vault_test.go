package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/vault/vaulttest"
	"github.com/consignq/consign/worker"
)

func openVault(tb testing.TB, dir string) *sqlite.Vault {
	tb.Helper()
	v, err := sqlite.OpenVault(tb.Context(), filepath.Join(dir, "keys.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := v.Close(); err != nil {
			tb.Error(err)
		}
	})
	return v
}

func TestVaultStorage(t *testing.T) {
	vaulttest.Storage(t, func(t *testing.T) vault.Storage { return openVault(t, t.TempDir()) })
}

func TestVaultContract(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) consign.Vault {
		return keys(t, openVault(t, t.TempDir()), vault.NewKEK(), vault.Config{})
	})
}

func keys(t *testing.T, s vault.Storage, k vault.KEK, c vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.New(t.Context(), s, k, c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What is there is there when it is opened again, and nobody else has it until
// then.
func TestVaultOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	v := openVault(t, dir)
	r := vault.Record{Job: consign.JobID{1}, At: -5, Sealed: []byte("sealed")}
	check(t, v.Put(t.Context(), r))
	if _, err := sqlite.OpenVault(t.Context(), path); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("a second time: %v", err)
	}
	check(t, v.Close())
	if err := v.Put(t.Context(), r); !errors.Is(err, sqlite.ErrClosed) {
		t.Errorf("once it is closed: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, sqlite.ErrForeign) {
		t.Errorf("as a store: %v", err)
	}
	again := openVault(t, dir)
	rs, err := again.Get(t.Context(), r.Job)
	if err != nil || len(rs) != 1 || rs[0].At != r.At || string(rs[0].Sealed) != "sealed" {
		t.Errorf("it has %v (%v)", rs, err)
	}
	if err := again.Put(t.Context(), vault.Record{Sealed: make([]byte, vault.MaxSealed+1)}); err == nil {
		t.Error("a record that does not fit is cut")
	}
	check(t, again.Close())
	script(t, path, "PRAGMA ignore_check_constraints = ON; UPDATE records SET sealed = x'ff01'")
	damaged, corrupt := openVault(t, dir), new(sqlite.CorruptError)
	if _, err := damaged.Get(t.Context(), r.Job); !errors.As(err, &corrupt) || corrupt.Column != "sealed" {
		t.Errorf("a row that is cut short: %v", err)
	}
	for _, err := range damaged.All(t.Context()) {
		if !errors.As(err, &corrupt) {
			t.Errorf("among all, a row that is cut short: %v", err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// spy notes every form in which a key was ever given to the storage.
type spy struct {
	vault.Storage
	mu    sync.Mutex
	forms map[consign.JobID][][]byte
}

func newSpy(s vault.Storage) *spy {
	return &spy{Storage: s, forms: make(map[consign.JobID][][]byte)}
}

func (s *spy) note(rs ...vault.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		s.forms[r.Job] = append(s.forms[r.Job], r.Sealed)
	}
}

func (s *spy) Put(ctx context.Context, r vault.Record) error {
	s.note(r)
	return s.Storage.Put(ctx, r)
}

func (s *spy) Replace(ctx context.Context, rs []vault.Record) error {
	s.note(rs...)
	return s.Storage.Replace(ctx, rs)
}

// traces counts pieces of 16 bytes of a job's keys, encrypted as they were, in
// any file of the folder. The first 8 bytes name the KEK, in every record.
func (s *spy) traces(t *testing.T, dir string, job consign.JobID) (n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forms[job]) == 0 {
		t.Fatalf("job %s never had a key", job)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	check(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		check(t, err)
		for _, form := range s.forms[job] {
			for i := 8; i+16 <= len(form); i += 16 {
				n += bytes.Count(raw, form[i:i+16])
			}
		}
	}
	return n
}

// Of what was deleted nothing is left in any file, whatever was written before
// and is written after, with every delete; of what is there something is.
func TestVaultForgets(t *testing.T) {
	dir := t.TempDir()
	check(t, forgets(t, dir, openVault(t, dir), 200))
}

func forgets(t *testing.T, dir string, storage vault.Storage, steps int) error {
	s, rng := newSpy(storage), rand.New(rand.NewPCG(1, 2))
	var there []vault.Record
	var gone []consign.JobID
	for step := range steps {
		switch n := rng.IntN(10); {
		case n < 6 || len(there) == 0:
			r := vault.Record{Job: consign.NewJobID(), At: consign.Instant(step)}
			for range 1 + rng.IntN(3) { // again, with the same name
				r.Sealed = noise(rng, 60+rng.IntN(vault.MaxSealed-60))
				check(t, s.Put(t.Context(), r))
			}
			there = append(there, r)
		case n < 7:
			i := rng.IntN(len(there))
			there[i].Sealed = noise(rng, 190)
			check(t, s.Replace(t.Context(), there[i:i+1]))
		default:
			rng.Shuffle(len(there), func(i, j int) { there[i], there[j] = there[j], there[i] })
			k := 1 + rng.IntN(min(len(there), 5))
			check(t, s.Delete(t.Context(), there[:k]))
			for _, r := range there[:k] {
				gone = append(gone, r.Job)
				if n := s.traces(t, dir, r.Job); n > 0 {
					return fmt.Errorf("step %d: %d traces are left of job %s", step, n, r.Job)
				}
			}
			there = there[k:]
		}
	}
	for _, job := range gone {
		if n := s.traces(t, dir, job); n > 0 {
			return fmt.Errorf("at the end: %d traces are left of job %s", n, job)
		}
	}
	for _, r := range there {
		if s.traces(t, dir, r.Job) == 0 {
			t.Fatal("what is there cannot be seen")
		}
	}
	return nil
}

func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestVaultForgetsMutants: a vault with one fault is found out.
func TestVaultForgetsMutants(t *testing.T) {
	for name, m := range map[string]sqlite.Faulty{
		"leaves the WAL as it is": {KeepsWAL: true}, "deletes rows": {KeepsPages: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m.Vault = openVault(t, dir)
			if err := forgets(t, dir, m, 200); err == nil {
				t.Error("it passes")
			}
		})
	}
}

// Through a whole queue on the other file: in each of the terminal states, once
// the job was acknowledged or purged, nothing is left of its keys in any file.
func TestVaultForgetsEndedJobs(t *testing.T) {
	for _, custody := range []consign.Custody{consign.CustodyEscrow, consign.CustodyTransit} {
		for _, acknowledged := range []bool{true, false} {
			for _, want := range []consign.State{consign.StateCompleted, consign.StateFailed, consign.StateCancelled, consign.StateExpired} {
				t.Run(fmt.Sprintf("%s, %s, acknowledged %t", want, custody, acknowledged), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { endOf(t, custody, acknowledged, want) })
				})
			}
		}
	}
}

func endOf(t *testing.T, custody consign.Custody, acknowledged bool, want consign.State) {
	ctx, dir := t.Context(), t.TempDir()
	store := openAt(t, sqlite.Config{Path: filepath.Join(dir, "queue.db")})
	storage := newSpy(openVault(t, dir))
	v := keys(t, storage, vault.NewKEK(), vault.Config{Store: store})
	identity := sign.FromEd25519Seed([32]byte{1})
	q, _ := startQueue(t, consign.Config{Store: store, Vault: v, Identity: identity, Retention: 5 * time.Minute})
	worked, stop := context.WithCancel(ctx)
	runner, err := worker.New(worker.Config{API: q, Identity: sign.FromEd25519Seed([32]byte{2}), Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
			if want == consign.StateFailed {
				return worker.Output{}, worker.ErrPayload
			}
			return worker.Output{Result: task.Payload}, nil
		})}})
	check(t, err)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = runner.Run(worked) }()
	defer func() { stop(); <-ended }()
	c, err := client.New(client.Config{API: q.Submitter("acme"), QueueKey: identity.Public(), Keyring: client.NewKeyring()})
	check(t, err)
	r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte("a secret"), Custody: custody}
	switch want {
	case consign.StateCancelled:
		r.Delay = time.Minute
	case consign.StateExpired:
		r.Labels, r.QueueTime = map[string]string{"moon": "full"}, time.Second
	}
	_, err = c.Submit(ctx, r)
	check(t, err)
	if want == consign.StateCancelled {
		_, err = c.Cancel(ctx, r.ID)
		check(t, err)
	}
	info, err := q.Submitter("acme").Wait(ctx, r.ID)
	check(t, err)
	if info.State != want {
		t.Fatalf("it is %s", info.State)
	}
	if storage.traces(t, dir, r.ID) == 0 {
		t.Fatal("its key cannot be seen while it is there")
	}
	if acknowledged {
		check(t, q.Submitter("acme").Acknowledge(ctx, r.ID))
		time.Sleep(time.Minute)
	} else {
		time.Sleep(10 * time.Minute) // past retention
	}
	if n := storage.traces(t, dir, r.ID); n > 0 {
		t.Errorf("%d traces are left", n)
	}
}
