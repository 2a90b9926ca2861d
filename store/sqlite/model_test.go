package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/sqlite"
)

// Whole queues on a file, which is opened anew with each restart.
var onFile = queuetest.Suite{Checks: 20, Place: func(t *testing.T) func() consign.Store {
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
