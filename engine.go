package consign

import (
	"encoding/binary"
	"errors"
	"time"
)

// engine is the single-threaded heart of a queue: Step(now, inputs) gives
// outputs. It has no goroutine, no clock, no I/O and no randomness of its own,
// so the same inputs give the same outputs, byte for byte. It owns the ready
// index, the waiting workers, the jobs that are being changed or run, and the
// times at which something is due. Queue is the shell around it.
//
// A job has at most one change in flight; what else happens to it meanwhile
// waits in line. A change that conflicts is decided again on what the store
// has, at most maxTries times.
type engine struct {
	config *Config
	rules  Rules
	out    output
	now    Instant

	matcher *matcher
	ready   *readyIndex // the matcher's
	jobs    map[JobID]*entry
	workers map[WorkerID]*worker
	pairs   map[string]int        // PRIVATE: how many workers may run an account's jobs,
	trusted map[WorkerID][]string // and whose each may run, sorted
	waiters map[*call]*waiter
	flying  map[*call]*waiter // those that are being given a job
	uptimes uptimes           // of workers that are gone

	badLanes map[string]bool // in the store, and reported
	shards   uint16          // whose tickets to read first: the others have queues of their own

	arrived   Instant // the place in line of the last new job, before all offsets
	changes   uint64  // made by this engine
	changeTag [8]byte

	closing bool // hand out nothing more, and start nothing

	timer timers
	pump  pump
}

const maxTries = 3

// entry is a job that is running here or has something going on.
type entry struct {
	job     *Job // nil: not read yet
	op      *op  // in flight
	line    []*op
	reports int    // log entries of this version, the transition's included
	lines   int    // of them, reported since this process knows the attempt
	size    int    // of what was reported, in bytes
	counted uint64 // the version that they are of
	passed  *Job   // its ticket, which was passed over meanwhile: offer it again
}

// newEngine makes an engine. The tag makes its change IDs its own.
func newEngine(c *Config, tag [8]byte) *engine {
	e := &engine{
		config: c, rules: c.rules(), changeTag: tag,
		matcher: newMatcher(c.Scheduler, c.Vault != nil),
		jobs:    map[JobID]*entry{}, workers: map[WorkerID]*worker{},
		pairs: map[string]int{}, trusted: map[WorkerID][]string{}, waiters: map[*call]*waiter{}, flying: map[*call]*waiter{},
		shards: AllShards,
	}
	e.ready = e.matcher.ready
	e.matcher.wantPage = e.readPage
	return e
}

// Step takes in what has happened and says what to do. The output is valid
// until the next Step.
func (e *engine) Step(now Instant, inputs []input) *output {
	e.now = max(e.now, now) // a clock that is set back stops, rather than undoing
	e.out.reset()
	for _, in := range inputs {
		in.apply(e)
	}
	e.passTime()
	e.pumpEffects()
	e.out.next = e.nextWake()
	return &e.out
}

// input is something that happened: a call of a user, or the store's answer.
type input interface{ apply(e *engine) }

// output is what the shell has to do, in order: replies are final, and are
// given only for what has been committed.
type output struct {
	commits  []*commit
	reads    []read
	renew    []Renewal
	renewers map[ClaimID]WorkerID // whose claims they are
	shred    []Effect
	replies  []reply
	changed  []*Job  // committed just now: wake who waits for them
	bad      []error // for the log: nobody else hears of them
	next     Instant
}

func (o *output) reset() {
	clear(o.commits)
	clear(o.replies)
	clear(o.changed)
	*o = output{commits: o.commits[:0], replies: o.replies[:0], changed: o.changed[:0]}
}

// commit is a change to apply, and what it was for.
type commit struct {
	Change
	op       *op  // nil: a change of the pump's
	wantSpec bool // read Job's spec after it is applied
	folded   int  // effects in a change of the pump's
}

// answer is the store's answer to a commit.
type answer struct {
	*commit
	err     error // this change's own
	unknown error // the whole Apply failed: it may have been applied or not
	spec    *Spec
}

// reply answers a call.
type reply struct {
	*call
	job  *Job
	spec *Spec
	info any // of a heartbeat or explanation
	err  error
}

// changeID names the next change.
func (e *engine) changeID() (id ChangeID) {
	e.changes++
	copy(id[:8], e.changeTag[:])
	binary.BigEndian.PutUint64(id[8:], e.changes)
	return id
}

func (e *engine) reply(o *op, job *Job, err error) {
	if o.call != nil {
		e.out.replies = append(e.out.replies, reply{call: o.call, job: job, err: err})
	}
}

// run starts an operation on a job, or puts it in line behind the one that is
// in flight.
func (e *engine) run(o *op) {
	ent := e.jobs[o.id]
	if ent == nil {
		ent = &entry{}
		e.jobs[o.id] = ent
	}
	if ent.op != nil {
		ent.line = append(ent.line, o)
		return
	}
	e.try(ent, o)
}

// try decides an operation on the job as it is known, reading it first if need
// be.
func (e *engine) try(ent *entry, o *op) {
	ent.op = o
	if ent.job == nil && o.job == nil {
		e.readFirst(ent, o)
		return
	}
	found := ent.job == nil
	if found {
		ent.job = o.job
	}
	o.job = nil // a second try starts from what the store has
	done, err := e.decide(ent, o)
	if done && err != nil && !o.fresh {
		e.readFirst(ent, o) // before it is refused: another coordinator may have moved the job
		return
	}
	if done {
		e.reply(o, ent.job, err)
		if found && o.kind == opTime {
			ent.job = nil // nothing came of it, and a scan's word is old
		}
		e.finish(ent)
	}
}

// readFirst has the operation decided on what the store has.
func (e *engine) readFirst(ent *entry, o *op) {
	ent.job = nil
	e.out.reads = append(e.out.reads, read{kind: readJob, id: o.id})
}

// finish ends the operation in flight and starts the next in line. A job that
// is not running here is forgotten: the store has it.
func (e *engine) finish(ent *entry) {
	id := ent.op.id
	if ent.op.kind == opTime {
		e.timer.moving--
	}
	ent.op = nil
	if ent.job != nil && ent.job.State == StateNone {
		ent.job = nil // the draft of a refused submit is nobody else's
	}
	if len(ent.line) > 0 {
		next := ent.line[0]
		ent.line = ent.line[1:]
		e.try(ent, next)
		return
	}
	if ent.job != nil && ent.job.State == StateRunning && e.runsHere(ent.job) {
		return
	}
	delete(e.jobs, id)
	switch {
	case ent.passed == nil:
	case ent.job == nil:
		e.ready.setAside(ent.passed, e.now)
	case ent.job.State == StateQueued:
		e.offer(ent.job)
	}
}

// runsHere reports whether a worker of this process got the job from it: then
// its word on the job comes here, and the job is kept at hand for it.
func (e *engine) runsHere(j *Job) bool {
	w := e.workers[j.Worker]
	if w == nil {
		return false
	}
	_, ok := w.running[j.Claim]
	return ok
}

// commitOp sends an operation's transition to the store.
func (e *engine) commitOp(o *op, c Change) {
	e.out.commits = append(e.out.commits, &commit{Change: c, op: o, wantSpec: o.kind == opClaim})
}

// inCommitted is the store's answer to commits.
type inCommitted struct{ answers []answer }

func (in inCommitted) apply(e *engine) {
	for i := range in.answers {
		oc := &in.answers[i]
		if oc.op == nil {
			e.pumped(oc)
			continue
		}
		ent := e.jobs[oc.op.id]
		if oc.err == nil && oc.unknown == nil {
			e.committed(ent, oc.op, oc.spec)
			continue
		}
		e.failed(ent, oc.op, oc)
	}
}

// failed has an operation tried again, or ends it. One that is in doubt is not
// ended on the store's word alone: what refuses the last try may be the first.
func (e *engine) failed(ent *entry, o *op, oc *answer) {
	o.tries++
	o.doubt = o.doubt || oc.unknown != nil
	again := oc.unknown != nil || errors.Is(oc.err, ErrVersion)
	if !again || o.tries >= maxTries {
		o.failure = firstOf(oc.unknown, oc.err)
	}
	if o.failure != nil && !o.doubt {
		e.refused(ent, o, o.failure)
		return
	}
	e.readFirst(ent, o)
}

// refused ends an operation that the store did not take.
func (e *engine) refused(ent *entry, o *op, err error) {
	if errors.Is(err, ErrGuard) || errors.Is(err, ErrVersion) || o.doubt || o.kind == opTime {
		ent.job = nil // the store knows
	}
	if o.doubt && o.next.Job.State == StateQueued {
		ticket := *o.next.Job // it may be there: then it has a ticket
		ticket.Version = 0    // to be read before it is claimed
		ent.passed = &ticket
	}
	e.finish(ent)
	o.refused(e, err)
}

// inJobs is the store's answer to readJob.
type inJobs struct {
	ids  []JobID
	jobs []*Job
	err  error
}

func (in inJobs) apply(e *engine) {
	for i, id := range in.ids {
		ent := e.jobs[id]
		if ent == nil || ent.op == nil {
			continue
		}
		o := ent.op
		if in.err != nil {
			e.refused(ent, o, in.err)
			continue
		}
		ent.job, o.fresh = in.jobs[i], true
		if ent.job == nil || ent.job.Version != ent.counted {
			ent.reports, ent.lines = 0, 0
		}
		if ent.job == nil && o.kind != opSubmit {
			e.refused(ent, o, ErrNotFound)
			continue
		}
		if o.doubt && ent.job != nil && ent.job.Change == o.change {
			// The answer was lost, the change was not: that of the last try, or
			// of one before, which came late.
			o.next.Job = ent.job
			e.committed(ent, o, nil)
			continue
		}
		if o.failure != nil {
			e.refused(ent, o, o.failure)
			continue
		}
		if done, err := e.decide(ent, o); done {
			e.reply(o, ent.job, err)
			e.finish(ent)
		}
	}
}

// readKind says what to read from the store.
type readKind uint8

const (
	readJob readKind = iota
	readDone
	readPage
	readDue
	readLapsed
	readEffects
	readDoc
	readSpec
)

// read asks the shell for something from the store; it answers with the input
// of the same name.
type read struct {
	kind   readKind
	id     JobID
	lane   *lane
	after  Place
	shards uint16
	n      int
	key    string // of a worker's document
	op     *op    // of a spec
}

// readPage asks for the next tickets of a lane.
func (e *engine) readPage(l *lane) {
	l.loading = true
	shards := e.shards
	if l.steal {
		shards = AllShards
	}
	e.out.reads = append(e.out.reads, read{kind: readPage, lane: l, after: l.last, shards: shards, n: e.ready.pageSize()})
}

// inPage is the store's answer to readPage.
type inPage struct {
	lane *lane
	n    int
	jobs []*Job
	err  error
}

func (in inPage) apply(e *engine) {
	if in.err != nil {
		in.lane.loading = false
		e.timer.retry(e, in.lane)
		return
	}
	in.lane.steal = false
	e.ready.loaded(in.lane, in.jobs, len(in.jobs) == in.n, e.now, e.inHand)
	e.matchGroup(in.lane.group)
	e.rematch(in.lane.group)
}

// inLanes tells which lanes have tickets in the store: at the start, and then
// again and again, since others queue jobs too.
type inLanes struct{ heads []LaneHead }

func (in inLanes) apply(e *engine) {
	bad := map[string]bool{}
	for _, head := range in.heads {
		l, err := e.ready.lane(head.Lane)
		if err != nil {
			if bad[head.Lane] = true; !e.badLanes[head.Lane] {
				e.out.bad = append(e.out.bad, err)
			}
			continue
		}
		if e.ready.unknown(l, head.Key, e.now) {
			l.steal = true // whosever it is, it waits
			e.ready.rescan(l, head.Key)
			e.matchGroup(l.group)
		}
	}
	e.badLanes = bad
}

// inShards says whose tickets this queue reads first.
type inShards struct{ shards uint16 }

func (in inShards) apply(e *engine) { e.shards = in.shards }

// rules returns the times that the state machine goes by.
func (c *Config) rules() Rules {
	return Rules{
		BackoffBase: c.BackoffBase, BackoffMax: c.BackoffMax, Exclusion: 30 * time.Second,
		Retention: c.Retention, AckRetention: c.AckRetention, Tombstone: 24 * time.Hour,
	}
}
