package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
)

func TestParseKEK(t *testing.T) {
	one, two := NewKEK(), NewKEK()
	k, err := ParseKEK(" " + one.Text() + "\t" + two.Text())
	check(t, err)
	if k.current().id != two.current().id || !k.knows(one) || one.knows(k) {
		t.Error("the last does not encrypt, or the first does not open")
	}
	if text := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k); strings.Contains(text, one.Text()[:16]) || strings.Contains(text, fmt.Sprint(one.keys[0].bytes[0], " ", one.keys[0].bytes[1])) {
		t.Errorf("it prints as %s", text)
	}
	for _, bad := range []string{"", " \n", "00", strings.Repeat("0", 64), one.Text()[:63], one.Text()[:64] + "0", one.Text() + "x", strings.Repeat("g", 64)} {
		if _, err := ParseKEK(bad); !errors.Is(err, ErrKEK) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	t.Setenv("CONSIGN_TEST_KEK", two.Text())
	if k, err := KEKFromEnv("CONSIGN_TEST_KEK"); err != nil || k.Text() != two.Text() {
		t.Error(err)
	}
	if _, err := KEKFromEnv("CONSIGN_TEST_NO_KEK"); !errors.Is(err, ErrKEK) || !strings.Contains(err.Error(), "CONSIGN_TEST_NO_KEK") {
		t.Error(err)
	}
}

// TestRecord: a record opens as what it was sealed as, and as nothing else.
func TestRecord(t *testing.T) {
	k := NewKEK()
	v, err := NewMemory(testConfig())
	check(t, err)
	s := secret{cek: newJob(t, v, consign.NewJobID()).cek, key: v.own[0].PrivateKey}
	r, err := k.seal(Record{Job: consign.NewJobID(), Header: [32]byte{1}, At: 5}, s)
	check(t, err)
	if len(r.Sealed) > MaxSealed {
		t.Fatalf("it has %d bytes, more than MaxSealed", len(r.Sealed))
	}
	got, err := k.open(r)
	check(t, err)
	if got.cek != s.cek || !bytes.Equal(got.key.Bytes(), s.key.Bytes()) {
		t.Fatal("another secret came out")
	}
	if bytes.Contains(r.Sealed, s.cek.Bytes()) || bytes.Contains(r.Sealed, s.key.Bytes()) {
		t.Fatal("it can be read")
	}
	for i := range r.Sealed {
		bad := r
		bad.Sealed = bytes.Clone(r.Sealed)
		bad.Sealed[i] ^= 1
		if _, err := k.open(bad); !errors.Is(err, ErrKEK) {
			t.Errorf("with byte %d flipped: %v", i, err)
		}
		bad.Sealed = r.Sealed[:i]
		if _, err := k.open(bad); !errors.Is(err, ErrKEK) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	for name, alter := range map[string]func(*Record){
		"job": func(r *Record) { r.Job[0]++ }, "header": func(r *Record) { r.Header[0]++ }, "time": func(r *Record) { r.At++ },
	} {
		bad := r
		alter(&bad)
		if _, err := k.open(bad); !errors.Is(err, ErrKEK) {
			t.Errorf("of another %s: %v", name, err)
		}
	}
	if _, err := NewKEK().open(r); !errors.Is(err, ErrKEK) {
		t.Errorf("with another key: %v", err)
	}
}

func TestKEKFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	made, err := KEKFromFile(path)
	check(t, err)
	again, err := KEKFromFile(path)
	check(t, err)
	if made.Text() != again.Text() {
		t.Fatal("it is another key the second time")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
		t.Fatal("its mode is not 0600", err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Fatalf("there are %d files", len(files))
	}
	for name, content := range map[string]string{"empty": "", "words": "not a key\n", "a retired key": "#" + made.Text(), "too long": strings.Repeat(made.Text(), 2000),
		"half a key in front": made.Text()[:32] + "\n" + made.Text(), "half a key alone": made.Text()[:32], "other words behind": made.Text() + "xyz"} {
		check(t, os.WriteFile(path, []byte(content), 0o600))
		if _, err := KEKFromFile(path); !errors.Is(err, ErrKEK) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, os.WriteFile(path, []byte(made.Text()), 0o600))
	if runtime.GOOS != "windows" {
		check(t, os.Chmod(path, 0o640))
		if _, err := KEKFromFile(path); !errors.Is(err, ErrKEK) || !strings.Contains(err.Error(), "chmod 600") {
			t.Error(err)
		}
	}
	if _, err := KEKFromFile(t.TempDir()); !errors.Is(err, ErrKEK) {
		t.Error(err)
	}
}

// TestKEKFileTorn: a crash at any byte of a rotation leaves the keys that records
// may be under.
func TestKEKFileTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	older, newer := NewKEK(), NewKEK()
	read := func(content string) KEK {
		t.Helper()
		check(t, os.WriteFile(path, []byte(content), 0o600))
		k, err := KEKFromFile(path)
		if err != nil {
			t.Fatalf("%v: %q", err, content)
		}
		return k
	}
	line := newer.Text()
	for n := range len(line) {
		for _, tail := range []string{line[:n], line[:n] + strings.Repeat("\x00", len(line)-n)} {
			content := older.Text() + tail
			k := read(content)
			if !k.knows(older) || n < kekDigits && len(k.keys) != 1 {
				t.Fatalf("%d keys in %q", len(k.keys), content)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			check(t, err)
			third := NewKEK()
			held, err := ensureKEK(f, third)
			check(t, err)
			check(t, retireKEKs(f, held, third))
			check(t, f.Close())
			after, err := os.ReadFile(path)
			check(t, err)
			if k, err := KEKFromFile(path); err != nil || k.Text() != third.Text() {
				t.Fatalf("after the next rotation: %v, %q", err, after)
			}
			if bytes.Contains(after, []byte(older.Text()[:8])) || n >= 8 && bytes.Contains(after, []byte(line[:8])) {
				t.Fatalf("a retired key can be read: %q", after)
			}
		}
	}
	for n := range kekDigits { // in the place of a retired key
		if k := read(line[:n] + strings.Repeat("#", kekDigits-n) + "\n" + older.Text()); k.Text() != older.Text() {
			t.Fatalf("with %d digits in front the file holds %d keys", n, len(k.keys))
		}
	}
	both := older.Text() + newer.Text()
	for from := range kekDigits {
		for _, to := range []int{from + 1, kekDigits} {
			k := read(both[:from] + strings.Repeat("#", to-from) + both[to:])
			if k.Text() != newer.Text() {
				t.Fatalf("half retired, the file holds %d keys", len(k.keys))
			}
		}
	}
}

// TestRekeyFromFile: two vaults on a storage come to have a new key, and one that
// is not given the keys in their order refuses, and stays as it is.
func TestRekeyFromFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	older, newer := NewKEK(), NewKEK()
	d := newDisk()
	v := onDisk(t, d, older, testConfig())
	j := newJob(t, v, consign.NewJobID())
	check(t, j.deposit(t.Context(), v))
	w := newWorker(t, time.Now().Add(-time.Hour))
	for _, round := range []struct {
		text  string
		fails bool
		under KEK
	}{
		{newer.Text(), true, older},
		{"", true, older},
		{newer.Text() + older.Text(), false, older},
		{older.Text() + newer.Text(), false, newer},
		{older.Text(), true, newer},
		{newer.Text(), false, newer},
	} {
		check(t, os.WriteFile(path, []byte(round.text), 0o600))
		if err := v.RekeyFromFile(t.Context(), path); errors.Is(err, ErrKEK) != round.fails || !round.fails && err != nil {
			t.Fatalf("%v", err)
		}
		if v.kek.current().id != round.under.current().id {
			t.Fatal("it encrypts under the other key")
		}
		if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
			t.Fatalf("a key is lost: %v", err)
		}
	}
	check(t, os.Remove(path))
	if err := v.RekeyFromFile(t.Context(), path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	if n := bytes.Count(d.image(), older.keys[0].id[:]); n != 0 {
		t.Errorf("%d records are under the old key", n)
	}
}

// TestRekeyAmongDeposits: what is kept while the key changes is under the new one.
func TestRekeyAmongDeposits(t *testing.T) {
	d, k := newDisk(), NewKEK()
	v := onDisk(t, d, k, testConfig())
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan []testJob)
	for range 3 {
		go func() {
			var mine []testJob
			for ctx.Err() == nil {
				j := newJob(t, v, consign.NewJobID())
				if err := j.deposit(t.Context(), v); err != nil {
					t.Error(err)
					break
				}
				mine = append(mine, j)
			}
			kept <- mine
		}()
	}
	for range 20 {
		k = NewKEK()
		check(t, v.Rekey(t.Context(), k))
	}
	stop()
	var jobs []testJob
	for range 3 {
		jobs = append(jobs, <-kept...)
	}
	v = onDisk(t, &disk{data: d.image()}, k, testConfig())
	w := newWorker(t, time.Now().Add(-time.Hour))
	for _, j := range jobs {
		if cek, err := j.release(t, v, w); err != nil || cek != j.cek {
			t.Fatalf("a key is lost: %v", err)
		}
	}
}
