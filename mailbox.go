package consign

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// call is somebody who waits for a reply. Exactly one is sent, so whoever has
// received it may use the call again.
type call struct{ reply chan reply }

func newCall() *call { return &call{reply: make(chan reply, 1)} }

// newCall returns a call that is not in use. The pool is the queue's own: a
// channel made in one testing/synctest bubble is of no use in another.
func (q *Queue) newCall() *call {
	if c, ok := q.calls.Get().(*call); ok {
		return c
	}
	return newCall()
}

func (q *Queue) received(c *call, r reply) (reply, error) {
	q.calls.Put(c)
	r.call = nil
	return r, r.err
}

// inbox gathers the engine's inputs between two steps.
type inbox struct {
	mu      sync.Mutex
	items   []input
	spare   []input
	wake    chan struct{}
	refused bool // no more new work; what is under way still comes in
	closed  bool // nobody reads any more
}

// push adds answers, which are never refused.
func (b *inbox) push(in ...input) {
	b.mu.Lock()
	b.items = append(b.items, in...)
	b.mu.Unlock()
	b.signal()
}

// first puts inputs before all that has gathered.
func (b *inbox) first(in []input) {
	b.mu.Lock()
	b.items = append(in, b.items...)
	b.mu.Unlock()
	b.signal()
}

// call adds calls that bring or ask for work, unless the queue is to end.
func (b *inbox) call(in ...input) error { return b.add(true, in) }

// late adds a call about work that there is already, until the queue has ended.
func (b *inbox) late(in input) error { return b.add(false, []input{in}) }

func (b *inbox) add(work bool, in []input) error {
	b.mu.Lock()
	if b.closed || b.refused && work {
		b.mu.Unlock()
		return ErrClosed
	}
	b.items = append(b.items, in...)
	b.mu.Unlock()
	b.signal()
	return nil
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns what has gathered; recycle gives the slice back.
func (b *inbox) take() []input {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items, b.spare = b.spare, nil
	return items
}

func (b *inbox) recycle(items []input) {
	clear(items)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = items[:0]
}

func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) == 0
}

func (b *inbox) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = true
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// pipe hands items to a few goroutines in batches: while they are busy the
// next batch gathers. One with patience keeps its batches large, as a batch has
// a price of its own. The next goes out beside one that is under way only when
// it is as large, and not of a few, or has waited so long: else two would share
// what one could carry for the same price, and halve each other again and again.
// And when a batch has ended, the next one waits a little for those who were
// answered and ask again at once.
type pipe[T any] struct {
	mu       sync.Mutex
	some     sync.Cond
	items    []T
	workers  int
	batch    int
	patience time.Duration  // zero: whoever is free takes what there is
	underWay map[int]flight // by worker
	back     int            // how many items there are when all have asked again whom the last batch answered
	until    time.Time      // when to wait for them no longer
	waits    bool           // somebody does
	since    time.Time      // when the first of the items came
	timer    *time.Timer    // to the end of its patience
	ended    bool
}

// flight is a batch that is under way.
type flight struct {
	size  int
	since time.Time
}

const (
	few      = 32                     // up to here two batches cost nearly twice what one does
	comeBack = 200 * time.Microsecond // at most, and a quarter of what the batch took: until those that it answered ask again
	yields   = 300                    // of them in a row nobody has come: nobody will
)

func newPipe[T any](workers, batch int, patience time.Duration) *pipe[T] {
	p := &pipe[T]{workers: workers, batch: batch, patience: patience, underWay: map[int]flight{}}
	p.some.L = &p.mu
	return p
}

func (p *pipe[T]) start(group *sync.WaitGroup, do func([]T)) {
	for n := range p.workers {
		group.Go(func() {
			for batch := p.take(n); batch != nil; batch = p.take(n) {
				do(batch)
			}
		})
	}
}

func (p *pipe[T]) add(items ...T) {
	if len(items) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.items) == 0 {
		p.gather()
	}
	p.items = append(p.items, items...)
	if !p.waits && p.ready() {
		p.some.Signal()
	}
}

// gather begins a batch.
func (p *pipe[T]) gather() {
	if p.patience == 0 {
		return
	}
	p.since = time.Now()
	if p.timer == nil {
		p.timer = time.AfterFunc(p.patience, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.some.Signal()
		})
	} else {
		p.timer.Reset(p.patience)
	}
}

// ready reports whether a batch may go out.
func (p *pipe[T]) ready() bool {
	if len(p.items) == 0 || p.patience == 0 {
		return len(p.items) > 0
	}
	for _, f := range p.underWay {
		if len(p.items) < max(f.size, few) {
			return time.Since(p.since) >= p.patience
		}
	}
	return true
}

// take ends a goroutine's batch and blocks until there is another; nil means
// that there never will be.
func (p *pipe[T]) take(worker int) []T {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.land(worker)
	for yielded, seen := 0, 0; ; yielded++ {
		switch {
		case len(p.items) == 0 && p.ended:
			return nil
		case !p.ready() && !p.ended:
			p.some.Wait()
			continue
		case len(p.items) > seen:
			yielded, seen = 0, len(p.items)
		}
		if yielded == yields || !p.moreToCome() {
			return p.next(worker)
		}
		p.waits = true
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
		p.waits = false
	}
}

// land ends a batch, if there is one.
func (p *pipe[T]) land(worker int) {
	if f, ok := p.underWay[worker]; ok {
		now := time.Now()
		p.back, p.until = len(p.items)+f.size, now.Add(min(now.Sub(f.since)/4, comeBack))
		delete(p.underWay, worker)
	}
}

// moreToCome reports whether to wait for those whom the last batch answered.
func (p *pipe[T]) moreToCome() bool {
	return p.patience > 0 && len(p.items) < min(p.back, p.batch) && time.Now().Before(p.until)
}

// next takes a batch.
func (p *pipe[T]) next(worker int) []T {
	n := min(len(p.items), p.batch)
	batch := p.items[:n:n]
	p.underWay[worker] = flight{n, time.Now()}
	if n == len(p.items) {
		p.items = nil
	} else {
		p.items = p.items[n:]
		p.gather()
		p.some.Signal()
	}
	return batch
}

func (p *pipe[T]) stop() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.some.Broadcast()
}

// topics wakes those who wait for a job to change.
type topics struct {
	mu sync.Mutex
	of map[JobID]*topic
}

// topic is a job that somebody waits for.
type topic struct {
	subs    map[chan struct{}]bool // true: its log, too
	version uint64                 // of the job, as they were last told; 0: not known
}

func (t *topic) wake() {
	for ch := range t.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// subscribe returns a channel that receives after each change of the job, and
// with log also when there may be more in its log.
func (t *topics) subscribe(id JobID, log bool) (changed <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[id] == nil {
		t.of[id] = &topic{subs: map[chan struct{}]bool{}}
	}
	t.of[id].subs[ch] = log
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.of[id].subs, ch)
		if len(t.of[id].subs) == 0 {
			delete(t.of, id)
		}
	}
}

// publish wakes those who wait for jobs that this queue has changed.
func (t *topics) publish(jobs []*Job) {
	if len(jobs) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.of) == 0 {
		return
	}
	for _, j := range jobs {
		if topic := t.of[j.ID]; topic != nil {
			topic.version = j.Version
			topic.wake()
		}
	}
}

// wake wakes those who wait for jobs that others are said to have changed.
func (t *topics) wake(ids []JobID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if topic := t.of[id]; topic != nil {
			topic.wake()
		}
	}
}

// awaited lists the jobs that somebody waits for.
func (t *topics) awaited() []JobID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.of))
}

// compare wakes those who wait for jobs that are not as they were, and those
// who read the log of one that runs: lines move no version.
func (t *topics) compare(ids []JobID, jobs []*Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, j := range jobs {
		topic := t.of[ids[i]]
		if topic == nil {
			continue
		}
		log := slices.Contains(slices.Collect(maps.Values(topic.subs)), true)
		if j == nil || j.Version != topic.version || log && j.State == StateRunning {
			topic.wake()
		}
		if j != nil {
			topic.version = j.Version
		}
	}
}

// ask posts an input about work that there is already, made for a new call,
// and waits for the reply.
func (q *Queue) ask(ctx context.Context, make func(*call) input) (reply, error) {
	c := q.newCall()
	if err := q.inbox.late(make(c)); err != nil {
		return reply{}, err
	}
	return q.await(ctx, c)
}

// await waits for the reply. One that has come counts, whatever else is over.
func (q *Queue) await(ctx context.Context, c *call) (reply, error) {
	var err error
	select {
	case r := <-c.reply:
		return q.received(c, r)
	case <-ctx.Done():
		err = ctx.Err()
	case <-q.ended:
		err = ErrClosed
	}
	select {
	case r := <-c.reply:
		return q.received(c, r)
	default:
		return reply{}, err
	}
}
