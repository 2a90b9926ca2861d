package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// mutant is a bug that is planted into a coordinator, for the checks to find.
type mutant string

const (
	none         mutant = ""
	earlyAck     mutant = "early acknowledgement"         // a submit is acknowledged before it is durable
	noFence      mutant = "no fence"                      // a stale holder's result is acknowledged
	blindReaper  mutant = "blind reaper"                  // a lease is reaped on an old look at it, whatever has come since
	hopeful      mutant = "unknown is success"            // an Apply without an answer is taken for done
	selfish      mutant = "a dead coordinator's leases"   // each coordinator reaps only what it has handed out itself
	keysInMemory mutant = "keys in memory"                // the vault forgets with its process
	lateKeys     mutant = "a rotation misses late keys"   // what is written under an old key when that is destroyed is lost
	forgetful    mutant = "a retry is another submit"     // the idempotency key of a request that comes again is ignored
	staleReads   mutant = "reads from a cache"            // a job looks as it did when somebody first looked
	deaf         mutant = "a cancel does not get through" // a cancel that is acknowledged is not done
)

// store plants what a store can have.
func (m mutant) store(s consign.Store) consign.Store {
	switch m {
	case earlyAck, blindReaper, hopeful, selfish:
		p := &plantedStore{Store: s, plant: m, mine: map[consign.ClaimID]bool{}}
		if n, ok := s.(consign.Notifier); ok {
			return &plantedShared{p, n}
		}
		return p
	}
	return s
}

type plantedStore struct {
	consign.Store
	plant mutant

	mu   sync.Mutex
	mine map[consign.ClaimID]bool // handed out here
	old  []*consign.Job           // that ran when somebody last looked
}

// plantedShared is a planted store that others share.
type plantedShared struct {
	*plantedStore
	consign.Notifier
}

func (s *plantedStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	switch s.plant {
	case earlyAck:
		return s.applyLate(changes), nil
	case blindReaper:
		return s.applyBlindly(ctx, changes)
	case hopeful:
		outcomes, err := s.Store.Apply(ctx, changes)
		if err != nil {
			return make([]error, len(changes)), nil
		}
		return outcomes, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if c.Job != nil && c.Job.State == consign.StateRunning {
			s.mine[c.Job.Claim] = true
		}
	}
	return s.Store.Apply(ctx, changes)
}

// applyLate acknowledges submits at once and writes them later.
func (s *plantedStore) applyLate(changes []consign.Change) []error {
	var rest []consign.Change
	outcomes := make([]error, len(changes))
	for _, c := range changes {
		if c.Job != nil && c.Job.Version == 1 {
			time.AfterFunc(30*time.Millisecond, func() { _, _ = s.Store.Apply(context.Background(), []consign.Change{c}) })
		} else {
			rest = append(rest, c)
		}
	}
	applied, err := s.Store.Apply(context.Background(), rest)
	for i, c := range changes {
		switch {
		case c.Job != nil && c.Job.Version == 1:
		case err != nil:
			outcomes[i] = err
		default:
			outcomes[i], applied = applied[0], applied[1:]
		}
	}
	return outcomes
}

// applyBlindly writes over whatever has come since, where a lease is reaped.
func (s *plantedStore) applyBlindly(ctx context.Context, changes []consign.Change) ([]error, error) {
	changes = append([]consign.Change{}, changes...)
	for i := range changes {
		c := &changes[i]
		if c.Guard == nil || !c.Guard.Lapsed || c.Job == nil {
			continue
		}
		jobs, err := s.Jobs(ctx, []consign.JobID{c.Job.ID})
		if err != nil || jobs[0] == nil {
			continue
		}
		job := *c.Job
		job.Version = jobs[0].Version + 1
		c.Job, c.Guard = &job, nil
	}
	return s.Store.Apply(ctx, changes)
}

func (s *plantedStore) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	switch s.plant {
	case blindReaper:
		jobs, err := s.List(ctx, consign.Filter{State: consign.StateRunning}, consign.JobID{}, n)
		s.mu.Lock()
		defer s.mu.Unlock()
		old := s.old
		s.old = jobs
		return old, err
	case selfish:
		jobs, err := s.Store.Lapsed(ctx, n)
		s.mu.Lock()
		defer s.mu.Unlock()
		var mine []*consign.Job
		for _, j := range jobs {
			if s.mine[j.Claim] {
				mine = append(mine, j)
			}
		}
		return mine, err
	}
	return s.Store.Lapsed(ctx, n)
}

// workers plants what the side of the workers can have.
func (m mutant) workers(api consign.WorkerAPI) consign.WorkerAPI {
	if m == noFence {
		return unfencedWorkers{api}
	}
	return api
}

type unfencedWorkers struct{ consign.WorkerAPI }

func (w unfencedWorkers) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := w.WorkerAPI.Register(ctx, r)
	return unfenced{s}, err
}

type unfenced struct{ consign.Session }

func (s unfenced) Complete(ctx context.Context, c consign.Completion) error {
	if err := s.Session.Complete(ctx, c); !errors.Is(err, consign.ErrLeaseLost) {
		return err
	}
	return nil
}

// submitter plants what the side of the submitters can have.
func (m mutant) submitter(api consign.SubmitterAPI) consign.SubmitterAPI {
	switch m {
	case forgetful, staleReads, deaf:
		return &plantedSubmitter{SubmitterAPI: api, plant: m}
	}
	return api
}

type plantedSubmitter struct {
	consign.SubmitterAPI
	plant mutant
	seen  sync.Map // of the IDs that were submitted, or what jobs looked like
}

func (s *plantedSubmitter) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if _, again := s.seen.LoadOrStore(r.ID, true); again && s.plant == forgetful {
		r.ID = consign.NewJobID()
	}
	return s.SubmitterAPI.Submit(ctx, r)
}

func (s *plantedSubmitter) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	info, err := s.SubmitterAPI.Get(ctx, id)
	if err == nil && s.plant == staleReads {
		first, _ := s.seen.LoadOrStore(id.String(), info)
		info = first.(consign.JobInfo)
	}
	return info, err
}

func (s *plantedSubmitter) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.plant == deaf {
		return s.Get(ctx, id)
	}
	return s.SubmitterAPI.Cancel(ctx, id)
}
