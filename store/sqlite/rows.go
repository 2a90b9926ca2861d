package sqlite

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/consignq/consign"
)

// rows knows in which rows jobs lie that are about to be claimed, or that run.
// Their IDs are random: to look one up is to read a page of its index that
// nothing else has read lately, and the more jobs wait the more pages there are.
//
// A row's number is never another job's while the process lives (see
// batch.nextRow), so that what is known of a job that was deleted finds nothing.
type rows struct {
	mu      sync.Mutex
	known   map[consign.JobID]int64
	deletes int // how often jobs were deleted
}

// maxRows bounds what is kept: some 6 MB.
const maxRows = 1 << 17

// of returns a job's row, 0 if it is not known.
func (r *rows) of(id consign.JobID) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[id]
}

// set takes over what a commit made of rows. A zero is a job that was deleted.
func (r *rows) set(changed map[consign.JobID]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, n := range changed {
		if n == 0 {
			delete(r.known, id)
			r.deletes++
		} else {
			r.add(id, n)
		}
	}
}

func (r *rows) deleted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deletes
}

// learn adds jobs that were read, unless some were deleted since: these may be
// among them.
func (r *rows) learn(jobs []*consign.Job, ns []int64, deleted int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deletes != deleted {
		return
	}
	for i, j := range jobs {
		r.add(j.ID, ns[i])
	}
}

func (r *rows) add(id consign.JobID, n int64) {
	if len(r.known) >= maxRows {
		for other := range r.known { // any: it is only slower to look one up
			if delete(r.known, other); len(r.known) <= maxRows/2 {
				break
			}
		}
	}
	r.known[id] = n
}

// row returns the number of a job's row, 0 if there is no such job.
func (b *batch) row(id consign.JobID) (n int64, err error) {
	if n, ok := b.rows[id]; ok {
		return n, nil
	}
	if n = b.store.rows.of(id); n == 0 {
		err = each(b.conn, selectRow, func(a *args) { a.blob(id[:]) }, func(r *row) bool { n = r.int(); return false })
	}
	if n != 0 && err == nil {
		b.rows[id] = n
	}
	return n, err
}

// nextRow returns the number of a new row: above all that the file has, and
// that this process has seen in it.
func (b *batch) nextRow() (n int64, err error) {
	if b.last == 0 {
		err = each(b.conn, selectLast, nil, func(r *row) bool { b.last = r.int(); return false })
		b.last = max(b.last, b.store.last)
	}
	b.last++
	return b.last, err
}

// order returns the order in which the changes are carried out. It is their
// own, but for those of one job each that come behind each other: they go by
// where the jobs lie, and new ones, behind them, by the order in which they will
// be claimed. So what is claimed together, and ends together, lies on the same
// pages, and what is added to a table is mostly added at its end. A batch may bring
// the jobs of several queues, or of several priorities; workers return them as
// they please.
func (b *batch) order(changes []consign.Change) ([]int, error) {
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	if free, err := b.bounded(changes); err != nil || !free {
		return order, err
	}
	rows := make([]int64, len(changes))
	for from := 0; from < len(changes); {
		to := from
		seen := make(map[consign.JobID]bool, len(changes)-from)
		for ; to < len(changes) && isAlone(&changes[to]) && !seen[changes[to].Job.ID]; to++ {
			c := &changes[to]
			seen[c.Job.ID] = true
			rows[to] = math.MaxInt64
			if !inserts(c) {
				var err error
				if rows[to], err = b.row(c.Job.ID); err != nil {
					return nil, err
				}
			}
		}
		slices.SortStableFunc(order[from:to], func(i, k int) int {
			x, y := changes[i].Job, changes[k].Job
			return cmp.Or(cmp.Compare(rows[i], rows[k]), cmp.Compare(x.Key, y.Key), bytes.Compare(x.ID[:], y.ID[:]))
		})
		from = max(to, from+1)
	}
	return order, nil
}

// inserts reports a change that stores a new job.
func inserts(c *consign.Change) bool { return c.Job.Version == 1 && !c.Delete && !c.Forget }

// isAlone reports a change of one job that does nothing but to what belongs to
// it, so that no other job's change can alter its outcome but by a counter.
func isAlone(c *consign.Change) bool {
	if c.Job == nil || c.Guard != nil && c.Guard.Job != c.Job.ID || len(c.Drop)+len(c.Docs)+len(c.Effects) != 0 {
		return false
	}
	return !slices.ContainsFunc(c.Log, func(e consign.LogEntry) bool { return e.Job != c.Job.ID })
}

// bounded reports whether no counter can fall below its bound in whatever
// order the changes come.
func (b *batch) bounded(changes []consign.Change) (bool, error) {
	type worst struct{ falls, least int64 }
	counters := map[string]worst{}
	for i := range changes {
		for _, d := range changes[i].Counters {
			w := counters[d.Counter]
			if d.Add >= 0 {
				continue
			}
			w.falls += d.Add
			w.least = max(w.least, d.Min)
			counters[d.Counter] = w
		}
	}
	for name, w := range counters {
		value, err := b.counter(name)
		if err != nil || value+w.falls < w.least {
			return false, err
		}
	}
	return true, nil
}
