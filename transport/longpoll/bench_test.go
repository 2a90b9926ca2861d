package longpoll_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/longpoll"
)

// BenchmarkClaimComplete is a job's way from the queue to a worker and back,
// over HTTP on the loopback interface: both ends in one process, a queue on
// memdb, results without receipts.
func BenchmarkClaimComplete(b *testing.B) {
	for _, slots := range []int{8, 64, 256} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) { benchClaimComplete(b, slots) })
	}
}

func benchClaimComplete(b *testing.B, slots int) {
	q := startQueue(b, consign.Config{NoReceipts: true})
	submitter, workers := dial(b, serve(b, longpoll.Config{Submitters: q.Submitter, Workers: q}), "")
	rs := make([]consign.SubmitRequest, b.N)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("a payload of an ordinary size, for a task"), Custody: consign.CustodyPlain}
	}
	for i, o := range submitter.SubmitMany(context.Background(), rs) {
		if o.Err != nil {
			b.Fatal(i, o.Err)
		}
	}
	session := register(b, workers, sign.Generate(), slots)
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var group sync.WaitGroup
	for range slots {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				a, err := session.Claim(b.Context())
				if err != nil {
					b.Error(err)
					return
				}
				if err := session.Complete(b.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: a.Payload}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// BenchmarkBareHTTP is what the same two requests cost when nobody does
// anything: net/http with bodies of about the same sizes. The benchmark above is
// read beside it.
func BenchmarkBareHTTP(b *testing.B) {
	for _, callers := range []int{8, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { benchBareHTTP(b, callers) })
	}
}

func benchBareHTTP(b *testing.B, callers int) {
	answer := make([]byte, 400)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	var left atomic.Int64
	left.Store(2 * int64(b.N))
	b.ResetTimer()
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				resp, err := client.Post(srv.URL, "application/msgpack", bytes.NewReader(answer[:200]))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// startQueue runs a queue on memdb until the test has ended.
func startQueue(tb testing.TB, c consign.Config) *consign.Queue {
	tb.Helper()
	c.Store = memdb.New()
	q, _ := testkit.Start(tb, c)
	return q
}

// register registers a worker that takes tasks.
func register(tb testing.TB, workers consign.WorkerAPI, identity *sign.Identity, slots int) consign.Session {
	tb.Helper()
	challenge, err := workers.Challenge(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	public := identity.Public()
	r := consign.Registration{Algorithm: public.Algorithm(), PublicKey: public.Bytes(), Origin: workers.(interface{ Origin() string }).Origin(), Nonce: challenge.Nonce,
		Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: slots}}
	if r.Signature, err = identity.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, nil)); err != nil {
		tb.Fatal(err)
	}
	session, err := workers.Register(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	return session
}
