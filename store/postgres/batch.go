package postgres

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// batch is what the changes of one transaction come to. A change is judged
// whole before anything of it is taken in, and sees what the changes before it
// did. A record that several changes touch is written once.
type batch struct {
	jobs     map[consign.JobID]*row
	docs     map[docID]*doc
	counters map[string]*counter
	effects  map[consign.EffectID]*effect
	arrived  []*effect // that came to wait, in their order; some were dropped again
}

// row is a job as it is stored, and as the batch has it so far.
type row struct {
	id        consign.JobID
	change    int    // in a plain batch: whose it is
	base      uint64 // the version that is stored; 0: none
	version   uint64
	state     consign.State
	claim     consign.ClaimID
	lapsed    bool // its lease, as it is stored
	forgotten bool
	packed    []byte // the stored log

	job     *consign.Job // to write; nil: the batch does not touch it, or deletes it
	spec    *consign.Spec
	done    *consign.Done
	entries []consign.LogEntry // to pack
	reports []consign.LogEntry // to insert beside
	anew    bool               // it was deleted on the way: nothing of what is stored stays
	gone    bool               // spec, result and log are to be deleted
}

type docID struct{ kind, key string }

type doc struct {
	id            docID
	base, version uint64
	body          []byte
}

type counter struct {
	name        string
	base, value int64
}

type effect struct {
	owner  pgtype.UUID // the job in whose write it is; null: it is certain
	effect consign.Effect
	stored bool // in the database
	waits  bool // as the batch has it so far
	place  int  // with waits: in batch.arrived, if it is to be inserted
}

// apply judges a change and takes it in, or says why not.
func (b *batch) apply(c *consign.Change) error {
	if err := b.judge(c); err != nil {
		return err
	}
	if c.Job != nil {
		b.write(c)
	}
	b.log(c)
	for _, id := range c.Drop {
		b.effects[id].waits = false
	}
	for _, e := range c.Effects {
		b.add(e, pgtype.UUID{})
	}
	for _, d := range c.Docs {
		b.docs[docID{d.Kind, d.Key}].write(d)
	}
	for _, d := range c.Counters {
		b.counters[d.Counter].value += d.Add
	}
	return nil
}

// judge reports why the change cannot be applied.
func (b *batch) judge(c *consign.Change) error {
	if g := c.Guard; g != nil {
		r := b.jobs[g.Job]
		if r.version == 0 || r.state != consign.StateRunning || r.claim != g.Claim || g.Lapsed && !r.lapsed {
			return consign.ErrGuard
		}
	}
	if c.Job != nil && b.jobs[c.Job.ID].version != c.Job.Version-1 {
		return consign.ErrVersion
	}
	for _, id := range c.Drop {
		if !b.effects[id].waits {
			return consign.ErrVersion
		}
	}
	for _, d := range c.Docs {
		if b.docs[docID{d.Kind, d.Key}].version != d.Version-1 {
			return consign.ErrVersion
		}
	}
	for _, d := range c.Counters {
		if d.Add < 0 && b.counters[d.Counter].value+d.Add < d.Min {
			return consign.ErrBound
		}
	}
	return nil
}

func (b *batch) write(c *consign.Change) {
	r := b.jobs[c.Job.ID]
	if c.Delete {
		*r = row{id: r.id, base: r.base, anew: true}
		return
	}
	r.job, r.version, r.state, r.claim, r.lapsed = c.Job, c.Job.Version, c.Job.State, c.Job.Claim, false
	if c.Spec != nil {
		r.spec = c.Spec
	}
	if c.Done != nil {
		r.done = c.Done
	}
	if c.Forget {
		r.spec, r.done, r.packed, r.entries, r.reports, r.gone, r.forgotten = nil, nil, nil, nil, nil, true, true
	}
}

// log adds a change's entries. Those of its own job go into the job's row.
// Where a number is taken, the entry that has it stays: one beside the row
// came before one in it, else it would not have been inserted.
func (b *batch) log(c *consign.Change) {
	for _, e := range c.Log {
		r := b.jobs[e.Job]
		switch {
		case r.version == 0 || r.forgotten:
		case c.Job != nil && c.Job.ID == e.Job:
			r.entries = append(r.entries, e)
		case !r.has(e.Seq):
			r.reports = append(r.reports, e)
		}
	}
}

// has reports whether the row's own log has the number.
func (r *row) has(seq consign.Seq) bool {
	is := func(e consign.LogEntry) bool { return e.Seq == seq }
	stored, err := unpack(r.id, r.packed)
	return err == nil && slices.ContainsFunc(stored, is) || slices.ContainsFunc(r.entries, is)
}

// add lets an effect wait, unless it does already.
func (b *batch) add(e consign.Effect, owner pgtype.UUID) {
	f := b.effects[e.ID]
	if f == nil {
		f = &effect{}
		b.effects[e.ID] = f
	}
	if f.waits {
		return
	}
	f.owner, f.effect, f.waits, f.place = owner, e, true, len(b.arrived)
	b.arrived = append(b.arrived, f)
}

func (d *doc) write(to consign.Doc) {
	d.version, d.body = to.Version, to.Body
	if to.Body == nil {
		d.version = 0
	}
}

// rows returns the rows that the condition holds for, by ID: the order in
// which all transactions lock them.
func (b *batch) rows(holds func(*row) bool) []*row {
	rows := make([]*row, 0, len(b.jobs))
	for _, r := range b.jobs {
		if holds(r) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(x, y *row) int { return compareIDs(x.id, y.id) })
	return rows
}

// newBatch names every record that the changes touch, with nothing known of
// it.
func newBatch(changes []consign.Change, sound []error) *batch {
	b := &batch{jobs: map[consign.JobID]*row{}, docs: map[docID]*doc{}, counters: map[string]*counter{}, effects: map[consign.EffectID]*effect{}}
	job := func(id consign.JobID) {
		if b.jobs[id] == nil {
			b.jobs[id] = &row{id: id}
		}
	}
	for i := range changes {
		c := &changes[i]
		if sound[i] != nil {
			continue
		}
		if c.Job != nil {
			job(c.Job.ID)
		}
		if c.Guard != nil {
			job(c.Guard.Job)
		}
		for _, e := range c.Log {
			job(e.Job)
		}
		for _, id := range c.Drop {
			b.effects[id] = &effect{effect: consign.Effect{ID: id}}
		}
		for _, e := range c.Effects {
			b.effects[e.ID] = &effect{effect: consign.Effect{ID: e.ID}}
		}
		for _, d := range c.Docs {
			b.docs[docID{d.Kind, d.Key}] = &doc{id: docID{d.Kind, d.Key}}
		}
		for _, d := range c.Counters {
			b.counters[d.Counter] = &counter{name: d.Counter}
		}
	}
	return b
}

// sound reports a change that makes no sense.
func sound(c *consign.Change) error {
	switch {
	case c.Job == nil && (c.Spec != nil || c.Done != nil || c.Forget || c.Delete):
		return errors.New("postgres: the change has a Spec, Done, Forget or Delete without the Job that it belongs to")
	case c.Spec != nil && c.Spec.ID != c.Job.ID, c.Done != nil && c.Done.ID != c.Job.ID:
		return errors.New("postgres: the change has a Spec or Done of another job than its own")
	}
	return nil
}

func compareIDs(a, b consign.JobID) int { return cmp.Compare(string(a[:]), string(b[:])) }

func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	return slices.SortedFunc(maps.Keys(m), compare)
}
