package vault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
)

// life is what a vault was asked for on a disk, and when it answered: moments of
// the disk.
type life struct {
	t    *testing.T
	disk *disk
	kek  KEK
	jobs []*jobLife
}

type jobLife struct {
	testJob
	sealed          [][]byte // every form that its key was written in
	kept            int      // when Deposit had returned; 0: not
	asked, shredded int      // when Shred was called, and had returned; 0: not
}

// TestCrash: after a crash at any write, whatever of the unsynced writes is on
// the disk, every key that was taken in is there, and nothing is left of those
// that were shredded.
func TestCrash(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := liveThrough(t, seed)
			l.crashEverywhere(rand.New(rand.NewPCG(seed, 2)))
		})
	}
}

// liveThrough deposits and shreds from several goroutines.
func liveThrough(t *testing.T, seed uint64) *life {
	l := &life{t: t, disk: newDisk(), kek: NewKEK()}
	v := onDisk(t, l.disk, l.kek, testConfig())
	var mu sync.Mutex
	var all sync.WaitGroup
	for g := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 10+g))
		all.Go(func() {
			for range 8 {
				j := &jobLife{testJob: newJob(t, v, consign.NewJobID())}
				mu.Lock()
				l.jobs = append(l.jobs, j)
				mu.Unlock()
				for range 1 + rng.IntN(2) { // again, which moves the record
					if err := j.deposit(t.Context(), v); err != nil {
						t.Error(err)
					}
				}
				j.kept = l.disk.len()
				if rng.IntN(3) > 0 {
					j.asked = l.disk.len()
					if err := v.Shred(t.Context(), j.id); err != nil {
						t.Error(err)
					}
					j.shredded = l.disk.len()
				}
			}
		})
	}
	all.Wait()
	for _, j := range l.jobs {
		j.sealed = l.disk.written(l.kek, j.cek.Bytes())
	}
	return l
}

func (l *life) crashEverywhere(rng *rand.Rand) {
	for moment := 4; moment <= l.disk.len(); moment++ { // from where the vault's own key is kept
		l.survives(moment, &disk{data: l.disk.crashed(moment, rng)}, l.kek)
	}
}

// survives checks a crash image.
func (l *life) survives(moment int, d *disk, k KEK) {
	l.t.Helper()
	image := d.image()
	v := onDisk(l.t, d, k, testConfig())
	w := newWorker(l.t, time.Now().Add(-time.Hour))
	for i, j := range l.jobs {
		if j.shredded > 0 && j.shredded <= moment {
			if n := traces(image, j.cek.Bytes(), j.sealed); n > 0 {
				l.t.Fatalf("crash at %d: job %d was shredded, and %d traces are left", moment, i, n)
			}
		}
		if j.kept > 0 && j.kept <= moment && (j.asked == 0 || moment < j.asked) {
			if cek, err := j.release(l.t, v, w); err != nil || cek != j.cek {
				l.t.Fatalf("crash at %d: the key of job %d was kept, and is lost: %v", moment, i, err)
			}
		}
		if j.asked > 0 {
			check(l.t, v.Shred(l.t.Context(), j.id))
			if n := traces(d.image(), j.cek.Bytes(), j.sealed); n > 0 {
				l.t.Fatalf("crash at %d: job %d was shredded after it, and %d traces are left", moment, i, n)
			}
		}
	}
}

// TestCrashInRekey: a crash at any write of a rotation loses nothing that both
// keys open; once it has returned, the new key opens all and the old one nothing.
func TestCrashInRekey(t *testing.T) {
	l := liveThrough(t, 9)
	l.disk = &disk{data: l.disk.image()}
	older, newer := l.kek, NewKEK()
	v := onDisk(t, l.disk, older, testConfig())
	label := l.disk.image()
	began := l.disk.len()
	check(t, v.Rekey(t.Context(), newer))
	rng := rand.New(rand.NewPCG(1, 1))
	for moment := began; moment <= l.disk.len(); moment++ {
		d := &disk{data: l.disk.crashedFrom(label, moment, rng)}
		v := onDisk(t, d, older.with(newer), testConfig())
		l.allThere(v)
		for name, k := range map[string]KEK{"older": older, "newer": newer} {
			if under := l.under(d, k); (under > 0) != (name == "newer") {
				t.Fatalf("crash at %d: after it %d records are under the %s key", moment, under, name)
			}
		}
	}
	l.allThere(onDisk(t, &disk{data: l.disk.image()}, newer, testConfig()))
	if n := l.under(l.disk, older); n > 0 {
		t.Fatalf("%d records are under the old key", n)
	}
	if _, err := New(t.Context(), slotsOn(t, l.disk), older, testConfig()); err == nil {
		t.Fatal("the vault opens with the old key alone")
	}
}

// allThere checks that the vault has every key that was not shredded.
func (l *life) allThere(v *Vault) {
	l.t.Helper()
	w := newWorker(l.t, time.Now().Add(-time.Hour))
	for i, j := range l.jobs {
		cek, err := j.release(l.t, v, w)
		if j.asked == 0 && (err != nil || cek != j.cek) {
			l.t.Fatalf("the key of job %d is lost: %v", i, err)
		}
		if j.asked > 0 && err == nil {
			l.t.Fatalf("the key of job %d is back", i)
		}
	}
}

// under counts what the key opens, wherever in the image it is.
func (l *life) under(d *disk, k KEK) int { return bytes.Count(d.image(), k.keys[0].id[:]) }

// TestTracesCanBeSeen: what the tests above look for is there before Shred.
func TestTracesCanBeSeen(t *testing.T) {
	d, k := newDisk(), NewKEK()
	v := onDisk(t, d, k, testConfig())
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	sealed := d.written(k, j.cek.Bytes())
	if len(sealed) != 1 || traces(d.image(), j.cek.Bytes(), sealed) < 90 || traces(d.image(), j.cek.Bytes(), nil) != 0 {
		t.Fatalf("%d forms, %d traces", len(sealed), traces(d.image(), j.cek.Bytes(), sealed))
	}
	check(t, v.Shred(t.Context(), j.id))
	if n := traces(d.image(), j.cek.Bytes(), sealed); n != 0 {
		t.Fatalf("%d traces are left", n)
	}
}

// TestDiskFails: after an error of the disk a call is made again, and then holds.
func TestDiskFails(t *testing.T) {
	d, k := newDisk(), NewKEK()
	v := onDisk(t, d, k, testConfig())
	w := newWorker(t, time.Now().Add(-time.Hour))
	for _, writes := range []bool{true, false} { // or only syncs fail
		fail := func(op diskOp) error {
			if (op.bytes != nil) == writes {
				return errDisk
			}
			return nil
		}
		j := newJob(t, v, consign.NewJobID())
		d.fault = fail
		if err := j.deposit(t.Context(), v); err == nil {
			t.Fatal("Deposit succeeded on a disk that fails")
		}
		d.fault = nil
		check(t, j.deposit(t.Context(), v))
		again := onDisk(t, &disk{data: d.crashed(d.len(), rand.New(rand.NewPCG(1, 1)))}, k, testConfig())
		if cek, err := j.release(t, again, w); err != nil || cek != j.cek {
			t.Fatalf("the key is lost: %v", err)
		}
		sealed := d.written(k, j.cek.Bytes())
		d.fault = fail
		for range 2 {
			if err := v.Shred(t.Context(), j.id); err == nil {
				t.Fatal("Shred succeeded on a disk that fails")
			}
		}
		d.fault = nil
		check(t, v.Shred(t.Context(), j.id))
		if n := traces(d.crashed(d.len(), rand.New(rand.NewPCG(1, 1))), j.cek.Bytes(), sealed); n > 0 {
			t.Fatalf("%d traces are left", n)
		}
	}
}

// TestDiskFull: no new key is taken in, and every one that is there can still be
// shredded.
func TestDiskFull(t *testing.T) {
	d, k := newDisk(), NewKEK()
	v := onDisk(t, d, k, testConfig())
	size := int64(len(d.image()))
	d.fault = func(op diskOp) error {
		if op.at+int64(len(op.bytes)) > size {
			return errDisk
		}
		return nil
	}
	var kept []testJob
	for {
		j := newJob(t, v, consign.NewJobID())
		if err := j.deposit(t.Context(), v); err != nil {
			break
		}
		kept = append(kept, j)
	}
	if len(kept) != slotGrow-1 { // and the vault's own key
		t.Fatalf("%d keys were taken in", len(kept))
	}
	for _, j := range kept {
		check(t, v.Shred(t.Context(), j.id))
	}
	if n := len(d.image()); int64(n) != size {
		t.Fatalf("the file has %d bytes, and had %d", n, size)
	}
	check(t, newJob(t, v, consign.NewJobID()).deposit(t.Context(), v))
}
