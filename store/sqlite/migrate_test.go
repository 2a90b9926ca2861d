package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// A file of each older schema is brought up to date with its jobs as they were,
// and goes on. The fixtures are what the program of that time wrote: a new
// migration needs one of the schema before it.
func TestMigrate(t *testing.T) {
	fresh := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	var newest int
	if text, err := fresh.Texts("PRAGMA user_version"); err != nil {
		t.Fatal(err)
	} else if _, err := fmt.Sscan(text[0], &newest); err != nil {
		t.Fatal(err)
	}
	schema := `SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY 1`
	want, err := fresh.Texts(schema)
	if err != nil {
		t.Fatal(err)
	}
	receipts := map[int]string{1: "[]", 2: "[1 1]"} // of records as JSON, and packed
	for version := 1; version < newest; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			text, err := os.ReadFile(fmt.Sprintf("testdata/schema-%d.sql", version))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "queue.db")
			script(t, path, string(text))
			for range 2 { // the second finds it up to date
				s := openAt(t, sqlite.Config{Path: path})
				if got, err := s.Texts(schema); err != nil || !slices.Equal(got, want) {
					t.Errorf("its schema is %q (%v), that of a new file %q", got, err, want)
				}
				inspectOld(t, s)
				if got, err := s.Texts("SELECT verified FROM receipts"); err != nil || fmt.Sprint(got) != receipts[version] {
					t.Errorf("it has the receipts %v (%v), want %s", got, err, receipts[version])
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s := openAt(t, sqlite.Config{Path: path})
			for _, key := range []int{4400, 4401} {
				apply(t, s, []consign.Change{completed(claimed(newJob(key)).Job)})
			}
			for _, key := range []int{4408, 4409} {
				c := claimed(newJob(key))
				apply(t, s, []consign.Change{c, completed(c.Job)})
			}
			if log, err := s.Log(t.Context(), newJob(4400).ID, 0, 10); err != nil || len(log) != 4 {
				t.Errorf("the log of a job that was submitted before and completed after is %v (%v)", log, err)
			}
		})
	}
}

// inspectOld looks for all that the fixture has: jobs of one length that were
// submitted, claimed and completed, and little else.
func inspectOld(t *testing.T, s *sqlite.Store) {
	t.Helper()
	ctx := t.Context()
	for key, want := range map[int]int{0: 3, 4392: 3, 4393: 3, 4400: 2, 4401: 2, 4408: 1, 4409: 1} {
		c := submitted(newJob(key))
		log := c.Log
		if want >= 2 {
			next := claimed(c.Job)
			c, log = next, append(log, next.Log...)
		}
		if want >= 3 {
			next := completed(c.Job)
			c, log = next, append(log, next.Log...)
		}
		jobs, err := s.Jobs(ctx, []consign.JobID{c.Job.ID})
		if err != nil || jobs[0] == nil {
			t.Fatalf("job %d is not there (%v)", key, err)
		}
		got := *jobs[0]
		got.LeaseUntil, got.LeaseFor = 0, c.Job.LeaseFor
		if got != *c.Job {
			t.Errorf("job %d is %+v, want %+v", key, got, *c.Job)
		}
		specs, err := s.Specs(ctx, []consign.JobID{c.Job.ID})
		if err != nil || specs[0] == nil || len(specs[0].Payload) != 200 {
			t.Errorf("the spec of job %d is %v (%v)", key, specs[0], err)
		}
		done, err := s.Done(ctx, c.Job.ID)
		if err != nil || (done != nil) != (want == 3) || done != nil && string(done.Result) != "the answer" {
			t.Errorf("the result of job %d is %v (%v)", key, done, err)
		}
		entries, err := s.Log(ctx, c.Job.ID, 0, 10)
		if want == 2 { // its worker said something
			log = append([]consign.LogEntry{{Job: c.Job.ID, Seq: 7, At: 1_700_000_000_000_009, Event: consign.EventReport, State: consign.StateRunning,
				Attempt: 1, Report: consign.ReportLog, Data: []byte("a line")}}, log...)
		}
		if err != nil || fmt.Sprint(entries) != fmt.Sprint(log) {
			t.Errorf("the log of job %d is\n%v (%v), want\n%v", key, entries, err, log)
		}
	}
	for query, want := range map[string]string{
		"SELECT count(*) || '' FROM jobs":                                                "7",
		"SELECT count(*) || '' FROM effects":                                             "2",
		"SELECT group_concat(name || '=' || value) FROM counters":                        "completed=8816,settled=8800",
		"SELECT body FROM docs WHERE kind = 'pause' AND version = 3":                     `{"at":1}`,
		"SELECT count(*) || '' FROM events WHERE event = 'complete'":                     "3",
		"SELECT count(*) || '' FROM jobs j LEFT JOIN specs USING (n) WHERE kind IS NULL": "0",
	} {
		if got, err := s.Texts(query); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q (%v), want %q", query, got, err, want)
		}
	}
	if due, _, err := s.Due(ctx, 1<<62, 10); err != nil || len(due) != 5 { // those that run, and those that ended
		t.Errorf("%d jobs are due (%v)", len(due), err)
	}
}
