package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// River #1324: one row that cannot be read stalled its whole batch. Here it is
// left out and logged, or an error where it alone was asked for, and what comes
// with it is read.
func TestCorruptRows(t *testing.T) {
	const good, bad = 0, 1
	for _, c := range []struct {
		table, set string // of the bad job's row
		read       func(s *sqlite.Store, id consign.JobID) (int, error)
		want       int // of what is read
		wantErr    bool
	}{
		{table: "jobs", set: "state = 'queued'", read: list, want: 1},
		{table: "jobs", set: "state = 99", read: list, want: 1},
		{table: "jobs", set: "key = 'soon'", read: page, want: 1},
		{table: "jobs", set: "claim = x'00'", read: page, want: 1},
		{table: "jobs", set: "attempt = 1 << 40, chars = 1 << 40", read: page, want: 1},
		{table: "jobs", set: "reason = x'ff'", read: list, want: 1},
		{table: "jobs", set: "due_at = 3.5", read: due, want: 1},
		{table: "jobs", set: "log = '[1,2,'", read: log, want: 1},                           // the one of its result
		{table: "done", set: "log = '[1,2,' || char(10) || log || 'x'", read: log, want: 1}, // its one good line
		{table: "specs", set: "tier = 1000", read: specs, want: 1},
		{table: "specs", set: "wraps = '{'", read: specs, want: 1},
		{table: "done", set: "digest = 'none'", read: done, wantErr: true},
		{table: "entries", set: "event = 'report'", read: log, want: 1},
		{table: "effects", set: "kind = 1000", read: effects, want: 1},
		{table: "docs", set: "body = x'7b7d'", read: docs, want: 1},
	} {
		t.Run(c.table+" "+c.set, func(t *testing.T) {
			var logged bytes.Buffer
			s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db"), Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			for i := range 2 {
				job := newJob(20 * i) // of one lane
				job.DueAt = 7
				ch := submitted(job)
				ch.Done = &consign.Done{ID: job.ID}
				ch.Effects = []consign.Effect{{ID: consign.EffectID{Job: job.ID}, Kind: consign.EffectStrike}}
				ch.Docs = []consign.Doc{{Kind: consign.DocPause, Key: fmt.Sprint(i), Version: 1, Body: []byte("{}")}}
				report := consign.LogEntry{Job: job.ID, Seq: 1<<63 - 1, Event: consign.EventReport}
				apply(t, s, []consign.Change{ch, {Log: []consign.LogEntry{report}}})
				if i == good && c.table == "entries" || i == bad && strings.HasPrefix(c.set, "log") {
					if err := s.Do("DELETE FROM entries"); err != nil {
						t.Fatal(err)
					}
				}
			}
			where := fmt.Sprintf("n = (SELECT n FROM jobs WHERE id = x'%x')", newJob(20).ID[:])
			switch c.table {
			case "effects":
				where = fmt.Sprintf("job = x'%x'", newJob(20).ID[:])
			case "docs":
				where = "key = '1'"
			}
			if err := s.Do(fmt.Sprintf("PRAGMA ignore_check_constraints = ON; UPDATE %s SET %s WHERE %s", c.table, c.set, where)); err != nil {
				t.Fatal(err)
			}
			n, err := c.read(s, newJob(20).ID)
			if n != c.want || (err != nil) != c.wantErr {
				t.Errorf("read %d (%v), want %d", n, err, c.want)
			}
			var corrupt *sqlite.CorruptError
			said := logged.String()
			if errors.As(err, &corrupt) {
				said = corrupt.Error()
			}
			if !strings.Contains(said, "of table "+c.table) || !strings.Contains(said, "restore a backup") {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func list(s *sqlite.Store, _ consign.JobID) (int, error) {
	jobs, err := s.List(context.Background(), consign.Filter{}, consign.JobID{}, 10)
	return len(jobs), err
}

func page(s *sqlite.Store, _ consign.JobID) (int, error) {
	jobs, err := s.Page(context.Background(), newJob(0).Lane, consign.AllShards, consign.Place{}, 10)
	return len(jobs), err
}

func due(s *sqlite.Store, _ consign.JobID) (int, error) {
	jobs, _, err := s.Due(context.Background(), 100, 10)
	return len(jobs), err
}

func log(s *sqlite.Store, id consign.JobID) (int, error) {
	entries, err := s.Log(context.Background(), id, 0, 10)
	return len(entries), err
}

func specs(s *sqlite.Store, id consign.JobID) (n int, err error) {
	specs, err := s.Specs(context.Background(), []consign.JobID{id, newJob(0).ID})
	for _, spec := range specs {
		if spec != nil {
			n++
		}
	}
	return n, err
}

func done(s *sqlite.Store, id consign.JobID) (n int, err error) {
	if done, err := s.Done(context.Background(), id); err != nil || done == nil {
		return 0, err
	}
	return 1, nil
}

func effects(s *sqlite.Store, _ consign.JobID) (int, error) {
	effects, err := s.Effects(context.Background(), 10)
	return len(effects), err
}

func docs(s *sqlite.Store, _ consign.JobID) (int, error) {
	docs, err := s.Docs(context.Background(), consign.DocPause, "", 10)
	return len(docs), err
}

// A change that SQLite refuses for what is in it fails alone.
func TestRefusedChange(t *testing.T) {
	ctx := t.Context()
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	if err := s.Do(`CREATE TRIGGER no BEFORE INSERT ON specs WHEN new.kind = 'BAD' BEGIN SELECT RAISE(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	var changes []consign.Change
	for i := range 3 {
		changes = append(changes, submitted(newJob(i)))
		changes[i].Counters = []consign.Delta{{Counter: "jobs", Add: 1}}
	}
	changes[1].Spec.Kind = "BAD"
	outcomes, err := s.Apply(ctx, changes)
	if err != nil || outcomes[0] != nil || outcomes[1] == nil || outcomes[2] != nil {
		t.Fatalf("got %v and %v", outcomes, err)
	}
	jobs, err := s.Jobs(ctx, []consign.JobID{newJob(0).ID, newJob(1).ID, newJob(2).ID})
	if err != nil || jobs[0] == nil || jobs[1] != nil || jobs[2] == nil {
		t.Errorf("the jobs are %v (%v)", jobs, err)
	}
	if n, err := s.Counter(ctx, "jobs"); n != 2 || err != nil {
		t.Errorf("%d jobs count (%v), want 2", n, err)
	}
}

// A store whose disk is full says so, loses nothing that it has acknowledged,
// and goes on when there is room.
func TestFull(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	for round := range 50 {
		full(t, s, round, func(on bool) {
			limit := "PRAGMA max_page_count = 1" // no more than there are
			if !on {
				limit = "PRAGMA max_page_count = 1000000"
			}
			if err := s.Do(limit); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// full writes until there is no room, and then makes some.
func full(t *testing.T, s *sqlite.Store, round int, set func(full bool)) {
	t.Helper()
	ctx := t.Context()
	set(true)
	key := 1000 * round
	var err error
	for ; err == nil; key++ {
		if key == 1000*round+999 {
			t.Fatal("there is always room")
		}
		_, err = s.Apply(ctx, []consign.Change{submitted(newJob(key))})
	}
	if !strings.Contains(err.Error(), "make room") && !strings.Contains(err.Error(), "is full") {
		t.Fatal("a full disk gives:", err)
	}
	if jobs, err := s.Jobs(ctx, []consign.JobID{newJob(key - 1).ID}); err != nil || jobs[0] != nil {
		t.Fatalf("what failed is %v (%v)", jobs, err)
	}
	set(false)
	apply(t, s, []consign.Change{submitted(newJob(key - 1))})
	for k := 1000 * round; k < key; k++ {
		if jobs, err := s.Jobs(ctx, []consign.JobID{newJob(k).ID}); err != nil || jobs[0] == nil {
			t.Fatalf("job %d of %d is lost (%v)", k, key, err)
		}
	}
}

// A backup is a store of one moment, taken while others write.
func TestBackup(t *testing.T) {
	ctx := t.Context()
	folder := t.TempDir()
	s := openAt(t, sqlite.Config{Path: filepath.Join(folder, "queue.db"), Relaxed: true})
	const batches, size = 60, 20
	fill(t, s, 1) // key 0; the writer goes on from the second batch
	var group sync.WaitGroup
	started := make(chan struct{})
	group.Go(func() {
		for n := 1; n <= batches; n++ {
			changes := []consign.Change{{Counters: []consign.Delta{{Counter: "jobs", Add: size}}}}
			for i := range size {
				changes = append(changes, submitted(newJob(n*size+i)))
			}
			if outcomes, err := s.Apply(ctx, changes); errors.Join(append(outcomes, err)...) != nil {
				t.Error(outcomes, err)
			}
			if n == 3 {
				close(started)
			}
		}
	})
	<-started
	for i := range 3 {
		path := filepath.Join(folder, fmt.Sprint("backup", i))
		if err := s.Backup(ctx, path); err != nil {
			t.Fatal(err)
		}
		b := openAt(t, sqlite.Config{Path: path})
		jobs, err := b.List(ctx, consign.Filter{}, consign.JobID{}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := b.Counter(ctx, "jobs"); err != nil || int(n)+1 != len(jobs) || n < 3*size {
			t.Errorf("the backup has %d jobs, and counts %d (%v)", len(jobs), n, err)
		}
		if texts, err := b.Texts("PRAGMA integrity_check"); err != nil || texts[0] != "ok" {
			t.Errorf("the backup is %q (%v)", texts, err)
		}
	}
	group.Wait()
	var field *consign.FieldError
	if err := s.Backup(ctx, filepath.Join(folder, "backup0")); !errors.As(err, &field) {
		t.Errorf("a backup over another gives %v", err)
	}
	if err := s.Backup(ctx, filepath.Join(folder, "none", "backup")); err == nil {
		t.Error("a backup into no folder succeeds")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Backup(cancelled, filepath.Join(folder, "cancelled")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled backup gives %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "*.part")); len(left) > 0 {
		t.Errorf("%q were left", left)
	}
}

// Of two backups to one name, and of a file that somebody puts there meanwhile,
// the first stays as it is.
func TestBackupMeanwhile(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "backup")
	write := func(text string) func(string) error {
		return func(part string) error { return os.WriteFile(part, []byte(text), 0o600) }
	}
	for what, meanwhile := range map[string]func() error{
		"another backup": func() error { return sqlite.BackupBy(path, write("the first")) },
		"a file":         func() error { return write("the first")(path) },
	} {
		var field *consign.FieldError
		err := sqlite.BackupBy(path, func(part string) error {
			if err := write("the second, and longer")(part); err != nil {
				return err
			}
			return meanwhile()
		})
		if !errors.As(err, &field) || field.Field != "path" {
			t.Errorf("%s: %v", what, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "the first" {
			t.Errorf("%s: the file has %q (%v)", what, data, err)
		}
		if files, err := os.ReadDir(folder); err != nil || len(files) != 1 {
			t.Errorf("%s: %v were left (%v)", what, files, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	// Where there are no links it is renamed: as a folder, which has none.
	folderFor := func(part string) error { return errors.Join(os.Remove(part), os.Mkdir(part, 0o700)) }
	if err := sqlite.BackupBy(path, folderFor); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(folder); err != nil || len(files) != 1 || !files[0].IsDir() {
		t.Errorf("without links there are %v (%v)", files, err)
	}
	var field *consign.FieldError
	if err := sqlite.BackupBy(path+"2", func(part string) error { return errors.Join(folderFor(part), write("a file")(path+"2")) }); !errors.As(err, &field) {
		t.Errorf("without links: %v", err)
	}
}
