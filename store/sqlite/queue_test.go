package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// A whole queue on a file: thousands of jobs, of which workers fail, release
// and abandon some, through three restarts. Every job completes, under one
// claim, and all of it is there when the file is opened for the last time.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs, workers, price = 2100, 16, 3
		ctx, path := context.Background(), filepath.Join(t.TempDir(), "queue.db")
		var ids []consign.JobID
		var mu sync.Mutex
		results := make(map[consign.JobID]string) // that were acknowledged
		for part := range 4 {
			s, err := sqlite.OpenWhen(ctx, path, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			q, stop := startQueue(t, consign.Config{Store: s, NoReceipts: true, Prices: consign.PriceTable{{Price: price}},
				Lease: 10 * time.Second, DrainTimeout: time.Second, MaxAttempts: 50, Retention: 10_000 * time.Hour})
			if part == 0 {
				if err := q.AddCredit(ctx, "acme", jobs*price, "1"); err != nil {
					t.Fatal(err)
				}
			}
			if part < 3 {
				ids = append(ids, submitAll(t, q, requests(jobs/3))...)
			}
			working, cancel := context.WithCancel(ctx)
			var group sync.WaitGroup
			for i := range workers {
				w := session(t, q, byte(i))
				group.Go(func() {
					for n := i; working.Err() == nil; n++ {
						a, err := w.Claim(working)
						if err != nil { // it was silent for too long, or is to end
							time.Sleep(time.Second)
							if working.Err() == nil {
								w = session(t, q, byte(i))
							}
							continue
						}
						claim := consign.Claim{Job: a.Job, Claim: a.Claim}
						time.Sleep(time.Duration(50+n) * time.Millisecond)
						switch n % 17 {
						case 3:
							_ = w.Fail(ctx, consign.Failure{Claim: claim, Reason: "out of memory"})
						case 5:
							_ = w.Release(ctx, consign.Release{Claim: claim})
						case 7:
							time.Sleep(12 * time.Second) // past the lease, and then a result
							fallthrough
						default:
							result := fmt.Sprint("by ", i, " under ", a.Claim)
							if err := w.Complete(ctx, consign.Completion{Claim: claim, Result: []byte(result)}); err == nil {
								mu.Lock()
								if was, twice := results[a.Job]; twice && was != result {
									t.Errorf("job %s has two results", a.Job)
								}
								results[a.Job] = result
								mu.Unlock()
							}
						}
					}
				})
			}
			if part < 3 {
				time.Sleep(20 * time.Second)
			} else {
				for _, id := range ids {
					if _, err := q.Submitter("acme").Wait(ctx, id); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute) // the pump
			}
			cancel()
			group.Wait()
			stop()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}

		s, err := sqlite.OpenWhen(ctx, path, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() //nolint:errcheck
		all, err := s.List(ctx, consign.Filter{State: consign.StateCompleted}, consign.JobID{}, jobs+1)
		if err != nil || len(all) != jobs || len(results) != jobs {
			t.Errorf("%d jobs are completed and %d were acknowledged, want %d (%v)", len(all), len(results), jobs, err)
		}
		for _, job := range all {
			done, err := s.Done(ctx, job.ID)
			if err != nil || done == nil || string(done.Result) != results[job.ID] {
				t.Fatalf("job %s ends with %+v, acknowledged was %q (%v)", job.ID, done, results[job.ID], err)
			}
			log, err := s.Log(ctx, job.ID, 0, 1000)
			if err != nil {
				t.Fatal(err)
			}
			completions := 0
			for i, e := range log {
				if e.Event == consign.EventComplete {
					completions++
				}
				if i > 0 && e.Seq <= log[i-1].Seq {
					t.Errorf("job %s: entry %d follows %d", job.ID, e.Seq, log[i-1].Seq)
				}
			}
			if completions != 1 || log[0].Event != consign.EventSubmit || log[len(log)-1].Event != consign.EventSettle {
				t.Errorf("the log of job %s: %+v", job.ID, log)
			}
		}
		if effects, err := s.Effects(ctx, 10); err != nil || len(effects) != 0 {
			t.Errorf("%d effects wait (%v)", len(effects), err)
		}
		for name, want := range map[string]int64{"credit/balance/acme": 0, "credit/held/acme": 0, "credit/spent/acme": jobs * price} {
			if got, err := s.Counter(ctx, name); err != nil || got != want {
				t.Errorf("%s is %d, want %d (%v)", name, got, want, err)
			}
		}
		if events, err := s.Texts("SELECT count(*) FROM events WHERE event = 'complete'"); err != nil || events[0] != fmt.Sprint(jobs) {
			t.Errorf("the view has %q completions (%v)", events, err)
		}
	})
}
