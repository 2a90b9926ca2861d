// What the queue's own benchmarks are read beside: the
// same work on bare parts, in the same run on the same machine. `make bench`
// runs both.
package main

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hashicorp/go-memdb"
)

const queued = 100_000

// item is a job with nothing around it.
type item struct {
	id    [16]byte
	key   uint64
	state byte
	due   uint64
}

func newItem(n uint64) *item {
	it := &item{key: n, due: n + queued}
	binary.BigEndian.PutUint64(it.id[:], n*0x9e3779b97f4a7c15) // spread, as random IDs are
	binary.BigEndian.PutUint64(it.id[8:], n)
	return it
}

// index is a memdb.Indexer without reflection.
type index func(*item) []byte

func (f index) FromObject(o any) (bool, []byte, error) {
	key := f(o.(*item))
	return key != nil, key, nil
}
func (f index) FromArgs(args ...any) ([]byte, error) { return args[0].([]byte), nil }

// BenchmarkBareMemdb is claim and complete as two writes of one row in a
// go-memdb table with three indexes, with no queue around it.
func BenchmarkBareMemdb(b *testing.B) {
	for _, batch := range []int{1, 16, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { bareMemdb(b, batch) })
	}
}

func bareMemdb(b *testing.B, batch int) {
	ordered := func(prefix byte, n uint64, it *item) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{prefix}, n), it.id[:]...)
	}
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{"jobs": {Name: "jobs", Indexes: map[string]*memdb.IndexSchema{
		"id":    {Name: "id", Unique: true, Indexer: index(func(it *item) []byte { return it.id[:] })},
		"place": {Name: "place", Unique: true, Indexer: index(func(it *item) []byte { return ordered(it.state, it.key, it) })},
		"due":   {Name: "due", Unique: true, Indexer: index(func(it *item) []byte { return ordered('d', it.due, it) })},
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	items := make([]*item, 0, queued+b.N)
	txn := db.Txn(true)
	for n := range uint64(queued) + uint64(b.N) {
		it := newItem(n)
		items = append(items, it)
		if err := txn.Insert("jobs", it); err != nil {
			b.Fatal(err)
		}
	}
	txn.Commit()
	write := func(its []*item, state byte) []*item {
		txn := db.Txn(true)
		out := make([]*item, len(its))
		for i, it := range its {
			next := *it
			next.state = state
			next.due++
			out[i] = &next
			if err := txn.Insert("jobs", &next); err != nil {
				b.Fatal(err)
			}
		}
		txn.Commit()
		return out
	}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		write(write(items[done:min(done+batch, b.N)], 1), 2)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

// BenchmarkBareBroker is the least that a queue in memory can be: a heap of
// what waits and a map of what runs. It matches nothing and keeps nothing.
func BenchmarkBareBroker(b *testing.B) {
	var waiting keys
	running := map[[16]byte]*item{}
	n := uint64(0)
	for ; n < queued; n++ {
		heap.Push(&waiting, newItem(n))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		it := heap.Pop(&waiting).(*item)
		running[it.id] = it
		delete(running, it.id)
		n++
		heap.Push(&waiting, newItem(n))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cycles/s")
}

type keys []*item

func (k keys) Len() int           { return len(k) }
func (k keys) Less(i, j int) bool { return k[i].key < k[j].key }
func (k keys) Swap(i, j int)      { k[i], k[j] = k[j], k[i] }
func (k *keys) Push(x any)        { *k = append(*k, x.(*item)) }
func (k *keys) Pop() any {
	old := *k
	it := old[len(old)-1]
	*k = old[:len(old)-1]
	return it
}
