package vault

import (
	"bytes"
	"context"
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
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			check(t, liveThrough(t, seed, newDisk(), nil).crashEverywhere(seed))
		})
	}
}

// liveThrough deposits and shreds from several goroutines.
func liveThrough(t *testing.T, seed uint64, d *disk, wrong func(*slots) Storage) *life {
	l := &life{t: t, disk: d, kek: NewKEK()}
	var s Storage = slotsOn(t, d)
	if wrong != nil {
		s = wrong(s.(*slots))
	}
	v, err := New(t.Context(), s, l.kek, testConfig())
	check(t, err)
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
					if j.kept == 0 {
						j.kept = l.disk.len()
					}
				}
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

func (l *life) crashEverywhere(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	for moment := 4; moment <= l.disk.len(); moment++ { // from where the vault's own key is kept
		if err := l.survives(moment, &disk{data: l.disk.crashed(moment, rng)}); err != nil {
			return fmt.Errorf("crash at %d: %w", moment, err)
		}
	}
	return nil
}

// survives checks a crash image.
func (l *life) survives(moment int, d *disk) error {
	image := d.image()
	v, err := New(l.t.Context(), slotsOn(l.t, d), l.kek, testConfig())
	if err != nil {
		return err
	}
	for i, j := range l.jobs {
		if j.shredded > 0 && j.shredded <= moment {
			if n := traces(image, j.cek.Bytes(), j.sealed); n > 0 {
				return fmt.Errorf("job %d was shredded, and %d traces are left", i, n)
			}
		}
		if j.kept > 0 && j.kept <= moment && (j.asked == 0 || moment < j.asked) {
			if cek, err := j.find(l.t, v); err != nil || cek != j.cek {
				return fmt.Errorf("the key of job %d was kept, and is lost: %w", i, err)
			}
		}
		if j.asked > 0 {
			if err := v.Shred(l.t.Context(), j.id); err != nil {
				return err
			}
			if n := traces(d.image(), j.cek.Bytes(), j.sealed); n > 0 {
				return fmt.Errorf("job %d was shredded after it, and %d traces are left", i, n)
			}
		}
	}
	return nil
}

// TestCrashMutants: a storage with one fault does not come through.
func TestCrashMutants(t *testing.T) {
	for name, m := range map[string]struct {
		disk  func(diskOp) (lost bool)
		wrong func(*slots) Storage
	}{
		"does not sync":                       {disk: func(op diskOp) bool { return op.bytes == nil }},
		"does not overwrite":                  {disk: func(op diskOp) bool { return len(op.bytes) == slotSize && zero(op.bytes) }},
		"writes a record's first half":        {disk: func(op diskOp) bool { return false }, wrong: func(s *slots) Storage { s.medium = halves{s.medium}; return s }},
		"answers Put before it is durable":    {wrong: func(s *slots) Storage { return &hasty{slots: s, put: true} }},
		"answers Delete before it is durable": {wrong: func(s *slots) Storage { return &hasty{slots: s, delete: true} }},
		"frees slots without an overwrite":    {wrong: func(s *slots) Storage { return &hasty{slots: s, unlink: true} }},
		"erases the old before the new is in": {wrong: func(s *slots) Storage { return &hasty{slots: s, eraseFirst: true} }},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) { // the dice decide what of the unsynced a crash leaves
				d := newDisk()
				d.lost = m.disk
				if err := liveThrough(t, seed, d, m.wrong).crashEverywhere(seed); err != nil {
					t.Log(err)
					return
				}
			}
			t.Error("the crash test lets it pass")
		})
	}
}

// halves is a medium that loses the second half of every record.
type halves struct{ medium }

func (h halves) WriteAt(b []byte, at int64) (int, error) {
	if len(b) == slotSize {
		b = b[:slotSize/2]
	}
	return h.medium.WriteAt(b, at)
}

// hasty is a file of slots with a fault.
type hasty struct {
	*slots
	put, delete, unlink, eraseFirst bool
}

func (h *hasty) Put(ctx context.Context, r Record) error {
	switch {
	case h.put:
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.add(r)
	case h.eraseFirst:
		h.mu.Lock()
		h.remove(func(p placed) bool { return p.named(r) }, r.Job)
		h.mu.Unlock()
		if err := h.commit(); err != nil {
			return err
		}
	}
	return h.slots.Put(ctx, r)
}

func (h *hasty) Delete(ctx context.Context, rs []Record) error {
	switch {
	case h.delete:
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range rs {
			h.remove(func(p placed) bool { return p.same(r) }, r.Job)
		}
		return nil
	case h.unlink:
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, r := range rs {
			delete(h.jobs, r.Job)
		}
		return nil
	}
	return h.slots.Delete(ctx, rs)
}

// TestCrashInRekey: a crash at any write of a rotation loses nothing that both
// keys open; once it has returned, the new key opens all and the old one nothing.
func TestCrashInRekey(t *testing.T) {
	l := liveThrough(t, 9, newDisk(), nil)
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
	for i, j := range l.jobs {
		cek, err := j.find(l.t, v)
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
	if len(kept) != slotGrow-2 { // and the vault's own key and name
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
