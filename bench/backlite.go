package main

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mikestefanello/backlite"
)

// backliteQueue keeps no job that has ended, which is backlite's default.
type backliteQueue struct {
	db        *sql.DB
	client    *backlite.Client
	working   bool
	submitted atomic.Int64
	remove    func() error
}

func (args) Config() backlite.QueueConfig {
	return backlite.QueueConfig{Name: "no_op", MaxAttempts: 3, Timeout: time.Minute, Backoff: time.Second}
}

func backliteSQLite(_ context.Context, p *place) (queue, error) {
	db, remove, err := p.sqlite()
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // with more, completions fail as the file is busy, and jobs stay claimed
	b := &backliteQueue{db: db, remove: func() error { return errors.Join(db.Close(), remove()) }}
	if err := b.connect(1, func(int) {}); err != nil {
		return nil, errors.Join(err, b.remove())
	}
	if err := b.client.Install(); err != nil {
		return nil, errors.Join(err, b.remove())
	}
	return b, nil
}

// connect makes the client: only one that also inserts is told of new jobs.
func (b *backliteQueue) connect(slots int, run func(int)) error {
	var err error
	b.client, err = backlite.NewClient(backlite.ClientConfig{DB: b.db, NumWorkers: slots, ReleaseAfter: 10 * time.Minute, CleanupInterval: time.Hour})
	if err != nil {
		return err
	}
	b.client.Register(backlite.NewQueue(func(_ context.Context, a args) error {
		run(a.N)
		return nil
	}))
	return nil
}

func (b *backliteQueue) submit(ctx context.Context, n int) error { return b.add(ctx, args{n}) }

func (b *backliteQueue) submitMany(ctx context.Context, first, end int) error {
	for ; first < end; first += bulk {
		tasks := make([]backlite.Task, min(bulk, end-first))
		for i := range tasks {
			tasks[i] = args{first + i}
		}
		if err := b.add(ctx, tasks...); err != nil {
			return err
		}
	}
	return nil
}

func (b *backliteQueue) add(ctx context.Context, tasks ...backlite.Task) error {
	if _, err := b.client.Add(tasks...).Ctx(ctx).Save(); err != nil {
		return err
	}
	b.submitted.Add(int64(len(tasks)))
	return nil
}

func (b *backliteQueue) work(_ context.Context, slots int, run, _ func(int)) error {
	if err := b.connect(slots, run); err != nil {
		return err
	}
	b.working = true
	b.client.Start(context.Background())
	return nil
}

func (b *backliteQueue) completions(ctx context.Context) (int, error) {
	var left int64
	submitted := b.submitted.Load() // before what is left, or it may be less
	err := b.db.QueryRowContext(ctx, "SELECT count(*) FROM backlite_tasks").Scan(&left)
	return int(submitted - left), err
}

func (b *backliteQueue) close() error {
	if b.working {
		b.client.Stop(context.Background())
	}
	return b.remove()
}
