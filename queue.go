package consign

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Queue is a job queue on a Store. It is the shell around the engine: it feeds
// it with calls and the store's answers, carries out what it says, and waits.
// The queue works while Run runs; calls made before wait for it.
//
// A program sees its queue through two faces: Submitter for those who want
// work done, and the Queue itself, a WorkerAPI, for those who do it.
type Queue struct {
	config  Config
	id      QueueID
	passing bool // its identity ends with it
	clock   clock

	inbox    inbox
	commits  *pipe[*commit]
	tasks    *pipe[func(context.Context) input]
	renewals *pipe[func(context.Context) input] // apart, so that nothing slow ends a lease
	shreds   *pipe[func(context.Context) input] // apart, since a vault is somebody else's
	topics   topics
	calls    sync.Pool // of *call
	nonces   nonces
	guesses  guesses
	waiting  atomic.Bool              // a worker waits for a job
	staffed  atomic.Bool              // there are workers
	vaults   atomic.Pointer[[]string] // the vault's names, as it last said them
	nudge    chan struct{}            // receives when others are said to have queued jobs
	silent   time.Time                // since when the store does not answer; zero: it does. follow's own

	admin        sync.Mutex        // held while a pairing or pause is written and passed on
	administered int64             // the adminCounter of what the engine was told
	badPairings  map[string]uint64 // that could not be read, and were logged: key and version
	running      sync.Mutex        // held by Run
	ended        chan struct{}     // closed when Run has returned
}

var _ WorkerAPI = (*Queue)(nil)

// New returns a queue. It returns a *FieldError for a bad Config.
func New(c Config) (*Queue, error) {
	passing := c.Identity == nil
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	q := &Queue{config: c, id: QueueIDOf(c.Identity.Public()), passing: passing, nudge: make(chan struct{}, 1), ended: make(chan struct{})}
	q.clock.began = time.Now()
	q.inbox.wake = make(chan struct{}, 1)
	q.commits = newPipe[*commit](commitsInFlight, commitBatch, commitPatience)
	q.tasks = newPipe[func(context.Context) input](readsInFlight, 1, 0)
	q.renewals = newPipe[func(context.Context) input](1, 1, 0)
	q.shreds = newPipe[func(context.Context) input](1, 1, 0)
	q.topics.of = map[JobID]*topic{}
	var err error
	q.nonces.secret, err = c.Identity.Derive("nonces")
	return q, err
}

// ID names the queue: the SHA-256 of its public key.
func (q *Queue) ID() QueueID { return q.id }

// The shell's widths. Several batches are in flight over disjoint jobs; the
// next one gathers meanwhile, see pipe.
const (
	commitsInFlight = 2
	commitBatch     = 1000
	commitPatience  = 2 * time.Millisecond // of a small batch beside a large one
	readsInFlight   = 4
	storeGrace      = 10 * time.Second // for the store, when all else has drained
	shredTimeout    = 10 * time.Second
	storeRetry      = 100 * time.Millisecond // after an Apply whose outcome is unknown

	// storeTimeout bounds a call of the store: a machine that is gone without a
	// word is not noticed for a quarter of an hour by TCP, and a new connection
	// may find another one at once. What the call did is not known then.
	storeTimeout = 30 * time.Second
)

func (q *Queue) now() Instant { return q.clock.now() }

// Run works the queue until ctx is done, and then drains: it takes in and hands
// out no more work, waits up to Config.DrainTimeout for what workers still
// return, and lets all that reach the store. It returns ctx's error, with all
// its goroutines ended. It returns at once if the store cannot be read, or not
// be written the first time, and with a *FieldError if it belongs to a queue with
// another identity. A Queue runs once.
func (q *Queue) Run(ctx context.Context) error {
	if !q.running.TryLock() {
		return errors.New("consign: the queue runs already, or has ended: make a new one")
	}
	defer close(q.ended)
	defer q.inbox.close()
	if !q.passing {
		if err := q.own(ctx); err != nil {
			return err
		}
	}
	if err := q.recover(ctx); err != nil {
		return fmt.Errorf("consign: the store cannot be read: %w", err)
	}

	// What has been started is finished, unless the store takes for ever.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(q.config.DrainTimeout+storeGrace, abandon) })()
	var group sync.WaitGroup
	q.commits.start(&group, func(batch []*commit) { q.inbox.push(q.apply(work, batch)) })
	defer group.Wait()
	defer q.commits.stop()
	for _, tasks := range []*pipe[func(context.Context) input]{q.tasks, q.renewals, q.shreds} {
		tasks.start(&group, func(batch []func(context.Context) input) {
			ctx, cancel := context.WithTimeout(work, storeTimeout)
			defer cancel()
			q.inbox.push(batch[0](ctx))
		})
		defer tasks.stop()
	}
	group.Go(func() { q.follow(ctx) })
	if n, ok := q.config.Store.(Notifier); ok {
		group.Go(func() { n.Watch(ctx, q.hinted) })
	}

	var tag [8]byte
	_, _ = rand.Read(tag[:])
	q.loop(ctx, newEngine(&q.config, tag))
	return ctx.Err()
}

// loop steps the engine whenever there is input or something is due.
func (q *Queue) loop(ctx context.Context, e *engine) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := ctx.Done()
	var drained Instant // when a queue that is to end waits no longer; zero: it is not
	pending := 0        // answers that the engine waits for
	for {
		inputs := q.inbox.take()
		pending -= answersIn(inputs)
		out := e.Step(q.now(), inputs)
		q.waiting.Store(len(e.waiters) > 0)
		q.staffed.Store(len(e.workers) > 0)
		pending += q.carryOut(out)
		q.inbox.recycle(inputs)
		if drained != 0 && pending == 0 && q.inbox.empty() && (q.now() >= drained || !e.holds()) {
			return
		}
		next := out.next
		if drained > q.now() {
			next = earliest(next, drained)
		}
		if next != 0 {
			timer.Reset(max(0, next.Sub(q.now())))
		}
		select {
		case <-q.inbox.wake:
		case <-timer.C:
		case <-done:
			done, drained = nil, q.now().Add(q.config.DrainTimeout)
			q.inbox.refuse()
			q.inbox.push(inClose{})
		}
	}
}

// answersIn counts the inputs that answer something carried out before.
func answersIn(inputs []input) int {
	n := 0
	for _, in := range inputs {
		switch in := in.(type) {
		case inCommitted:
			n += len(in.answers)
		case inJobs, inDone, inPage, inDue, inLapsed, inEffects, inDoc, inSpec, inRenewed, inShredded:
			n++
		}
	}
	return n
}

// carryOut does what the engine says and returns how many answers will come.
func (q *Queue) carryOut(out *output) (answers int) {
	for _, r := range out.replies {
		r.call.reply <- r
	}
	q.topics.publish(out.changed)
	for _, err := range out.bad {
		q.config.Logger.Error("consign: queue", "error", err)
	}
	q.commits.add(out.commits...)
	return len(out.commits) + q.read(out)
}

// apply commits a batch. Where it learns nothing it waits a little, so that a
// store in trouble is not hammered.
func (q *Queue) apply(ctx context.Context, batch []*commit) input {
	changes := make([]Change, len(batch))
	answers := make([]answer, len(batch))
	for i, c := range batch {
		changes[i] = c.Change
		answers[i].commit = c
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	errs, err := q.config.Store.Apply(ctx, changes)
	if err != nil {
		time.Sleep(storeRetry)
		for i := range answers {
			answers[i].unknown = err
		}
		return inCommitted{answers}
	}
	var claimed []JobID
	for i := range answers {
		answers[i].err = errs[i]
		if errs[i] == nil && batch[i].wantSpec {
			claimed = append(claimed, batch[i].Job.ID)
		}
	}
	if len(claimed) == 0 {
		return inCommitted{answers}
	}
	specs, err := q.config.Store.Specs(ctx, claimed)
	if err != nil {
		return inCommitted{answers} // the engine asks again
	}
	for i := range answers {
		if errs[i] == nil && batch[i].wantSpec {
			answers[i].spec = specs[0]
			specs = specs[1:]
		}
	}
	return inCommitted{answers}
}

// read starts the engine's reads, and returns how many there are. Jobs are
// read together.
func (q *Queue) read(out *output) (n int) {
	s := q.config.Store
	task := func(f func(context.Context) input) {
		n++
		q.tasks.add(f)
	}
	var jobs []JobID
	for _, r := range out.reads {
		switch r.kind {
		case readJob:
			jobs = append(jobs, r.id)
		case readDone:
			task(func(ctx context.Context) input { d, err := s.Done(ctx, r.id); return inDone{r.op, d, err} })
		case readPage:
			task(func(ctx context.Context) input {
				page, err := s.Page(ctx, r.lane.text, r.shards, r.after, r.n)
				return inPage{r.lane, r.n, page, err}
			})
		case readDue:
			now := q.now()
			task(func(ctx context.Context) input {
				jobs, next, err := s.Due(ctx, now, r.n)
				return inDue{jobs, next, err}
			})
		case readLapsed:
			task(func(ctx context.Context) input { jobs, err := q.lapsed(ctx, r.n); return inLapsed{jobs, err} })
		case readEffects:
			task(func(ctx context.Context) input {
				effects, err := s.Effects(ctx, r.n)
				return inEffects{r.n, effects, err}
			})
		case readDoc:
			task(func(ctx context.Context) input {
				doc, err := s.Doc(ctx, DocWorker, r.key)
				return inDoc{r.op.strikes, doc, err}
			})
		case readSpec:
			task(func(ctx context.Context) input {
				specs, err := s.Specs(ctx, []JobID{r.id})
				if err != nil {
					return inSpec{r.op, nil, err}
				}
				return inSpec{r.op, specs[0], nil}
			})
		}
	}
	if len(jobs) > 0 {
		task(func(ctx context.Context) input { found, err := s.Jobs(ctx, jobs); return inJobs{jobs, found, err} })
	}
	if renewals, renewers := out.renew, out.renewers; len(renewals) > 0 {
		n++
		q.renewals.add(func(ctx context.Context) input {
			ctx, cancel := context.WithTimeout(ctx, max(q.config.Lease/3, time.Second)) // to try again while the leases last
			defer cancel()
			errs, err := s.Renew(ctx, renewals)
			return inRenewed{renewals, renewers, errs, err}
		})
	}
	for _, f := range out.shred {
		n++
		q.shreds.add(func(ctx context.Context) input { return inShredded{f, q.shred(ctx, f)} })
	}
	return n
}

func (q *Queue) shred(ctx context.Context, f Effect) error {
	ctx, cancel := context.WithTimeout(ctx, shredTimeout)
	defer cancel()
	return q.config.Vault.Shred(ctx, f.ID.Job)
}

// recover reads what the engine has to know before its first step.
func (q *Queue) recover(ctx context.Context) error {
	q.admin.Lock()
	defer q.admin.Unlock()
	lanes, err := q.config.Store.Lanes(ctx)
	if err != nil {
		return err
	}
	if q.administered, err = q.config.Store.Counter(ctx, adminCounter); err != nil {
		return err
	}
	if store, own := q.config.Store.(Clock); own {
		if err := q.clock.look(ctx, store, q.config.Lease); err != nil {
			return err
		}
	}
	admin, err := q.readAdmin(ctx)
	first := []input{admin, inLanes{lanes}}
	if names, err := q.vaultNames(ctx); err == nil {
		first = append(first, inVaults{names})
	} else { // jobs that are in no vault go on
		q.config.Logger.Error("consign: until the vault answers no job is handed out whose key is in it", "error", err)
	}
	q.inbox.first(first)
	return err
}

// docs calls f for each document of a kind.
func (q *Queue) docs(ctx context.Context, kind string, f func(Doc)) error {
	after := ""
	for {
		page, err := q.config.Store.Docs(ctx, kind, after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, d := range page {
			f(d)
			after = d.Key
		}
	}
}

// inClose refuses the blocked claims: no more jobs are handed out.
type inClose struct{}

func (inClose) apply(e *engine) {
	e.closing = true
	for _, w := range e.sortedWorkers() {
		e.matchWorker(w) // which refuses them
	}
}

// holds reports whether a worker that is alive holds a claim.
func (e *engine) holds() bool {
	for _, w := range e.workers {
		if len(w.running) > 0 && e.now.Sub(w.seen) < e.config.Lease {
			return true
		}
	}
	return false
}
