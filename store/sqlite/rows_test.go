package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// sameKey returns jobs that came at one moment, in a random order.
func sameKey(n int) []*consign.Job {
	jobs := make([]*consign.Job, n)
	for i := range jobs {
		jobs[i] = newJob(len(lanes) * i) // of one lane
		jobs[i].Key = 1
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
	return jobs
}

// New jobs lie in the order in which they will be claimed, in spite of their
// random IDs: that is what keeps a claim of many from writing as many pages.
func TestNewJobsLieInOrder(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	jobs := sameKey(200)
	var changes []consign.Change
	for _, j := range jobs {
		c := submitted(j)
		c.Counters = []consign.Delta{{Counter: "held", Add: 1}}
		changes = append(changes, c)
	}
	apply(t, s, changes)
	got, err := s.Texts("SELECT count(*) || '' FROM jobs a JOIN jobs b ON b.n = a.n + 1 WHERE (a.key, a.id) < (b.key, b.id)")
	if err != nil || got[0] != "199" {
		t.Errorf("%s of 199 jobs lie behind the one that is claimed before (%v)", got[0], err)
	}
}

// Results lie as if they had come in the order of their jobs, in whatever order
// workers return a batch of them: else each would move others aside.
func TestResultsLieInOrder(t *testing.T) {
	pages := func(shuffle func(n int, swap func(i, k int))) string {
		s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
		var claims, ends []consign.Change
		for _, j := range fill(t, s, 1000) {
			claims = append(claims, claimed(j))
			ends = append(ends, completed(claims[len(claims)-1].Job))
		}
		apply(t, s, claims)
		shuffle(len(ends), func(i, k int) { ends[i], ends[k] = ends[k], ends[i] })
		apply(t, s, ends)
		got, err := s.Texts("SELECT page_count || '' FROM pragma_page_count")
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	want := pages(func(int, func(i, k int)) {})
	if got := pages(rand.New(rand.NewPCG(1, 2)).Shuffle); got != want {
		t.Errorf("the file has %s pages, and %s where the results came in order", got, want)
	}
}

// That order is nobody's business: of changes that cannot all be applied the
// first are, and of two of one job the first is.
func TestOutcomesInOrder(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	apply(t, s, []consign.Change{{Counters: []consign.Delta{{Counter: "balance", Add: 50}}}})
	var changes []consign.Change
	for _, j := range sameKey(100) {
		c := submitted(j)
		c.Counters = []consign.Delta{{Counter: "balance", Add: -1}}
		changes = append(changes, c)
	}
	outcomes, err := s.Apply(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	for i, outcome := range outcomes {
		if i < 50 && outcome != nil || i >= 50 && !errors.Is(outcome, consign.ErrBound) {
			t.Errorf("change %d: %v", i, outcome)
		}
	}
	job := newJob(4)
	apply(t, s, []consign.Change{submitted(job), submitted(newJob(5))})
	running := claimed(job)
	other := claimed(newJob(5))
	outcomes, err = s.Apply(t.Context(), []consign.Change{completed(running.Job), other, running, completed(other.Job), completed(running.Job)})
	if err != nil || !errors.Is(outcomes[0], consign.ErrGuard) || errors.Join(outcomes[1:]...) != nil {
		t.Errorf("a completion before its claim, and after it: %v (%v)", outcomes, err)
	}
	// So much for changes of one job each. Those that look at another one's find
	// it as those before have left it.
	low, high, fresh := newJob(6), newJob(7), newJob(8)
	apply(t, s, []consign.Change{submitted(low), submitted(high)})
	lows, highs := claimed(low), claimed(high)
	lows.Log = append(lows.Log, entry(fresh, consign.EventSettle)...)
	lows.Log[1].Seq++
	apply(t, s, []consign.Change{submitted(fresh), lows, highs})
	if log, err := s.Log(t.Context(), fresh.ID, 0, 9); err != nil || len(log) != 2 {
		t.Errorf("an entry for a job that was submitted before: %v (%v)", log, err)
	}
	guarded, ended := completed(highs.Job), completed(lows.Job)
	guarded.Guard = ended.Guard
	outcomes, err = s.Apply(t.Context(), []consign.Change{guarded, ended})
	if err := errors.Join(append(outcomes, err)...); err != nil {
		t.Errorf("a completion guarded by the claim of a job that ends later: %v", err)
	}
	first, second := newJob(1), newJob(1)
	first.Key, second.Key = 2, 1 // so that the second would be stored first
	outcomes, err = s.Apply(t.Context(), []consign.Change{submitted(newJob(3)), submitted(first), submitted(second)})
	if err != nil || outcomes[1] != nil || !errors.Is(outcomes[2], consign.ErrVersion) {
		t.Errorf("two submits of one job: %v (%v)", outcomes, err)
	}
}

// A job that was deleted is not found by what was known of it, nor is another
// one in its place, and one that is stored again under its ID is.
func TestRowsOfDeletedJobs(t *testing.T) {
	ctx := t.Context()
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	job := newJob(1)
	apply(t, s, []consign.Change{submitted(job)})
	page, err := s.Page(ctx, job.Lane, consign.AllShards, consign.Place{}, 10)
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	gone := *job
	gone.Version = 2
	late := s.Learning(page) // a read that began before the delete
	apply(t, s, []consign.Change{{Job: &gone, Delete: true}})
	late()
	if n := s.Known(job.ID); n != 0 {
		t.Errorf("row %d is taken for that of a job that was deleted", n)
	}
	apply(t, s, []consign.Change{submitted(newJob(2))}) // which SQLite itself would give the same row
	specs, err := s.Specs(ctx, []consign.JobID{job.ID, newJob(2).ID})
	if err != nil || specs[0] != nil || specs[1] == nil {
		t.Errorf("the specs are %v (%v)", specs, err)
	}
	rows, err := s.Texts("SELECT max(n) || '' FROM jobs")
	if err != nil || rows[0] != "2" {
		t.Errorf("the other job has row %s (%v)", rows, err)
	}
	apply(t, s, []consign.Change{submitted(job), claimed(job)})
	if outcomes, err := s.Apply(ctx, []consign.Change{submitted(job)}); err != nil || !errors.Is(outcomes[0], consign.ErrVersion) {
		t.Errorf("a third submit: %v (%v)", outcomes, err)
	}
}

// A change that fails after its job was written leaves nothing known of it.
func TestRowsOfRefusedChange(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	if err := s.Do(`CREATE TRIGGER no BEFORE INSERT ON effects BEGIN SELECT RAISE(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	job := newJob(1)
	bad := submitted(job)
	bad.Effects = []consign.Effect{{ID: consign.EffectID{Job: job.ID}, Kind: consign.EffectStrike}}
	outcomes, err := s.Apply(t.Context(), []consign.Change{bad, claimed(job)})
	if err != nil || outcomes[0] == nil || !errors.Is(outcomes[1], consign.ErrVersion) {
		t.Fatal(outcomes, err)
	}
	if n := s.Known(job.ID); n != 0 {
		t.Errorf("row %d is known of a job that is not there", n)
	}
	apply(t, s, []consign.Change{submitted(job), claimed(job)})
}

// What is known is bounded.
func TestRowsAreBounded(t *testing.T) {
	if n := sqlite.LearnMany(3 * sqlite.MaxRows); n > sqlite.MaxRows || n < sqlite.MaxRows/2 {
		t.Errorf("%d rows are known", n)
	}
}

// A job that runs is due though no index has it, in its place among the others,
// as long as it runs.
func TestDueWhileRunning(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	var changes []consign.Change
	for i := range 10 {
		job := newJob(i)
		job.DueAt = consign.Instant(100 + i)
		changes = append(changes, submitted(job))
		if i%2 == 1 {
			c := claimed(job)
			c.Job.DueAt = job.DueAt
			changes = append(changes, c)
		}
	}
	apply(t, s, changes)
	read := func(now consign.Instant, n int) string {
		jobs, next, err := s.Due(t.Context(), now, n)
		if err != nil {
			t.Fatal(err)
		}
		var due []consign.Instant
		for _, j := range jobs {
			due = append(due, j.DueAt)
		}
		return fmt.Sprint(due, next)
	}
	for _, c := range []struct {
		now  consign.Instant
		n    int
		want string
	}{{99, 9, "[] 100"}, {101, 9, "[100 101] 102"}, {102, 9, "[100 101 102] 103"}, {200, 3, "[100 101 102] 103"}, {200, 4, "[100 101 102 103] 104"},
		{200, 10, "[100 101 102 103 104 105 106 107 108 109] 0"}, {200, 0, "[] 100"}} {
		if got := read(c.now, c.n); got != c.want {
			t.Errorf("at %d, of %d: %s, want %s", c.now, c.n, got, c.want)
		}
	}
	ended := completed(changes[2].Job) // job 1
	ended.Job.DueAt = 0
	apply(t, s, []consign.Change{ended})
	if got := read(102, 9); got != "[100 102] 103" {
		t.Errorf("when one has ended: %s", got)
	}
}

// A change that fails in the batch that deleted its job does not bring back what
// was known of it before. (A rapid model found this.)
func TestRowsOfRefusedChangeAfterDelete(t *testing.T) {
	s := openAt(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "queue.db")})
	job := newJob(1)
	apply(t, s, []consign.Change{submitted(job)})
	gone, bad := *job, submitted(job)
	gone.Version = 2
	bad.Drop = []consign.EffectID{{Job: job.ID, Seq: 9}} // there is none
	outcomes, err := s.Apply(t.Context(), []consign.Change{{Job: &gone, Delete: true}, bad, {Log: entry(job, consign.EventSettle)}})
	if err != nil || outcomes[0] != nil || !errors.Is(outcomes[1], consign.ErrVersion) || outcomes[2] != nil {
		t.Fatal(outcomes, err)
	}
	if n := s.Known(job.ID); n != 0 {
		t.Errorf("row %d is known of a job that is not there", n)
	}
}
