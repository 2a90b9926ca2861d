// Package memdb keeps a queue in memory, on hashicorp/go-memdb. It is the
// store of tests, of simulations and of queues whose work need not outlive
// their process.
//
// Readers take a snapshot and never wait. Writers take turns. The store's
// clock is time.Now, so under testing/synctest its leases run in the bubble's
// time.
package memdb

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// Store is a consign.Store in memory. Make one with New.
type Store struct {
	// db holds all that a reader can see. What is in it is never modified,
	// but for the end of a lease.
	db *memdb.MemDB

	// mu is held by a writer from its first check until its commit is visible.
	// A renewal holds it too, so none comes between a guard and its commit.
	// What follows belongs to the holder.
	mu      sync.Mutex
	running map[consign.JobID]*lease
	waiting map[consign.EffectID]uint64 // the effects in db, by order of arrival
	arrived uint64                      // the number of the last effect
}

var _ consign.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		panic(err) // the schema is a constant
	}
	return &Store{
		// Nothing watches this database. Writes to a snapshot go without the
		// bookkeeping for watchers, which costs a third of their time.
		db:      db.Snapshot(),
		running: make(map[consign.JobID]*lease),
		waiting: make(map[consign.EffectID]uint64),
	}
}

// row is all that is known of one job.
type row struct {
	job       *consign.Job
	spec      *consign.Spec
	done      *consign.Done
	log       []consign.LogEntry // in the order of Seq
	lease     *lease             // of a job that has one
	forgotten bool               // spec, done and log are gone and stay so
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

// current returns the job as it is handed out.
func (r *row) current() *consign.Job {
	if r.lease != nil {
		return r.lease.current()
	}
	return r.job
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

func now() consign.Instant { return consign.At(time.Now()) }
