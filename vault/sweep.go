package vault

import (
	"context"
	"errors"
	"time"

	"github.com/consignq/consign"
)

const (
	// orphanAge is how long a job has to appear after its key.
	orphanAge  = time.Hour
	sweepEvery = 10 * time.Minute
)

// Run sweeps every ten minutes until ctx is done, and returns its error. What a
// sweep cannot do is logged, and tried again by the next.
func (v *Vault) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if n, err := v.Sweep(ctx); err != nil && ctx.Err() == nil {
			v.config.Logger.Error("vault: a sweep stopped early", "error", err, "destroyed", n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// Sweep destroys what no Shred will: keys older than KeyLifetime; orphans, which
// are older than an hour and of a job that the Store does not have, or has
// acknowledged or purged; and keys of the vault itself that are out of use. It
// returns how many that were. A job that is deposited again meanwhile keeps its
// key.
func (v *Vault) Sweep(ctx context.Context) (destroyed int, err error) {
	own, errOwn := v.dropOwn(ctx)
	old, errOld := v.destroy(ctx, v.old, func(rs []Record) ([]Record, error) { return rs, nil })
	orphans, errOrphans := v.destroy(ctx, v.mayBeOrphan, func(rs []Record) ([]Record, error) { return v.orphans(ctx, rs) })
	return own + old + orphans, errors.Join(errOwn, errOld, errOrphans)
}

// destroy deletes those of the jobs' records that are suspect and, some at a
// time, found guilty.
func (v *Vault) destroy(ctx context.Context, suspect func(Record) bool, guilty func([]Record) ([]Record, error)) (destroyed int, err error) {
	try := func(rs []Record) error {
		rs, err := guilty(rs)
		if err == nil && len(rs) > 0 {
			err = v.storage.Delete(ctx, rs)
		}
		if err == nil {
			destroyed += len(rs)
		}
		return err
	}
	var batch []Record
	for r, err := range v.storage.All(ctx) {
		if err != nil {
			return destroyed, err
		}
		if r.Job.IsZero() || !suspect(r) {
			continue
		}
		if batch = append(batch, r); len(batch) == batchSize {
			if err := try(batch); err != nil {
				return destroyed, err
			}
			batch = nil
		}
	}
	err = try(batch)
	return destroyed, err
}

func (v *Vault) mayBeOrphan(r Record) bool { return v.now() >= r.At.Add(orphanAge) }

// orphans returns those of the records whose job is not there, or needs no key
// any more.
func (v *Vault) orphans(ctx context.Context, rs []Record) (orphans []Record, err error) {
	if v.config.Store == nil || len(rs) == 0 {
		return nil, nil
	}
	ids := make([]consign.JobID, len(rs))
	for i, r := range rs {
		ids[i] = r.Job
	}
	jobs, err := v.config.Store.Jobs(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i, j := range jobs {
		if j == nil || j.Purged || j.AckedAt != 0 {
			orphans = append(orphans, rs[i])
		}
	}
	return orphans, nil
}
