package sqlite_test

import (
	"path/filepath"
	"testing"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/sqlite"
)

// The queries of docs/sqlite.md give what they say, to somebody who reads the
// file while a queue has it, and to somebody who has a backup.
func TestQueriesOfTheDocs(t *testing.T) {
	folder := t.TempDir()
	path, backup := filepath.Join(folder, "queue.db"), filepath.Join(folder, "backup.db")
	s := openAt(t, sqlite.Config{Path: path})
	left := queuetest.Leave(t, s)
	if err := s.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	paired, pending := left.Paired.String(), left.Pending.String()
	for _, file := range []string{path, backup} {
		conn, err := driver.OpenConn(file, driver.OpenReadOnly)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck
		queuetest.Page(t, "../../docs/sqlite.md", left, []string{
			"cancelled|1\ncompleted|1\nqueued|1\nrunning|1\n",
			"now|submit|queued||\nnow|claim|running|" + paired + "|\nnow|report|running|" + paired + "|\nnow|complete|completed|" + paired + "|\n",
			paired + "|1\n",
			"acme|" + pending + "\n",
			"refund|1|now\nsettle|1|now\nwebhook|1|now\n",
		}, func(sql string) (rows [][]string, err error) {
			err = sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(row *driver.Stmt) error {
				var texts []string
				for i := range row.ColumnCount() {
					texts = append(texts, row.ColumnText(i))
				}
				rows = append(rows, texts)
				return nil
			}})
			return rows, err
		})
	}
}
