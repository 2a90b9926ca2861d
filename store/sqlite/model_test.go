package sqlite_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/sqlite"
)

// Whole queues on a file, which is opened anew with each restart.
var onFile = queuetest.Suite{Checks: 20, Spoil: spoil, Poison: poison, Place: func(t *testing.T) func() consign.Store {
	path := filepath.Join(t.TempDir(), "queue.db")
	var s *sqlite.Store
	shut := func() {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(shut)
	return func() consign.Store {
		shut()
		var err error
		if s, err = sqlite.Open(t.Context(), sqlite.Config{Path: path, Relaxed: true}); err != nil {
			t.Fatal(err)
		}
		return s
	}
}}

func TestQueueModel(t *testing.T)   { onFile.Model(t) }
func TestQueueMutants(t *testing.T) { onFile.Mutants(t) }
func TestQueueReplay(t *testing.T)  { onFile.Replay(t) }
func TestQueueOwner(t *testing.T)   { onFile.Owner(t) }
func TestOthers(t *testing.T)       { onFile.Others(t) }

// spoil makes rows of jobs unreadable, whose time is over. Leases are not in them.
func spoil(t *testing.T, s consign.Store, ids []consign.JobID) {
	var in []string
	for _, id := range ids {
		in = append(in, fmt.Sprintf("x'%x'", id[:]))
	}
	if err := s.(*sqlite.Store).Do("UPDATE jobs SET reason = x'ff', due_at = 1 WHERE id IN (" + strings.Join(in, ", ") + ")"); err != nil {
		t.Fatal(err)
	}
}

// poison has SQLite refuse that a job runs.
func poison(t *testing.T, s consign.Store, id consign.JobID) {
	err := s.(*sqlite.Store).Do(fmt.Sprintf(`CREATE TRIGGER poison BEFORE UPDATE ON jobs WHEN NEW.id = x'%x' AND NEW.state = %d
		BEGIN SELECT RAISE(ABORT, 'poison'); END`, id[:], consign.StateRunning))
	if err != nil {
		t.Fatal(err)
	}
}
