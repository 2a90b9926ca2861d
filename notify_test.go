package consign_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// Several queues on one store. Each of these is told by a queue's own look at
// the store, at most a quarter of a second late, and at once by a hint.

// couple is two queues on one store.
type couple struct {
	t    *testing.T
	a, b *consign.Queue
	end  func() // of a
}

// blind is a store whose queues do not see what the others do.
type blind struct{ consign.Store }

func (blind) Lanes(context.Context) ([]consign.LaneHead, error) { return nil, nil }
func (blind) Counter(context.Context, string) (int64, error)    { return 0, nil }
func (b blind) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	if len(ids) > 1 { // as one who waits for several is answered
		return nil, errors.New("blind")
	}
	return b.Store.Jobs(ctx, ids)
}

// telling is a store that tells of each change.
type telling struct {
	consign.Store
	changed chan consign.Hint
}

func (s *telling) Watch(ctx context.Context, changed func(consign.Hint)) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-s.changed:
			changed(h)
		}
	}
}

func newCouple(t *testing.T, a, b consign.Store, shape func(*consign.Config)) *couple {
	c := consign.Config{Store: a, Identity: seededIdentity(9), NoReceipts: true, Lease: 10 * time.Second, DrainTimeout: time.Millisecond}
	if shape != nil {
		shape(&c)
	}
	p := &couple{t: t}
	p.a, p.end = startQueueStop(t, c)
	c.Store = b
	p.b = startQueue(t, c)
	synctest.Wait()
	return p
}

func (p *couple) submit(q *consign.Queue) consign.JobID {
	p.t.Helper()
	job, err := q.Submitter("acme").Submit(p.t.Context(), benchRequests(1, "m")[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return job.ID
}

// claimAt claims at a queue, as a worker of its own that says nothing else.
func (p *couple) claimAt(q *consign.Queue, worker uint64, patience time.Duration) (consign.Session, consign.Assignment, error) {
	s := openSession(p.t, q, seededIdentity(worker), benchCaps)
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	a, err := s.Claim(ctx)
	return s, a, err
}

func complete(ctx context.Context, s consign.Session, a consign.Assignment) error {
	return s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("x")})
}

// crossings are what has to get from one queue to the other, and how late it
// may be.
var crossings = []struct {
	name   string
	within time.Duration
	run    func(p *couple, within time.Duration) error
}{
	{"a job for a worker that waits", 250 * time.Millisecond, func(p *couple, within time.Duration) error {
		got := make(chan error, 1)
		go func() { _, _, err := p.claimAt(p.b, 1, time.Hour); got <- err }()
		time.Sleep(10 * time.Second) // the worker waits
		p.submit(p.a)
		return inTime(within, got)
	}},
	{"the end of a job that is waited for", 250 * time.Millisecond, func(p *couple, within time.Duration) error {
		first, second := p.submit(p.a), p.submit(p.a)
		got := make(chan error, 2)
		for _, id := range []consign.JobID{first, second} {
			go func() { _, err := p.b.Submitter("acme").Wait(p.t.Context(), id); got <- err }()
		}
		time.Sleep(10 * time.Second)
		for i := range uint64(2) {
			s, a, err := p.claimAt(p.a, i, time.Second)
			if err := errors.Join(err, complete(p.t.Context(), s, a)); err != nil {
				return err
			}
		}
		return errors.Join(inTime(within, got), inTime(within, got))
	}},
	{"a line of the log that is read", 250 * time.Millisecond, func(p *couple, within time.Duration) error {
		jobs := []consign.JobID{p.submit(p.a), p.submit(p.a)}
		s, a, err := p.claimAt(p.a, 1, time.Second)
		if err != nil {
			return err
		}
		got := make(chan error, 1)
		for _, id := range jobs {
			if id != a.Job {
				go func() { _, _ = p.b.Submitter("acme").Wait(p.t.Context(), id) }()
			}
		}
		go func() {
			for e, err := range p.b.Submitter("acme").Events(p.t.Context(), a.Job, 0) {
				if err != nil || e.Event == consign.EventReport {
					got <- err
					return
				}
			}
		}()
		time.Sleep(5 * time.Second)
		if err := s.Report(p.t.Context(), consign.Report{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Items: []consign.ReportItem{{Data: []byte("half")}}}); err != nil {
			return err
		}
		return inTime(within, got)
	}},
	{"a pause", time.Second, func(p *couple, within time.Duration) error {
		if err := p.a.Pause(p.t.Context(), consign.PauseKind(consign.KindInference)); err != nil {
			return err
		}
		time.Sleep(within)
		p.submit(p.b)
		if _, _, err := p.claimAt(p.b, 1, time.Second); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a paused job was handed out: %w", err)
		}
		if err := p.a.Resume(p.t.Context(), consign.PauseKind(consign.KindInference)); err != nil {
			return err
		}
		_, _, err := p.claimAt(p.b, 1, within)
		return err
	}},
	{"a pairing", time.Second, func(p *couple, within time.Duration) error {
		pairing := consign.Pairing{Account: "acme", Worker: seededIdentity(1).Public().ID()}
		r := benchRequests(1, "m")[0]
		r.Privacy = consign.PrivacyPrivate
		if err := p.a.Pair(p.t.Context(), pairing); err != nil {
			return err
		}
		time.Sleep(within)
		if _, err := p.b.Submitter("acme").Submit(p.t.Context(), r); err != nil {
			return err
		}
		if _, _, err := p.claimAt(p.b, 1, within); err != nil {
			return err
		}
		if err := p.a.Unpair(p.t.Context(), pairing); err != nil {
			return err
		}
		time.Sleep(within)
		r.ID = consign.NewJobID()
		if _, err := p.b.Submitter("acme").Submit(p.t.Context(), r); !errors.Is(err, consign.ErrNoWorker) {
			return fmt.Errorf("a submit of an account that trusts no worker gave %w", err)
		}
		return nil
	}},
}

// inTime waits for something that has to come soon.
func inTime(within time.Duration, got <-chan error) error {
	select {
	case err := <-got:
		return err
	case <-time.After(within):
		return fmt.Errorf("it does not come within %v", within)
	}
}

func TestQueuesOnOneStore(t *testing.T) {
	for _, c := range crossings {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := memdb.New()
				if err := c.run(newCouple(t, s, s, nil), c.within+time.Millisecond); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A test that cannot fail shows nothing: a queue that does not look misses all
// of it.
func TestQueuesOnOneStoreMutant(t *testing.T) {
	for _, c := range crossings {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := memdb.New()
				if err := c.run(newCouple(t, s, blind{s}, nil), c.within+time.Millisecond); err == nil {
					t.Error("a blind queue passes")
				}
			})
		})
	}
}

// With a hint nobody waits for the next look.
func TestHints(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := &telling{memdb.New(), make(chan consign.Hint)}
		patient := func(c *consign.Config) { c.Lease = time.Minute }
		p := newCouple(t, s.Store, s, patient)
		got := make(chan error, 1)
		var session consign.Session
		var a consign.Assignment
		go func() {
			var err error
			session, a, err = p.claimAt(p.b, 1, time.Hour)
			got <- err
		}()
		time.Sleep(10*time.Second + 100*time.Millisecond) // between two looks
		id := p.submit(p.a)
		s.changed <- consign.Hint{Queued: true}
		if err := inTime(time.Millisecond, got); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		other := newCouple(t, s.Store, s, patient).b
		go func() { _, err := other.Submitter("acme").Wait(t.Context(), id); waited <- err }()
		time.Sleep(10*time.Second + 100*time.Millisecond)
		if err := complete(t.Context(), session, a); err != nil {
			t.Fatal(err)
		}
		s.changed <- consign.Hint{Jobs: []consign.JobID{consign.NewJobID(), id}} // to one of the two,
		s.changed <- consign.Hint{Jobs: []consign.JobID{consign.NewJobID(), id}} // and to the other
		s.changed <- consign.Hint{Jobs: []consign.JobID{id}}
		if err := inTime(time.Millisecond, waited); err != nil {
			t.Fatal(err)
		}
	})
}

// A queue whose lanes never run dry sees what others have put into them.
func TestOthersTicketsDoNotStarve(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := memdb.New()
		p := newCouple(t, s, s, nil)
		for range 3 {
			p.submit(p.b)
		}
		var foreign consign.JobID
		session := openSession(t, p.b, seededIdentity(1), benchCaps)
		for n := range 60 {
			if n == 5 {
				foreign = p.submit(p.a) // which has no worker
			}
			time.Sleep(time.Second)
			p.submit(p.b)
			a, err := session.Claim(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if a.Job == foreign {
				if n > 12 {
					t.Errorf("it took %d s to see the other queue's ticket", n-5)
				}
				return
			}
			if err := complete(t.Context(), session, a); err != nil {
				t.Fatal(err)
			}
			if _, err := session.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: benchCaps, FreeSlots: 1}); err != nil {
				t.Fatal(err)
			}
		}
		t.Error("the other queue's ticket starved")
	})
}

// The leases of a queue that is gone are rescued by another one.
func TestDeadQueueIsRescued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := memdb.New()
		p := newCouple(t, s, s, nil)
		id := p.submit(p.a)
		_, first, err := p.claimAt(p.a, 1, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		p.end()
		began := time.Now()
		session, second, err := p.claimAt(p.b, 2, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 13*time.Second || second.Job != id || second.Claim == first.Claim {
			t.Errorf("job %s was rescued after %v under claim %s", second.Job, took, second.Claim)
		}
		if err := complete(t.Context(), session, second); err != nil {
			t.Error(err)
		}
	})
}

// masks notes which shards a queue reads.
type masks struct {
	*telling
	mu   sync.Mutex
	last uint16
	own  uint16 // the last that was not of all: a queue that finds nothing in its own takes others'
}

func (s *masks) Page(ctx context.Context, lane string, shards uint16, after consign.Place, n int) ([]*consign.Job, error) {
	s.mu.Lock()
	s.last = shards
	if shards != consign.AllShards {
		s.own = shards
	}
	s.mu.Unlock()
	return s.Store.Page(ctx, lane, shards, after, n)
}

func (s *masks) read() uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Queues that share a store read shards of their own, take what others leave
// lying, and read all once they are alone.
func TestPeersShareShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := memdb.New()
		a, b := &masks{telling: &telling{s, nil}}, &masks{telling: &telling{s, nil}}
		p := newCouple(t, a, b, func(c *consign.Config) { c.Lease = time.Hour })
		first, second := openSession(t, p.a, seededIdentity(1), benchCaps), openSession(t, p.b, seededIdentity(2), benchCaps)
		time.Sleep(5 * time.Second) // both are known
		const jobs = 2000
		submitAll(t, p.a, benchRequests(jobs, "m"))
		run := func(s consign.Session, n int) {
			t.Helper()
			for range n {
				a, err := s.Claim(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := complete(t.Context(), s, a); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 6 {
			run(first, 100)
			run(second, 100)
		}
		if a.own == 0 || b.own == 0 || a.own&b.own != 0 || a.own|b.own != consign.AllShards {
			t.Errorf("they read the shards %016b and %016b", a.own, b.own)
		}
		p.end() // with whatever is left in its shards
		began := time.Now()
		run(second, jobs-1200)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v to run what was left lying", took)
		}
		time.Sleep(10 * time.Second) // by then it is known to be gone
		b.own = 0
		submitAll(t, p.b, benchRequests(1000, "m"))
		run(second, 1000) // more than a window holds, so pages are read
		if b.own != 0 || b.read() != consign.AllShards {
			t.Errorf("the queue that is left reads the shards %016b and %016b", b.own, b.read())
		}
	})
}

// A pairing that cannot be read is no secret, and is told of once.
func TestUnreadablePairingIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memdb.New()
		var log bytes.Buffer
		q, stop := startQueueStop(t, consign.Config{Store: store, Identity: seededIdentity(9), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		synctest.Wait()
		outcomes, err := store.Apply(t.Context(), []consign.Change{{
			Docs:     []consign.Doc{{Kind: consign.DocPairing, Key: "acme/worker", Version: 1, Body: []byte("[]")}},
			Counters: []consign.Delta{{Counter: "queue/admin", Add: 1}},
		}})
		if err != nil || outcomes[0] != nil {
			t.Fatal(outcomes, err)
		}
		time.Sleep(2 * time.Second)
		// Something else is changed, and all of it is read again.
		if err := q.Pause(t.Context(), consign.PauseKind("other")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		stop()
		if n := strings.Count(log.String(), "acme/worker"); n != 1 {
			t.Errorf("the log names the pairing %d times: %q", n, log.String())
		}
	})
}

// deaf is a store that does not say which lanes there are, for a while.
type deaf struct {
	consign.Store
	fails atomic.Bool
}

func (d *deaf) Lanes(ctx context.Context) ([]consign.LaneHead, error) {
	if d.fails.Load() {
		return nil, errors.New("deaf")
	}
	return d.Store.Lanes(ctx)
}

// A store that does not answer is told of once, and once it answers again, also
// where nobody calls. A queue that ends tells nothing.
func TestSilentStoreIsLoggedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &deaf{Store: memdb.New()}
		_, stop := startQueueStop(t, consign.Config{Store: store, Identity: seededIdentity(9), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			time.Sleep(time.Minute)
			store.fails.Store(true)
			time.Sleep(time.Minute)
			store.fails.Store(false)
		}
		time.Sleep(time.Minute)
		stop()
		if lost, again := strings.Count(log.String(), "does not answer"), strings.Count(log.String(), "answers again"); lost != 2 || again != 2 {
			t.Errorf("it is logged %d times that the store falls silent twice, and %d times that it answers again:\n%s", lost, again, log.String())
		}
	})
}
