package sqlite_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// BenchmarkFlat is jobs read, claimed and completed, in batches of 256, in a
// file that was just opened, with that many that wait behind them. CONSIGN_ROWS
// makes these other than a thousand and a hundred thousand.
func BenchmarkFlat(b *testing.B) {
	for _, waiting := range []int{1000, rowsWanted(b)} {
		b.Run(fmt.Sprint("waiting=", waiting), func(b *testing.B) {
			const jobs = 20_000
			var used cost
			for b.Loop() {
				b.StopTimer()
				path := filepath.Join(b.TempDir(), "queue.db")
				s := openAt(b, sqlite.Config{Path: path, Relaxed: true})
				fill(b, s, jobs)
				queued(b, s, waiting)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				s = openAt(b, sqlite.Config{Path: path, Relaxed: true})
				b.StartTimer()
				before := spent(b)
				work(b, s, jobs)
				used.add(b, before)
				b.StopTimer()
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			used.report(b, b.N*jobs)
		})
	}
}

// work claims and completes jobs as a queue does, lane by lane.
func work(b *testing.B, s *sqlite.Store, jobs int) {
	places := make([]consign.Place, len(lanes))
	var running []*consign.Job
	for done, turn := 0, 0; done < jobs; turn++ {
		lane := turn % len(lanes)
		page, err := s.Page(b.Context(), lanes[lane], consign.AllShards, places[lane], min(256, jobs-done))
		if err != nil {
			b.Fatal(err)
		}
		if len(page) == 0 {
			continue // this lane's turn comes again, the others have the rest
		}
		done += len(page)
		places[lane] = consign.Place{Key: page[len(page)-1].Key, ID: page[len(page)-1].ID}
		var changes []consign.Change
		for _, j := range running {
			changes = append(changes, completed(j))
		}
		running = running[:0]
		ids := make([]consign.JobID, len(page))
		for i, j := range page {
			c := claimed(j)
			changes, running, ids[i] = append(changes, c), append(running, c.Job), j.ID
		}
		apply(b, s, changes)
		if _, err := s.Specs(b.Context(), ids); err != nil {
			b.Fatal(err)
		}
	}
}

// queued adds jobs that wait behind all others, by SQL, since they are many.
func queued(b *testing.B, s *sqlite.Store, n int) {
	b.Helper()
	columns := map[string]string{"id": "randomblob(16)", "key": "1800000000000000 + i", "due_at": "1900000000000000 + i"}
	insert(b, s, "jobs", columns, n)
	insert(b, s, "specs", map[string]string{"n": "(SELECT max(n) FROM specs) + i"}, n)
}
