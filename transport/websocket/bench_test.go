package websocket_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
)

// BenchmarkClaimComplete is a job's way from the queue to a worker and back:
// over WebSocket and, beside it, over HTTP and in one process. Both ends are in
// this process, the queue is on memdb and takes results without receipts.
// connections=N are as many workers with a slot each, else it is one with all.
func BenchmarkClaimComplete(b *testing.B) {
	for _, shape := range []struct{ connections, slots int }{{1, 8}, {1, 64}, {1, 256}, {64, 1}} {
		for _, transport := range []string{"inproc", "longpoll", "websocket"} {
			b.Run(fmt.Sprintf("%s/connections=%d/slots=%d", transport, shape.connections, shape.slots), func(b *testing.B) {
				benchClaimComplete(b, transport, shape.connections, shape.slots)
			})
		}
	}
}

func benchClaimComplete(b *testing.B, transport string, connections, slots int) {
	q := startQueue(b, consign.Config{NoReceipts: true})
	url := serveAll(b, q)
	submit(b, q.Submitter("acme"), b.N, "a payload of an ordinary size, for a task")
	var sessions []consign.Session
	for range connections {
		var session consign.Session
		switch transport {
		case "inproc":
			r := registration(b, q, sign.Generate(), slots, "inproc")
			var err error
			if session, err = q.Register(b.Context(), r); err != nil {
				b.Fatal(err)
			}
		case "longpoll":
			_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url})
			if err != nil {
				b.Fatal(err)
			}
			session = register(b, workers, sign.Generate(), slots)
		default:
			session = register(b, dial(b, websocket.DialConfig{URL: url}), sign.Generate(), slots)
		}
		sessions = append(sessions, session)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	before := cpuTime(b)
	b.ResetTimer()
	var group sync.WaitGroup
	for _, session := range sessions {
		for range slots {
			group.Go(func() {
				for left.Add(-1) >= 0 {
					if err := runOne(b.Context(), session); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/job") // also right on a machine that is busy
}

// cpuTime is how much of a processor this process has had.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// runOne claims a job and completes it.
func runOne(ctx context.Context, s consign.Session) error {
	a, err := s.Claim(ctx)
	if err != nil {
		return err
	}
	return s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: a.Payload})
}
