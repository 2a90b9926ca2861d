package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/store/storetest"
)

func open(t *testing.T) consign.Store {
	return openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
}

func openAt(tb testing.TB, c sqlite.Config) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T)         { storetest.RunSync(t, open) }
func TestContractRealTime(t *testing.T) { storetest.Run(t, open) }
func TestModel(t *testing.T)            { storetest.Model(t, open) }
