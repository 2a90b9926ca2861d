package consign

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
		c.put(10)
		c.expect(t, "the first", 10)
		c.put(4)
		c.put(5)
		c.expect(t, "fewer", 10)
		c.put(1)
		c.expect(t, "as many", 10, 10)
		c.put(12)
		c.expect(t, "with two under way", 10, 10)
		c.hold <- struct{}{}
		c.expect(t, "when one has ended", 10, 10, 12)
		c.stop()
	})
}

// A few do not wait for many that take long, nor longer than a person notices.
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
			time.Sleep(20 * time.Millisecond)
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
