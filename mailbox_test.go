package consign

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// carrier takes the batches of a queue's commits, and holds each until it is
// let go.
type carrier struct {
	*pipe[*commit]
	mu   sync.Mutex
	went []int // sizes
	hold chan struct{}
	stop func()
}

func startCarrier(t *testing.T) *carrier {
	q, err := New(Config{Store: nopStore{}})
	if err != nil {
		t.Fatal(err)
	}
	c := &carrier{pipe: q.commits, hold: make(chan struct{})}
	var group sync.WaitGroup
	c.start(&group, func(batch []*commit) {
		c.mu.Lock()
		c.went = append(c.went, len(batch))
		c.mu.Unlock()
		<-c.hold
	})
	c.stop = func() { c.pipe.stop(); close(c.hold); group.Wait() }
	return c
}

// nopStore is never called.
type nopStore struct{ Store }

// expect checks the sizes of the batches that have gone out.
func (c *carrier) expect(t *testing.T, what string, want ...int) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.went) != len(want) {
		t.Fatalf("%s: batches of %v went out, want %v", what, c.went, want)
	}
	for i := range want {
		if c.went[i] != want[i] {
			t.Fatalf("%s: batches of %v went out, want %v", what, c.went, want)
		}
	}
}

func (c *carrier) put(n int) { c.add(make([]*commit, n)...) }

// A batch goes out beside one that is under way when it is as large.
func TestCommitsGatherToAsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCarrier(t)
		c.put(100)
		c.expect(t, "the first", 100)
		c.put(49)
		c.put(50)
		c.expect(t, "fewer", 100)
		c.put(1)
		c.expect(t, "as many", 100, 100)
		c.put(120)
		c.expect(t, "with two under way", 100, 100)
		c.hold <- struct{}{}
		c.expect(t, "when one has ended", 100, 100, 120)
		c.stop()
	})
}

// A few do not go beside a few: they would cost as much again.
func TestFewCommitsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCarrier(t)
		c.put(1)
		c.expect(t, "the first", 1)
		c.put(few - 1)
		c.expect(t, "as many, but few", 1)
		c.put(1)
		c.expect(t, "more than a few", 1, few)
		c.hold <- struct{}{}
		c.hold <- struct{}{}
		c.expect(t, "when both have ended", 1, few)
		c.put(few)
		c.expect(t, "with nothing under way", 1, few, few)
		c.put(1)
		c.expect(t, "one, with many under way", 1, few, few)
		c.hold <- struct{}{}
		c.expect(t, "when nothing is under way", 1, few, few, 1)
		c.stop()
	})
}

// Callers who ask again as soon as they are answered all go into the next
// batch, whoever is first, and as many as they are.
func TestCommitsWaitForThoseWhoComeBack(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // a yield lets all the others run
	for _, callers := range []int{1, 2, 8, 30} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipe[chan int](commitsInFlight, commitBatch, commitPatience)
			var group sync.WaitGroup
			p.start(&group, func(batch []chan int) {
				time.Sleep(time.Millisecond)
				group.Go(func() { // as the engine's loop answers
					for _, c := range batch {
						c <- len(batch)
					}
				})
			})
			var asking sync.WaitGroup
			for range callers {
				asking.Go(func() {
					answer := make(chan int, 1)
					for round := range 20 {
						p.add(answer)
						if n := <-answer; n != callers && round > 1 && round < 18 { // when all are there
							t.Errorf("round %d of %d callers has a batch of %d", round, callers, n)
						}
						for range 3 {
							runtime.Gosched() // the next request is prepared
						}
					}
				})
			}
			asking.Wait()
			p.stop()
			group.Wait()
		})
	}
}

// What is there waits for more only until as many are back as were answered,
// and no longer than a quarter of what the last batch took: a lone caller, who
// is all that is to come back, never waits.
func TestCommitsWaitForNobodyElse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(rt, "size")
		others := rapid.IntRange(0, 3).Draw(rt, "others")
		back := rapid.IntRange(0, size).Draw(rt, "back")
		took := time.Duration(rapid.IntRange(0, 3000).Draw(rt, "took, us")) * time.Microsecond
		since := time.Duration(rapid.IntRange(0, 1000).Draw(rt, "since, us")) * time.Microsecond
		var first, then bool
		synctest.Test(t, func(*testing.T) {
			p := newPipe[int](1, commitBatch, commitPatience)
			p.items = make([]int, size)
			first = p.moreToCome()
			p.next(0)
			time.Sleep(took)
			p.items = make([]int, others)
			p.land(0)
			time.Sleep(since)
			p.items = make([]int, others+back)
			then = p.moreToCome()
		})
		if first {
			rt.Fatal("it waits before there was a batch")
		}
		if want := back < size && since < min(took/4, comeBack); then != want {
			rt.Fatalf("it waits: %t, want %t", then, want)
		}
	})
}

// Whoever does not come back is not waited for while time stands still, as it
// does between two ticks of a coarse clock.
func TestCommitsWaitOnlySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCarrier(t)
		c.put(8)
		synctest.Wait()
		time.Sleep(time.Hour)
		c.put(1)
		c.hold <- struct{}{}
		c.expect(t, "after a batch whose callers have gone", 8, 1)
		c.hold <- struct{}{}
		synctest.Wait()
		c.put(1)
		c.expect(t, "at once, as ever", 8, 1, 1)
		c.stop()
	})
}

// A few do not wait for many that take long: two milliseconds, which is about
// what a small commit takes.
func TestCommitsWaitALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCarrier(t)
		c.put(10)
		synctest.Wait()
		time.Sleep(time.Hour)
		for range 3 { // each time anew
			want := append([]int{}, c.went...)
			c.put(1)
			c.expect(t, "at once", want...)
			time.Sleep(2 * time.Millisecond)
			c.expect(t, "after a little", append(want, 1)...)
			c.hold <- struct{}{} // whichever ends
			c.hold <- struct{}{}
			synctest.Wait()
			want = append(want, 1)
			c.put(10)
			c.expect(t, "with none under way", append(want, 10)...)
		}
		c.stop()
	})
}

// Whoever has ended a batch takes what has gathered, though it is less.
func TestCommitsGoWhenNothingIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startCarrier(t)
		c.put(2000)
		c.expect(t, "as many as fit, and the rest when it is late", 1000, 1000)
		c.put(1)
		c.hold <- struct{}{}
		c.hold <- struct{}{}
		c.expect(t, "after both", 1000, 1000, 1)
		c.put(1)
		c.stop()
		c.expect(t, "when it ends", 1000, 1000, 1, 1)
	})
}
