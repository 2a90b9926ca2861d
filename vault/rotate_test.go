package vault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
)

// TestRotateKEK: no key of a job is lost, and what was written before is beyond
// the reach of who has the vault's file, of any time, and the KEK's file.
func TestRotateKEK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	k, err := KEKFromFile(path)
	check(t, err)
	d := newDisk()
	v := onDisk(t, d, k, testConfig())
	w := newWorker(t, time.Now().Add(-time.Hour))
	var jobs []testJob
	for range 2*batchSize + 3 {
		jobs = append(jobs, newJob(t, v, consign.NewJobID()))
		check(t, jobs[len(jobs)-1].deposit(t.Context(), v))
	}
	backup := d.image()
	for range 6 {
		check(t, v.RotateKEK(t.Context(), path))
		if info, err := os.Stat(path); err != nil || info.Size() > 2*(kekDigits+1) {
			t.Fatalf("the file grows: %v, %v", info.Size(), err)
		}
	}
	after, err := KEKFromFile(path)
	check(t, err)
	if len(after.keys) != 1 || after.knows(k) {
		t.Fatalf("the file holds %d keys, the old one: %t", len(after.keys), after.knows(k))
	}
	for _, v := range []*Vault{v, onDisk(t, &disk{data: d.image()}, after, testConfig())} {
		for _, j := range jobs {
			if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
				t.Fatalf("a key is lost: %v", err)
			}
		}
	}
	if _, err := New(t.Context(), slotsOn(t, &disk{data: backup}), after, testConfig()); !errors.Is(err, ErrKEK) {
		t.Fatalf("the backup opens with the new key: %v", err)
	}
	content, err := os.ReadFile(path)
	check(t, err)
	if bytes.Contains(content, []byte(k.Text()[:8])) {
		t.Fatal("the old key can be read in the file")
	}

	other := filepath.Join(t.TempDir(), "other")
	_, err = KEKFromFile(other)
	check(t, err)
	if err := v.RotateKEK(t.Context(), other); !errors.Is(err, ErrKEK) {
		t.Fatalf("it rotates another vault's file: %v", err)
	}
	if err := v.Rekey(t.Context(), KEK{}); !errors.Is(err, ErrKEK) {
		t.Fatal(err)
	}
}

// TestRotateKEKChanged: keys that came into the file meanwhile are another's, and
// none is destroyed.
func TestRotateKEKChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	k, err := KEKFromFile(path)
	check(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	defer f.Close()
	fresh, other := NewKEK(), NewKEK()
	for _, text := range []string{k.Text() + fresh.Text() + other.Text(), other.Text() + k.Text() + fresh.Text(), k.Text(), k.Text() + other.Text(), fresh.Text()} {
		check(t, os.WriteFile(path, []byte(text), 0o600))
		if err := retireKEKs(f, k.with(fresh), fresh); !errors.Is(err, ErrKEK) {
			t.Errorf("%v", err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("the file was changed (%v)", err)
		}
	}
}

// TestRotateKEKOnFailingDisk: after an error the keys are all there, and it can
// be called again.
func TestRotateKEKOnFailingDisk(t *testing.T) {
	for failing := range 5 {
		path := filepath.Join(t.TempDir(), "kek")
		k, err := KEKFromFile(path)
		check(t, err)
		d := newDisk()
		v := onDisk(t, d, k, testConfig())
		j := newJob(t, v, consign.NewJobID())
		check(t, j.deposit(t.Context(), v))
		n := 0
		d.fault = func(diskOp) error {
			if n++; n > failing {
				return errDisk
			}
			return nil
		}
		if err := v.RotateKEK(t.Context(), path); err == nil {
			t.Fatalf("it succeeds with a disk that fails after %d writes", failing)
		}
		d.fault = nil
		reread, err := KEKFromFile(path)
		check(t, err)
		w := newWorker(t, time.Now().Add(-time.Hour))
		for _, v := range []*Vault{v, onDisk(t, &disk{data: d.image()}, reread, testConfig())} {
			if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
				t.Fatalf("failing after %d: the key is lost: %v", failing, err)
			}
		}
		check(t, v.RotateKEK(t.Context(), path))
		if n := bytes.Count(d.image(), k.keys[0].id[:]); n != 0 {
			t.Fatalf("failing after %d: %d records are under the old key", failing, n)
		}
	}
}

// TestRotateKEKFailsForLong: however often it fails, and whenever the process is
// killed amid it, the file does not come to hold more than it can be read with.
func TestRotateKEKFailsForLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	k, err := KEKFromFile(path)
	check(t, err)
	d := newDisk()
	v := onDisk(t, d, k, testConfig())
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	w := newWorker(t, time.Now().Add(-time.Hour))
	short := func(try int) {
		t.Helper()
		if content, err := os.ReadFile(path); err != nil || bytes.Count(content, []byte("\n")) > 3 || len(v.kek.keys) > 3 {
			t.Fatalf("try %d: the file has %d bytes, the vault %d keys (%v)", try, len(content), len(v.kek.keys), err)
		}
	}
	d.fault = func(diskOp) error { return errDisk }
	for try := range 1100 {
		if err := v.RotateKEK(t.Context(), path); !errors.Is(err, errDisk) {
			t.Fatalf("on a disk that fails: %v", err)
		}
		short(try)
	}
	for try := range 200 {
		ctx, stop := context.WithCancel(t.Context())
		n := 0
		d.fault = func(diskOp) error {
			if n++; n <= try%23 {
				return nil
			}
			stop() // what is told to end
			if try%2 == 0 {
				return errDisk // what is killed
			}
			return nil
		}
		_ = v.RotateKEK(ctx, path)
		stop()
		short(try)
		if try%3 > 0 {
			d = &disk{data: d.image()}
			k, err := KEKFromFile(path)
			check(t, err)
			v = onDisk(t, d, k, testConfig())
		}
		d.fault = nil
		if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
			t.Fatalf("try %d: the key is lost: %v", try, err)
		}
	}
	check(t, v.RotateKEK(t.Context(), path))
	if after, err := KEKFromFile(path); err != nil || len(after.keys) != 1 || after.knows(k) {
		t.Fatalf("in the end the file holds %d keys (%v)", len(after.keys), err)
	}
	if n := bytes.Count(d.image(), k.keys[0].id[:]); n != 0 {
		t.Errorf("%d records are under the old key", n)
	}
}

// TestRotateKEKOfHand: two keys that somebody wrote are rotated as well, however
// they are spelt: the one that is used is never overwritten.
func TestRotateKEKOfHand(t *testing.T) {
	older, newer := NewKEK(), NewKEK()
	one, two := strings.TrimSpace(older.Text()), strings.TrimSpace(newer.Text())
	for _, text := range []string{one + "\n" + two, one + " " + two + "\n", strings.ToUpper(one + "\n" + two + "\n"), " " + one + "\r\n\t" + two + "\r\n",
		one + "\n# " + two + "\n" + two + "\n", "#" + two + "\n" + two + "\n" + one + "\n" + two + "\n", two + "\n" + one + "\n" + two} {
		for _, fails := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "kek")
			check(t, os.WriteFile(path, []byte(text), 0o600))
			k, err := KEKFromFile(path)
			check(t, err)
			d := newDisk()
			v := onDisk(t, d, k, testConfig())
			if fails {
				d.fault = func(diskOp) error { return errDisk }
				_ = v.RotateKEK(t.Context(), path)
				d.fault = nil
				again, err := KEKFromFile(path)
				check(t, err)
				v = onDisk(t, &disk{data: d.image()}, again, testConfig())
			}
			check(t, v.RotateKEK(t.Context(), path))
			if after, err := KEKFromFile(path); err != nil || len(after.keys) != 1 || after.current().id != v.kek.current().id || after.knows(older) || after.knows(newer) {
				t.Errorf("%q: the file holds %d keys (%v)", text, len(after.keys), err)
			}
			if content, err := os.ReadFile(path); err != nil || bytes.Contains(bytes.ToLower(content), []byte(one)) || bytes.Contains(bytes.ToLower(content), []byte(two)) {
				t.Errorf("%q: a retired key can be read in the file (%v)", text, err)
			}
		}
	}
}

// amidst is a storage that is called back, once, when records are replaced.
type amidst struct {
	Storage
	replaced func() error
}

func (a *amidst) Replace(ctx context.Context, rs []Record) error {
	err := a.Storage.Replace(ctx, rs)
	if replaced := a.replaced; replaced != nil {
		a.replaced = nil
		err = cmp.Or(replaced(), err)
	}
	return err
}

// TestRotateKEKReplaced: a file that another program has written meanwhile does
// not have the fresh key, so nothing may be under that one.
func TestRotateKEKReplaced(t *testing.T) {
	w := newWorker(t, time.Now().Add(-time.Hour))
	for _, how := range []string{"renamed", "removed", "written", "renamed, and it fails", "renamed, and it is told to end"} {
		for _, twoKeys := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "kek")
			k, err := KEKFromFile(path)
			check(t, err)
			if twoKeys {
				k = NewKEK().with(k)
				check(t, os.WriteFile(path, []byte(k.Text()), 0o600))
			}
			other := NewKEK().with(k)
			s := &amidst{Storage: NewMemoryStorage()}
			v, err := New(t.Context(), s, k, testConfig())
			check(t, err)
			j := newJob(t, v, consign.NewJobID())
			check(t, j.deposit(t.Context(), v))
			ctx, stop := context.WithCancel(t.Context())
			s.replaced = func() error {
				switch how {
				case "removed":
					return os.Remove(path)
				case "written":
					return os.WriteFile(path, []byte(other.Text()), 0o600)
				}
				check(t, os.WriteFile(path+".new", []byte(other.Text()), 0o600))
				check(t, os.Rename(path+".new", path))
				if how == "renamed, and it is told to end" {
					stop()
					return ctx.Err()
				}
				if how == "renamed, and it fails" {
					return errDisk
				}
				return nil
			}
			if err := v.RotateKEK(ctx, path); !errors.Is(err, ErrKEK) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", how, err)
			}
			stop()
			if how == "removed" {
				check(t, os.WriteFile(path, []byte(other.Text()), 0o600))
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != other.Text() {
				t.Errorf("%s: the file of the other program was changed (%v)", how, err)
			}
			reread, err := KEKFromFile(path)
			check(t, err)
			again, err := New(t.Context(), s.Storage, reread, testConfig())
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			for _, v := range []*Vault{v, again} {
				if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
					t.Fatalf("%s: the key is lost: %v", how, err)
				}
			}
			check(t, v.RotateKEK(t.Context(), path))
		}
	}
}

// tardy is a storage where what is put is carried out by hand.
type tardy struct {
	Storage
	hold    bool
	held    []Record
	retires func() // as it begins
}

func (s *tardy) Put(ctx context.Context, r Record) error {
	if s.hold {
		s.held = append(s.held, r)
		return context.Canceled
	}
	return s.Storage.Put(ctx, r)
}

func (s *tardy) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	if s.retires != nil {
		s.retires()
	}
	return s.Storage.Retire(ctx, old, present)
}

// TestRekeyBesideLatePut: what was put before a rotation and is carried out while
// it begins is found by it; what is carried out later is refused; and nothing of
// that sort comes in the way of a rotation that goes back to the key of before.
func TestRekeyBesideLatePut(t *testing.T) {
	older, newer := NewKEK(), NewKEK()
	s := &tardy{Storage: NewMemoryStorage()}
	v, err := New(t.Context(), s, older, testConfig())
	check(t, err)
	during, after := newJob(t, v, consign.NewJobID()), newJob(t, v, consign.NewJobID())
	s.hold = true
	for _, j := range []testJob{during, after} {
		if err := j.deposit(t.Context(), v); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	s.hold = false
	s.retires = func() { check(t, s.Storage.Put(t.Context(), s.held[0])) }
	check(t, v.Rekey(t.Context(), newer))
	s.retires = nil
	if err := s.Put(t.Context(), s.held[1]); !errors.Is(err, ErrRetired) {
		t.Errorf("after the rotation: %v", err)
	}
	again, err := New(t.Context(), s, newer, testConfig())
	check(t, err)
	w := newWorker(t, time.Now().Add(-time.Hour))
	if cek, err := during.release(t, again, w); err != nil || cek != during.cek {
		t.Errorf("the key that came while it began is lost: %v", err)
	}
	check(t, again.Rekey(t.Context(), older))
	check(t, after.deposit(t.Context(), again))
	for _, k := range []KEK{newer.with(older), older.with(newer), newer} { // others are at work
		check(t, again.Rekey(t.Context(), k))
		if err := s.Put(t.Context(), s.held[1]); errors.Is(err, ErrRetired) != !k.knows(older) {
			t.Errorf("with %d keys: %v", len(k.keys), err)
		}
	}
}

// TestRekeyWithStaleKeys: who does not know the key in use, one that was restarted
// with the file of before for one, does not make a retired key good again.
func TestRekeyWithStaleKeys(t *testing.T) {
	older, newer := NewKEK(), NewKEK()
	s := NewMemoryStorage()
	late, err := New(t.Context(), s, older, testConfig())
	check(t, err)
	v, err := New(t.Context(), s, older.with(newer), testConfig())
	check(t, err)
	check(t, newJob(t, v, consign.NewJobID()).deposit(t.Context(), v))
	check(t, v.Rekey(t.Context(), newer))
	if _, err := New(t.Context(), s, older, testConfig()); !errors.Is(err, ErrKEK) {
		t.Errorf("it starts with the old key: %v", err)
	}
	if err := late.Rekey(t.Context(), older); !errors.Is(err, ErrKEK) {
		t.Errorf("it goes on with the old key: %v", err)
	}
	if err := newJob(t, late, consign.NewJobID()).deposit(t.Context(), late); !errors.Is(err, ErrRetired) {
		t.Errorf("a deposit under the old key: %v", err)
	}
}

// stubborn is a storage that retires nothing.
type stubborn struct {
	Storage
	fails bool
}

func (s *stubborn) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	if s.fails && len(old) > 0 {
		return errDisk
	}
	return s.Storage.Retire(ctx, old, present)
}

// TestRekeyThatRetiresNothing: one that goes back to the key of before, and cannot
// retire the other, takes in keys all the same.
func TestRekeyThatRetiresNothing(t *testing.T) {
	older, newer := NewKEK(), NewKEK()
	s := &stubborn{Storage: NewMemoryStorage()}
	v, err := New(t.Context(), s, older, testConfig())
	check(t, err)
	check(t, v.Rekey(t.Context(), newer))
	s.fails = true
	if err := v.Rekey(t.Context(), older); !errors.Is(err, errDisk) {
		t.Fatalf("it ended a rotation: %v", err)
	}
	check(t, newJob(t, v, consign.NewJobID()).deposit(t.Context(), v))
}
