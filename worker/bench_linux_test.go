package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// BenchmarkBurnDown is what a job costs from its claim to its completion, with
// the queue and one worker in this process and a backlog that is there before.
// Jobs do nothing. Processor time is of the whole process.
func BenchmarkBurnDown(b *testing.B) {
	for _, slots := range []int{64, 2000} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) { burnDown(b, slots) })
	}
}

func burnDown(b *testing.B, slots int) {
	q, err := consign.New(consign.Config{Store: memdb.New(), NoReceipts: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	requests := make([]consign.SubmitRequest, b.N)
	for i := range requests {
		requests[i] = task("x")
	}
	for _, o := range q.Submitter("acme").SubmitMany(ctx, requests) {
		if o.Err != nil {
			b.Fatal(o.Err)
		}
	}
	working, drain := context.WithCancel(ctx)
	var left atomic.Int64
	left.Store(int64(b.N))
	w, err := worker.New(worker.Config{API: q, Identity: identity, Slots: slots,
		Executors: executors(func(context.Context, *worker.Task) (worker.Output, error) {
			if left.Add(-1) == 0 {
				drain()
			}
			return worker.Output{}, nil
		})})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := processorTime()
	if err := w.Run(working); err != nil {
		b.Error(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N), "cpu-us/op")
	stop()
	<-ended
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
