package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/worker"
)

// args is a job's payload, in all systems the same bytes of JSON.
type args struct {
	N int `json:"n"`
}

func (a args) bytes() []byte { return fmt.Appendf(nil, `{"n":%d}`, a.N) }

func consignMemory(context.Context, *place) (queue, error) {
	return newConsign(consign.Config{Store: memdb.New(), NoReceipts: true}, nil)
}

func consignSQLite(relaxed bool) func(context.Context, *place) (queue, error) {
	return func(ctx context.Context, p *place) (queue, error) {
		dir, remove, err := p.folder()
		if err != nil {
			return nil, err
		}
		store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "queue.db"), Relaxed: relaxed})
		if err != nil {
			return nil, errors.Join(err, remove())
		}
		return newConsign(consign.Config{Store: store, NoReceipts: true}, func() error { return errors.Join(store.Close(), remove()) })
	}
}

func consignPostgres(plain bool) func(context.Context, *place) (queue, error) {
	return func(ctx context.Context, p *place) (queue, error) {
		schema, drop, err := p.schema(ctx)
		if err != nil {
			return nil, err
		}
		store, err := postgres.New(ctx, p.pool, postgres.Config{Schema: schema})
		if err != nil {
			return nil, errors.Join(err, drop())
		}
		return newConsign(consign.Config{Store: store, NoReceipts: plain}, drop)
	}
}

// consignQueue is a whole Consign in this process: a queue, and one worker with
// as many slots as are asked for.
type consignQueue struct {
	queue  *consign.Queue
	jobs   consign.SubmitterAPI
	stops  []func() error // the last one is called first
	remove func() error
}

func newConsign(c consign.Config, remove func() error) (queue, error) {
	c.Logger = slog.New(slog.DiscardHandler)
	q, err := consign.New(c)
	if err != nil {
		return nil, err
	}
	cq := &consignQueue{queue: q, jobs: q.Submitter("bench"), remove: remove}
	cq.start(q.Run)
	return cq, nil
}

// start runs something until close.
func (c *consignQueue) start(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	c.stops = append(c.stops, func() error {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

func (c *consignQueue) request(n int) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: consign.KindTask, Payload: args{n}.bytes(), Custody: consign.CustodyPlain}
}

func (c *consignQueue) submit(ctx context.Context, n int) error {
	_, err := c.jobs.Submit(ctx, c.request(n))
	return err
}

func (c *consignQueue) submitMany(ctx context.Context, first, end int) error {
	requests := make([]consign.SubmitRequest, 0, end-first)
	for n := first; n < end; n++ {
		requests = append(requests, c.request(n))
	}
	for _, o := range c.jobs.SubmitMany(ctx, requests) {
		if o.Err != nil {
			return o.Err
		}
	}
	return nil
}

func (c *consignQueue) work(ctx context.Context, slots int, run, completed func(int)) error {
	api := &countingAPI{WorkerAPI: c.queue, completed: completed, registered: make(chan struct{})}
	w, err := worker.New(worker.Config{API: api, Identity: sign.Generate(), Slots: slots, Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(_ context.Context, t *worker.Task) (worker.Output, error) {
			var a args
			if err := json.Unmarshal(t.Payload, &a); err != nil {
				return worker.Output{}, err
			}
			run(a.N)
			return worker.Output{}, nil
		}),
	}})
	if err != nil {
		return err
	}
	c.start(w.Run)
	select {
	case <-api.registered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *consignQueue) close() error {
	var errs []error
	for len(c.stops) > 0 {
		last := len(c.stops) - 1
		errs = append(errs, c.stops[last]())
		c.stops = c.stops[:last]
	}
	if c.remove != nil {
		errs = append(errs, c.remove())
	}
	return errors.Join(errs...)
}

// countingAPI tells of completions that the queue has accepted: then they are
// kept, as its contract says.
type countingAPI struct {
	consign.WorkerAPI
	completed  func(int)
	registered chan struct{} // closed after the first registration
}

func (c *countingAPI) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := c.WorkerAPI.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.registered:
	default:
		close(c.registered)
	}
	return &countingSession{s, c.completed}, nil
}

type countingSession struct {
	consign.Session
	completed func(int)
}

func (s *countingSession) Complete(ctx context.Context, c consign.Completion) error {
	err := s.Session.Complete(ctx, c)
	if err == nil {
		s.completed(1)
	}
	return err
}

// Close ends a session that holds something open.
func (s *countingSession) Close() error {
	if c, ok := s.Session.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
