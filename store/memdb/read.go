package memdb

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sort"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// Jobs implements consign.Store.
func (s *Store) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	return pick(ctx, s, ids, (*row).current)
}

// Specs implements consign.Store.
func (s *Store) Specs(ctx context.Context, ids []consign.JobID) ([]*consign.Spec, error) {
	return pick(ctx, s, ids, func(r *row) *consign.Spec { return r.spec })
}

// Done implements consign.Store.
func (s *Store) Done(ctx context.Context, id consign.JobID) (*consign.Done, error) {
	done, err := pick(ctx, s, []consign.JobID{id}, func(r *row) *consign.Done { return r.done })
	if err != nil {
		return nil, err
	}
	return done[0], nil
}

// Log implements consign.Store.
func (s *Store) Log(ctx context.Context, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.view.RLock()
	defer s.view.RUnlock()
	r := s.row(s.db.Txn(false), id)
	first := sort.Search(len(r.log), func(i int) bool { return r.log[i].Seq > after })
	last := min(len(r.log), first+max(n, 0))
	return r.log[first:last:last], nil
}

// Lanes seeks from one lane to the next, so that its cost is in the number of
// lanes and not of jobs.
func (s *Store) Lanes(ctx context.Context) ([]consign.LaneHead, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.view.RLock()
	defer s.view.RUnlock()
	var heads []consign.LaneHead
	txn := s.db.Txn(false)
	for from := []byte{}; ; {
		r := first[row](txn, tableQueue, from)
		if r == nil {
			return heads, nil
		}
		heads = append(heads, consign.LaneHead{Lane: r.job.Lane, Key: r.job.Key})
		from = append([]byte(r.job.Lane), 1) // past the zero that ends it
	}
}

// Page implements consign.Store.
func (s *Store) Page(ctx context.Context, lane string, shards uint16, place consign.Place, n int) ([]*consign.Job, error) {
	var jobs []*consign.Job
	for r := range seek[row](ctx, s, tableQueue, after(placeKey(lane, place))) {
		if r.job.Lane != lane || len(jobs) >= n {
			break
		}
		if shards>>r.job.ID.Shard()&1 == 1 {
			jobs = append(jobs, r.cell.row.current())
		}
	}
	return jobs, ctx.Err()
}

// Due implements consign.Store.
func (s *Store) Due(ctx context.Context, now consign.Instant, n int) (due []*consign.Job, next consign.Instant, err error) {
	for r := range seek[row](ctx, s, tableTimers, []byte{}) {
		if r.job.DueAt > now || len(due) >= n {
			next = r.job.DueAt
			break
		}
		due = append(due, r.cell.row.current())
	}
	return due, next, ctx.Err()
}

// Lapsed looks at every running job, while writers wait: leases change too
// often to keep them in order.
func (s *Store) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var lapsed []*lease
	now := s.now()
	for _, l := range s.running {
		if l.lapsed(now) {
			lapsed = append(lapsed, l)
		}
	}
	slices.SortFunc(lapsed, func(a, b *lease) int {
		return cmp.Or(cmp.Compare(a.end(), b.end()), slices.Compare(a.job.ID[:], b.job.ID[:]))
	})
	lapsed = lapsed[:min(len(lapsed), max(n, 0))]
	jobs := make([]*consign.Job, len(lapsed))
	for i, l := range lapsed {
		jobs[i] = l.current()
	}
	return jobs, nil
}

// List reads every job between the first and the last that match. It does so in
// parts, so that a long search keeps no writer waiting.
func (s *Store) List(ctx context.Context, f consign.Filter, last consign.JobID, n int) ([]*consign.Job, error) {
	const part = 1024
	var jobs []*consign.Job
	for read := part; read == part && len(jobs) < n && ctx.Err() == nil; {
		read = 0
		for c := range seek[cell](ctx, s, tableJobs, after(last[:])) {
			if job := c.row.job; (f.Account == "" || f.Account == job.Account) && (f.State == consign.StateNone || f.State == job.State) {
				jobs = append(jobs, c.row.current())
			}
			last = c.id
			if read++; read == part || len(jobs) == n {
				break
			}
		}
	}
	return jobs, ctx.Err()
}

// Effects implements consign.Store.
func (s *Store) Effects(ctx context.Context, n int) ([]consign.Effect, error) {
	var effects []consign.Effect
	for e := range seek[effect](ctx, s, tableEffects, []byte{}) {
		if len(effects) >= n {
			break
		}
		effects = append(effects, e.effect)
	}
	return effects, ctx.Err()
}

// Docs implements consign.Store.
func (s *Store) Docs(ctx context.Context, kind, key string, n int) ([]consign.Doc, error) {
	var docs []consign.Doc
	for d := range seek[consign.Doc](ctx, s, tableDocs, after(docKey(kind, key))) {
		if d.Kind != kind || len(docs) >= n {
			break
		}
		docs = append(docs, *d)
	}
	return docs, ctx.Err()
}

// Doc implements consign.Store.
func (s *Store) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	if err := ctx.Err(); err != nil {
		return consign.Doc{}, err
	}
	if d := find[consign.Doc](s.db.Txn(false), tableDocs, docKey(kind, key)); d != nil {
		return *d, nil
	}
	return consign.Doc{Kind: kind, Key: key}, nil
}

// Counter implements consign.Store.
func (s *Store) Counter(ctx context.Context, name string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if c := find[counter](s.db.Txn(false), tableCounters, []byte(name)); c != nil {
		return c.value, nil
	}
	return 0, nil
}

// pick takes one thing of each job from one snapshot, nil where there is no
// job.
func pick[T any](ctx context.Context, s *Store, ids []consign.JobID, of func(*row) *T) ([]*T, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.view.RLock()
	defer s.view.RUnlock()
	txn := s.db.Txn(false)
	picked := make([]*T, len(ids))
	for i, id := range ids {
		picked[i] = of(s.row(txn, id))
	}
	return picked, nil
}

// row returns the job's row.
func (s *Store) row(txn *memdb.Txn, id consign.JobID) *row {
	if c := find[cell](txn, tableJobs, id[:]); c != nil {
		return c.row
	}
	return none
}

// find returns the object with the key, nil if there is none.
func find[T any](txn *memdb.Txn, table string, key []byte) *T {
	obj, err := txn.First(table, byKey, key)
	must(err)
	found, _ := obj.(*T)
	return found
}

// first returns the first object from the key on, nil if there is none.
func first[T any](txn *memdb.Txn, table string, from []byte) *T {
	rows, err := txn.LowerBound(table, byKey, from)
	must(err)
	found, _ := rows.Next().(*T)
	return found
}

// seek ranges over the objects from the key on. What they point to does not
// change meanwhile. It ends early when ctx does.
func seek[T any](ctx context.Context, s *Store, table string, from []byte) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		s.view.RLock()
		defer s.view.RUnlock()
		rows, err := s.db.Txn(false).LowerBound(table, byKey, from)
		must(err)
		for i := 0; ; i++ {
			if i%1024 == 0 && ctx.Err() != nil {
				return
			}
			obj, ok := rows.Next().(*T)
			if !ok || !yield(obj) {
				return
			}
		}
	}
}
