package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// A child process writes batch after batch and says what was acknowledged,
// until it is killed. What it writes follows from the round, the writer and the
// batch's number, so the parent knows what has to be in the file: the batches
// that were acknowledged, and of each writer at most one more.
const (
	crashWriters = 2
	crashJobs    = 8 // of each batch
)

// TestMain lets the test binary be the child.
func TestMain(m *testing.M) {
	if path := os.Getenv("CONSIGN_CRASH_FILE"); path != "" {
		err := writeUntilKilled(path, os.Getenv("CONSIGN_CRASH_ROUND"), os.Getenv("CONSIGN_CRASH_FAULT"))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if dir := os.Getenv("CONSIGN_VAULT_FOLDER"); dir != "" {
		fmt.Fprintln(os.Stderr, liveUntilKilled(dir, os.Getenv("CONSIGN_VAULT_STEP"), os.Getenv("CONSIGN_VAULT_FAULT")))
		os.Exit(1)
	}
	if path := os.Getenv("CONSIGN_OPEN_FILE"); path != "" {
		s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
		if err == nil {
			err = s.Close()
		}
		fmt.Println(err, errors.Is(err, sqlite.ErrInUse))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashBatch submits jobs, claims those of the batch before, completes those of
// the batch before that, and carries out an older one's effects.
func crashBatch(round, writer, n int) (changes []consign.Change) {
	for i := range crashJobs {
		job := crashJob(round, writer, n, i)
		changes = append(changes, submitted(job))
		if n >= 1 {
			changes = append(changes, claimed(crashJob(round, writer, n-1, i)))
		}
		if n >= 2 {
			c := completed(claimed(crashJob(round, writer, n-2, i)).Job)
			c.Effects = []consign.Effect{{ID: consign.EffectID{Job: c.Job.ID, Seq: c.Log[0].Seq}, Kind: consign.EffectSettle, Target: "acme"}}
			c.Counters = []consign.Delta{{Counter: "completed", Add: 1}}
			changes = append(changes, c)
		}
		if n >= 3 {
			c := completed(claimed(crashJob(round, writer, n-3, i)).Job)
			changes = append(changes, consign.Change{Drop: []consign.EffectID{{Job: c.Job.ID, Seq: c.Log[0].Seq}},
				Counters: []consign.Delta{{Counter: "settled", Add: 1}}})
		}
	}
	return changes
}

func crashJob(round, writer, n, i int) *consign.Job {
	return newJob(((round*crashWriters+writer)*1_000_000+n)*crashJobs + i)
}

// writeUntilKilled is the child. A fault is a lie that the parent has to find
// out: "early" acknowledges before the commit, "split" commits a batch in parts.
func writeUntilKilled(path, round, fault string) error {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Relaxed: strings.HasSuffix(round, "1")})
	if err != nil {
		return err
	}
	r, err := strconv.Atoi(round)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for writer := range crashWriters {
		go func() {
			for n := 0; ; n++ {
				ack := fmt.Appendf(nil, "%d %d\n", writer, n)
				if fault == "early" {
					_, _ = os.Stdout.Write(ack)
				}
				size := len(crashBatch(r, writer, n))
				if fault == "split" {
					size = 1
				}
				for changes := crashBatch(r, writer, n); len(changes) > 0; changes = changes[min(size, len(changes)):] {
					outcomes, err := s.Apply(context.Background(), changes[:min(size, len(changes))])
					if err := errors.Join(append(outcomes, err)...); err != nil {
						failed <- err
						return
					}
				}
				if fault != "early" {
					_, _ = os.Stdout.Write(ack)
				}
			}
		}()
	}
	return <-failed
}

// crash runs a child, kills it after some acknowledgements, and returns how
// many batches of each writer were acknowledged.
func crash(t *testing.T, path string, round, after int, fault string) (acked [crashWriters]int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "CONSIGN_CRASH_FILE="+path, "CONSIGN_CRASH_ROUND="+strconv.Itoa(round), "CONSIGN_CRASH_FAULT="+fault)
	var stderr strings.Builder
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ { // to the end, since what stands in the pipe was said before the kill
		if n == after {
			_ = child.Process.Kill()
		}
		var writer, batch int
		if _, err := fmt.Sscan(lines.Text(), &writer, &batch); err != nil || batch != acked[writer] {
			t.Fatalf("the child says %q (%v)", lines.Text(), err)
		}
		acked[writer]++
	}
	_ = child.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("the child failed before it was killed: %s", stderr.String())
	}
	return acked
}

// inspect returns what is wrong with the jobs of a round, after a kill, and how
// many batches are there.
func inspect(ctx context.Context, s consign.Store, round int, acked [crashWriters]int) (applied int, err error) {
	for writer, n := range acked {
		there := n
		if jobs, err := s.Jobs(ctx, []consign.JobID{crashJob(round, writer, n, 0).ID}); err != nil || jobs[0] != nil {
			if there++; err != nil {
				return 0, err
			}
		}
		applied += there
		for batch := range there + 2 {
			for i := range crashJobs {
				if err := inspectJob(ctx, s, crashJob(round, writer, batch, i), there-batch); err != nil {
					return 0, fmt.Errorf("round %d, writer %d, batch %d of %d, %d acknowledged: %w", round, writer, batch, there, n, err)
				}
			}
		}
	}
	return applied, nil
}

// inspectJob compares a job with what that many batches from its own on make of
// it.
func inspectJob(ctx context.Context, s consign.Store, job *consign.Job, batches int) error {
	versions := min(max(batches, 0), 3)
	jobs, err := s.Jobs(ctx, []consign.JobID{job.ID})
	if err != nil {
		return err
	}
	specs, err := s.Specs(ctx, []consign.JobID{job.ID})
	if err != nil {
		return err
	}
	done, err := s.Done(ctx, job.ID)
	if err != nil {
		return err
	}
	log, err := s.Log(ctx, job.ID, 0, 100)
	if err != nil {
		return err
	}
	var want *consign.Job
	var wantDone *consign.Done
	var wantLog []consign.LogEntry
	for _, c := range []consign.Change{submitted(job), claimed(job), completed(claimed(job).Job)}[:versions] {
		want, wantDone, wantLog = c.Job, c.Done, append(wantLog, c.Log...)
	}
	if want != nil && jobs[0] != nil {
		jobs[0].LeaseUntil = want.LeaseUntil
	}
	switch {
	case !reflect.DeepEqual(jobs[0], want):
		return fmt.Errorf("the job is %+v, want %+v", jobs[0], want)
	case (specs[0] != nil) != (versions > 0):
		return fmt.Errorf("the spec is %+v", specs[0])
	case !reflect.DeepEqual(done, wantDone):
		return fmt.Errorf("its end is %+v, want %+v", done, wantDone)
	case !reflect.DeepEqual(log, wantLog):
		return fmt.Errorf("its log is %+v, want %+v", log, wantLog)
	}
	return nil
}

// kills kills a child that many times on one file and returns what was wrong.
func kills(t *testing.T, n int, fault string) error {
	path := filepath.Join(t.TempDir(), "queue.db")
	rng := rand.New(rand.NewPCG(1, 2))
	var completed, settled, batches, jobs, extra int
	for round := range n {
		acked := crash(t, path, round, rng.IntN(60), fault)
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err != nil {
			return err
		}
		applied, err := inspect(t.Context(), s, round, acked)
		if err == nil {
			sum := 0
			for writer, a := range acked {
				sum += a
				there := a
				if j, e := s.Jobs(t.Context(), []consign.JobID{crashJob(round, writer, a, 0).ID}); e == nil && j[0] != nil {
					there++
				}
				jobs += there * crashJobs
				completed += max(0, there-2) * crashJobs
				settled += max(0, there-3) * crashJobs
			}
			extra += applied - sum
			batches += applied
			if err = sums(t.Context(), s, completed, settled); err == nil && (round%50 == 49 || round == n-1) {
				err = count(t.Context(), s, jobs)
			}
		}
		if e := s.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	t.Logf("%d kills, %d batches that were acknowledged and %d that were not, %d jobs: none lost, none torn", n, batches-extra, extra, jobs)
	return nil
}

// sums checks that nothing was done twice.
func sums(ctx context.Context, s consign.Store, completed, settled int) error {
	counted, err := s.Counter(ctx, "completed")
	if err != nil || counted != int64(completed) {
		return fmt.Errorf("%d jobs count as completed, want %d (%w)", counted, completed, err)
	}
	if counted, err = s.Counter(ctx, "settled"); err != nil || counted != int64(settled) {
		return fmt.Errorf("%d jobs count as settled, want %d (%w)", counted, settled, err)
	}
	effects, err := s.Effects(ctx, 1<<30)
	if err != nil || len(effects) != completed-settled {
		return fmt.Errorf("%d effects wait, want %d (%w)", len(effects), completed-settled, err)
	}
	return nil
}

// count checks that there are no other jobs.
func count(ctx context.Context, s consign.Store, jobs int) error {
	all, err := s.List(ctx, consign.Filter{}, consign.JobID{}, 1<<30)
	if err != nil || len(all) != jobs {
		return fmt.Errorf("there are %d jobs, want %d (%w)", len(all), jobs, err)
	}
	return nil
}

// TestKills loses nothing that was acknowledged when its process is killed.
// CONSIGN_KILLS makes it longer.
func TestKills(t *testing.T) {
	n := 20
	if text := os.Getenv("CONSIGN_KILLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := kills(t, n, ""); err != nil {
		t.Fatal(err)
	}
}

// TestKillsFindFaults plants what TestKills is there to find.
func TestKillsFindFaults(t *testing.T) {
	for _, fault := range []string{"early", "split"} {
		t.Run(fault, func(t *testing.T) {
			err := kills(t, 200, fault)
			if err == nil {
				t.Fatal("200 kills have not found it")
			}
			t.Log(err)
		})
	}
}

// TestOneProcess: a file that a process has is refused to others, until that
// process has ended in whatever way.
func TestOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	s := openAt(t, sqlite.Config{Path: path})
	other := func() string {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CONSIGN_OPEN_FILE="+path)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if said := other(); !strings.HasSuffix(said, "true\n") || !strings.Contains(said, "one process at a time") {
		t.Errorf("a second process was told %q", said)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := sqlite.Open(t.Context(), sqlite.Config{Path: path}); !errors.Is(err, sqlite.ErrInUse) {
				t.Errorf("a second store in this process: %v", err)
			}
		})
	}
	group.Wait()
	apply(t, s, []consign.Change{submitted(newJob(1))}) // it is as it was
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if said := other(); said != "<nil> false\n" {
		t.Errorf("after the end of the first, a process was told %q", said)
	}
}
