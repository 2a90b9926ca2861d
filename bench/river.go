package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite" // the same SQLite for all
)

func (args) Kind() string { return "no_op" }

// riverBest has the settings of River's own benchmark.
func riverBest(c *river.Config) {
	c.FetchCooldown, c.FetchPollInterval = 2*time.Millisecond, 20*time.Millisecond
}

func riverDefaults(*river.Config) {}

func riverPostgres(settings func(*river.Config)) func(context.Context, *place) (queue, error) {
	return func(ctx context.Context, p *place) (queue, error) {
		schema, drop, err := p.schema(ctx)
		if err != nil {
			return nil, err
		}
		return newRiver(ctx, riverpgxv5.New(p.pool), schema, settings, drop)
	}
}

// riverSQLite has one connection, as River's documentation asks for.
func riverSQLite(ctx context.Context, p *place) (queue, error) {
	db, remove, err := p.sqlite()
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return newRiver(ctx, riversqlite.New(db), "", riverBest, func() error { return errors.Join(db.Close(), remove()) })
}

// sqlite opens a file of its own with what every guide to SQLite sets.
func (p *place) sqlite() (*sql.DB, func() error, error) {
	dir, remove, err := p.folder()
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "queue.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return db, remove, nil
}

// riverQueue has a client that inserts, and one that works once it is asked to.
type riverQueue[Tx any] struct {
	driver   riverdriver.Driver[Tx]
	config   river.Config
	inserter *river.Client[Tx]
	worker   *river.Client[Tx]
	cancel   func()         // the subscription
	group    sync.WaitGroup // who reads it
	remove   func() error
}

func newRiver[Tx any](ctx context.Context, driver riverdriver.Driver[Tx], schema string, settings func(*river.Config), remove func() error) (queue, error) {
	r := &riverQueue[Tx]{driver: driver, remove: remove, config: river.Config{Schema: schema, Logger: slog.New(slog.DiscardHandler)}}
	settings(&r.config)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema, Logger: r.config.Logger})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		r.inserter, err = river.NewClient(driver, &r.config)
	}
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return r, nil
}

func (r *riverQueue[Tx]) submit(ctx context.Context, n int) error {
	_, err := r.inserter.Insert(ctx, args{n}, nil)
	return err
}

func (r *riverQueue[Tx]) submitMany(ctx context.Context, first, end int) error {
	for ; first < end; first += bulk {
		params := make([]river.InsertManyParams, min(bulk, end-first))
		for i := range params {
			params[i].Args = args{first + i}
		}
		if _, err := r.inserter.InsertManyFast(ctx, params); err != nil {
			return err
		}
	}
	return nil
}

// riverWorker does nothing.
type riverWorker struct {
	river.WorkerDefaults[args]
	run func(int)
}

func (w *riverWorker) Work(_ context.Context, job *river.Job[args]) error {
	w.run(job.Args.N)
	return nil
}

func (r *riverQueue[Tx]) work(ctx context.Context, slots int, run, completed func(int)) error {
	c := r.config
	c.Workers = river.NewWorkers()
	river.AddWorker(c.Workers, &riverWorker{run: run})
	c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}}
	var err error
	if r.worker, err = river.NewClient(r.driver, &c); err != nil {
		return err
	}
	// An event says that the completion is committed. Without room for it, it
	// is dropped.
	events, cancel := r.worker.SubscribeConfig(&river.SubscribeConfig{ChanSize: maxJobs, Kinds: []river.EventKind{river.EventKindJobCompleted}})
	r.cancel = cancel
	r.group.Go(func() {
		for range events {
			completed(1)
		}
	})
	return r.worker.Start(context.WithoutCancel(ctx))
}

func (r *riverQueue[Tx]) close() error {
	var err error
	if r.worker != nil {
		err = r.worker.Stop(context.Background())
		r.cancel()
		r.group.Wait()
	}
	return errors.Join(err, r.remove())
}
