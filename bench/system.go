package main

import "context"

// system is a queue in one way of setting it up.
type system struct {
	name    string // on the command line
	title   string
	keeps   string // what a completed job survives
	against string // the peer that it is compared with, a name; "": none
	slots   int    // jobs at once where throughput is measured
	on      server // what it works on
	open    func(ctx context.Context, p *place) (queue, error)
}

// server is what a system needs beside this process.
type server int

const (
	onNothing server = iota
	onPostgres
	onRedis
	onRedisSynced
)

// queue is a system on storage that is empty at first. Its jobs are numbers
// and do nothing.
type queue interface {
	// submit returns once one job is kept as the system keeps jobs.
	submit(ctx context.Context, n int) error
	// submitMany does the same for the jobs first to end-1 in whatever way the
	// system takes many in best.
	submitMany(ctx context.Context, first, end int) error
	// work starts workers, and returns once they look for jobs. Each job calls
	// run; completed hears how many completions are newly known to be kept,
	// unless the queue is a polled one.
	work(ctx context.Context, slots int, run, completed func(n int)) error
	// close stops the workers and removes what the queue has stored.
	close() error
}

// polled is a queue that tells nobody when a completion is kept, and has to be
// asked for how many there are.
type polled interface {
	completions(ctx context.Context) (int, error)
}

const (
	inMemory   = "nothing"
	snapshots  = "to the last snapshot"
	ofProcess  = "a crash of the process"
	ofMachine  = "a crash of the machine"
	bulk       = 5000 // jobs in one call of a system that takes many
	manySlots  = 2000
	smallSlots = 10 // jobs at once where latency is measured
)

// systems lists what is compared. All on PostgreSQL share one server with its
// default settings and have a pool of ten connections.
func systems() []system {
	return []system{
		{"consign-memdb", "Consign, memory", inMemory, "asynq-redis", manySlots, onNothing, consignMemory},
		{"consign-sqlite-full", "Consign, SQLite FULL", ofMachine, "river-sqlite", manySlots, onNothing, consignSQLite(false)},
		{"consign-sqlite-normal", "Consign, SQLite NORMAL", ofProcess, "river-sqlite", manySlots, onNothing, consignSQLite(true)},
		{"consign-postgres", "Consign, PostgreSQL", ofMachine, "river-postgres", manySlots, onPostgres, consignPostgres(true)},
		{"consign-postgres-signed", "Consign, PostgreSQL, signed receipts", ofMachine, "river-postgres", manySlots, onPostgres, consignPostgres(false)},
		{"river-postgres", "River, PostgreSQL, best settings", ofMachine, "", manySlots, onPostgres, riverPostgres(riverBest)},
		{"river-postgres-defaults", "River, PostgreSQL, defaults", ofMachine, "river-postgres", 100, onPostgres, riverPostgres(riverDefaults)},
		{"river-sqlite", "River, SQLite FULL", ofMachine, "", 200, onNothing, riverSQLite},
		{"asynq-redis", "asynq, Redis", snapshots, "", 200, onRedis, asynqRedis(false)},
		{"asynq-redis-synced", "asynq, Redis appendfsync always", ofMachine, "", 200, onRedisSynced, asynqRedis(true)},
		{"backlite-sqlite", "backlite, SQLite FULL", ofMachine, "river-sqlite", 200, onNothing, backliteSQLite},
	}
}
