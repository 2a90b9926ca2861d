package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// Benchmarks of a whole queue on a PostgreSQL of its own with default
// settings, as its users call it. What is durable is so on this machine's
// disk: read them beside pg_test_fsync.

func benchPool(b *testing.B) (*pgxpool.Pool, *meter) {
	server := pgtest.Private(b)
	pool := connect(b, server.DSN+" pool_max_conns=10")
	return pool, &meter{server: server, pool: pool}
}

// meter measures what the stretches between start and stop cost, beside time:
// what the server logged, and the processor time of both.
type meter struct {
	server           *pgtest.Server
	pool             *pgxpool.Pool
	wal              int64
	ours, theirs     time.Duration
	walAt            int64
	oursAt, theirsAt time.Duration
}

func (m *meter) start(b *testing.B) {
	m.walAt = walBytes(b, m.pool)
	m.oursAt, m.theirsAt = cpu(b, m.server)
}

func (m *meter) stop(b *testing.B) {
	ours, theirs := cpu(b, m.server)
	m.ours += ours - m.oursAt
	m.theirs += theirs - m.theirsAt
	m.wal += walBytes(b, m.pool) - m.walAt
}

func (m *meter) report(b *testing.B, n int) {
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }
	b.ReportMetric(float64(m.wal)/float64(n), "WAL-B/job")
	b.ReportMetric(per(m.ours), "go-cpu-µs/job")
	b.ReportMetric(per(m.theirs), "pg-cpu-µs/job")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBurnDown measures claim and complete while nothing is submitted,
// without receipts and with signed and verified ones, and what PostgreSQL
// wrote for it.
func BenchmarkBurnDown(b *testing.B) {
	for _, c := range []struct {
		name   string
		jobs   int
		config consign.Config
		queues int
	}{
		{"plain", 50_000, consign.Config{NoReceipts: true}, 1},
		{"signed", 20_000, consign.Config{}, 1},
		{"plain/coordinators=3", 50_000, consign.Config{NoReceipts: true}, 3},
	} {
		b.Run(c.name, func(b *testing.B) { burnDown(b, c.jobs, c.queues, c.config) })
	}
}

func burnDown(b *testing.B, jobs, queues int, c consign.Config) {
	const workers, slots = 64, 8
	pool, meter := benchPool(b)
	for b.Loop() {
		b.StopTimer()
		schema := newSchema(b, pool)
		c.Identity = identity(1 << 32)
		var all []*consign.Queue
		var stops []func()
		for range queues {
			c.Store = openIn(b, connect(b, meter.server.DSN+" pool_max_conns=10"), schema)
			q, stop := startQueue(b, c)
			all, stops = append(all, q), append(stops, stop)
		}
		sessions := staff(b, all, workers, slots)
		if queues > 1 {
			time.Sleep(4 * time.Second) // they look at each other every second, and share the shards
		}
		submitAll(b, all[0], requests(jobs))
		meter.start(b)
		b.StartTimer()
		work(b, sessions, jobs, slots)
		b.StopTimer()
		meter.stop(b)
		for _, stop := range stops {
			stop()
		}
		b.StartTimer()
	}
	meter.report(b, b.N*jobs)
}

// staffed is a worker's session and identity.
type staffed struct {
	consign.Session
	id *sign.Identity
}

// staff registers workers, spread over the coordinators.
func staff(b *testing.B, coordinators []*consign.Queue, workers, slots int) []staffed {
	all := make([]staffed, workers)
	for i := range all {
		id := identity(uint64(i))
		s, err := openSession(b.Context(), coordinators[i%len(coordinators)], id, slots)
		if err != nil {
			b.Fatal(err)
		}
		all[i] = staffed{s, id}
	}
	return all
}

// work has workers complete that many jobs.
func work(b *testing.B, workers []staffed, jobs, slots int) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(jobs))
	var group sync.WaitGroup
	for _, w := range workers {
		for range slots {
			group.Go(func() {
				for left.Load() > 0 {
					a, err := w.Claim(ctx)
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							b.Error(err)
						}
						return
					}
					if err := w.Complete(context.Background(), completion(b, w.id, &a, 1)); err != nil {
						b.Error(err)
					}
					if left.Add(-1) == 0 {
						cancel()
					}
				}
			})
		}
	}
	group.Wait()
}

// walBytes is how much the server has logged so far.
func walBytes(b *testing.B, pool *pgxpool.Pool) (n int64) {
	if err := pool.QueryRow(context.Background(), "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkBulkSubmit measures SubmitMany of 50,000 jobs.
func BenchmarkBulkSubmit(b *testing.B) {
	const jobs = 50_000
	pool, meter := benchPool(b)
	for b.Loop() {
		b.StopTimer()
		q, stop := startQueue(b, consign.Config{Store: openIn(b, pool, newSchema(b, pool))})
		rs := requests(jobs)
		meter.start(b)
		b.StartTimer()
		submitAll(b, q, rs)
		b.StopTimer()
		meter.stop(b)
		stop()
		b.StartTimer()
	}
	meter.report(b, b.N*jobs)
}

// BenchmarkSubmit measures durable single submits from some callers at once.
func BenchmarkSubmit(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			pool, meter := benchPool(b)
			q, _ := startQueue(b, consign.Config{Store: openIn(b, pool, newSchema(b, pool))})
			sub := q.Submitter("acme")
			rs := requests(b.N)
			var next atomic.Int64
			var group sync.WaitGroup
			meter.start(b)
			b.ResetTimer()
			for range callers {
				group.Go(func() {
					for n := next.Add(1) - 1; n < int64(b.N); n = next.Add(1) - 1 {
						if _, err := sub.Submit(context.Background(), rs[n]); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.StopTimer()
			meter.stop(b)
			meter.report(b, b.N)
		})
	}
}

// BenchmarkSubmitToStart measures, one job at a time, from the call of Submit
// to the moment at which an idle worker has the assignment in hand: on the
// coordinator that took the submit, and on another one.
func BenchmarkSubmitToStart(b *testing.B) {
	for _, name := range []string{"same", "other"} {
		b.Run(name, func(b *testing.B) {
			pool, _ := benchPool(b)
			c := consign.Config{NoReceipts: true, Identity: identity(1 << 32)}
			schema := newSchema(b, pool)
			c.Store = openIn(b, pool, schema)
			q, _ := startQueue(b, c)
			at := q
			if name == "other" {
				c.Store = openIn(b, pool, schema)
				at, _ = startQueue(b, c)
			}
			s, err := openSession(b.Context(), at, identity(1), 1)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			started, ended, idle := make(chan time.Time, 1), make(chan struct{}), make(chan struct{}, 1)
			go func() {
				defer close(ended)
				for {
					idle <- struct{}{}
					a, err := s.Claim(ctx)
					if err != nil {
						return
					}
					started <- time.Now()
					if err := s.Complete(context.Background(), completion(b, identity(1), &a, 1)); err != nil {
						b.Error(err)
					}
				}
			}()
			var latency []time.Duration
			for b.Loop() {
				<-idle
				time.Sleep(2 * time.Millisecond) // until it waits
				r := requests(1)[0]
				began := time.Now()
				if _, err := q.Submitter("acme").Submit(ctx, r); err != nil {
					b.Fatal(err)
				}
				latency = append(latency, (<-started).Sub(began))
			}
			cancel()
			<-ended
			slices.Sort(latency)
			b.ReportMetric(float64(latency[len(latency)/2].Microseconds())/1e3, "p50-ms")
			b.ReportMetric(float64(latency[len(latency)*99/100].Microseconds())/1e3, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
