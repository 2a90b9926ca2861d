package sqlite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/sqlite"
)

// Each benchmark has the ceiling beside it: the same writes to one bare table
// with one index, which keeps nothing that a queue needs.

var modes = []struct {
	name    string
	relaxed bool
}{{"full", false}, {"normal", true}}

// BenchmarkCycle is a job claimed and completed, in batches of which half are
// claims and half completions of the batch before, in the store alone.
func BenchmarkCycle(b *testing.B) {
	for _, mode := range modes {
		for _, batch := range []int{1, 16, 100, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode.name, batch), func(b *testing.B) {
				s := openAt(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "queue.db"), Relaxed: mode.relaxed})
				cycle(b, s, batch)
			})
		}
	}
}

func cycle(b *testing.B, s consign.Store, batch int) {
	jobs := fill(b, s, b.N)
	var running []*consign.Job
	changes := make([]consign.Change, 0, 2*batch)
	b.ReportAllocs()
	b.ResetTimer()
	for next := 0; next < b.N || len(running) > 0; {
		changes = changes[:0]
		for _, job := range running {
			changes = append(changes, completed(job))
		}
		running = running[:0]
		for range min(batch, b.N-next) {
			c := claimed(jobs[next])
			running = append(running, c.Job)
			changes = append(changes, c)
			next++
		}
		apply(b, s, changes)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkEnded is BenchmarkCycle in a file with jobs that have ended.
func BenchmarkEnded(b *testing.B) {
	for _, ended := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint("ended=", ended), func(b *testing.B) {
			s := openAt(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "queue.db"), Relaxed: true})
			apply(b, s, []consign.Change{submitted(newJob(1 << 30))}) // that the others are copied from
			finish(b, s, ended)
			cycle(b, s, 100)
		})
	}
}

// BenchmarkBare is the ceiling of BenchmarkCycle.
func BenchmarkBare(b *testing.B) {
	for _, mode := range modes {
		for _, batch := range []int{1, 16, 100, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d", mode.name, batch), func(b *testing.B) { bare(b, mode.name, batch) })
		}
	}
}

func bare(b *testing.B, synchronous string, batch int) {
	conn, err := driver.OpenConn(filepath.Join(b.TempDir(), "bare.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck
	do := func(query string, bind func(*driver.Stmt)) {
		stmt, err := conn.Prepare(query)
		if err != nil {
			b.Fatal(err)
		}
		if bind != nil {
			bind(stmt)
		}
		if _, err := stmt.Step(); err != nil {
			b.Fatal(err)
		}
		_ = stmt.Reset()
	}
	err = sqlitex.ExecuteScript(conn, "CREATE TABLE jobs (n INTEGER PRIMARY KEY, state INTEGER, payload BLOB, result BLOB); CREATE INDEX q ON jobs (n) WHERE state = 2", nil)
	if err != nil {
		b.Fatal(err)
	}
	do("PRAGMA synchronous = "+synchronous, nil)
	do("BEGIN", nil)
	for i := range b.N {
		do("INSERT INTO jobs VALUES (?, 2, zeroblob(200), NULL)", func(s *driver.Stmt) { s.BindInt64(1, int64(i)) })
	}
	do("COMMIT", nil)
	b.ResetTimer()
	for from := -batch; from < b.N; from += batch {
		do("BEGIN IMMEDIATE", nil)
		for i := max(0, from); i < min(from+batch, b.N); i++ {
			do("UPDATE jobs SET state = 5, result = zeroblob(10) WHERE n = ?", func(s *driver.Stmt) { s.BindInt64(1, int64(i)) })
		}
		for i := from + batch; i < min(from+2*batch, b.N); i++ {
			do("UPDATE jobs SET state = 3 WHERE n = ?", func(s *driver.Stmt) { s.BindInt64(1, int64(i)) })
		}
		do("COMMIT", nil)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkSubmit is one SubmitMany of 10,000 jobs, durable.
func BenchmarkSubmit(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode.name, func(b *testing.B) {
			const jobs = 10_000
			for b.Loop() {
				b.StopTimer()
				s := openAt(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "queue.db"), Relaxed: mode.relaxed})
				q, stop := startQueue(b, consign.Config{Store: s, NoReceipts: true})
				rs := requests(jobs)
				b.StartTimer()
				submitAll(b, q, rs)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*jobs)/b.Elapsed().Seconds(), "jobs/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// lanes are as long as a queue's.
var lanes = func() (lanes []string) {
	for i := range 20 {
		lanes = append(lanes, consign.Lane{Account: "acme", Offset: 10 * time.Second,
			Needs: consign.Needs{Kind: "LLM_INFER", Model: fmt.Sprintf("llama3.%d:8b", i), Tier: 2, Encryption: true}}.String())
	}
	return lanes
}()

// newJob is a queued job as a queue stores it; its ID comes from its key.
func newJob(key int) *consign.Job {
	rng := rand.New(rand.NewPCG(uint64(key), 1))
	var id consign.JobID
	binary.NativeEndian.PutUint64(id[:8], rng.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rng.Uint64())
	at := consign.At(time.Unix(1_700_000_000, 0)).Add(time.Duration(key) * time.Microsecond)
	return &consign.Job{ID: id, Version: 1, Change: consign.ChangeID(id), State: consign.StateQueued, Account: "acme", InputHash: [32]byte{1},
		Lane: lanes[key%len(lanes)], Key: at, ReadyAt: at, CreatedAt: at, MaxAttempts: 3, Custody: consign.CustodySealed}
}

func entry(job *consign.Job, event consign.EventKind) []consign.LogEntry {
	return []consign.LogEntry{{Job: job.ID, Seq: consign.Seq(job.Version << 32), At: job.Key, Event: event, State: job.State, Worker: job.Worker}}
}

func submitted(job *consign.Job) consign.Change {
	return consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Kind: "LLM_INFER", Custody: job.Custody, Payload: make([]byte, 200)},
		Log: entry(job, consign.EventSubmit)}
}

func claimed(job *consign.Job) consign.Change {
	next := *job
	next.Version++
	next.State, next.Attempt, next.Claim, next.Worker = consign.StateRunning, 1, consign.ClaimID(job.ID), consign.WorkerID{9}
	next.LeaseFor, next.ClaimedAt, next.LimitAt = 30*time.Second, job.Key+1, job.Key.Add(time.Minute)
	next.DueAt = next.LimitAt
	return consign.Change{Job: &next, Log: entry(&next, consign.EventClaim)}
}

func completed(job *consign.Job) consign.Change {
	next := *job
	next.Version++
	next.State, next.LeaseFor, next.EndedAt = consign.StateCompleted, 0, job.Key+2
	next.DueAt = next.EndedAt.Add(24 * time.Hour)
	return consign.Change{Job: &next, Done: &consign.Done{ID: job.ID, Claim: job.Claim, Result: []byte("the answer")},
		Log: entry(&next, consign.EventComplete), Guard: &consign.Guard{Job: job.ID, Claim: job.Claim}}
}

func apply(tb testing.TB, s consign.Store, changes []consign.Change) {
	tb.Helper()
	outcomes, err := s.Apply(context.Background(), changes)
	if err := errors.Join(append(outcomes, err)...); err != nil {
		tb.Fatal(err)
	}
}

// fill stores n queued jobs.
func fill(tb testing.TB, s consign.Store, n int) []*consign.Job {
	tb.Helper()
	jobs := make([]*consign.Job, n)
	changes := make([]consign.Change, 0, 1000)
	for i := range jobs {
		jobs[i] = newJob(i)
		if changes = append(changes, submitted(jobs[i])); len(changes) == cap(changes) || i == n-1 {
			apply(tb, s, changes)
			changes = changes[:0]
		}
	}
	return jobs
}

var startQueue = testkit.Start

func requests(n int) []consign.SubmitRequest {
	rs := make([]consign.SubmitRequest, n)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: bytes.Repeat([]byte("a"), 200), Custody: consign.CustodyPlain}
	}
	return rs
}

func submitAll(tb testing.TB, q *consign.Queue, rs []consign.SubmitRequest) (ids []consign.JobID) {
	tb.Helper()
	for i, o := range q.Submitter("acme").SubmitMany(context.Background(), rs) {
		if o.Err != nil {
			tb.Fatal(i, o.Err)
		}
		ids = append(ids, o.Job.ID)
	}
	return ids
}

// session registers a worker.
func session(tb testing.TB, q *consign.Queue, seed byte) consign.Session {
	tb.Helper()
	ctx := context.Background()
	id := sign.FromEd25519Seed([32]byte{seed, 1})
	challenge, err := q.Challenge(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	r := consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(), Origin: "inproc", Nonce: challenge.Nonce,
		Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1}}
	if r.Signature, err = id.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, nil)); err != nil {
		tb.Fatal(err)
	}
	s, err := q.Register(ctx, r)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// burn has workers complete that many jobs.
func burn(tb testing.TB, q *consign.Queue, jobs, workers int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(jobs))
	var group sync.WaitGroup
	for i := range workers {
		s := session(tb, q, byte(i))
		group.Go(func() {
			for {
				a, err := s.Claim(ctx)
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						tb.Error(err)
					}
					return
				}
				if err := s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("the answer")}); err != nil && ctx.Err() == nil {
					tb.Error(err)
				}
				if left.Add(-1) == 0 {
					cancel()
				}
			}
		})
	}
	group.Wait()
}
