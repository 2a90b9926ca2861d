package websocket_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// BenchmarkSecurePath is client's BenchmarkPath, sealed, with the worker on
// WebSocket and the submitter on HTTP, and beside it in one process. Both ends
// are in this process.
func BenchmarkSecurePath(b *testing.B) {
	for _, kem := range []seal.KEM{seal.X25519, seal.MLKEM768X25519} {
		for _, network := range []bool{false, true} {
			b.Run(kem.String()+map[bool]string{false: "/inproc", true: "/websocket"}[network], func(b *testing.B) { benchSecurePath(b, kem, network) })
		}
	}
}

func benchSecurePath(b *testing.B, kem seal.KEM, network bool) {
	const underWay = 64
	keys, err := vault.NewMemory(vault.Config{KEM: kem})
	must(b, err)
	defer func() { _ = keys.Close() }()
	identity := sign.Generate()
	q := startQueue(b, consign.Config{Identity: identity, Vault: keys})
	var submitter consign.SubmitterAPI = q.Submitter(longpoll.DefaultAccount)
	var workers consign.WorkerAPI = q
	if network {
		url := serveAll(b, q)
		submitter, _, err = longpoll.Dial(longpoll.DialConfig{URL: url})
		must(b, err)
		workers = dial(b, websocket.DialConfig{URL: url})
	}
	key, err := seal.GenerateKey(kem)
	must(b, err)
	upper := func(_ context.Context, t *worker.Task) (worker.Output, error) {
		return worker.Output{Result: bytes.ToUpper(t.Payload)}, nil
	}
	w, err := worker.New(worker.Config{API: workers, Identity: sign.Generate(), Slots: underWay, EncryptionKeys: []*seal.PrivateKey{key},
		Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(upper)}})
	must(b, err)
	c, err := client.New(client.Config{API: submitter, QueueKey: identity.Public(), ResultKEM: kem})
	must(b, err)
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = w.Run(ctx) })

	payload := bytes.Repeat([]byte("prompt, "), 512)
	run := func() error {
		_, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: payload})
		return err
	}
	must(b, run()) // once the worker has registered
	before := cpuTime(b)
	b.ResetTimer()
	var callers sync.WaitGroup
	for i := range underWay {
		callers.Go(func() {
			for n := i; n < b.N; n += underWay {
				if err := run(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-us/job")
}

// BenchmarkSubmitToStart is the time from a submit, at the coordinator, to the
// moment at which a worker on WebSocket that waited has the job, one job at a
// time.
func BenchmarkSubmitToStart(b *testing.B) {
	q := startQueue(b, consign.Config{NoReceipts: true})
	s := register(b, dial(b, websocket.DialConfig{URL: serveAll(b, q)}), sign.Generate(), 1)
	claimed := make(chan time.Time)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() {
		for range b.N {
			a, err := s.Claim(b.Context())
			claimed <- time.Now()
			if err == nil {
				err = s.Complete(b.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("x")})
			}
			if err != nil {
				b.Error(err)
			}
		}
	})
	sub := q.Submitter("acme")
	times := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		time.Sleep(time.Millisecond) // the worker waits again
		began := time.Now()
		_, err := sub.Submit(b.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte(strings.Repeat("x", 4096)), Custody: consign.CustodyPlain})
		must(b, err)
		times = append(times, (<-claimed).Sub(began))
	}
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
