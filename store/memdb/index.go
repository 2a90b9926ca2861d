package memdb

import (
	"encoding/binary"

	"github.com/hashicorp/go-memdb"

	"github.com/consignq/consign"
)

// The tables, and the indexes of jobs. Every index is unique: where the order
// alone is not, the key ends with the job's ID.
const (
	tableJobs     = "jobs"     // *row
	tableDocs     = "docs"     // *consign.Doc
	tableCounters = "counters" // *counter
	tableEffects  = "effects"  // *effect, by arrival

	byID    = "id"
	byPlace = "place" // queued jobs: lane, key, ID
	byDue   = "due"   // jobs whose DueAt is set: DueAt, ID
)

func schema() *memdb.DBSchema {
	table := func(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
		t := &memdb.TableSchema{Name: name, Indexes: make(map[string]*memdb.IndexSchema)}
		for _, index := range indexes {
			t.Indexes[index.Name] = index
		}
		return t
	}
	tables := make(map[string]*memdb.TableSchema)
	for _, t := range []*memdb.TableSchema{
		table(tableJobs,
			index(byID, func(r *row) []byte { return r.job.ID[:] }),
			index(byPlace, func(r *row) []byte {
				if r.job.State != consign.StateQueued {
					return nil
				}
				return placeKey(r.job.Lane, consign.Place{Key: r.job.Key, ID: r.job.ID})
			}),
			index(byDue, func(r *row) []byte {
				if r.job.DueAt == 0 {
					return nil
				}
				return append(instantKey(make([]byte, 0, 24), r.job.DueAt), r.job.ID[:]...)
			})),
		table(tableDocs, index(byID, func(d *consign.Doc) []byte { return docKey(d.Kind, d.Key) })),
		table(tableCounters, index(byID, func(c *counter) []byte { return []byte(c.name) })),
		table(tableEffects, index(byID, func(e *effect) []byte { return binary.BigEndian.AppendUint64(nil, e.order) })),
	} {
		tables[t.Name] = t
	}
	return &memdb.DBSchema{Tables: tables}
}

// index is a unique index over a function that returns an object's key, nil
// for an object that is not in it.
func index[T any](name string, key func(*T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, AllowMissing: true, Indexer: indexer[T](key)}
}

// indexer is the memdb.Indexer of a key function. It is looked up by the key's
// bytes.
type indexer[T any] func(*T) []byte

func (key indexer[T]) FromObject(obj any) (bool, []byte, error) {
	k := key(obj.(*T))
	return k != nil, k, nil
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
