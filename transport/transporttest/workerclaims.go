package transporttest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// jobs is a backend's side of Claim: a list of jobs, and what became of each.
// Like a Queue, it hands a job to a caller that has just gone, rather than to
// nobody.
type jobs struct {
	mu       sync.Mutex
	wake     chan struct{}
	next     byte
	ready    int
	asking   int // Claim calls that block
	most     int
	granted  map[consign.ClaimID]bool // and not given back
	returned int
	// slow delays the decision of a Claim whose context has ended, so that a
	// job may slip in.
	slow time.Duration
}

func newJobs() *jobs {
	return &jobs{wake: make(chan struct{}), granted: make(map[consign.ClaimID]bool)}
}

func (j *jobs) add(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ready += n
	j.wakeAll()
}

func (j *jobs) wakeAll() {
	close(j.wake)
	j.wake = make(chan struct{})
}

func (j *jobs) blocked() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.asking
}

// take is a scripted Claim.
func (j *jobs) take(ctx context.Context, end <-chan struct{}) (consign.Assignment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asking++
	j.most = max(j.most, j.asking)
	defer func() { j.asking-- }()
	for {
		if j.ready > 0 {
			j.ready--
			j.next++
			id := consign.ClaimID{j.next}
			j.granted[id] = true
			return consign.Assignment{Job: consign.JobID{j.next}, Claim: id, Kind: "TASK", Payload: []byte("x"), Lease: time.Hour}, nil
		}
		if ctx.Err() != nil {
			return consign.Assignment{}, ctx.Err()
		}
		wake := j.wake
		j.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			time.Sleep(j.slow)
		case <-end:
			j.mu.Lock()
			return consign.Assignment{}, errUnexpected
		}
		j.mu.Lock()
	}
}

// giveBack is a scripted Release.
func (j *jobs) giveBack(_ context.Context, r consign.Release) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.granted[r.Claim.Claim] {
		return consign.ErrLeaseLost
	}
	delete(j.granted, r.Claim.Claim)
	j.ready++
	j.returned++
	j.wakeAll()
	return nil
}

func (j *jobs) session(e *workEnv) *session {
	return &session{
		claim:   func(ctx context.Context) (consign.Assignment, error) { return j.take(ctx, e.end) },
		release: j.giveBack,
	}
}

// eventually waits until f holds.
func eventually(what string, f func() bool) error {
	for waited := time.Duration(0); !f(); waited += moment / 20 {
		if waited > patience {
			return fmt.Errorf("%s has not happened after %v", what, patience)
		}
		time.Sleep(moment / 20)
	}
	return nil
}

func claimWoken(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	j := newJobs()
	s, err := e.joined(ctx, e.dial, j.session(e))
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		a, err := s.Claim(ctx)
		if err == nil && a.Claim != (consign.ClaimID{1}) {
			err = fmt.Errorf("claim %s", a.Claim)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return fmt.Errorf("Claim returned without a job: %v", err)
	case <-time.After(3 * moment):
	}
	j.add(1)
	if err := receive("Claim after a job had come", done); err != nil {
		return err
	}
	const n = 20
	j.add(n)
	got := make(map[consign.ClaimID]bool)
	for range n {
		err := within("Claim with jobs to be had", func() error {
			a, err := s.Claim(ctx)
			got[a.Claim] = true
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(got) != n {
		return fmt.Errorf("%d calls returned %d claims", n, len(got))
	}
	return nil
}

func claimCancelled(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	j := newJobs()
	s, err := e.joined(ctx, e.dial, j.session(e))
	if err != nil {
		return err
	}
	err = endsWithContext(ctx, "Claim", func(ctx context.Context) error { _, err := s.Claim(ctx); return err })
	if err != nil {
		return err
	}
	return eventually("the end of Claim at the backend", func() bool { return j.blocked() == 0 })
}

func claimAbandoned(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	j := newJobs()
	j.slow = moment / 10
	s, err := e.joined(ctx, e.dial, j.session(e))
	if err != nil {
		return err
	}
	const n = 40
	got := make(map[consign.ClaimID]bool)
	for i := range n {
		err := within("Claim with a context that is done", func() error {
			ctx, abandon := context.WithCancel(ctx)
			defer abandon()
			// The job comes just before, at, or just after the cancellation.
			time.AfterFunc(moment/10, abandon)
			time.AfterFunc(moment/10+time.Duration(i-n/4)*moment/200, func() { j.add(1) })
			a, err := s.Claim(ctx)
			if err == nil {
				got[a.Claim] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		// What this call left behind must not be taken for lost while it is on
		// its way.
		if err := eventually("the end of an abandoned Claim at the backend", func() bool { return j.blocked() == 0 }); err != nil {
			return err
		}
	}
	lost := 0
	held := func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		lost = 0
		for id := range j.granted {
			if !got[id] {
				lost++
			}
		}
		return lost == 0
	}
	if err := eventually("the release of what nobody received", held); err != nil {
		return fmt.Errorf("%d jobs were handed out to nobody: %w", lost, err)
	}
	return nil
}

func claimOneSlot(e *workEnv) error {
	ctx, cancel := e.background()
	defer cancel()
	j := newJobs()
	s, err := e.joined(ctx, e.dial, j.session(e))
	if err != nil {
		return err
	}
	const slots = 3
	taken := make(chan consign.ClaimID, 100)
	claims, stop := context.WithCancel(ctx)
	defer stop()
	var left sync.WaitGroup
	for range slots {
		left.Go(func() {
			if a, err := s.Claim(claims); err == nil {
				taken <- a.Claim
			}
		})
	}
	if err := eventually("Claim for every slot at the backend", func() bool { return j.blocked() == slots }); err != nil {
		return err
	}
	j.add(10)
	if err := eventually("Claim for every slot", func() bool { return len(taken) == slots }); err != nil {
		return err
	}
	time.Sleep(moment)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.granted) != slots || j.most > slots {
		return fmt.Errorf("%d jobs were claimed, by up to %d calls at once, for %d free slots", len(j.granted), j.most, slots)
	}
	return nil
}
