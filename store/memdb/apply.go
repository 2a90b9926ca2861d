package memdb

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// Apply commits the changes in one transaction of go-memdb. Its own errors are
// those of a change that makes no sense: a Spec, Done, Forget or Delete
// without its Job.
func (s *Store) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := s.begin(len(changes))
	outcomes := make([]error, len(changes))
	for i := range changes {
		if outcomes[i] = b.check(&changes[i]); outcomes[i] == nil {
			b.write(&changes[i])
		}
	}
	b.commit()
	return outcomes, nil
}

// Renew touches no row: it moves the end of leases, in place.
func (s *Store) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	now := s.now()
	outcomes := make([]error, len(renewals))
	for i, r := range renewals {
		if l := s.running[r.Job]; l != nil && l.job.Claim == r.Claim {
			l.until.Store(int64(now.Add(r.For)))
		} else {
			outcomes[i] = consign.ErrGuard
		}
	}
	return outcomes, nil
}

// batch is what one Apply has changed so far. A change is checked whole before
// any of it is written, and sees what the changes before it wrote. Nothing can
// fail after that, so nothing is ever undone, and a record that several
// changes touch is stored once.
type batch struct {
	*Store
	base *memdb.Txn // as it was before
	txn  *memdb.Txn
	now  consign.Instant

	touched  []*cell                // the cells that have a next row
	docs     map[docID]*consign.Doc // Body nil: deleted
	counters map[string]int64
}

type docID struct{ kind, key string }

func (s *Store) begin(size int) *batch {
	return &batch{
		Store: s, base: s.db.Txn(false), txn: s.db.Txn(true), now: s.now(),
		touched: make([]*cell, 0, size),
	}
}

// check reports why the change cannot be applied. It writes nothing.
func (b *batch) check(c *consign.Change) error {
	if err := sound(c); err != nil {
		return err
	}
	if g := c.Guard; g != nil {
		l := b.running[g.Job]
		if l == nil || l.job.Claim != g.Claim || g.Lapsed && !l.lapsed(b.now) {
			return consign.ErrGuard
		}
	}
	if c.Job != nil {
		var version uint64
		if r := b.row(c.Job.ID); r.job != nil {
			version = r.job.Version
		}
		if version != c.Job.Version-1 {
			return consign.ErrVersion
		}
	}
	for _, id := range c.Drop {
		if _, ok := b.waiting[id]; !ok {
			return consign.ErrVersion
		}
	}
	for i := range c.Docs {
		if d := &c.Docs[i]; b.doc(d.Kind, d.Key).Version != d.Version-1 {
			return consign.ErrVersion
		}
	}
	for i, d := range c.Counters {
		if d.Add >= 0 {
			continue
		}
		value := b.counter(d.Counter) + d.Add
		for _, earlier := range c.Counters[:i] {
			if earlier.Counter == d.Counter {
				value += earlier.Add
			}
		}
		if value < d.Min {
			return consign.ErrBound
		}
	}
	return nil
}

// sound reports a change that makes no sense.
func sound(c *consign.Change) error {
	switch {
	case c.Job == nil && (c.Spec != nil || c.Done != nil || c.Forget || c.Delete):
		return errors.New("memdb: the change has a Spec, Done, Forget or Delete without the Job that it belongs to")
	case c.Spec != nil && c.Spec.ID != c.Job.ID, c.Done != nil && c.Done.ID != c.Job.ID:
		return errors.New("memdb: the change has a Spec or Done of another job than its own")
	}
	return nil
}

// write applies a change that check has passed.
func (b *batch) write(c *consign.Change) {
	if c.Job != nil {
		b.writeJob(c)
	}
	for i := range c.Log {
		if r := b.row(c.Log[i].Job); r.job != nil && !r.forgotten {
			r = b.own(c.Log[i].Job)
			r.log = insert(r.log, &c.Log[i], len(c.Log)-i)
		}
	}
	for _, id := range c.Drop {
		if order, ok := b.waiting[id]; ok {
			must(b.txn.Delete(tableEffects, &effect{order: order}))
			delete(b.waiting, id)
		}
	}
	for i := range c.Effects {
		id := c.Effects[i].ID
		if _, ok := b.waiting[id]; ok {
			continue // the ID names it: it waits already
		}
		b.arrived++
		b.waiting[id] = b.arrived
		must(b.txn.Insert(tableEffects, &effect{order: b.arrived, effect: c.Effects[i]}))
	}
	for _, d := range c.Docs {
		if b.docs == nil {
			b.docs = make(map[docID]*consign.Doc)
		}
		b.docs[docID{d.Kind, d.Key}] = &d
	}
	for _, d := range c.Counters {
		value := b.counter(d.Counter) + d.Add
		if b.counters == nil {
			b.counters = make(map[string]int64)
		}
		b.counters[d.Counter] = value
	}
}

func (b *batch) writeJob(c *consign.Change) {
	r := b.own(c.Job.ID)
	if c.Delete {
		*r = row{cell: r.cell}
		delete(b.running, c.Job.ID)
		return
	}
	r.job = c.Job
	if c.Spec != nil {
		r.spec = c.Spec
	}
	if c.Done != nil {
		r.done = c.Done
	}
	if c.Forget {
		r.spec, r.done, r.log, r.forgotten = nil, nil, nil, true
	}
	b.lease(r)
}

// lease gives the row the lease that its job asks for, and keeps count of who
// is running.
func (b *batch) lease(r *row) {
	running := r.job.State == consign.StateRunning
	r.lease = nil
	if running || r.job.LeaseFor != 0 {
		r.lease = &lease{job: r.job}
		until := r.job.LeaseUntil
		if r.job.LeaseFor != 0 {
			until = b.now.Add(r.job.LeaseFor)
		}
		r.lease.until.Store(int64(until))
	}
	if running {
		b.running[r.job.ID] = r.lease
	} else {
		delete(b.running, r.job.ID)
	}
}

// commit makes the batch visible, all at once.
func (b *batch) commit() {
	for _, c := range b.touched {
		b.index(c)
	}
	for id, d := range b.docs {
		if d.Body != nil {
			must(b.txn.Insert(tableDocs, d))
		} else if old := find[consign.Doc](b.base, tableDocs, docKey(id.kind, id.key)); old != nil {
			must(b.txn.Delete(tableDocs, old))
		}
	}
	for name, value := range b.counters {
		must(b.txn.Insert(tableCounters, &counter{name, value}))
	}
	b.view.Lock()
	defer b.view.Unlock()
	b.txn.Commit()
	for _, c := range b.touched {
		c.row, c.next = c.next, nil
	}
}

// index moves the cell in the trees from its row's keys to those of its next.
func (b *batch) index(c *cell) {
	was, is := c.row.job != nil, c.next.job != nil
	if is && !was {
		must(b.txn.Insert(tableJobs, c))
	}
	if was && !is {
		must(b.txn.Delete(tableJobs, c))
	}
	if !is {
		delete(b.jobs, c.id)
	}
	b.move(tableQueue, placeOf, c)
	b.move(tableTimers, dueOf, c)
}

func (b *batch) move(table string, key func(*row) []byte, c *cell) {
	was, is := key(c.row), key(c.next)
	if bytes.Equal(was, is) {
		return
	}
	if was != nil {
		must(b.txn.Delete(table, c.row))
	}
	if is != nil {
		must(b.txn.Insert(table, c.next))
	}
}

// row returns the job's row as the batch has it so far.
func (b *batch) row(id consign.JobID) *row {
	c := b.jobs[id]
	switch {
	case c == nil:
		return none
	case c.next != nil:
		return c.next
	}
	return c.row
}

// own returns the job's row for the batch to modify.
func (b *batch) own(id consign.JobID) *row {
	c := b.jobs[id]
	if c == nil {
		c = &cell{id: id, row: none}
		b.jobs[id] = c
	}
	if c.next == nil {
		next := *c.row
		next.cell = c
		c.next = &next
		b.touched = append(b.touched, c)
	}
	return c.next
}

func (b *batch) doc(kind, key string) consign.Doc {
	if d, ok := b.docs[docID{kind, key}]; ok {
		if d.Body == nil {
			return consign.Doc{}
		}
		return *d
	}
	if d := find[consign.Doc](b.base, tableDocs, docKey(kind, key)); d != nil {
		return *d
	}
	return consign.Doc{}
}

func (b *batch) counter(name string) int64 {
	if value, ok := b.counters[name]; ok {
		return value
	}
	if c := find[counter](b.base, tableCounters, []byte(name)); c != nil {
		return c.value
	}
	return 0
}

// insert returns the log with the entry in its place. Readers may hold the old
// log, so its elements stay where they are. An entry with a number that is
// taken changes nothing: the first one stays. Room is made for so many, of which
// this is the first.
func insert(log []consign.LogEntry, e *consign.LogEntry, many int) []consign.LogEntry {
	i, taken := slices.BinarySearchFunc(log, e.Seq, func(e consign.LogEntry, seq consign.Seq) int {
		return cmp.Compare(e.Seq, seq)
	})
	if taken {
		return log
	}
	if i == len(log) && i < cap(log) {
		return append(log, *e) // where no reader looks
	}
	room := len(log) + many // most logs have a handful of entries: no slack
	if room > 8 {
		room += room / 2
	}
	grown := make([]consign.LogEntry, 0, room)
	grown = append(grown, log[:i]...)
	grown = append(grown, *e)
	return append(grown, log[i:]...)
}

// must panics on an error that the schema makes impossible.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
