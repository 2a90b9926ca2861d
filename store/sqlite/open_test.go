package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// script makes a file with SQLite itself.
func script(t *testing.T, path, text string) {
	t.Helper()
	conn, err := driver.OpenConn(path, driver.OpenReadWrite|driver.OpenCreate)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck
	if err := sqlitex.ExecuteScript(conn, text, nil); err != nil {
		t.Fatal(err)
	}
}

// A file that cannot be used is refused with the reason and a remedy, and stays
// as it is.
func TestOpenRefuses(t *testing.T) {
	field := func(err error) bool { var f *consign.FieldError; return errors.As(err, &f) && f.Field == "config.path" }
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		path string
		want func(error) bool
		says string
	}{
		{name: "newer", want: is(sqlite.ErrNewer), says: "update the program", make: func(t *testing.T, path string) {
			s := openAt(t, sqlite.Config{Path: path})
			if err := errors.Join(s.Do("PRAGMA user_version = 99"), s.Close()); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "another program's", want: is(sqlite.ErrForeign), says: "name another file", make: func(t *testing.T, path string) {
			script(t, path, "CREATE TABLE bookmarks (url TEXT);")
		}},
		{name: "another program's, marked", want: is(sqlite.ErrForeign), says: "name another file", make: func(t *testing.T, path string) {
			script(t, path, "PRAGMA application_id = 7;")
		}},
		{name: "no database", want: is(sqlite.ErrForeign), says: "name another file", make: func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("Dear diary, ", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a folder", want: func(err error) bool { return err != nil }, says: "cannot be opened", make: func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "in no folder", path: "/nowhere/at/all/queue.db", want: is(os.ErrNotExist), says: "make it"},
		{name: "no path", path: " ", want: field, says: "name a file"},
		{name: "in memory", path: ":memory:", want: field, says: "store/memdb"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := strings.TrimSpace(c.path)
			if c.path == "" {
				path = filepath.Join(t.TempDir(), "queue.db")
				c.make(t, path)
			}
			before, _ := os.ReadFile(path)
			for range 2 { // the first leaves nothing behind that holds up the second
				s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
				if err == nil {
					_ = s.Close()
				}
				if !c.want(err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v", err)
				}
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
		})
	}
}

// What a store and a vault make is its user's alone: nobody else reads who
// submitted what. A backup is no different.
func TestModes(t *testing.T) {
	folder := t.TempDir()
	s := openAt(t, sqlite.Config{Path: filepath.Join(folder, "queue.db")})
	apply(t, s, []consign.Change{submitted(newJob(1))})
	v, err := sqlite.OpenVault(t.Context(), filepath.Join(folder, "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close() //nolint:errcheck
	if err := s.Backup(t.Context(), filepath.Join(folder, "backup.db")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"queue.db", "queue.db-wal", "queue.db-shm", "keys.db", "keys.db-wal", "backup.db"} {
		info, err := os.Stat(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
}

// A file that its owner lets others read stays so.
func TestModeKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	openAt(t, sqlite.Config{Path: path})
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file has the mode %v (%v)", info.Mode(), err)
	}
}

// A file has one lock, by whatever name it goes.
func TestOneLock(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "queue.db"), filepath.Join(folder, "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	openAt(t, sqlite.Config{Path: path})
	if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: link}); !errors.Is(err, sqlite.ErrInUse) {
		t.Errorf("the file was opened twice: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(t.Context(), nil)
	_, err2 := s.Lanes(t.Context())
	_, err3 := s.Renew(t.Context(), nil)
	for _, err := range []error{err, err2, err3, s.Backup(t.Context(), filepath.Join(t.TempDir(), "x"))} {
		if !errors.Is(err, sqlite.ErrClosed) {
			t.Errorf("a closed store says %v", err)
		}
	}
}

// All of a store is in its file, but for the ends of leases, which start anew:
// nobody loses a lease because the coordinator was restarted, or because a
// clock was set meanwhile, and nobody keeps one for ever.
func TestReopen(t *testing.T) {
	for _, jump := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute, 24 * 365 * time.Hour} {
		t.Run(fmt.Sprint(jump), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, path := context.Background(), filepath.Join(t.TempDir(), "queue.db")
				s, err := sqlite.OpenWhen(ctx, path, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				job := newJob(1)
				held := claimed(job).Job // for 30 s
				apply(t, s, []consign.Change{submitted(job), {Job: held}})
				time.Sleep(20 * time.Second)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s, err = sqlite.OpenWhen(ctx, path, time.Now().Add(jump))
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close() //nolint:errcheck
				for _, step := range []struct {
					wait   time.Duration
					lapsed int
				}{{0, 0}, {29 * time.Second, 0}, {2 * time.Second, 1}} {
					time.Sleep(step.wait)
					if lapsed, err := s.Lapsed(ctx, 10); err != nil || len(lapsed) != step.lapsed {
						t.Errorf("%v later %d leases have ended, want %d (%v)", step.wait, len(lapsed), step.lapsed, err)
					}
				}
				renewal := []consign.Renewal{{Job: job.ID, Claim: held.Claim, For: time.Minute}}
				if outcomes, err := s.Renew(ctx, renewal); err != nil || outcomes[0] != nil {
					t.Errorf("the claim that was held before cannot be renewed: %v, %v", outcomes, err)
				}
				apply(t, s, []consign.Change{completed(held)})
			})
		})
	}
}
