package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// No query of a queue looks through a table or sorts, however many jobs have
// ended, and whether or not somebody has run ANALYZE. CONSIGN_ROWS makes them
// more.
func TestPlans(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db"), Relaxed: true})
	fill(t, s, 1000)
	for _, ended := range []int{1000, rowsWanted(t)} {
		finish(t, s, ended)
		for _, analyze := range []string{"", "ANALYZE"} {
			if err := s.Do(analyze); err != nil {
				t.Fatal(err)
			}
			for name, query := range sqlite.Queries {
				plan, err := s.Texts("EXPLAIN QUERY PLAN " + query)
				if err != nil {
					t.Fatal(name, err)
				}
				if bad := fault(name, plan); bad != "" {
					t.Errorf("with %d jobs that have ended %s: %s: %q", ended, analyze, name, bad)
				}
			}
		}
	}
	// The check can fail.
	for _, query := range []string{"SELECT * FROM jobs WHERE account = 'x'", "SELECT * FROM jobs WHERE state = 2 ORDER BY account", "SELECT * FROM done"} {
		plan, err := s.Texts("EXPLAIN QUERY PLAN " + query)
		if err != nil || fault("", plan) == "" {
			t.Errorf("%s passes with the plan %q (%v)", query, plan, err)
		}
	}
}

// rowsWanted is how many rows are many.
func rowsWanted(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv("CONSIGN_ROWS")
	switch {
	case text == "" && testing.Short():
		return 10_000
	case text == "":
		return 100_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// fault returns the step of a plan that grows with the table.
func fault(name string, plan []string) string {
	for _, step := range plan {
		scan := strings.HasPrefix(step, "SCAN ")
		switch {
		case strings.Contains(step, "TEMP B-TREE"), strings.Contains(step, "AUTOMATIC"):
			return step
		case scan && strings.Contains(step, "jobs_") && name != "list": // a partial index, in its order
		case scan && name == "effects": // all of those that wait, in the order of the table
		case scan && step != "SCAN CONSTANT ROW":
			return step
		}
	}
	return ""
}

// finish adds jobs that have ended, by SQL, since they are many.
func finish(t testing.TB, s *sqlite.Store, n int) {
	t.Helper()
	insert(t, s, "jobs", map[string]string{"id": "randomblob(16)", "state": fmt.Sprint(int(consign.StateCompleted)),
		"due_at": "1800000000000000 + i"}, n)
}

// insert adds rows that have what the columns say, of which i is the number, and
// otherwise what the table's first row has.
func insert(t testing.TB, s *sqlite.Store, table string, columns map[string]string, n int) {
	t.Helper()
	names, err := s.Texts("SELECT name FROM pragma_table_info('" + table + "') ORDER BY cid")
	if err != nil {
		t.Fatal(err)
	}
	values := make([]string, len(names))
	for i, name := range names {
		switch value, ok := columns[name]; {
		case ok:
			values[i] = value
		case name == "n":
			values[i] = "NULL"
		default:
			values[i] = "(SELECT " + name + " FROM " + table + " LIMIT 1)"
		}
	}
	err = s.Do(fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) INSERT INTO %s SELECT %s FROM c",
		n, table, strings.Join(values, ", ")))
	if err != nil {
		t.Fatal(err)
	}
}
