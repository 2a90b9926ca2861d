package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// The queries of docs/sqlite.md give what they say, to somebody who reads the
// file while a queue has it, and to somebody who has a backup.
func TestQueriesOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/sqlite.md")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path, backup := filepath.Join(folder, "queue.db"), filepath.Join(folder, "backup.db")
	s := openAt(t, sqlite.Config{Path: path})
	job := newJob(1)
	held := claimed(job)
	end := completed(held.Job)
	end.Done.Worker, end.Done.Record = consign.WorkerID{9}, []byte(`{"signatures":[{"sig":"abc"}]}`)
	end.Done.AcceptedAt = consign.At(time.Now().Add(24 * time.Hour)) // today, or it was midnight
	apply(t, s, []consign.Change{submitted(job), held, end, submitted(newJob(2)), submitted(newJob(3))})
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	id, worker := fmt.Sprintf("%x", job.ID[:]), fmt.Sprintf("%x", held.Job.Worker[:])
	want := []string{
		"completed|1\nqueued|2\n",
		"2023-11-14 22:13:20.000|submit|queued||\n2023-11-14 22:13:20.000|claim|running|" + worker + "|\n" +
			"2023-11-14 22:13:20.000|complete|completed|" + worker + "|\n",
		worker + "|1\n",
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != len(want) {
		t.Fatalf("the page has %d queries, and this test knows what %d of them give", len(blocks), len(want))
	}
	for _, file := range []string{path, backup} {
		conn, err := driver.OpenConn(file, driver.OpenReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck
		for i, block := range blocks {
			query := regexp.MustCompile(`'[0-9a-f]{32}'`).ReplaceAllString(strings.TrimSpace(block[1]), "'"+id+"'")
			var got strings.Builder
			err := sqlitex.ExecuteTransient(conn, strings.TrimSuffix(query, ";"), &sqlitex.ExecOptions{ResultFunc: func(row *driver.Stmt) error {
				for i := range row.ColumnCount() {
					if i > 0 {
						got.WriteByte('|')
					}
					got.WriteString(row.ColumnText(i))
				}
				got.WriteByte('\n')
				return nil
			}})
			if err != nil || got.String() != want[i] {
				t.Errorf("%s\ngives %q (%v), want %q", query, got.String(), err, want[i])
			}
		}
	}
}
