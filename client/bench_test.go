//go:build unix

package client_test

import (
	"bytes"
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// BenchmarkPath is the whole way of a job of 4 KB on one machine: seal, submit,
// claim, open, run, sign, verify, deliver, verify and open; sealed, and what is
// left of it where the payload is plain, and where nothing is signed either.
// 64 jobs are under way at once. What a job takes of the processor holds where
// other programs take their share of the machine, and jobs/s does not.
func BenchmarkPath(b *testing.B) {
	for _, c := range []struct {
		name    string
		kem     seal.KEM
		custody consign.Custody
		signed  bool
	}{
		{"plain", seal.X25519, consign.CustodyPlain, false},
		{"signed", seal.X25519, consign.CustodyPlain, true},
		{"sealed/X25519", seal.X25519, consign.CustodyEscrow, true},
		{"sealed/MLKEM768-X25519", seal.MLKEM768X25519, consign.CustodyEscrow, true},
	} {
		b.Run(c.name, func(b *testing.B) { benchPath(b, c.kem, c.custody, c.signed) })
	}
}

func benchPath(b *testing.B, kem seal.KEM, custody consign.Custody, signed bool) {
	const underWay = 64
	keys, err := vault.NewMemory(vault.Config{KEM: kem})
	must(b, err)
	defer keys.Close()
	q, err := consign.New(consign.Config{Store: memdb.New(), Identity: queueKey, Vault: keys, NoReceipts: !signed})
	must(b, err)
	key, err := seal.GenerateKey(kem)
	must(b, err)
	w, err := worker.New(worker.Config{API: q, Identity: workerKey, Slots: underWay, EncryptionKeys: []*seal.PrivateKey{key},
		Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(shout)}})
	must(b, err)
	c, err := client.New(client.Config{API: q.Submitter("acme"), QueueKey: queueKey.Public(), Unverified: !signed, ResultKEM: kem})
	must(b, err)

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = q.Run(ctx) })
	running.Go(func() { _ = w.Run(ctx) })

	payload := bytes.Repeat([]byte("prompt, "), 512)
	want := bytes.ToUpper(payload)
	run := func() error {
		r, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: payload, Custody: custody})
		if err == nil && !bytes.Equal(r.Output, want) {
			b.Error("another result")
		}
		return err
	}
	must(b, run()) // once the worker has registered
	b.ReportAllocs()
	b.ResetTimer()
	began := processorTime(b)
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
	b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(b.N), "cpu-µs/op")
}

func processorTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
