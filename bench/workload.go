package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// workload is something to do with a queue of n jobs. Each ends with all jobs
// completed, or it fails.
type workload struct {
	name string // on the command line
	// size is how many jobs a span has; nil: as many as fill it at the rate of
	// the round before, and enough to fill all of a system's slots severalfold,
	// or who claims them all at once is measured at completing alone.
	size    func(span time.Duration) int
	figures []figure
	run     func(ctx context.Context, r *run) ([]measure, error)
}

// figure is what a table shows of a workload.
type figure struct {
	name, title string
	about       string
	latency     bool // times of jobs, not jobs a second
}

// measure is one figure of one system in one round.
type measure struct {
	jobs      int
	took      time.Duration
	latencies []time.Duration // sorted
	cost      cost
}

func (m *measure) rate() float64 { return float64(m.jobs) / m.took.Seconds() }

// quantile is one of the latencies.
func (m *measure) quantile(q float64) time.Duration {
	return m.latencies[min(len(m.latencies)-1, int(q*float64(len(m.latencies))))]
}

const (
	maxJobs      = 300_000
	arrivals     = 100 // jobs a second where latency is measured
	connections  = 8
	spanTimeout  = 2 * time.Minute
	leastJobs    = 1000
	leastASlot   = 5
	beforeTheRun = 1 // a job that goes through before the clock starts
)

func workloads() []workload {
	return []workload{
		{"backlog", nil, []figure{
			{"enqueue", "Bulk enqueue", "From the first call to the last one's answer, with whatever the system has for many jobs at once.", false},
			{"burndown", "Burn-down", "The same jobs are claimed and completed. The workers' start is not counted: the clock runs from the first job that one has in hand to the last completion that is known to be kept.", false},
		}, backlog},
		{"stream", nil, []figure{
			{"stream", "Insert and work", "Jobs are enqueued in bulk while workers run: from the first call to the last completion that is known to be kept.", false},
		}, stream},
		{"latency", func(span time.Duration) int { return int(arrivals * span.Seconds()) }, []figure{
			{"latency", "Submit to start", fmt.Sprintf("At default settings, with %d idle slots: from the call that submits a job to the job's first instruction. Jobs arrive at random, %d a second, whether or not the ones before have started.", smallSlots, arrivals), true},
		}, latency},
		{"singles", nil, []figure{
			{"singles", "Durable single submits", fmt.Sprintf("%d callers submit one job after the other, each when the one before is kept.", connections), false},
		}, singles},
	}
}

// run is one workload on one system, once.
type run struct {
	*place
	system system
	queue  queue
	n      int
	jobs   *jobs
}

// once opens a system, has it do a workload, and checks that no job was lost
// or ran twice.
func once(ctx context.Context, p *place, s system, w workload, n int) (ms []measure, err error) {
	ctx, cancel := context.WithTimeout(ctx, spanTimeout)
	defer cancel()
	q, err := s.open(ctx, p)
	if err != nil {
		return nil, err
	}
	r := &run{place: p, system: s, queue: q, n: n}
	ms, err = w.run(ctx, r)
	if closed := q.close(); err == nil {
		err = closed
	}
	if err == nil {
		err = r.jobs.check()
	}
	return ms, err
}

// measured adds what a stretch cost to its measure.
func (r *run) measured(ctx context.Context, do func() (measure, error)) (measure, error) {
	before, err := r.cost(ctx, r.system)
	if err != nil {
		return measure{}, err
	}
	m, err := do()
	if err != nil {
		return measure{}, err
	}
	after, err := r.cost(ctx, r.system)
	m.cost = after.since(before)
	return m, err
}

func (r *run) work(ctx context.Context, slots int) error {
	return r.queue.work(ctx, slots, r.jobs.run, r.jobs.completed)
}

func backlog(ctx context.Context, r *run) ([]measure, error) {
	r.jobs = newJobs(r.n)
	enqueued, err := r.measured(ctx, func() (measure, error) {
		began := time.Now()
		err := r.queue.submitMany(ctx, 0, r.n)
		return measure{jobs: r.n, took: time.Since(began)}, err
	})
	if err != nil {
		return nil, err
	}
	burnt, err := r.measured(ctx, func() (measure, error) {
		if err := r.work(ctx, r.system.slots); err != nil {
			return measure{}, err
		}
		err := r.jobs.until(ctx, r.queue, r.n)
		return measure{jobs: r.n, took: time.Since(r.jobs.began) - time.Duration(r.jobs.firstRun.Load())}, err
	})
	return []measure{enqueued, burnt}, err
}

// ready starts workers and sees one job, number 0, through.
func (r *run) ready(ctx context.Context, slots int) error {
	r.jobs = newJobs(beforeTheRun + r.n)
	if err := r.work(ctx, slots); err != nil {
		return err
	}
	if err := r.queue.submit(ctx, 0); err != nil {
		return err
	}
	return r.jobs.until(ctx, r.queue, beforeTheRun)
}

func stream(ctx context.Context, r *run) ([]measure, error) {
	if err := r.ready(ctx, r.system.slots); err != nil {
		return nil, err
	}
	m, err := r.measured(ctx, func() (measure, error) {
		began := time.Now()
		if err := r.queue.submitMany(ctx, beforeTheRun, beforeTheRun+r.n); err != nil {
			return measure{}, err
		}
		err := r.jobs.until(ctx, r.queue, beforeTheRun+r.n)
		return measure{jobs: r.n, took: time.Since(began)}, err
	})
	return []measure{m}, err
}

func latency(ctx context.Context, r *run) ([]measure, error) {
	if err := r.ready(ctx, smallSlots); err != nil {
		return nil, err
	}
	called := make([]time.Duration, r.n)
	m, err := r.measured(ctx, func() (measure, error) {
		began := time.Now()
		random := rand.New(rand.NewPCG(uint64(r.n), 0)) //nolint:gosec // the same arrivals for all
		var group sync.WaitGroup
		errs := make(chan error, r.n)
		next := began
		for i := range r.n {
			next = next.Add(time.Duration(random.ExpFloat64() * float64(time.Second) / arrivals))
			time.Sleep(time.Until(next))
			group.Go(func() {
				called[i] = time.Since(r.jobs.began)
				errs <- r.queue.submit(ctx, beforeTheRun+i)
			})
		}
		group.Wait()
		for range r.n {
			if err := <-errs; err != nil {
				return measure{}, err
			}
		}
		err := r.jobs.until(ctx, r.queue, beforeTheRun+r.n)
		return measure{jobs: r.n, took: time.Since(began)}, err
	})
	for i, at := range called {
		m.latencies = append(m.latencies, time.Duration(r.jobs.started[beforeTheRun+i].Load())-at)
	}
	return []measure{m}, err
}

func singles(ctx context.Context, r *run) ([]measure, error) {
	r.jobs = newJobs(r.n)
	m, err := r.measured(ctx, func() (measure, error) {
		began := time.Now()
		var group sync.WaitGroup
		var next atomic.Int64
		var errs [connections]error
		for i := range errs {
			group.Go(func() {
				for n := int(next.Add(1) - 1); n < r.n && errs[i] == nil; n = int(next.Add(1) - 1) {
					errs[i] = r.queue.submit(ctx, n)
				}
			})
		}
		group.Wait()
		for _, err := range errs {
			if err != nil {
				return measure{}, err
			}
		}
		return measure{jobs: r.n, took: time.Since(began)}, nil
	})
	if err != nil {
		return nil, err
	}
	// Nobody measures this: what was answered must be there.
	if err := r.work(ctx, r.system.slots); err != nil {
		return nil, err
	}
	return []measure{m}, r.jobs.until(ctx, r.queue, r.n)
}
