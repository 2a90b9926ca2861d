// Package memdb keeps a queue in memory, on hashicorp/go-memdb. It is the
// store of tests, of simulations and of queues whose work need not outlive
// their process.
//
// Writers take turns, and readers do not wait for their work. The store's
// clock is the process's own, so under testing/synctest its leases run in the
// bubble's time.
package memdb

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// Store is a consign.Store in memory. Make one with New.
//
// Only what is ordered is in the trees of db: the jobs by ID, by place and by
// due time. A job's own state is in its cell, which the trees point to, so that
// a change of state touches only the trees in which the job moves.
type Store struct {
	db    *memdb.MemDB
	began time.Time

	// view is held for writing while a batch becomes visible, which takes
	// microseconds: so a reader that holds it sees all of a change or nothing.
	view sync.RWMutex

	// mu is held by a writer from its first check until its batch is visible.
	// A renewal holds it too, so none comes between a guard and its commit.
	// What follows belongs to the holder.
	mu      sync.Mutex
	jobs    map[consign.JobID]*cell
	running map[consign.JobID]*lease
	waiting map[consign.EffectID]uint64 // the effects in db, by order of arrival
	arrived uint64                      // the number of the last effect
}

var _ consign.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	db, err := memdb.NewMemDB(schema())
	must(err)
	return &Store{
		began: time.Now(),
		// Nothing watches this database. Writes to a snapshot go without the
		// bookkeeping for watchers.
		db:      db.Snapshot(),
		jobs:    make(map[consign.JobID]*cell),
		running: make(map[consign.JobID]*lease),
		waiting: make(map[consign.EffectID]uint64),
	}
}

// cell holds the row of a job. It stays when the row is replaced.
type cell struct {
	id   consign.JobID
	row  *row // what readers see, under Store.view
	next *row // what the batch under way makes of it, under Store.mu
}

// row is all that is known of one job. Once it is visible nothing of it is
// modified but the end of its lease.
type row struct {
	cell      *cell
	job       *consign.Job // nil: there is no such job
	spec      *consign.Spec
	done      *consign.Done
	log       []consign.LogEntry // in the order of Seq
	lease     *lease             // of a job that has one
	forgotten bool               // spec, done and log are gone and stay so
}

// none is the row of a job that is not there.
var none = &row{}

// current returns the job as it is handed out.
func (r *row) current() *consign.Job {
	if r.lease != nil {
		return r.lease.current()
	}
	return r.job
}

// lease is when a job's lease ends. It is kept beside the job so that a
// renewal rewrites no row. Only the holder of Store.mu changes it.
type lease struct {
	job   *consign.Job
	until atomic.Int64 // a consign.Instant
}

func (l *lease) end() consign.Instant { return consign.Instant(l.until.Load()) }

func (l *lease) lapsed(now consign.Instant) bool { return l.end() <= now }

// current returns the lease's job with its present end.
func (l *lease) current() *consign.Job {
	job := *l.job
	job.LeaseUntil = l.end()
	return &job
}

// effect is an effect with the number of its arrival.
type effect struct {
	order  uint64
	effect consign.Effect
}

// counter is a counter's value.
type counter struct {
	name  string
	value int64
}

// now is the store's clock: the wall clock at its start and what has passed
// since by the monotonic one, so that setting the machine's clock ends no lease
// and prolongs none.
func (s *Store) now() consign.Instant { return consign.At(s.began.Add(time.Since(s.began))) }
