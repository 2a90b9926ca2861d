package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// cost is what this process has used so far.
type cost struct {
	cpu           time.Duration
	writes, bytes int64 // system calls that wrote
}

func spent(tb testing.TB) (c cost) {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	c.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var n int64
		if _, err := fmt.Sscanf(line, "syscw: %d", &n); err == nil {
			c.writes = n
		}
		if _, err := fmt.Sscanf(line, "wchar: %d", &n); err == nil {
			c.bytes = n
		}
	}
	return c
}

// add counts what was used since before.
func (c *cost) add(tb testing.TB, before cost) {
	now := spent(tb)
	c.cpu += now.cpu - before.cpu
	c.writes += now.writes - before.writes
	c.bytes += now.bytes - before.bytes
}

// report tells it for each of n jobs.
func (c cost) report(b *testing.B, n int) {
	b.ReportMetric(float64(c.cpu.Microseconds())/float64(n), "cpu-us/job")
	b.ReportMetric(float64(c.writes)/float64(n), "writes/job")
	b.ReportMetric(float64(c.bytes)/float64(n), "bytes/job")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkQueue is claim and complete through a whole queue with 256 workers,
// without receipts, while nothing is submitted. The CPU time and the writes are
// of the whole process, and hold on a busy machine.
func BenchmarkQueue(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode.name, func(b *testing.B) {
			const jobs, workers = 100_000, 256
			var used cost
			for b.Loop() {
				b.StopTimer()
				s := openAt(b, sqlite.Config{Path: filepath.Join(b.TempDir(), "queue.db"), Relaxed: mode.relaxed})
				q, stop := startQueue(b, consign.Config{Store: s, NoReceipts: true})
				submitAll(b, q, requests(jobs))
				b.StartTimer()
				before := spent(b)
				burn(b, q, jobs, workers)
				used.add(b, before)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*jobs)/b.Elapsed().Seconds(), "cycles/s")
			used.report(b, b.N*jobs)
		})
	}
}
