package worker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

// reported joins what a job's log holds of one kind of reports.
func reported(q *testkit.FakeQueue, id consign.JobID, kind consign.ReportKind, sep string) string {
	var out []string
	for _, e := range q.Log(id) {
		if e.Event == consign.EventReport && e.Report == kind {
			out = append(out, string(e.Data))
		}
	}
	return strings.Join(out, sep)
}

// stream reports n parts and lines at a pace.
func stream(n int, pace time.Duration) worker.ExecutorFunc {
	return func(ctx context.Context, t *worker.Task) (worker.Output, error) {
		buf := make([]byte, 0, 16)
		for i := range n {
			buf = fmt.Appendf(buf[:0], "<%d>", i)
			t.Part(buf)
			if i%10 == 0 {
				t.Log(fmt.Sprint("line ", i/10))
				t.Progress(fmt.Sprintf("%d of %d", i, n))
			}
			time.Sleep(pace)
		}
		return echo(ctx, t)
	}
}

func parts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<%d>", i)
	}
	return b.String()
}

func TestReportsAreOrderedAndBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		calls := 0
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Report" {
				calls++
				return testkit.Fault{Delay: time.Duration(c.N%4) * 100 * time.Millisecond}
			}
			return testkit.Fault{}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, Executors: executors(stream(1000, 3*time.Millisecond))})
		time.Sleep(time.Minute)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
		if got := reported(q, id, consign.ReportPart, ""); got != parts(1000) {
			t.Errorf("parts: %.200s...", got)
		}
		if lines := strings.Split(reported(q, id, consign.ReportLog, "\n"), "\n"); len(lines) != 100 || lines[99] != "line 99" {
			t.Errorf("%d lines", len(lines))
		}
		notes := 0
		for s := range strings.SplitSeq(reported(q, id, consign.ReportProgress, "|"), "|") {
			if strings.Count(s, "of") != 1 {
				t.Errorf("progress: %s", s)
			}
			notes++
		}
		if notes > calls {
			t.Errorf("%d notes of progress in %d calls", notes, calls)
		}
		if calls > 61 { // one each 50 ms in 3 s, and the last
			t.Errorf("%d calls", calls)
		}
	})
}

func TestLostReportsDoNotFailTheJobAndAreNeverDoubled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method != "Report" || c.N%2 == 0 {
				return testkit.Fault{}
			}
			if c.N%4 == 1 {
				return testkit.Fault{Lose: errors.New("reset")}
			}
			return testkit.Fault{Drop: errors.New("reset")}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, Executors: executors(stream(1000, 3*time.Millisecond))})
		time.Sleep(time.Minute)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
		last := -1
		for _, s := range strings.FieldsFunc(reported(q, id, consign.ReportPart, ""), func(r rune) bool { return r == '<' || r == '>' }) {
			var n int
			if _, err := fmt.Sscan(s, &n); err != nil || n <= last {
				t.Fatalf("part %q after %d", s, last)
			}
			last = n
		}
		if log := reported(q, id, consign.ReportLog, "\n"); !strings.Contains(log, "reports were lost here") {
			t.Errorf("nothing says that reports are missing:\n%s", log)
		}
	})
}

func TestReportsDoNotHoldTheResultUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Report" {
				return testkit.Fault{Delay: time.Hour}
			}
			return testkit.Fault{}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, CallTimeout: 24 * time.Hour, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			for range 1000 { // more than may wait
				task.Part(make([]byte, 1000))
			}
			return echo(ctx, task)
		})})
		time.Sleep(6 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
	})
}

func TestReportOfALostClaimStopsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		stopped := make(chan time.Duration, 1)
		w := start(t, worker.Config{API: q, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			began := time.Now()
			for ctx.Err() == nil {
				task.Progress("still there")
				time.Sleep(time.Second)
			}
			stopped <- time.Since(began)
			return worker.Output{}, ctx.Err()
		})})
		time.Sleep(1500 * time.Millisecond)
		if _, err := q.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		w.endClean()
		if d := <-stopped; d > 3*time.Second {
			t.Errorf("stopped after %v, not with its next report", d)
		}
	})
}

func TestATaskMadeByHand(t *testing.T) {
	task := &worker.Task{Kind: "TASK", Payload: []byte("x")}
	task.Progress("a")
	task.Log("b")
	task.Part([]byte("c"))
	if out, err := echo(t.Context(), task); err != nil || string(out.Result) != "done: x" {
		t.Errorf("%q, %v", out.Result, err)
	}
}
