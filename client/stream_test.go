package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

// tell streams some text and a line, and fails now and then.
func tell(fails int) worker.ExecutorFunc {
	n := 0
	return func(_ context.Context, task *worker.Task) (worker.Output, error) {
		n++
		for i := range 20 {
			task.Part(fmt.Appendf(nil, "secret %d.%d;", n, i))
			time.Sleep(30 * time.Millisecond)
		}
		task.Log(fmt.Sprint("secret line ", n))
		if n <= fails {
			return worker.Output{}, errors.New("secret reason")
		}
		return worker.Output{Result: []byte("secret result")}, nil
	}
}

// text joins the parts of each attempt.
func text(t *testing.T, s iter.Seq2[client.Piece, error]) map[int]string {
	t.Helper()
	out := make(map[int]string)
	for p, err := range s {
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		switch p.Kind {
		case consign.ReportPart:
			out[p.Attempt] += string(p.Data)
		case consign.ReportLog:
			out[p.Attempt] += "\n" + string(p.Data)
		}
	}
	return out
}

func told(n int) string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintf(&b, "secret %d.%d;", n, i)
	}
	fmt.Fprintf(&b, "\nsecret line %d", n)
	return b.String()
}

// What a worker says comes as it says it, in plain, sealed jobs' and others'.
func TestStream(t *testing.T) {
	for _, custody := range []consign.Custody{consign.CustodyPlain, consign.CustodyEscrow} {
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			answer(t, testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
				if c.Method == "Report" && custody != consign.CustodyPlain {
					return []testkit.Fault{{}, {Drop: errReset}, {Twice: true}, {Lose: errReset}}[c.N%4]
				}
				return testkit.Fault{}
			}), tell(0))
			c := open(t, testkit.FaultySubmitter(q, func(call testkit.Call) testkit.Fault {
				if call.Method == "Events" && call.N%4 < 3 {
					return testkit.Fault{Cut: errReset, After: call.N % 4}
				}
				return testkit.Fault{}
			}), nil)
			r := secret("job")
			r.Custody = custody
			job, err := c.Submit(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			first := false
			for range c.Stream(t.Context(), job.ID) {
				first = !q.Job(job.ID).State.Terminal()
				break
			}
			if !first {
				t.Error("nothing came before the job's end")
			}
			got := text(t, c.Stream(t.Context(), job.ID))
			if len(got) != 1 || got[1] != told(1) {
				t.Errorf("custody %s: %v", custody, got)
			}
			if custody != consign.CustodyPlain {
				wantSecret(t, q)
			}
			// And once more, after the end.
			if got := text(t, c.Stream(t.Context(), job.ID)); got[1] != told(1) {
				t.Errorf("after the end: %v", got)
			}
		})
	}
}

// A new claim starts a new stream.
func TestStreamOverAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		c := open(t, q, nil)
		job, err := c.Submit(t.Context(), secret("job"))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan map[int]string, 1)
		go func() { got <- text(t, c.Stream(t.Context(), job.ID)) }()
		answer(t, &requeue{FakeQueue: q}, tell(1))
		if _, err := c.Collect(t.Context(), job.ID); err != nil {
			t.Fatal(err)
		}
		all := <-got
		if all[1] != told(1)+"\nsecret reason" || all[2] != told(2) {
			t.Errorf("%v", all)
		}
		// Who comes late gets the accepted attempt's.
		if late := text(t, c.Stream(t.Context(), job.ID)); len(late) != 1 || late[2] != told(2) {
			t.Errorf("late: %v", late)
		}
		wantSecret(t, q)
	})
}

// requeue makes failures releases, so that there is another attempt.
type requeue struct{ *testkit.FakeQueue }

func (q *requeue) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := q.FakeQueue.Register(ctx, r)
	return requeueSession{s}, err
}

type requeueSession struct{ consign.Session }

func (s requeueSession) Fail(ctx context.Context, f consign.Failure) error {
	return s.Release(ctx, consign.Release{Claim: f.Claim, Reason: f.Reason})
}

// otherLog changes a job's log.
type otherLog struct {
	consign.SubmitterAPI
	lie func([]consign.LogEntry) []consign.LogEntry
}

func (o otherLog) Events(ctx context.Context, id consign.JobID, _ consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		var log []consign.LogEntry
		for e, err := range o.SubmitterAPI.Events(ctx, id, 0) {
			if err != nil {
				yield(e, err)
				return
			}
			log = append(log, e)
		}
		for i, e := range o.lie(log) {
			e.Seq = consign.Seq(i + 1)
			if !yield(e, nil) {
				return
			}
		}
	}
}

// What the queue does to a stream is mended where it can be, and shown where
// not.
func TestStreamThatWasTamperedWith(t *testing.T) {
	report := func(log []consign.LogEntry, n int) int { // the index of the nth report
		for i, e := range log {
			if e.Event == consign.EventReport {
				if n--; n < 0 {
					return i
				}
			}
		}
		panic("too few reports")
	}
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		answer(t, q, tell(0))
		keyring := client.NewKeyring()
		c := open(t, q, func(c *client.Config) { c.Keyring = keyring })
		res, err := c.Run(t.Context(), secret("job"))
		if err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			lie  func([]consign.LogEntry) []consign.LogEntry
			want error // nil: the whole text comes
		}{
			"replayed": {lie: func(log []consign.LogEntry) []consign.LogEntry {
				return slices.Insert(log, report(log, 3), log[report(log, 0)], log[report(log, 2)])
			}},
			"swapped": {lie: func(log []consign.LogEntry) []consign.LogEntry {
				i, j := report(log, 1), report(log, 4)
				log[i], log[j] = log[j], log[i]
				return log
			}},
			"backwards": {lie: func(log []consign.LogEntry) []consign.LogEntry {
				i := report(log, 0)
				slices.Reverse(log[i : len(log)-1])
				return log
			}},
			"missing": {want: seal.ErrPartGap, lie: func(log []consign.LogEntry) []consign.LogEntry {
				i := report(log, 1)
				return slices.Delete(log, i, i+1)
			}},
			"altered": {want: seal.ErrBox, lie: func(log []consign.LogEntry) []consign.LogEntry {
				i := report(log, 1)
				log[i].Data = bytes.Clone(log[i].Data)
				log[i].Data[40] ^= 1
				return log
			}},
			"forged": {want: seal.ErrBox, lie: func(log []consign.LogEntry) []consign.LogEntry {
				i := report(log, 0)
				log[i].Data = []byte("this is what the worker says")
				return log
			}},
			"after the last": {want: seal.ErrPartEnded, lie: func(log []consign.LogEntry) []consign.LogEntry {
				extra := log[len(log)-2]
				extra.Data = bytes.Clone(extra.Data)
				extra.Data[7]++
				return slices.Insert(log, len(log)-1, extra)
			}},
		} {
			liar := open(t, otherLog{q, tc.lie}, func(c *client.Config) { c.Keyring = keyring })
			var parts, lines strings.Builder
			var failed error
			for p, err := range liar.Stream(t.Context(), res.ID) {
				switch {
				case err != nil:
					failed = err
				case p.Kind == consign.ReportPart:
					parts.Write(p.Data)
				default:
					lines.Write(p.Data)
				}
			}
			if !errors.Is(failed, tc.want) || tc.want == nil && failed != nil {
				t.Errorf("%s: %v, want %v", name, failed, tc.want)
			}
			whole, _, _ := strings.Cut(told(1), "\n")
			if tc.want == nil && parts.String() != whole || !strings.HasPrefix(whole, parts.String()) {
				t.Errorf("%s: %q", name, parts.String())
			}
		}
		if err := c.Acknowledge(t.Context(), res.ID); err != nil {
			t.Fatal(err)
		}
		for p, err := range c.Stream(t.Context(), res.ID) { // no keys: as it is
			if err != nil || bytes.Contains(p.Data, []byte("secret")) {
				t.Errorf("%q, %v", p.Data, err)
			}
		}
	})
}
