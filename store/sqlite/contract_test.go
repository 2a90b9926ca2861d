package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/queuetest"
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

// In the time of a bubble no lease ends early because the machine is busy.
func TestContract(t *testing.T) { storetest.RunSync(t, open) }

func TestContractInRealTime(t *testing.T) { storetest.Run(t, open) }

func TestModel(t *testing.T) {
	storetest.Model(t, func(t *testing.T) consign.Store {
		return openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db"), Relaxed: true})
	})
}

// The table names, and the numbers in indexes and queries, are the root
// package's.
func TestNames(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	names, err := s.Texts("SELECT what || code || name FROM names ORDER BY what, code")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	add := func(what string, first, last int, name func(int) string) {
		for i := first; i <= last; i++ {
			want = append(want, fmt.Sprint(what, i, name(i)))
		}
	}
	add("effect", 1, int(consign.EffectShred), func(i int) string { return consign.EffectKind(i).String() })
	add("event", 1, int(consign.EventReport), func(i int) string { return consign.EventKind(i).String() })
	add("policy", 0, int(consign.PolicyCheap), func(i int) string { return consign.Policy(i).String() })
	add("priority", 0, int(consign.PriorityLow), func(i int) string { return consign.Priority(i).String() })
	add("privacy", 0, int(consign.PrivacyPrivate), func(i int) string { return consign.Privacy(i).String() })
	add("report", 0, int(consign.ReportPart), func(i int) string { return consign.ReportKind(i).String() })
	add("state", 1, int(consign.StateExpired), func(i int) string { return consign.State(i).String() })
	add("ticket", 0, int(consign.TicketReplica), func(i int) string { return consign.TicketKind(i).String() })
	if !slices.Equal(names, want) {
		t.Errorf("the names are\n%q, want\n%q", names, want)
	}
	if consign.StateQueued != 2 || consign.StateRunning != 3 || consign.EventReport != 16 {
		t.Error("the numbers in the migrations and queries mean something else now: write a migration")
	}
}

// The views show what a queue has left, in words.
func TestViews(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	left := queuetest.Leave(t, s)
	queuetest.Views(t, left, s.Texts)
	done := left.Done.ID.String()
	for query, want := range map[string][]string{
		"SELECT event || ' ' || state FROM events WHERE job_id = '" + done + "' ORDER BY seq":        {"submit queued", "claim running", "report running", "complete completed"},
		"SELECT attempt || worker FROM attempts WHERE job_id = '" + left.Cancelled.ID.String() + "'": {"1" + left.Pending.String()},
	} {
		if got, err := s.Texts(query); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s\ngives %q (%v), want %q", query, got, err, want)
		}
	}
}

// A job that was forgotten has no log, though it is written again.
func TestForgottenLog(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	job := newJob(1)
	forgotten, again := claimed(job), completed(claimed(job).Job)
	forgotten.Forget, again.Guard, again.Done = true, nil, nil
	apply(t, s, []consign.Change{submitted(job), forgotten, again})
	if log, err := s.Log(t.Context(), job.ID, 0, 10); err != nil || len(log) != 0 {
		t.Errorf("its log is %v (%v)", log, err)
	}
}
