package sqlite_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// grow commits until the WAL has that many pages.
func grow(t *testing.T, s *sqlite.Store, from int, pages int64) (next int) {
	t.Helper()
	for s.WAL() < pages {
		submitLarge(t, s, from)
		from++
	}
	return from
}

func submitLarge(t *testing.T, s *sqlite.Store, key int) {
	t.Helper()
	c := submitted(newJob(key))
	c.Spec.Payload = make([]byte, 1<<20)
	apply(t, s, []consign.Change{c})
}

// The WAL is moved into the file beside the commits, and begun anew: it does not
// grow for ever.
func TestCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := openAt(t, sqlite.Config{Path: path, Relaxed: true})
	next := 0
	for range 2 {
		next = grow(t, s, next, sqlite.WALPages)
		for s.WAL() >= sqlite.WALPages { // until one commit finds that all of it was moved
			time.Sleep(time.Millisecond)
			apply(t, s, []consign.Change{{Counters: []consign.Delta{{Counter: "commits", Add: 1}}}})
		}
	}
	if jobs, err := s.List(t.Context(), consign.Filter{}, consign.JobID{}, next+1); err != nil || len(jobs) != next {
		t.Errorf("%d jobs of %d are there (%v)", len(jobs), next, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the WAL is there when nobody has the file: %v", err)
	}
}

// Somebody who reads for long, as a person in a shell may, keeps the WAL from
// being begun anew, and nothing else: commits go on, and when they are done it
// is.
func TestCheckpointBesideReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	var logged bytes.Buffer
	s := openAt(t, sqlite.Config{Path: path, Relaxed: true, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	apply(t, s, []consign.Change{submitted(newJob(0))})
	reader, err := driver.OpenConn(path, driver.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close() //nolint:errcheck
	if err := sqlitex.ExecuteScript(reader, "SELECT count(*) FROM jobs", nil); err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(reader, "BEGIN", nil); err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(reader, "SELECT count(*) FROM jobs", nil); err != nil {
		t.Fatal(err)
	}
	next := grow(t, s, 1, 2*sqlite.WALPages)
	if err := sqlitex.ExecuteTransient(reader, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	for ; s.WAL() >= sqlite.WALPages; next++ {
		submitLarge(t, s, next) // as many as it takes until it is tried again
		time.Sleep(time.Millisecond)
	}
	if err := s.Close(); err != nil || logged.Len() > 0 {
		t.Errorf("it says %q (%v)", logged.String(), err)
	}
}
