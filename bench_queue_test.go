package consign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Benchmarks of a whole queue on memdb, as its users call it. Setting up is
// not measured.

var benchCaps = consign.Capabilities{Kinds: []string{consign.KindTask, consign.KindInference}, Models: []string{"*"}, MaxContextTier: 4, Slots: 1}

func benchRequests(n int, model string) []consign.SubmitRequest {
	payload := bytes.Repeat([]byte("a prompt of 200 characters "), 8)[:200]
	rs := make([]consign.SubmitRequest, n)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindInference, Model: model, Payload: payload, Custody: consign.CustodyPlain}
	}
	return rs
}

func submitAll(tb testing.TB, q *consign.Queue, rs []consign.SubmitRequest) {
	tb.Helper()
	for i, o := range q.Submitter("acme").SubmitMany(context.Background(), rs) {
		if o.Err != nil {
			tb.Fatal(i, o.Err)
		}
	}
}

// BenchmarkSubmitToStart measures, one job at a time, from the call of Submit
// to the moment at which an idle worker has the assignment in hand: the
// durable submit, the match and the durable claim.
func BenchmarkSubmitToStart(b *testing.B) {
	for _, c := range []struct{ workers, backlog int }{{1, 0}, {100, 0}, {1000, 0}, {100, 100_000}} {
		b.Run(fmt.Sprintf("workers=%d/backlog=%d", c.workers, c.backlog), func(b *testing.B) {
			benchSubmitToStart(b, c.workers, c.backlog)
		})
	}
}

func benchSubmitToStart(b *testing.B, workers, backlog int) {
	q := startQueue(b, consign.Config{NoReceipts: true})
	submitAll(b, q, benchRequests(backlog, "of-nobody"))
	ctx, cancel := context.WithCancel(context.Background())
	caps := benchCaps
	caps.Models = []string{"llama3.1:8b"}
	started := make(chan time.Time, 1)
	freed := make(chan struct{}, 1)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for i := range workers {
		s := openSession(b, q, seededIdentity(uint64(i)), caps)
		group.Go(func() {
			for {
				a, err := s.Claim(ctx)
				if err != nil {
					return
				}
				started <- time.Now()
				if err := s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
					b.Error(err)
				}
				freed <- struct{}{}
			}
		})
	}
	sub := q.Submitter("acme")
	request := benchRequests(1, "llama3.1:8b")[0]
	var latency []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := sub.Submit(ctx, request); err != nil {
			b.Fatal(err)
		}
		latency = append(latency, (<-started).Sub(began))
		<-freed
		if workers == 1 {
			time.Sleep(50 * time.Microsecond) // until it waits again
		}
	}
	slices.Sort(latency)
	b.ReportMetric(float64(latency[len(latency)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(latency[len(latency)*99/100].Nanoseconds())/1e3, "p99-µs")
	b.ReportMetric(0, "ns/op") // an iteration ends with the job's completion
}

// BenchmarkQueueBurnDown measures claim and complete while 100,000 jobs are
// queued and nothing is submitted.
func BenchmarkQueueBurnDown(b *testing.B) {
	for _, workers := range []int{16, 256} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			burnDown(b, 100_000, workers, consign.Config{NoReceipts: true})
		})
	}
}

// BenchmarkQueueSigned is BenchmarkQueueBurnDown with every record signed by
// its worker and verified by the queue. The cost of both, measured by itself,
// is reported beside it.
func BenchmarkQueueSigned(b *testing.B) {
	for _, workers := range []int{16, 256} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			burnDown(b, 20_000, workers, consign.Config{})
			reportCrypto(b)
		})
	}
}

// burnDown empties a queue of the given jobs once in each of b's iterations.
func burnDown(b *testing.B, jobs, workers int, c consign.Config) {
	for b.Loop() {
		b.StopTimer()
		q, stop := startQueueStop(b, c)
		submitAll(b, q, benchRequests(jobs, "llama3.1:8b"))
		sessions := make([]consign.Session, workers)
		for i := range sessions {
			sessions[i] = openSession(b, q, seededIdentity(uint64(i)), benchCaps)
		}
		ctx, cancel := context.WithCancel(b.Context())
		var group sync.WaitGroup
		var left atomic.Int64
		left.Store(int64(jobs))
		b.StartTimer()
		for i, s := range sessions {
			group.Go(func() { burn(b, ctx, cancel, s, seededIdentity(uint64(i)), &left) })
		}
		group.Wait()
		b.StopTimer()
		cancel()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*jobs)/b.Elapsed().Seconds(), "cycles/s")
	b.ReportMetric(0, "ns/op") // an iteration is a whole queue, which tells nobody anything
}

// burn claims and completes until no job is left.
func burn(b *testing.B, ctx context.Context, cancel context.CancelFunc, s consign.Session, id *sign.Identity, left *atomic.Int64) {
	result := []byte("the answer")
	for seq := int64(1); ; seq++ {
		a, err := s.Claim(ctx)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				b.Error(err)
			}
			return
		}
		done := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result}
		if a.Receipts {
			done.Record = signedRecord(b, id, recordOf(&a, result, seq))
		}
		if err := s.Complete(ctx, done); err != nil && ctx.Err() == nil {
			b.Error(err)
			return
		}
		if left.Add(-1) == 0 {
			cancel()
		}
	}
}

// reportCrypto reports what a worker pays to make a record (hashes, canonical
// JSON, signature, envelope) and a queue to check it, each on one idle core.
func reportCrypto(b *testing.B) {
	const n = 500
	worker, result := seededIdentity(0), []byte("the answer")
	a := consign.Assignment{Kind: consign.KindInference, Model: "llama3.1:8b", Comparator: consign.ComparatorNone,
		Payload: benchRequests(1, "")[0].Payload}
	records := make([][]byte, n)
	began := time.Now()
	for i := range records {
		records[i] = signedRecord(b, worker, recordOf(&a, result, int64(i+1)))
	}
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/1e3/n, "sign-µs/op")

	want := consign.Returned{Worker: worker.Public().ID(), Kind: a.Kind, ModelRequested: a.Model, Comparator: a.Comparator,
		HHash: sha256.Sum256(a.Header), InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result)}
	began = time.Now()
	for _, data := range records {
		var envelope sign.Envelope
		if err := envelope.UnmarshalJSON(data); err != nil {
			b.Fatal(err)
		}
		record, err := consign.VerifyRecord(envelope, worker.Public())
		if err != nil {
			b.Fatal(err)
		}
		if err := consign.CheckReturn(want, record); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Since(began).Nanoseconds())/1e3/n, "verify-µs/op")
}

// BenchmarkBulkSubmit measures durable submits: one SubmitMany of 10,000, and
// Submit from 64 goroutines at once.
func BenchmarkBulkSubmit(b *testing.B) {
	const jobs = 10_000
	for _, c := range []struct {
		name   string
		submit func(b *testing.B, q *consign.Queue, rs []consign.SubmitRequest)
	}{
		{"many", func(b *testing.B, q *consign.Queue, rs []consign.SubmitRequest) { submitAll(b, q, rs) }},
		{"single", submitEach},
	} {
		b.Run(c.name, func(b *testing.B) {
			rs := benchRequests(jobs, "llama3.1:8b")
			for b.Loop() {
				b.StopTimer()
				q, stop := startQueueStop(b, consign.Config{})
				b.StartTimer()
				c.submit(b, q, rs)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*jobs)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func submitEach(b *testing.B, q *consign.Queue, rs []consign.SubmitRequest) {
	const callers = 64
	sub := q.Submitter("acme")
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := i; n < len(rs); n += callers {
				if _, err := sub.Submit(context.Background(), rs[n]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
