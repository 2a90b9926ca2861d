package vault

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/consignq/consign"
)

// memory is a Storage that is gone with its process.
type memory struct {
	mu   sync.Mutex
	jobs map[consign.JobID][]Record
	retired
}

func (m *memory) Put(ctx context.Context, r Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(r); err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(m.jobs[r.Job]), r.named)
	if len(kept) >= MaxHeaders {
		return ErrFull
	}
	m.jobs[r.Job] = append(kept, r)
	return ctx.Err()
}

func (m *memory) Replace(ctx context.Context, rs []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(rs...); err != nil {
		return err
	}
	for _, r := range rs {
		if i := slices.IndexFunc(m.jobs[r.Job], r.same); i >= 0 {
			m.jobs[r.Job][i] = r
		}
	}
	return ctx.Err()
}

func (m *memory) Get(ctx context.Context, job consign.JobID) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.jobs[job]), ctx.Err()
}

func (m *memory) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m.mu.Lock()
		all := slices.Concat(slices.Collect(maps.Values(m.jobs))...)
		m.mu.Unlock()
		each(ctx, all, yield)
	}
}

func (m *memory) Delete(ctx context.Context, rs []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rs {
		if kept := slices.DeleteFunc(m.jobs[r.Job], r.same); len(kept) > 0 {
			m.jobs[r.Job] = kept
		} else {
			delete(m.jobs, r.Job)
		}
	}
	return ctx.Err()
}

func (m *memory) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retire(old, present)
	return ctx.Err()
}

func (m *memory) Close() error { return nil }

// each yields the records until ctx is done.
func each(ctx context.Context, all []Record, yield func(Record, error) bool) {
	for _, r := range all {
		if err := ctx.Err(); err != nil {
			yield(Record{}, err)
			return
		}
		if !yield(r, nil) {
			return
		}
	}
}
