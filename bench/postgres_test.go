package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/postgres"
)

// Consign and River v0.51.1 on the same PostgreSQL, with its default settings,
// in one run: what one machine gives to both, and a ratio that means something
// however busy it is.

const burnt = 50_000

func pool(b *testing.B) *pgxpool.Pool {
	p, err := pgxpool.New(context.Background(), pgtest.Private(b).DSN+" pool_max_conns=10")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Close)
	return p
}

// BenchmarkPostgresBurnDown empties a queue of 50,000 jobs that do nothing:
// River and Consign in turns, Consign without receipts, as River has none.
func BenchmarkPostgresBurnDown(b *testing.B) {
	p := pool(b)
	var times [2]time.Duration
	for n := 0; b.Loop(); n++ {
		times[0] += riverBurnDown(b, p, fmt.Sprintf("river_%d", n))
		times[1] += consignBurnDown(b, p, fmt.Sprintf("consign_%d", n))
	}
	done := float64(b.N * burnt)
	b.ReportMetric(done/times[0].Seconds(), "river-jobs/s")
	b.ReportMetric(done/times[1].Seconds(), "consign-jobs/s")
	b.ReportMetric(times[0].Seconds()/times[1].Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

type noArgs struct{}

func (noArgs) Kind() string { return "no_op" }

// noOp is a River worker that does nothing.
type noOp struct {
	river.WorkerDefaults[noArgs]
}

func (*noOp) Work(context.Context, *river.Job[noArgs]) error { return nil }

// riverBurnDown has River's own benchmark's settings: many workers, a short
// cooldown, jobs inserted by 5,000, and an end by its events of completion.
func riverBurnDown(b *testing.B, p *pgxpool.Pool, schema string) time.Duration {
	ctx := context.Background()
	if _, err := p.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
		b.Fatal(err)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(p), &rivermigrate.Config{Schema: schema})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		b.Fatal(err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &noOp{})
	client, err := river.NewClient(riverpgxv5.New(p), &river.Config{
		Schema: schema, Logger: slog.New(slog.DiscardHandler), Workers: workers, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
	})
	if err != nil {
		b.Fatal(err)
	}
	for range burnt / 5000 {
		params := make([]river.InsertManyParams, 5000)
		for i := range params {
			params[i].Args = noArgs{}
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			b.Fatal(err)
		}
	}
	events, cancel := client.SubscribeConfig(&river.SubscribeConfig{ChanSize: burnt, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	defer cancel()
	began := time.Now()
	if err := client.Start(ctx); err != nil {
		b.Fatal(err)
	}
	for range burnt {
		<-events
	}
	took := time.Since(began)
	if err := client.Stop(ctx); err != nil {
		b.Fatal(err)
	}
	return took
}

func consignBurnDown(b *testing.B, p *pgxpool.Pool, schema string) time.Duration {
	const workers, slots = 16, 128 // together as many as River's
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := postgres.New(ctx, p, postgres.Config{Schema: schema})
	if err != nil {
		b.Fatal(err)
	}
	q, err := consign.New(consign.Config{Store: store, NoReceipts: true})
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	running, stop := context.WithCancel(context.Background())
	go func() { defer close(ended); _ = q.Run(running) }()
	defer func() { stop(); <-ended }()

	rs := make([]consign.SubmitRequest, burnt)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("{}"), Custody: consign.CustodyPlain}
	}
	for _, o := range q.Submitter("acme").SubmitMany(ctx, rs) {
		if o.Err != nil {
			b.Fatal(o.Err)
		}
	}
	var left atomic.Int64
	left.Store(burnt)
	var group sync.WaitGroup
	began := time.Now()
	for range workers {
		s := register(b, q, slots)
		for range slots {
			group.Go(func() {
				for {
					a, err := s.Claim(ctx)
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							b.Error(err)
						}
						return
					}
					if err := s.Complete(context.Background(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
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
	return time.Since(began)
}

func register(b *testing.B, q *consign.Queue, slots int) consign.Session {
	ctx, id := context.Background(), sign.Generate()
	challenge, err := q.Challenge(ctx)
	if err != nil {
		b.Fatal(err)
	}
	r := consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(), Origin: "inproc", Nonce: challenge.Nonce,
		Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: slots}}
	if r.Signature, err = id.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, nil)); err != nil {
		b.Fatal(err)
	}
	s, err := q.Register(ctx, r)
	if err != nil {
		b.Fatal(err)
	}
	return s
}
