package memdb

import (
	"encoding/binary"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// The tables. Each has one index, its key.
const (
	tableJobs     = "jobs"     // *cell, by ID
	tableQueue    = "queue"    // *row of a queued job, by lane and place
	tableTimers   = "timers"   // *row of a job whose DueAt is set, by it and the ID
	tableEffects  = "effects"  // *effect, by arrival
	tableDocs     = "docs"     // *consign.Doc, by kind and key
	tableCounters = "counters" // *counter, by name
)

func schema() *memdb.DBSchema {
	return &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableJobs:     table(tableJobs, func(c *cell) []byte { return c.id[:] }),
		tableQueue:    table(tableQueue, placeOf),
		tableTimers:   table(tableTimers, dueOf),
		tableEffects:  table(tableEffects, func(e *effect) []byte { return binary.BigEndian.AppendUint64(nil, e.order) }),
		tableDocs:     table(tableDocs, func(d *consign.Doc) []byte { return docKey(d.Kind, d.Key) }),
		tableCounters: table(tableCounters, func(c *counter) []byte { return []byte(c.name) }),
	}}
}

func table[T any](name string, key func(*T) []byte) *memdb.TableSchema {
	return &memdb.TableSchema{Name: name, Indexes: map[string]*memdb.IndexSchema{
		byKey: {Name: byKey, Unique: true, Indexer: indexer[T](key)},
	}}
}

const byKey = "id" // go-memdb insists on the name

// indexer is the memdb.Indexer of a function that returns an object's key.
// It is looked up by the key's bytes.
type indexer[T any] func(*T) []byte

func (key indexer[T]) FromObject(obj any) (bool, []byte, error) {
	return true, key(obj.(*T)), nil
}

func (indexer[T]) FromArgs(args ...any) ([]byte, error) { return args[0].([]byte), nil }

// placeKey orders by lane, then by place. A zero byte ends the lane, so that
// one lane's text may begin with another's.
func placeKey(lane string, p consign.Place) []byte {
	key := make([]byte, 0, len(lane)+1+8+16+1) // room for after
	key = append(key, lane...)
	key = append(key, 0)
	key = instantKey(key, p.Key)
	return append(key, p.ID[:]...)
}

// placeOf returns the row's key in the queue, nil for a job that is not in it.
func placeOf(r *row) []byte {
	if r.job == nil || r.job.State != consign.StateQueued {
		return nil
	}
	return placeKey(r.job.Lane, consign.Place{Key: r.job.Key, ID: r.job.ID})
}

// dueOf returns the row's key among the timers, nil for a job that has none.
func dueOf(r *row) []byte {
	if r.job == nil || r.job.DueAt == 0 {
		return nil
	}
	return append(instantKey(make([]byte, 0, 8+16), r.job.DueAt), r.job.ID[:]...)
}

func docKey(kind, key string) []byte {
	k := make([]byte, 0, len(kind)+len(key)+3)
	k = append(k, kind...)
	k = append(k, 0)
	k = append(k, key...)
	return append(k, 0)
}

// instantKey appends bytes that sort as the instant does.
func instantKey(key []byte, at consign.Instant) []byte {
	return binary.BigEndian.AppendUint64(key, uint64(at)^1<<63)
}

// after returns the first key that comes after the given one.
func after(key []byte) []byte { return append(key, 0) }
