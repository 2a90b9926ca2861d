package consign

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign/crypto/sign"
)

// A world is an engine with everything around it simulated: a store whose
// answers are late, reordered, lost or wrong, another coordinator that writes
// to the same store, workers, submitters, a clock. A witness in it holds a
// small model of what the queue promises and compares with it every change
// that reaches the store and every reply that leaves the engine.
//
// What happens next is up to dice, so a world is a rapid state machine or a
// seeded run, and the same dice give the same run.
type world struct {
	dice
	config  *Config
	now     Instant
	store   *simStore
	engine  *engine
	next    Instant // of the last output
	inputs  []input
	tasks   []task  // to be carried out by the store, in any order
	answers []input // to be told to the engine, in any order
	calls   map[*call]*asked
	order   []*call // the same, in the order of asking
	tracks  map[JobID]*track
	ids     []JobID
	workers []*actor
	pairs   map[string]map[WorkerID]bool // as the engine was told
	paused  map[PauseKey]bool
	vaults  []string       // that the engine was told of
	keys    map[JobID]bool // in the vault
	granted map[string]int64
	faults  bool // the store may be in trouble
	counter uint64
	engines byte
	steps   int
	hash    func([]byte) // of what the engine puts out
	planted planted

	flying      map[*Change]decision
	badOps      map[*op]bool // completions whose record is bad
	effectKinds map[EffectID]EffectKind

	violated []violation
}

type violation struct{ invariant, what string }

func (v violation) String() string { return "invariant " + v.invariant + ": " + v.what }

// dice decides what happens: a number from 0 to n-1.
type dice interface{ roll(label string, n int) int }

type seedDice struct{ r *rand.Rand }

func (d seedDice) roll(_ string, n int) int { return d.r.IntN(n) }

func seeded(seed uint64) dice { return seedDice{rand.New(rand.NewPCG(seed, 7))} }

type rapidDice struct{ t *rapid.T }

func (d *rapidDice) roll(label string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, label) }

// planted plants a bug around the engine, which itself stays as it is.
type planted struct {
	store  func(*simStore)
	commit func(w *world, c *commit)      // a wrong rule: what it wants to write
	input  func(w *world, in input) input // what it is told; nil drops it
	reply  func(w *world, r *reply)       // what it answers
	early  func(w *world, c *commit) bool // answers c's call before it is durable
	page   func(w *world, jobs []*Job) []*Job
	trust  bool // everybody runs PRIVATE jobs
	keep   bool // the vault shreds nothing
}

// task is something that the engine asked for.
type task struct {
	commits []*commit
	read    *read
	jobs    []JobID // of a read of jobs
	renew   []Renewal
	renewed map[ClaimID]WorkerID
	shred   *Effect
	late    Instant // commits whose outcome was said to be unknown: since when
}

// decision is an operation as it was when it made a change: a later try of it
// may be another.
type decision struct {
	*op
	ev Event
}

// asked is a call that waits for its reply, or has one.
type asked struct {
	kind      string
	op        *op
	worker    *actor
	claim     Claim
	id        JobID
	content   string // submit, see contentOf
	account   string
	digest    [32]byte // complete
	bad       bool     // complete with a bad record
	was       *Job     // as the store had it when it was asked
	answered  bool
	faulty    bool // the store was in trouble meanwhile
	abandoned bool // nobody waits for the claim any more
}

// contentOf is what a submit has to repeat in order to be the same one.
func contentOf(j *Job) string {
	return fmt.Sprintf("%x %s %s", j.InputHash, j.Custody, laneWithVault(j.Lane, ""))
}

// track is what the witness knows of a job.
type track struct {
	versions []*Job
	events   []EventKind
	claims   []ClaimID // of the version that the event ended or began
	done     *Done
	promised bool // a submit was acknowledged
	promise  asked
	paid     int // settle and refund effects carried out
	owed     int // and written
	shredded int
	deleted  bool
}

func (t *track) last() *Job {
	if len(t.versions) == 0 {
		return nil
	}
	return t.versions[len(t.versions)-1]
}

type actor struct {
	id       WorkerID
	caps     Capabilities
	there    bool
	holds    []held
	old      []held // not its own any more, but it does not know, or does not care
	claiming []*call
	warm     []WarmModel
}

// keep takes a claim back that the worker thought it was done with.
func (sw *actor) keep(c Claim) {
	for i, h := range sw.old {
		if h.Claim == c {
			sw.old = slices.Delete(sw.old, i, i+1)
			sw.holds = append(sw.holds, h)
			return
		}
	}
}

type held struct {
	Claim
	done *op // what it completed it with, to send it again
}

var (
	simAccounts  = []string{"acme", "0", "poor"}
	simVaults    = []string{"v1", "v2"}
	simModels    = []string{"m1", "m2"}
	simSubmitter = sign.FromEd25519Seed([32]byte{'s'})
	simFresh     = WorkerID{5} // comes when all else is over, and can run anything
	longPrompt   = bytes.Repeat([]byte("x"), 24_000)
)

func simConfig() *Config {
	c := Config{Store: struct{ Store }{}, Vault: struct{ Vault }{}, Identity: sign.FromEd25519Seed([32]byte{'q'}), Webhooks: true, Lease: 30 * time.Second, AttemptLimit: 10 * time.Minute,
		Prices: PriceTable{{Kind: KindInference, Price: 7}, {Kind: KindTask, Policy: PolicyFast, Price: 2}}}.withDefaults()
	return &c
}

func newWorld(d dice, m planted) *world {
	w := &world{dice: d, config: simConfig(), now: At(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)), calls: map[*call]*asked{}, tracks: map[JobID]*track{},
		pairs: map[string]map[WorkerID]bool{}, paused: map[PauseKey]bool{}, keys: map[JobID]bool{}, granted: map[string]int64{}, faults: true, planted: m,
		flying: map[*Change]decision{}, badOps: map[*op]bool{}, effectKinds: map[EffectID]EffectKind{}}
	w.store = newSimStore(func() Instant { return w.now })
	w.store.committed = w.onCommit
	if m.store != nil {
		m.store(w.store)
	}
	for account, credit := range map[string]int64{"acme": 1_000_000, "0": 1_000_000, "poor": 10} {
		w.store.counters[balanceCounter(account)] = credit
		w.granted[account] = credit
	}
	all := []string{KindTask, KindInference}
	for i, caps := range []Capabilities{
		{Kinds: all, Models: []string{"*"}, MaxContextTier: 4, Encryption: true, Slots: 12, HardwareTier: 2},
		{Kinds: []string{KindTask}, MaxContextTier: 1, Slots: 6},
		{Kinds: []string{KindInference}, Models: []string{"m1"}, MaxContextTier: 2, Encryption: true, Slots: 6},
		{Kinds: all, Models: simModels, MaxContextTier: 3, Encryption: true, Slots: 12},
	} {
		w.workers = append(w.workers, &actor{id: WorkerID{byte(i + 1)}, caps: caps})
	}
	w.newEngine()
	return w
}

func (w *world) newEngine() {
	w.engines++
	w.engine = newEngine(w.config, [8]byte{w.engines})
	w.inputs, w.tasks, w.answers = nil, nil, nil
	for _, account := range slices.Sorted(maps.Keys(w.pairs)) {
		for _, sw := range w.workers {
			if w.pairs[account][sw.id] {
				w.inputs = append(w.inputs, inPair{account, sw.id, true})
			}
		}
	}
	if w.planted.trust {
		for _, account := range simAccounts {
			for _, sw := range w.workers {
				w.inputs = append(w.inputs, inPair{account, sw.id, true})
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(w.paused)) {
		w.inputs = append(w.inputs, inPause{key, true})
	}
	if w.vaults == nil {
		w.vaults = simVaults[:1]
	}
	w.inputs = append(w.inputs, inVaults{w.vaults}, inLanes{w.store.lanes()})
	w.step()
}

func (w *world) violate(invariant, format string, args ...any) {
	w.violated = append(w.violated, violation{invariant, fmt.Sprintf(format, args...)})
}

// id16 makes a new ID, the same in each run with the same dice.
func (w *world) id16(kind byte) (id [16]byte) {
	w.counter++
	binary.BigEndian.PutUint64(id[1:], w.counter*0x9E3779B97F4A7C15)
	id[0], id[15] = kind, byte(w.counter)
	return id
}

func (w *world) chance(label string, percent int) bool { return w.roll(label, 100) < percent }

// --- the shell

// step lets the engine go on with what it was told.
func (w *world) step() {
	w.steps++
	inputs := w.inputs
	w.inputs = nil
	if w.planted.input != nil {
		kept := inputs[:0]
		for _, in := range inputs {
			if in = w.planted.input(w, in); in != nil {
				kept = append(kept, in)
			}
		}
		inputs = kept
	}
	out := w.engine.Step(w.now, inputs)
	if w.hash != nil {
		w.hash(canonicalOutput(out))
	}
	w.next = out.next
	for i := range out.replies {
		r := out.replies[i]
		if w.planted.reply != nil {
			w.planted.reply(w, &r)
		}
		w.onReply(r)
	}
	for _, err := range out.bad {
		if !errors.Is(err, errSim) {
			w.violate("14", "the engine complains: %v", err)
		}
	}
	w.take(out)
}

// take turns an output into tasks.
func (w *world) take(out *output) {
	var batch []*commit
	for _, c := range out.commits {
		cc := c
		w.decided(cc)
		if w.planted.commit != nil {
			w.planted.commit(w, cc)
		}
		if w.planted.early != nil && cc.op != nil && cc.op.call != nil && w.planted.early(w, cc) {
			w.onReply(reply{call: cc.op.call, job: cc.Job})
			cc.op.call = nil
		}
		batch = append(batch, cc)
		if w.chance("batch ends", 50) {
			w.tasks = append(w.tasks, task{commits: batch})
			batch = nil
		}
	}
	if batch != nil {
		w.tasks = append(w.tasks, task{commits: batch})
	}
	var jobs []JobID
	for _, r := range out.reads {
		if r.kind == readJob {
			jobs = append(jobs, r.id)
			continue
		}
		w.tasks = append(w.tasks, task{read: &r})
	}
	if len(jobs) > 0 {
		w.tasks = append(w.tasks, task{read: &read{kind: readJob}, jobs: jobs})
	}
	if len(out.renew) > 0 {
		w.tasks = append(w.tasks, task{renew: out.renew, renewed: out.renewers})
	}
	for _, f := range out.shred {
		if v := f.vault(); v != "" && !slices.Contains(w.vaults, v) {
			w.violate("vault", "a key in %s is to be destroyed by a queue that has %v", v, w.vaults)
		}
		w.tasks = append(w.tasks, task{shred: &f})
	}
}

// fault is what goes wrong with a task.
type fault int

const (
	fine fault = iota
	failBefore
	failAfter
	failOne
	failLate // of commits: they are told to have failed, and come afterwards
)

func (w *world) drawFault() fault {
	if !w.faults || w.chance("no fault", 85) {
		return fine
	}
	return pickOne(w, "fault", failBefore, failAfter, failOne, failLate, failLate, failLate)
}

// carryOut does the i-th task.
func (w *world) carryOut(i int, f fault) {
	t := w.tasks[i]
	w.tasks = slices.Delete(w.tasks, i, i+1)
	if f != fine {
		for _, c := range w.order {
			w.calls[c].faulty = true
		}
	}
	var err error
	if f == failBefore || f == failAfter || f == failLate || f == failOne && t.commits == nil {
		err = errSim
	}
	if t.late != 0 {
		for _, c := range t.commits {
			_ = w.store.apply(&c.Change) // and nobody hears of it
		}
		return
	}
	var in input
	switch {
	case t.commits != nil:
		in = w.commitTask(t.commits, f)
		if err != nil {
			w.now += Instant(storeRetry / time.Microsecond) // as the shell waits
		}
	case t.renew != nil:
		errs := make([]error, len(t.renew))
		for i, r := range t.renew {
			if f != failBefore {
				errs[i] = w.store.renew(r)
			}
		}
		in = inRenewed{t.renew, t.renewed, errs, err}
	case t.shred != nil:
		if f != failBefore {
			w.shred(t.shred)
		}
		in = inShredded{*t.shred, err}
	default:
		in = w.readTask(t, err)
	}
	w.answers = append(w.answers, in)
}

func (w *world) commitTask(commits []*commit, f fault) input {
	answers := make([]answer, len(commits))
	for i, c := range commits {
		answers[i].commit = c
		switch {
		case f == failBefore, f == failLate:
			answers[i].unknown = errSim
			continue
		case f == failOne && i == 0:
			answers[i].err = errSim
			continue
		}
		err := w.store.apply(&c.Change)
		if f == failAfter {
			answers[i].unknown = errSim
			continue
		}
		answers[i].err = err
		if err == nil && c.wantSpec && (!w.faults || w.chance("spec", 90)) {
			answers[i].spec = w.store.specs[c.Job.ID]
		}
	}
	if f == failLate {
		w.tasks = append(w.tasks, task{commits: commits, late: w.now})
	}
	return inCommitted{answers}
}

func (w *world) readTask(t task, err error) input {
	r, s := t.read, w.store
	switch r.kind {
	case readJob:
		jobs := make([]*Job, len(t.jobs))
		for i, id := range t.jobs {
			jobs[i] = s.jobs[id]
		}
		return inJobs{t.jobs, jobs, err}
	case readDone:
		return inDone{r.op, s.dones[r.id], err}
	case readPage:
		page := s.page(r.lane.text, r.after, r.n)
		if w.planted.page != nil {
			page = w.planted.page(w, page)
		}
		return inPage{r.lane, r.n, page, err}
	case readDue:
		due, next := s.due(w.now, r.n)
		return inDue{due, next, err}
	case readLapsed:
		return inLapsed{s.lapsedJobs(r.n), err}
	case readEffects:
		effects := slices.Clone(s.effects)
		return inEffects{r.n, effects[:min(len(effects), r.n)], err}
	case readDoc:
		d, ok := s.docs[[2]string{DocWorker, r.key}]
		if !ok {
			d = Doc{Kind: DocWorker, Key: r.key}
		}
		return inDoc{r.op.strikes, d, err}
	case readSpec:
		return inSpec{r.op, s.specs[r.id], err}
	}
	panic("unknown read")
}

func (w *world) shred(f *Effect) {
	if w.planted.keep {
		return
	}
	delete(w.keys, f.ID.Job)
	j := w.store.jobs[f.ID.Job]
	if j != nil && (!j.State.Terminal() || j.AckedAt == 0 && !j.Purged) {
		w.violate("9", "the keys of job %s are destroyed while it is %s, acknowledged at %d", j.ID, j.State, j.AckedAt)
	}
}

func (w *world) ask(a *asked) *call {
	c := newCall()
	if a.id != (JobID{}) {
		a.was = w.store.jobs[a.id]
	}
	w.calls[c] = a
	w.order = append(w.order, c)
	return c
}

// --- the witness

// decided sees what the engine wants to write, before it does.
func (w *world) decided(c *commit) {
	if c.op == nil {
		return
	}
	w.flying[&c.Change] = decision{c.op, c.op.ev}
	if c.op.kind != opClaim {
		return
	}
	lane, err := ParseLane(c.Job.Lane)
	if err != nil {
		w.violate("14", "lane %q: %v", c.Job.Lane, err)
		return
	}
	worker := w.worker(c.op.ev.Worker)
	if lane.Needs.Private && !w.pairs[c.Job.Account][worker.id] {
		w.violate("10", "a PRIVATE job of %q goes to worker %d, which is not paired", c.Job.Account, worker.id[0])
	}
	if spec := w.store.specs[c.Job.ID]; spec != nil && spec.Custody == CustodySealed &&
		!slices.ContainsFunc(spec.Wraps, func(k Wrap) bool { return k.Worker == worker.id }) {
		w.violate("10", "a sealed job goes to worker %d, which has no key of it", worker.id[0])
	}
	if why := (FourSignals{}).Fits(&lane.Needs, &worker.caps); why != "" {
		w.violate("cap", "job %+v goes to worker %d, which %s", lane.Needs, worker.id[0], why)
	}
	if v := lane.Needs.Vault; v != "" && !slices.Contains(w.vaults, v) {
		w.violate("vault", "a job whose key is in %s is claimed by a queue that has %v", v, w.vaults)
	}
	if c.Job.ReadyAt > w.now {
		w.violate("early", "a ticket that is ready at %d is claimed at %d", c.Job.ReadyAt, w.now)
	}
}

// onCommit compares a change that was applied with the rules.
func (w *world) onCommit(c *Change, was *Job) {
	w.witnessDrops(c)
	if c.Job == nil {
		if o := w.flying[c]; o.op != nil && !current(w.store.jobs[o.id], Claim{o.id, o.claim}, o.worker) {
			w.violate("3", "job %s: a report of claim %s, which does not hold it, is written", o.id, o.claim)
		}
		return
	}
	id := c.Job.ID
	t := w.tracks[id]
	if t == nil {
		t = &track{}
		w.tracks[id] = t
		w.ids = append(w.ids, id)
	}
	is := w.store.jobs[id]
	if c.Delete {
		t.deleted = true
		if was == nil || !was.Purged {
			w.violate("14", "job %s is deleted while it is %v", id, was)
		}
		return
	}
	o := w.flying[c]
	t.versions = append(t.versions, is)
	if o.op == nil { // another coordinator's
		t.events = append(t.events, 0)
		t.claims = append(t.claims, is.Claim)
		if c.Done != nil {
			t.done = c.Done
		}
		return
	}
	t.events = append(t.events, o.ev.Kind)
	t.claims = append(t.claims, o.claim)
	from := was
	if from == nil {
		draft := *o.draft
		from = &draft
	}
	if was != nil && was.State.Terminal() && is.State != was.State {
		w.violate("4", "job %s was %s and becomes %s", id, was.State, is.State)
	}
	at := w.decidedAt(c)
	asNext := func(*Job, *Event, Instant, *Rules) (Transition, error) {
		written := *c.Job
		return Transition{Job: &written, Log: c.Log, Effects: c.Effects, Docs: c.Docs}, nil
	}
	if from.Version+1 != c.Job.Version {
		w.violate("2", "job %s: version %d is written over version %d", id, c.Job.Version, from.Version)
	}
	if _, ok := documented[from.State][o.ev.Kind]; !ok {
		w.violate("3", "job %s: %s happens to it while it is %s", id, o.ev.Kind, from.State)
	} else if err := checkNext(asNext, from, &o.ev, at, &w.engine.rules); err != nil {
		w.violate("5", "job %s, %s: %v", id, o.ev.Kind, err)
	}
	w.witnessKind(c, o, from, is, t)
}

// decidedAt is when the engine made the change: what its log says, or for a
// purge, which is not logged, what follows from when it is due.
func (w *world) decidedAt(c *Change) Instant {
	if len(c.Log) > 0 {
		return c.Log[0].At
	}
	if c.Job.Purged {
		return c.Job.DueAt.Add(-w.engine.rules.Tombstone)
	}
	return w.now
}

// witnessKind checks what each kind of event promises.
func (w *world) witnessKind(c *Change, o decision, was, is *Job, t *track) {
	id := is.ID
	switch o.ev.Kind {
	case EventSubmit:
		if is.Account != o.account || is.InputHash != o.draft.InputHash || c.Spec == nil || c.Spec != o.spec || InputHash(c.Spec.Header, c.Spec.Payload) != is.InputHash {
			w.violate("1", "job %s of %q is stored as another than was submitted by %q", id, is.Account, o.account)
		}
		if len(t.versions) > 1 {
			w.violate("1", "job %s is inserted twice", id)
		}
	case EventComplete:
		if t.done != nil {
			w.violate("2", "job %s gets a second result", id)
		}
		t.done = c.Done
		if c.Done == nil {
			w.violate("5", "job %s completes without its result", id)
		} else if c.Done.Claim != was.Claim || c.Done.Worker != was.Worker {
			w.violate("3", "job %s: the result of claim %s becomes that of claim %s", id, c.Done.Claim, was.Claim)
		}
		if w.badOps[o.op] {
			w.violate("12", "job %s completes with a result that was bad", id)
		}
	case EventClaim:
		for _, j := range w.store.jobs {
			if j.ID != id && j.State == StateRunning && j.Claim == is.Claim {
				w.violate("3", "claim %s holds job %s and job %s: its worker knows of one", is.Claim, j.ID, id)
			}
		}
	case EventLeaseLost:
		if was.LeaseUntil >= w.now {
			w.violate("3", "job %s: the lease is taken away %s before it ends", id, was.LeaseUntil.Sub(w.now))
		}
	case EventLimit, EventExpire:
		if was.DueAt == 0 || was.DueAt > w.now {
			w.violate("14", "job %s: %s at %d, due at %d", id, o.ev.Kind, w.now, was.DueAt)
		}
		if is.Reason == "" {
			w.violate("14", "job %s ends without a reason", id)
		}
	case EventPurge:
		if was.DueAt > w.now {
			w.violate("14", "job %s is purged before its retention has ended", id)
		}
	}
	if o.kind == opEvent && (was.Claim != o.claim || was.Worker != o.worker) {
		w.violate("3", "job %s: %s of claim %s is carried out while claim %s holds it", id, o.ev.Kind, o.claim, was.Claim)
	}
	if o.ev.Kind != EventReject && slices.ContainsFunc(c.Effects, func(f Effect) bool { return f.Kind == EffectStrike }) {
		w.violate("13", "job %s: a strike for %s", id, o.ev.Kind)
	}
	if o.ev.Kind == EventReject && !slices.ContainsFunc(c.Effects, func(f Effect) bool { return f.Kind == EffectStrike && f.Target == was.Worker.String() }) {
		w.violate("12", "job %s: a bad result is no strike", id)
	}
	for _, f := range c.Effects {
		if f.Kind == EffectShred && (!is.State.Terminal() || is.AckedAt == 0 && !is.Purged) {
			w.violate("9", "job %s is %s, not acknowledged, and its keys are to be destroyed", id, is.State)
		}
		if f.Kind == EffectSettle || f.Kind == EffectRefund {
			t.owed++
		}
		if f.Kind == EffectSettle && is.State != StateCompleted {
			w.violate("8", "job %s is settled while it is %s", id, is.State)
		}
	}
}

// witnessDrops checks what the pump carries out.
func (w *world) witnessDrops(c *Change) {
	for _, id := range c.Drop {
		t := w.tracks[id.Job]
		if t == nil {
			continue
		}
		kind := w.effectKinds[id]
		switch kind {
		case EffectSettle, EffectRefund:
			if t.paid++; t.paid > 1 {
				w.violate("6", "job %s is settled twice", id.Job)
			}
		case EffectShred:
			t.shredded++
			if w.keys[id.Job] {
				w.violate("9", "job %s: shredding is struck off, and the keys are there", id.Job)
			}
		}
	}
	for _, f := range c.Effects {
		w.effectKinds[f.ID] = f.Kind
	}
}

// onReply compares an answer with the model.
func (w *world) onReply(r reply) {
	a := w.calls[r.call]
	if a == nil {
		return // of an engine that is gone
	}
	if a.answered {
		w.violate("14", "a %s is answered twice", a.kind)
		return
	}
	a.answered = true
	w.order = slices.DeleteFunc(w.order, func(c *call) bool { return c == r.call })
	is := w.store.jobs[a.id]
	t := w.tracks[a.id]
	if errors.Is(r.err, errSim) || errors.Is(r.err, ErrBusy) {
		if !a.faulty && errors.Is(r.err, errSim) {
			w.violate("14", "a %s fails without a fault: %v", a.kind, r.err)
		}
		if a.kind == "claim" {
			w.unclaim(a, r.call)
		}
		if a.worker != nil && a.claim.Job != (JobID{}) && a.kind != "report" {
			a.worker.keep(a.claim) // it tries again
		}
		return
	}
	switch a.kind {
	case "submit":
		w.submitReply(a, r, is, t)
	case "claim":
		w.claimReply(a, r)
	case "complete", "fail", "release", "report":
		w.workerReply(a, r, is, t)
	case "heartbeat":
		w.beatReply(a, r)
	case "cancel", "acknowledge", "explain":
		w.submitterReply(a, r, is, t)
	}
}

func (w *world) submitReply(a *asked, r reply, is *Job, t *track) {
	switch {
	case r.err == nil:
		if t == nil || t.last() == nil {
			w.violate("1", "job %s is acknowledged and not stored", a.id)
			return
		}
		if j := t.last(); j.Account != a.account || contentOf(j) != a.content {
			w.violate("1", "job %s of %q is acknowledged, and another one is stored, of %q", a.id, a.account, j.Account)
		}
		if r.job == nil || r.job.ID != a.id || r.job.Account != a.account {
			w.violate("1", "the submit of %s is answered with %+v", a.id, r.job)
		}
		t.promised, t.promise = true, *a
	case errors.Is(r.err, ErrIDTaken):
		if t == nil || t.versions[0].Account == a.account {
			w.violate("14", "job %s: %v", a.id, r.err)
		}
	case errors.Is(r.err, ErrConflict):
		if t == nil || contentOf(t.versions[0]) == a.content || t.versions[0].Account != a.account {
			w.violate("14", "job %s: %v", a.id, r.err)
		}
	case errors.Is(r.err, ErrCredit):
		if is != nil && is.Account == a.account && contentOf(is) == a.content && a.was != nil {
			w.violate("1", "job %s was there, and its submit is refused: %v", a.id, r.err)
		}
		if w.granted[a.account] > 1000 {
			w.violate("6", "%q has credit: %v", a.account, r.err)
		}
	case errors.Is(r.err, ErrNoWorker):
		if a.was != nil && a.was.Account == a.account && contentOf(a.was) == a.content {
			w.violate("1", "job %s was there, and its submit is refused: %v", a.id, r.err)
		}
	default:
		w.violate("14", "submit: %v", r.err)
	}
}

func (w *world) unclaim(a *asked, c *call) {
	a.worker.claiming = slices.DeleteFunc(a.worker.claiming, func(o *call) bool { return o == c })
}

func (w *world) claimReply(a *asked, r reply) {
	w.unclaim(a, r.call)
	switch {
	case r.err == nil:
		c := Claim{r.job.ID, r.job.Claim}
		t := w.tracks[c.Job]
		if t == nil || !slices.ContainsFunc(t.versions, func(j *Job) bool {
			return j.State == StateRunning && j.Claim == c.Claim && j.Worker == a.worker.id
		}) {
			w.violate("3", "job %s is handed out under a claim that is not stored", c.Job)
		}
		if r.spec == nil || r.spec.ID != c.Job {
			w.violate("14", "job %s is handed out without its payload", c.Job)
		}
		if c.Claim != a.claim.Claim {
			w.violate("3", "a claim is answered with the ID of another")
		}
		for _, sw := range w.workers {
			for _, h := range append(slices.Clone(sw.holds), sw.old...) {
				if h.Claim.Claim == c.Claim {
					w.violate("3", "claim %s is handed out twice", c.Claim)
				}
			}
		}
		a.worker.holds = append(a.worker.holds, held{Claim: c})
	case errors.Is(r.err, ErrSession), errors.Is(r.err, errAbandoned), errors.Is(r.err, ErrNotFound):
	case errors.Is(r.err, ErrRemoved):
		if w.engine.workers[a.worker.id].standing == StandingActive {
			w.violate("13", "an active worker: %v", r.err)
		}
	default:
		w.violate("14", "claim: %v", r.err)
	}
}

// current reports whether the claim holds the job.
func current(j *Job, c Claim, id WorkerID) bool {
	return j != nil && j.State == StateRunning && j.Claim == c.Claim && j.Worker == id
}

// accepted reports whether the claim's result became the job's.
func (t *track) accepted(c ClaimID) bool { return t != nil && t.done != nil && t.done.Claim == c }

func (w *world) workerReply(a *asked, r reply, is *Job, t *track) {
	switch {
	case r.err == nil && a.kind == "complete" && !a.bad:
		if !t.accepted(a.claim.Claim) || t.done.Digest != a.digest {
			w.violate("3", "job %s: a completion of claim %s is acknowledged, the result is of %+v", a.id, a.claim.Claim, t)
		}
	case r.err == nil:
		want := map[string]EventKind{"complete": EventReject, "fail": EventFail, "release": EventRelease}[a.kind]
		ok := a.kind == "report"
		for i := range t.versions {
			ok = ok || want != 0 && t.events[i] == want && t.claims[i] == a.claim.Claim
		}
		if !ok {
			w.violate("3", "job %s: a %s of claim %s is acknowledged and did not happen", a.id, a.kind, a.claim.Claim)
		}
		if a.kind == "report" {
			if !slices.ContainsFunc(t.versions, func(j *Job) bool { return j.Claim == a.claim.Claim }) {
				w.violate("3", "job %s: a report of claim %s, which never held it", a.id, a.claim.Claim)
			}
			found := 0
			for _, e := range w.store.logs[a.id] {
				if e.Event == EventReport && string(e.Data) == string(a.op.items[0].Data) {
					found++
				}
			}
			if found == 0 && is != nil && !is.Purged {
				w.violate("14", "job %s: a report is acknowledged and not in the log", a.id)
			}
		}
	case errors.Is(r.err, ErrLeaseLost):
		if current(is, a.claim, a.worker.id) {
			w.violate("lost", "job %s: claim %s holds it, and its %s is told: %v", a.id, a.claim.Claim, a.kind, r.err)
		}
		if a.kind == "complete" && t.accepted(a.claim.Claim) && t.done.Digest == a.digest && is != nil && !is.Purged {
			w.violate("3", "job %s: the same completion again is told: %v", a.id, r.err)
		}
	case errors.Is(r.err, ErrConflict):
		if a.kind != "complete" || !t.accepted(a.claim.Claim) || t.done.Digest == a.digest {
			w.violate("3", "job %s: %s: %v", a.id, a.kind, r.err)
		}
	case errors.Is(r.err, ErrNotFound):
		if is != nil {
			w.violate("14", "job %s is there: %v", a.id, r.err)
		}
	default:
		w.violate("14", "%s: %v", a.kind, r.err)
	}
}

func (w *world) beatReply(a *asked, r reply) {
	if r.err != nil {
		if !errors.Is(r.err, ErrSession) {
			w.violate("14", "heartbeat: %v", r.err)
		}
		a.worker.there = false
		return
	}
	for _, c := range r.info.(HeartbeatReply).Lost {
		if current(w.store.jobs[c.Job], c, a.worker.id) {
			w.violate("lost", "job %s: claim %s holds it, and its worker is told that it is lost", c.Job, c.Claim)
		}
		if t := w.tracks[c.Job]; t.accepted(c.Claim) && !t.deleted {
			w.violate("lost", "job %s: claim %s completed it, and its worker is told that it is lost", c.Job, c.Claim)
		}
		for _, h := range a.worker.holds {
			if h.Claim == c {
				a.worker.old = append(a.worker.old, h)
			}
		}
		a.worker.holds = slices.DeleteFunc(a.worker.holds, func(h held) bool { return h.Claim == c })
	}
}

func (w *world) submitterReply(a *asked, r reply, is *Job, t *track) {
	var te *TransitionError
	switch {
	case r.err == nil:
		ok := a.kind == "explain" || t.deleted
		for _, j := range t.versions {
			ok = ok || a.kind == "cancel" && j.State == StateCancelled || a.kind == "acknowledge" && j.AckedAt != 0
		}
		if !ok {
			w.violate("14", "job %s: %s is acknowledged and did not happen: %+v", a.id, a.kind, is)
		}
	case errors.As(r.err, &te):
		// Too late or too early: when it was asked, or now.
		if _, ok := documented[is.State][te.Event]; ok && a.was != nil {
			if _, ok := documented[a.was.State][te.Event]; ok {
				w.violate("14", "job %s is %s: %v", a.id, is.State, r.err)
			}
		}
	case errors.Is(r.err, ErrNotFound):
		if is != nil && is.Account == a.account && !is.Purged && a.was != nil {
			w.violate("14", "job %s is there: %v", a.id, r.err)
		}
	default:
		w.violate("14", "%s: %v", a.kind, r.err)
	}
}

// check compares what lasts with the model.
func (w *world) check() {
	held := map[string]int64{}
	for _, j := range w.store.jobs {
		if !j.State.Terminal() {
			held[j.Account] += int64(j.Price)
		}
	}
	for _, f := range w.store.effects {
		if f.Kind == EffectSettle || f.Kind == EffectRefund {
			held[f.Target] += f.Amount
		}
	}
	for _, account := range simAccounts {
		balance, hold, spent := w.store.counters[balanceCounter(account)], w.store.counters[heldCounter(account)], w.store.counters[spentCounter(account)]
		if balance < 0 || balance+hold+spent != w.granted[account] || hold != held[account] {
			w.violate("6", "account %q was granted %d and has %d, %d held of %d for its jobs, %d spent", account, w.granted[account], balance, hold, held[account], spent)
		}
	}
}

// canonicalOutput is an output in bytes that are equal where it is.
func canonicalOutput(out *output) []byte {
	type readText struct {
		Kind  readKind
		ID    JobID
		Lane  string
		After Place
		N     int
		Key   string
	}
	type replyText struct {
		Job  *Job
		Info any
		Err  string
	}
	type text struct {
		Changes []Change
		Renew   []Renewal
		Shred   []Effect
		Next    Instant
		Jobs    []*Job
		Reads   []readText
		Replies []replyText
		Bad     []string
	}
	t := text{Renew: out.renew, Shred: out.shred, Next: out.next, Jobs: out.changed}
	for _, c := range out.commits {
		t.Changes = append(t.Changes, c.Change)
	}
	for _, r := range out.reads {
		lane := ""
		if r.lane != nil {
			lane = r.lane.text
		}
		t.Reads = append(t.Reads, readText{r.kind, r.id, lane, r.after, r.n, r.key})
	}
	for _, r := range out.replies {
		rt := replyText{Job: r.job, Info: r.info}
		if x, ok := r.info.(Explanation); ok {
			rt.Info = fmt.Sprintf("%+v", x)
		}
		if r.err != nil {
			rt.Err = r.err.Error()
		}
		t.Replies = append(t.Replies, rt)
	}
	for _, err := range out.bad {
		t.Bad = append(t.Bad, err.Error())
	}
	b, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	return b
}

func (w *world) worker(id WorkerID) *actor { return w.workers[id[0]-1] }

func (w *world) story() string {
	var b strings.Builder
	for _, v := range w.violated {
		fmt.Fprintln(&b, v)
	}
	return b.String()
}
