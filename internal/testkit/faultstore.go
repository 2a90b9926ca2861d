package testkit

import (
	"context"
	"sync"

	"github.com/consignq/consign"
)

// FaultStore is a Store that fails, delays and loses as it is told, in front of
// one that does not. Its fields are set before it is used.
type FaultStore struct {
	consign.Store

	// Faults decides what happens to each call. Lose fails it before, Drop
	// after it was carried out: for an Apply both mean that no outcome is
	// known.
	Faults Faults
	// Wrong decides what happens to each Apply, by what is in it, where Faults
	// lets it through.
	Wrong func(changes []consign.Change) Fault
	// Refuse is a change's own error: the others are applied without it.
	Refuse func(c *consign.Change) error
	// Applied hears of every change that was applied, in order.
	Applied func(c *consign.Change)

	once  sync.Once
	calls *faults
	mu    sync.Mutex // of Wrong, Refuse and Applied
}

func (s *FaultStore) faults() *faults {
	s.once.Do(func() {
		decide := s.Faults
		if decide == nil {
			decide = func(Call) Fault { return Fault{} }
		}
		s.calls = newFaults(decide)
	})
	return s.calls
}

// Apply implements consign.Store.
func (s *FaultStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	return inject(ctx, s.faults(), "Apply", func() ([]error, error) { return s.apply(ctx, changes) })
}

func (s *FaultStore) apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	var f Fault
	if s.Wrong != nil {
		s.mu.Lock()
		f = s.Wrong(changes)
		s.mu.Unlock()
	}
	if err := pause(ctx, f.Delay); err != nil {
		return nil, err
	}
	if f.Lose != nil {
		return nil, f.Lose
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var pass []consign.Change
	outcomes := make([]error, len(changes))
	for i := range changes {
		if s.Refuse != nil {
			outcomes[i] = s.Refuse(&changes[i])
		}
		if outcomes[i] == nil {
			pass = append(pass, changes[i])
		}
	}
	applied, err := s.Store.Apply(ctx, pass)
	if err != nil {
		return nil, err
	}
	for i := range changes {
		if outcomes[i] == nil {
			outcomes[i], applied = applied[0], applied[1:]
		} else {
			continue
		}
		if outcomes[i] == nil && s.Applied != nil {
			s.Applied(&changes[i])
		}
	}
	if f.Drop != nil {
		return nil, f.Drop
	}
	return outcomes, nil
}

// Renew implements consign.Store.
func (s *FaultStore) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	return inject(ctx, s.faults(), "Renew", func() ([]error, error) { return s.Store.Renew(ctx, renewals) })
}

// Jobs implements consign.Store.
func (s *FaultStore) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	return inject(ctx, s.faults(), "Jobs", func() ([]*consign.Job, error) { return s.Store.Jobs(ctx, ids) })
}

// Specs implements consign.Store.
func (s *FaultStore) Specs(ctx context.Context, ids []consign.JobID) ([]*consign.Spec, error) {
	return inject(ctx, s.faults(), "Specs", func() ([]*consign.Spec, error) { return s.Store.Specs(ctx, ids) })
}

// Done implements consign.Store.
func (s *FaultStore) Done(ctx context.Context, id consign.JobID) (*consign.Done, error) {
	return inject(ctx, s.faults(), "Done", func() (*consign.Done, error) { return s.Store.Done(ctx, id) })
}

// Log implements consign.Store.
func (s *FaultStore) Log(ctx context.Context, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
	return inject(ctx, s.faults(), "Log", func() ([]consign.LogEntry, error) { return s.Store.Log(ctx, id, after, n) })
}

// Lanes implements consign.Store.
func (s *FaultStore) Lanes(ctx context.Context) ([]consign.LaneHead, error) {
	return inject(ctx, s.faults(), "Lanes", func() ([]consign.LaneHead, error) { return s.Store.Lanes(ctx) })
}

// Page implements consign.Store.
func (s *FaultStore) Page(ctx context.Context, lane string, shards uint16, after consign.Place, n int) ([]*consign.Job, error) {
	return inject(ctx, s.faults(), "Page", func() ([]*consign.Job, error) { return s.Store.Page(ctx, lane, shards, after, n) })
}

// Due implements consign.Store.
func (s *FaultStore) Due(ctx context.Context, now consign.Instant, n int) (due []*consign.Job, next consign.Instant, err error) {
	due, err = inject(ctx, s.faults(), "Due", func() (jobs []*consign.Job, err error) {
		jobs, next, err = s.Store.Due(ctx, now, n)
		return jobs, err
	})
	return due, next, err
}

// Lapsed implements consign.Store.
func (s *FaultStore) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	return inject(ctx, s.faults(), "Lapsed", func() ([]*consign.Job, error) { return s.Store.Lapsed(ctx, n) })
}

// List implements consign.Store.
func (s *FaultStore) List(ctx context.Context, f consign.Filter, after consign.JobID, n int) ([]*consign.Job, error) {
	return inject(ctx, s.faults(), "List", func() ([]*consign.Job, error) { return s.Store.List(ctx, f, after, n) })
}

// Effects implements consign.Store.
func (s *FaultStore) Effects(ctx context.Context, n int) ([]consign.Effect, error) {
	return inject(ctx, s.faults(), "Effects", func() ([]consign.Effect, error) { return s.Store.Effects(ctx, n) })
}

// Docs implements consign.Store.
func (s *FaultStore) Docs(ctx context.Context, kind, after string, n int) ([]consign.Doc, error) {
	return inject(ctx, s.faults(), "Docs", func() ([]consign.Doc, error) { return s.Store.Docs(ctx, kind, after, n) })
}

// Doc implements consign.Store.
func (s *FaultStore) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	return inject(ctx, s.faults(), "Doc", func() (consign.Doc, error) { return s.Store.Doc(ctx, kind, key) })
}

// Counter implements consign.Store.
func (s *FaultStore) Counter(ctx context.Context, name string) (int64, error) {
	return inject(ctx, s.faults(), "Counter", func() (int64, error) { return s.Store.Counter(ctx, name) })
}

// event returns what a change is about: the event of its job's own log entry.
func event(c *consign.Change) consign.EventKind {
	if c.Job == nil || len(c.Log) == 0 {
		return 0
	}
	return c.Log[0].Event
}

// WrongOn is a Wrong that lets the first n Applies with one of the events end
// in f.
func WrongOn(n int, f Fault, kinds ...consign.EventKind) func([]consign.Change) Fault {
	return func(changes []consign.Change) Fault {
		for i := range changes {
			for _, kind := range kinds {
				if event(&changes[i]) == kind && n > 0 {
					n--
					return f
				}
			}
		}
		return Fault{}
	}
}

// WrongOnPump is WrongOn for changes that carry out effects.
func WrongOnPump(n int, f Fault) func([]consign.Change) Fault {
	return func(changes []consign.Change) Fault {
		for i := range changes {
			if len(changes[i].Drop) > 0 && n > 0 {
				n--
				return f
			}
		}
		return Fault{}
	}
}

// First returns Faults that let the first n calls of a method end in f.
func First(n int, method string, f Fault) Faults {
	return func(c Call) Fault {
		if c.Method == method && c.N < n {
			return f
		}
		return Fault{}
	}
}

// FaultySession is a session whose calls end as decided.
func FaultySession(s consign.Session, decide Faults) consign.Session {
	return &faultySession{s: s, f: newFaults(decide)}
}
