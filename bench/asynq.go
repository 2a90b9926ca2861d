package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hibiken/asynq"
)

// asynqQueue has its settings' defaults, but for the slots.
type asynqQueue struct {
	redis     asynq.RedisClientOpt
	name      string
	client    *asynq.Client
	inspector *asynq.Inspector
	server    *asynq.Server
}

func asynqRedis(synced bool) func(context.Context, *place) (queue, error) {
	return func(_ context.Context, p *place) (queue, error) {
		redis := asynq.RedisClientOpt{Network: "unix", Addr: p.redis[synced].socket}
		return &asynqQueue{redis: redis, name: p.unique("queue"), client: asynq.NewClient(redis), inspector: asynq.NewInspector(redis)}, nil
	}
}

func (a *asynqQueue) submit(ctx context.Context, n int) error {
	_, err := a.client.EnqueueContext(ctx, asynq.NewTask(args{}.Kind(), args{n}.bytes()), asynq.Queue(a.name))
	return err
}

// submitMany sends from many goroutines: there is no call for many.
func (a *asynqQueue) submitMany(ctx context.Context, first, end int) error {
	const senders = 64
	var next atomic.Int64
	next.Store(int64(first))
	var group sync.WaitGroup
	errs := make([]error, senders)
	for i := range senders {
		group.Go(func() {
			for n := int(next.Add(1) - 1); n < end && errs[i] == nil; n = int(next.Add(1) - 1) {
				errs[i] = a.submit(ctx, n)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (a *asynqQueue) work(_ context.Context, slots int, run, _ func(int)) error {
	a.server = asynq.NewServer(a.redis, asynq.Config{Concurrency: slots, Queues: map[string]int{a.name: 1}, LogLevel: asynq.FatalLevel})
	return a.server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		var job args
		if err := json.Unmarshal(t.Payload(), &job); err != nil {
			return err
		}
		run(job.N)
		return nil
	}))
}

func (a *asynqQueue) completions(context.Context) (int, error) {
	info, err := a.inspector.GetQueueInfo(a.name)
	if err != nil {
		return 0, err
	}
	if info.FailedTotal > 0 {
		return info.ProcessedTotal, fmt.Errorf("%d jobs have failed", info.FailedTotal)
	}
	return info.ProcessedTotal, nil
}

func (a *asynqQueue) close() error {
	if a.server != nil {
		a.server.Shutdown()
	}
	err := a.inspector.DeleteQueue(a.name, true)
	if errors.Is(err, asynq.ErrQueueNotFound) {
		err = nil
	}
	return errors.Join(err, a.inspector.Close(), a.client.Close())
}
