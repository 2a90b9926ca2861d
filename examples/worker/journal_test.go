package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A line that could not be kept leaves nothing behind, whatever of it was written:
// neither its number, nor a tail behind a shorter line that comes next.
func TestJournalThatCouldNotKeepALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.jsonl")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	long, short := []byte(`{"payload":"`+strings.Repeat("x", 300)+`"}`), []byte(`{"payload":"y"}`)
	if err := j.add(1, short); err != nil {
		t.Fatal(err)
	}
	sync, lost := j.sync, errors.New("the disk is gone")
	j.sync = func() error { return lost }
	if err := j.add(2, long); !errors.Is(err, lost) {
		t.Fatalf("a line that is not on the disk: %v", err)
	}
	reopened := func(seq int64) {
		t.Helper()
		again, err := openJournal(path)
		if err != nil || again.seq != seq {
			t.Fatalf("opened again: %+v, %v, want the number %d", again, err, seq)
		}
		_ = again.Close()
	}
	reopened(1)

	// What a crash may leave where the file could not be cut off either.
	if _, err := j.WriteAt(append([]byte(`{"seq":2,"record":`), append(long, '}', '\n')...), j.end); err != nil {
		t.Fatal(err)
	}
	j.sync = sync
	if err := j.add(2, short); err != nil {
		t.Fatal(err)
	}
	reopened(2)
	if content, err := os.ReadFile(path); err != nil || strings.Contains(string(content), "xxx") {
		t.Errorf("the discarded line is there yet: %v", err)
	}
	_ = j.Close()
}
