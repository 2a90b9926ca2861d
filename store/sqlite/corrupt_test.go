package sqlite_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// Jobs whose rows are damaged are in nobody's way: a queue that is opened on
// them completes all others, and the log says which rows they are, once.
func TestQueueBesideCorruptRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, sqlite.Config{Path: path})
		q, stop := startQueue(t, consign.Config{Store: s, NoReceipts: true})
		ids := submitAll(t, q, requests(24))
		stop()
		for i, set := range []string{"jobs SET state = 99", "jobs SET reason = x'ff'", "jobs SET key = 'soon'", "specs SET wraps = '{'"} {
			if err := s.Do(fmt.Sprintf("UPDATE %s WHERE n = (SELECT n FROM jobs WHERE id = x'%x')", set, ids[i][:])); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		s := openAt(t, sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		q, stop := startQueue(t, consign.Config{Store: s, NoReceipts: true})
		burn(t, q, 20, 3)
		stop()
		jobs, err := s.List(t.Context(), consign.Filter{State: consign.StateCompleted}, consign.JobID{}, 100)
		if err != nil || len(jobs) != 20 {
			t.Errorf("%d jobs completed (%v)", len(jobs), err)
		}
		for line := range strings.Lines(logged.String()) {
			if _, said, _ := strings.Cut(line, "level="); strings.Count(logged.String(), said) > 1 {
				t.Errorf("it is logged more than once: %s", said)
			}
		}
		for _, column := range []string{"state", "reason", "key", "wraps"} {
			if column != "state" && !strings.Contains(logged.String(), column) { // nobody asks for a job of no state
				t.Errorf("the log does not name the column %s: %s", column, logged.String())
			}
		}
	})
}
