package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// jobsOf is a queue's store with these jobs.
type jobsOf struct {
	consign.Store
	jobs map[consign.JobID]*consign.Job
	err  error
}

func (s jobsOf) Jobs(_ context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	jobs := make([]*consign.Job, len(ids))
	for i, id := range ids {
		jobs[i] = s.jobs[id]
	}
	return jobs, s.err
}

func TestConfig(t *testing.T) {
	for field, c := range map[string]Config{"config.kem": {KEM: seal.RSAOAEP}, "config.key_lifetime": {KeyLifetime: -1}, "config.key_overlap": {KeyOverlap: -1}} {
		var bad *consign.FieldError
		if _, err := NewMemory(c); !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if _, err := New(t.Context(), NewMemoryStorage(), KEK{}, Config{}); !errors.Is(err, ErrKEK) {
		t.Errorf("no KEK: %v", err)
	}
}

// TestSweepOrphans: an hour after its deposit a key needs a job that may still
// ask for it.
func TestSweepOrphans(t *testing.T) {
	now := &clock{time.Now()}
	store := jobsOf{jobs: make(map[consign.JobID]*consign.Job)}
	c := testConfig()
	c.Now, c.Store = now.time, store
	v, err := NewMemory(c)
	check(t, err)
	w := newWorker(t, now.now)
	jobs := make(map[string]testJob)
	for name, job := range map[string]*consign.Job{"none": nil, "queued": {State: consign.StateQueued}, "completed": {State: consign.StateCompleted},
		"acknowledged": {State: consign.StateCompleted, AckedAt: 1}, "purged": {State: consign.StateExpired, Purged: true}} {
		j := newJob(t, v, consign.NewJobID())
		check(t, j.deposit(t.Context(), v))
		jobs[name] = j
		if job != nil {
			store.jobs[j.id] = job
		}
	}
	sweep := func(want int) {
		t.Helper()
		if n, err := v.Sweep(t.Context()); err != nil || n != want {
			t.Fatalf("it destroyed %d, not %d: %v", n, want, err)
		}
	}
	now.now = now.now.Add(orphanAge - time.Microsecond)
	sweep(0)
	again := newJob(t, v, consign.NewJobID())
	check(t, again.deposit(t.Context(), v))
	now.now = now.now.Add(time.Microsecond)
	sweep(3)
	for name, j := range jobs {
		_, err := j.release(t, v, w)
		if gone := name == "none" || name == "acknowledged" || name == "purged"; errors.Is(err, consign.ErrKeyGone) != gone {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One that is deposited again has its hour again.
	now.now = now.now.Add(orphanAge - 2*time.Microsecond)
	check(t, again.deposit(t.Context(), v))
	now.now = now.now.Add(time.Minute)
	sweep(0)
	now.now = now.now.Add(orphanAge)
	sweep(1)
}

// TestSweepAmongDeposits: a key that comes again while its job is looked for
// stays.
func TestSweepAmongDeposits(t *testing.T) {
	now := &clock{time.Now()}
	c := testConfig()
	c.Now = now.time
	v, err := NewMemory(c)
	check(t, err)
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	now.now = now.now.Add(2 * orphanAge)
	v.config.Store = depositing{deposit: func() { check(t, j.deposit(t.Context(), v)) }}
	_, err = v.Sweep(t.Context())
	check(t, err)
	if _, err := j.release(t, v, newWorker(t, now.now)); err != nil {
		t.Fatal(err)
	}
}

type depositing struct {
	consign.Store
	deposit func()
}

func (s depositing) Jobs(context.Context, []consign.JobID) ([]*consign.Job, error) {
	s.deposit()
	return []*consign.Job{nil}, nil
}

// TestKeyLifetime: nothing keeps a key longer, and what the sweep has not come to
// is not given out.
func TestKeyLifetime(t *testing.T) {
	now := &clock{time.Now()}
	c := testConfig()
	c.Now = now.time
	v, err := NewMemory(c)
	check(t, err)
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	v.config.Store = jobsOf{jobs: map[consign.JobID]*consign.Job{j.id: {State: consign.StateQueued}}, err: errors.New("the store is down")}
	now.now = now.now.Add(7*24*time.Hour - time.Microsecond)
	w := newWorker(t, now.now)
	if _, err := j.release(t, v, w); err != nil {
		t.Fatal(err)
	}
	if n, err := v.Sweep(t.Context()); n != 0 || err == nil {
		t.Fatalf("it destroyed %d, and says %v of a store that is down", n, err)
	}
	now.now = now.now.Add(time.Microsecond)
	if _, err := j.release(t, v, w); !errors.Is(err, consign.ErrKeyGone) {
		t.Fatal(err)
	}
	if n, err := v.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("it destroyed %d: %v", n, err)
	}
}

// TestSweepMany: more than fit one batch.
func TestSweepMany(t *testing.T) {
	now := &clock{time.Now()}
	c := testConfig()
	c.Now, c.Store = now.time, jobsOf{}
	v, err := NewMemory(c)
	check(t, err)
	const n = 2*batchSize + 1
	for range n {
		check(t, newJob(t, v, consign.NewJobID()).deposit(t.Context(), v))
	}
	now.now = now.now.Add(orphanAge)
	if got, err := v.Sweep(t.Context()); got != n || err != nil {
		t.Fatalf("it destroyed %d: %v", got, err)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testConfig()
		c.Store = jobsOf{}
		v, err := NewMemory(c)
		check(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.Run(ctx) }()
		j := newJob(t, v, consign.NewJobID())
		check(t, j.deposit(ctx, v))
		time.Sleep(orphanAge + sweepEvery)
		synctest.Wait()
		if rs, err := v.storage.Get(ctx, j.id); err != nil || len(rs) > 0 {
			t.Errorf("the orphan is still there: %v", err)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestRotateKey: wraps to the key before open for a day, in this process and in
// the next, and then never.
func TestRotateKey(t *testing.T) {
	now := &clock{time.Now()}
	c := testConfig()
	c.Now = now.time
	d, k := newDisk(), NewKEK()
	v := onDisk(t, d, k, c)
	older := newJob(t, v, consign.NewJobID())
	key, err := v.Key(t.Context())
	check(t, err)
	now.now = now.now.Add(-time.Hour) // a clock that was set back does not bring the old one back
	check(t, v.RotateKey(t.Context()))
	newer := newJob(t, v, consign.NewJobID())
	if next, err := v.Key(t.Context()); err != nil || string(next) == string(key) {
		t.Fatal("it is the same key", err)
	}
	now.now = now.now.Add(time.Hour)
	for _, v := range []*Vault{v, onDisk(t, d, k, c)} {
		check(t, older.deposit(t.Context(), v))
		check(t, newer.deposit(t.Context(), v))
	}
	private := v.own[0].Bytes()[2:]
	sealed := d.written(k, private)
	now.now = now.now.Add(24*time.Hour + time.Microsecond) // after the newer one, which is a microsecond younger
	var bad *consign.FieldError
	if err := older.deposit(t.Context(), v); !errors.As(err, &bad) || bad.Field != "wraps" || !strings.Contains(bad.Remedy, "present key") {
		t.Fatal(err)
	}
	if n, err := v.Sweep(t.Context()); n != 1 || err != nil {
		t.Fatalf("it destroyed %d: %v", n, err)
	}
	if n := traces(d.image(), private, sealed); len(sealed) == 0 || n > 0 {
		t.Fatalf("the key was written %d times, and %d traces of it are left", len(sealed), n)
	}
	check(t, newer.deposit(t.Context(), v))

	c.KEM = seal.MLKEM768X25519
	v = onDisk(t, d, k, c)
	check(t, newer.deposit(t.Context(), v))
	check(t, newJob(t, v, consign.NewJobID()).deposit(t.Context(), v))
	if kem := v.own[len(v.own)-1].Public().KEM(); kem != seal.MLKEM768X25519 {
		t.Fatalf("the present key is of %v", kem)
	}
	for range MaxHeaders {
		err = v.RotateKey(t.Context())
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("more keys than there is room for: %v", err)
	}
}

// TestAnotherProcess: two vaults on one storage know each other's keys.
func TestAnotherProcess(t *testing.T) {
	s, k := NewMemoryStorage(), NewKEK()
	one, err := New(t.Context(), s, k, testConfig())
	check(t, err)
	two, err := New(t.Context(), s, k, testConfig())
	check(t, err)
	check(t, two.RotateKey(t.Context()))
	check(t, newJob(t, two, consign.NewJobID()).deposit(t.Context(), one))
	check(t, newJob(t, one, consign.NewJobID()).deposit(t.Context(), two))
}

// TestReleaseErrors: which of them says what a queue can do.
func TestReleaseErrors(t *testing.T) {
	now := &clock{time.Now()}
	c := testConfig()
	c.Now = now.time
	v, err := NewMemory(c)
	check(t, err)
	j, w := newJob(t, v, consign.NewJobID()), newWorker(t, now.now)
	if _, err := j.release(t, v, w); !errors.Is(err, consign.ErrKeyGone) || errors.Is(err, ErrWorkerKeys) {
		t.Error(err)
	}
	check(t, j.deposit(t.Context(), v))
	bare := w
	bare.KeyBundle = nil
	if _, err := j.release(t, v, bare); !errors.Is(err, ErrWorkerKeys) || errors.Is(err, consign.ErrKeyGone) {
		t.Error(err)
	}
	var bad *consign.FieldError
	if err := v.Shred(t.Context(), consign.JobID{}); !errors.As(err, &bad) { // of which the vault's own keys are
		t.Error(err)
	}
	if _, err := j.release(t, v, w); err != nil {
		t.Error(err)
	}
	now.now = now.now.Add(seal.MaxBundleAge)
	if _, err := j.release(t, v, w); !errors.Is(err, ErrWorkerKeys) || !errors.Is(err, seal.ErrBundleTime) {
		t.Error(err)
	}
}

// TestBundlesRemembered: what was verified once vouches for those bytes alone,
// and for no longer than they say; and there is an end to what is remembered.
func TestBundlesRemembered(t *testing.T) {
	now := time.Now()
	var b bundles
	w, other := newWorker(t, now), newWorker(t, now)
	for range 2 {
		key, err := b.key(w.WorkerKeys, now)
		check(t, err)
		if !key.Equal(w.key.Public()) {
			t.Fatal("another key")
		}
	}
	if len(b.verified) != 1 {
		t.Fatalf("%d are remembered", len(b.verified))
	}
	for name, change := range map[string]func(w *consign.WorkerKeys){
		"another worker":           func(w *consign.WorkerKeys) { w.ID = other.ID },
		"another algorithm":        func(w *consign.WorkerKeys) { w.Algorithm = sign.RSAPSS },
		"another signing key":      func(w *consign.WorkerKeys) { w.PublicKey = other.PublicKey },
		"another's bundle":         func(w *consign.WorkerKeys) { w.KeyBundle = other.KeyBundle },
		"a bundle that is no more": func(w *consign.WorkerKeys) { w.KeyBundle = w.KeyBundle[1:] },
	} {
		changed := w.WorkerKeys
		change(&changed)
		if _, err := b.key(changed, now); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := b.key(w.WorkerKeys, now.Add(seal.MaxBundleAge)); !errors.Is(err, seal.ErrBundleTime) {
		t.Errorf("past its time: %v", err)
	}
	for i := range maxBundles {
		b.verified[[32]byte{1, byte(i >> 8), byte(i)}] = seal.Bundle{}
	}
	_, err := b.key(other.WorkerKeys, now)
	check(t, err)
	if len(b.verified) > maxBundles {
		t.Errorf("%d are remembered", len(b.verified))
	}
}

func TestOpen(t *testing.T) {
	dir, k := filepath.Join(t.TempDir(), "a", "vault"), NewKEK()
	v, err := Open(dir, k, testConfig())
	check(t, err)
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	key, err := v.Key(t.Context())
	check(t, err)
	if _, err := Open(dir, k, testConfig()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second one opens it: %v", err)
	}
	check(t, v.Close())
	if err := j.deposit(t.Context(), v); !errors.Is(err, consign.ErrClosed) {
		t.Fatal(err)
	}

	if _, err := Open(dir, NewKEK(), testConfig()); !errors.Is(err, ErrKEK) {
		t.Fatalf("it opens with another KEK: %v", err)
	}
	v, err = Open(dir, k, testConfig()) // whom the failure has not locked out
	check(t, err)
	if again, err := v.Key(t.Context()); err != nil || string(again) != string(key) {
		t.Fatal("it has another key", err)
	}
	if cek, err := j.release(t, v, newWorker(t, time.Now())); err != nil || cek != j.cek {
		t.Fatal("the key is lost", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "records")); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Fatal("the mode of the file is not 0600", err)
	}
	check(t, v.Close())

	check(t, os.WriteFile(filepath.Join(dir, "records"), []byte("something else that is longer than one slot, or shorter"), 0o600))
	if _, err := Open(dir, k, testConfig()); err == nil || !strings.Contains(err.Error(), "none of a vault") {
		t.Fatal(err)
	}
}

// TestShredInFiles looks for a shredded key in every file of the vault.
func TestShredInFiles(t *testing.T) {
	dir, k := t.TempDir(), NewKEK()
	v, err := Open(dir, k, testConfig())
	check(t, err)
	j, other := newJob(t, v, consign.NewJobID()), newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	check(t, other.deposit(t.Context(), v))
	transit, err := v.Seal(t.Context(), consign.SealRequest{Job: j.id, Kind: "TASK", Comparator: "none", Payload: []byte("plain")})
	check(t, err)
	all, err := v.kept(t.Context(), j.id)
	check(t, err)
	if len(all) != 2 {
		t.Fatalf("%d records", len(all))
	}
	look := func(secret []byte, sealed [][]byte) (n int) {
		check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			n += traces(b, secret, sealed)
			return err
		}))
		return n
	}
	for _, r := range all {
		if look(r.cek.Bytes(), nil) > 0 || look(r.cek.Bytes(), [][]byte{r.Sealed[8:]}) == 0 {
			t.Fatal("the key can be read, or its record cannot be found")
		}
	}
	check(t, v.Shred(t.Context(), j.id))
	for _, r := range all {
		secrets := [][]byte{r.Sealed[8:]}
		if r.key != nil {
			secrets = append(secrets, r.key.Bytes()[2:])
		}
		if n := look(r.cek.Bytes(), secrets); n > 0 {
			t.Fatalf("%d traces are left", n)
		}
	}
	if _, err := v.OpenPayload(t.Context(), j.id, transit); !errors.Is(err, consign.ErrKeyGone) {
		t.Fatal(err)
	}
	check(t, v.Close())
}

// TestTornRecords: what a crash left half written is erased when the vault opens.
func TestTornRecords(t *testing.T) {
	d := newDisk()
	s := slotsOn(t, d)
	r := Record{Job: consign.JobID{1}, Sealed: []byte("sealed")}
	check(t, s.Put(t.Context(), r))
	for i := range slotHead + len(r.Sealed) {
		torn := &disk{data: d.image()}
		torn.data[slotSize+i] ^= 1
		s, n, err := readSlots(torn, int64(len(torn.data)))
		check(t, err)
		if rs, _ := s.Get(t.Context(), r.Job); n != 1 || len(rs) != 0 || !zero(torn.data[slotSize:]) {
			t.Fatalf("byte %d: %d torn, %d records", i, n, len(rs))
		}
	}
}

// TestGroupCommit: those that wait while the disk is busy share the next sync.
func TestGroupCommit(t *testing.T) {
	d := newDisk()
	s := slotsOn(t, d)
	check(t, s.Put(t.Context(), Record{Job: consign.JobID{9}}))
	busy, free := make(chan bool), make(chan bool)
	syncs := 0
	d.fault = func(op diskOp) error {
		if op.bytes == nil {
			if syncs++; syncs == 1 {
				busy <- true
				<-free
			}
		}
		return nil
	}
	const n = 8
	done := make(chan error)
	put := func(i byte) { done <- s.Put(t.Context(), Record{Job: consign.JobID{1, i}}) }
	go put(n)
	<-busy
	for i := range byte(n) {
		go put(i)
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		s.mu.Lock()
		waiting = len(s.dirty)
		s.mu.Unlock()
	}
	free <- true
	for range n + 1 {
		check(t, <-done)
	}
	if syncs != 2 {
		t.Fatalf("%d syncs for %d records", syncs, n+1)
	}
}
