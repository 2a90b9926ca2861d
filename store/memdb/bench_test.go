package memdb_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// newJob is a queued job as a queue would store it. The lane's text is as long
// as a real one.
func newJob(rng *rand.Rand, key consign.Instant) *consign.Job {
	var id consign.JobID
	binary.NativeEndian.PutUint64(id[:8], rng.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rng.Uint64())
	return &consign.Job{ID: id, Version: 1, State: consign.StateQueued, Account: "acme",
		Lane: lanes[rng.IntN(len(lanes))], Key: key, ReadyAt: key, CreatedAt: key, MaxAttempts: 3,
		Custody: consign.CustodySealed}
}

var lanes = func() []string {
	var lanes []string
	for i := range 20 {
		lanes = append(lanes, consign.Lane{Account: "acme", Offset: 10 * time.Second,
			Needs: consign.Needs{Kind: "LLM_INFER", Model: fmt.Sprintf("llama3.%d:8b", i), Tier: 2, Encryption: true}}.String())
	}
	return lanes
}()

func entry(job *consign.Job, event consign.EventKind) []consign.LogEntry {
	return []consign.LogEntry{{Job: job.ID, Seq: consign.Seq(job.Version << 32), At: job.Key, Event: event, State: job.State}}
}

func submitted(job *consign.Job) consign.Change {
	return consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Kind: "LLM_INFER", Custody: job.Custody}, Log: entry(job, consign.EventSubmit)}
}

func claimed(job *consign.Job, at consign.Instant) consign.Change {
	next := *job
	next.Version++
	next.State, next.Attempt, next.Claim = consign.StateRunning, 1, consign.ClaimID(job.ID)
	next.LeaseFor, next.ClaimedAt, next.LimitAt = 30*time.Second, at, at.Add(time.Minute)
	next.DueAt = next.LimitAt
	return consign.Change{Job: &next, Log: entry(&next, consign.EventClaim)}
}

func completed(job *consign.Job, at consign.Instant) consign.Change {
	next := *job
	next.Version++
	next.State, next.LeaseFor, next.EndedAt = consign.StateCompleted, 0, at
	next.DueAt = at.Add(24 * time.Hour)
	return consign.Change{Job: &next, Done: &consign.Done{ID: job.ID, Claim: job.Claim}, Log: entry(&next, consign.EventComplete),
		Guard: &consign.Guard{Job: job.ID, Claim: job.Claim}}
}

func apply(tb testing.TB, s consign.Store, changes []consign.Change) {
	tb.Helper()
	outcomes, err := s.Apply(context.Background(), changes)
	if err != nil {
		tb.Fatal(err)
	}
	for _, err := range outcomes {
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// fill stores n queued jobs.
func fill(tb testing.TB, s consign.Store, rng *rand.Rand, n int) []*consign.Job {
	jobs := make([]*consign.Job, n)
	changes := make([]consign.Change, 0, 1000)
	for i := range jobs {
		jobs[i] = newJob(rng, consign.Instant(1+i))
		if changes = append(changes, submitted(jobs[i])); len(changes) == cap(changes) || i == n-1 {
			apply(tb, s, changes)
			changes = changes[:0]
		}
	}
	return jobs
}

// One operation is one job claimed and completed, in batches of which half are
// claims and half completions of the batch before, with 100,000 jobs queued.
func BenchmarkCycle(b *testing.B) {
	for _, batch := range []int{1, 16, 100, 1000} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			s, rng := memdb.New(), rand.New(rand.NewPCG(1, 2))
			jobs := fill(b, s, rng, 100_000+b.N)
			at := consign.Instant(1 << 50)
			var running []*consign.Job
			changes := make([]consign.Change, 0, batch)
			b.ReportAllocs()
			b.ResetTimer()
			for next := 0; next < b.N; {
				changes = changes[:0]
				for _, job := range running {
					at++
					changes = append(changes, completed(job, at))
				}
				running = running[:0]
				for range max(1, batch/2) {
					at++
					c := claimed(jobs[next], at)
					running = append(running, c.Job)
					changes = append(changes, c)
					if batch == 1 {
						apply(b, s, changes)
						changes[0] = completed(c.Job, at)
						running = running[:0]
					}
					next++
				}
				apply(b, s, changes)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
		})
	}
}

func BenchmarkSubmit(b *testing.B) {
	for _, batch := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			s, rng := memdb.New(), rand.New(rand.NewPCG(1, 2))
			fill(b, s, rng, 100_000)
			changes := make([]consign.Change, 0, batch)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if changes = append(changes, submitted(newJob(rng, consign.Instant(1<<40+i)))); len(changes) == batch || i == b.N-1 {
					apply(b, s, changes)
					changes = changes[:0]
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// The cost of a page, of the lanes and of a look at the timers must not grow
// with the backlog.
func BenchmarkBacklog(b *testing.B) {
	for _, queued := range []int{1_000, 100_000, 1_000_000} {
		var before, afterwards runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := memdb.New()
		fill(b, s, rand.New(rand.NewPCG(1, 2)), queued)
		runtime.GC()
		runtime.ReadMemStats(&afterwards)
		size := float64(afterwards.HeapAlloc-before.HeapAlloc) / float64(queued)

		ctx := context.Background()
		b.Run(fmt.Sprint("page/queued=", queued), func(b *testing.B) {
			for i := range b.N {
				if _, err := s.Page(ctx, lanes[i%len(lanes)], consign.AllShards, consign.Place{Key: 10}, 10); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(size, "B/job")
		})
		b.Run(fmt.Sprint("lanes/queued=", queued), func(b *testing.B) {
			for range b.N {
				if heads, err := s.Lanes(ctx); err != nil || len(heads) != len(lanes) {
					b.Fatal(heads, err)
				}
			}
		})
		b.Run(fmt.Sprint("due/queued=", queued), func(b *testing.B) {
			for range b.N {
				if _, _, err := s.Due(ctx, 10, 10); err != nil {
					b.Fatal(err)
				}
			}
		})
		runtime.KeepAlive(s)
	}
}

func BenchmarkRenew(b *testing.B) {
	s, rng := memdb.New(), rand.New(rand.NewPCG(1, 2))
	var changes []consign.Change
	var renewals []consign.Renewal
	for _, job := range fill(b, s, rng, 10_000) {
		c := claimed(job, 1)
		changes = append(changes, c)
		renewals = append(renewals, consign.Renewal{Job: job.ID, Claim: c.Job.Claim, For: time.Minute})
	}
	apply(b, s, changes)
	b.ResetTimer()
	for range b.N {
		if _, err := s.Renew(context.Background(), renewals); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/10_000*1e9, "ns/lease")
}
