package sqlite_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/sqlite"
)

// Jobs whose rows are damaged are in nobody's way: a queue that is opened on
// them completes all others, and the log says which rows they are, once.
func TestQueueBesideCorruptRows(t *testing.T) {
	var logged bytes.Buffer
	suite := queuetest.Suite{Place: func(t *testing.T) func() consign.Store {
		path, s := filepath.Join(t.TempDir(), "queue.db"), (*sqlite.Store)(nil)
		return func() consign.Store {
			if s != nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s = openAt(t, sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			return s
		}
	}}
	sets := []string{"jobs SET state = 99", "jobs SET reason = x'ff'", "jobs SET key = 'soon'", "specs SET wraps = '{'"}
	suite.BesideCorruptRows(t, len(sets), func(t *testing.T, s consign.Store, ids []consign.JobID) {
		for i, set := range sets {
			if err := s.(*sqlite.Store).Do(fmt.Sprintf("UPDATE %s WHERE n = (SELECT n FROM jobs WHERE id = x'%x')", set, ids[i][:])); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, column := range []string{"reason", "key", "wraps"} { // nobody asks for a job of no state
		if !strings.Contains(logged.String(), column) {
			t.Errorf("the log does not name the column %s: %s", column, logged.String())
		}
	}
	for line := range strings.Lines(logged.String()) {
		if _, said, _ := strings.Cut(line, "level="); strings.Count(logged.String(), said) > 1 {
			t.Errorf("it is logged more than once: %s", said)
		}
	}
}
