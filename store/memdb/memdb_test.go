package memdb_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// A job's way through the store, in the time of a synctest bubble.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), memdb.New()
		apply := func(c consign.Change) error {
			t.Helper()
			outcomes, err := s.Apply(ctx, []consign.Change{c})
			if err != nil {
				t.Fatal(err)
			}
			return outcomes[0]
		}
		job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Lane: "a", Key: 7}
		if err := apply(consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID}}); err != nil {
			t.Fatal(err)
		}
		if err := apply(consign.Change{Job: job}); err != consign.ErrVersion {
			t.Fatal(err)
		}
		if page, err := s.Page(ctx, "a", consign.AllShards, consign.Place{}, 10); err != nil || len(page) != 1 || page[0] != job {
			t.Fatal(page, err)
		}
		if lanes, err := s.Lanes(ctx); err != nil || len(lanes) != 1 || lanes[0] != (consign.LaneHead{Lane: "a", Key: 7}) {
			t.Fatal(lanes, err)
		}

		claimed := *job
		claimed.Version, claimed.State, claimed.Claim, claimed.LeaseFor = 2, consign.StateRunning, consign.NewClaimID(), time.Minute
		if err := apply(consign.Change{Job: &claimed}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(45 * time.Second)
		if outcomes, err := s.Renew(ctx, []consign.Renewal{{Job: job.ID, Claim: claimed.Claim, For: time.Minute}}); err != nil || outcomes[0] != nil {
			t.Fatal(outcomes, err)
		}
		time.Sleep(45 * time.Second)
		if lapsed, err := s.Lapsed(ctx, 10); err != nil || len(lapsed) != 0 {
			t.Fatal("the renewed lease lapsed:", lapsed, err)
		}
		time.Sleep(15 * time.Second)
		lapsed, err := s.Lapsed(ctx, 10)
		if err != nil || len(lapsed) != 1 || lapsed[0].LeaseUntil != consign.At(time.Now()) {
			t.Fatal(lapsed, err)
		}

		done := claimed
		done.Version, done.State, done.LeaseFor = 3, consign.StateCompleted, 0
		if err := apply(consign.Change{Job: &done, Guard: &consign.Guard{Job: job.ID, Claim: consign.NewClaimID()}}); err != consign.ErrGuard {
			t.Fatal(err)
		}
		if err := apply(consign.Change{Job: &done, Guard: &consign.Guard{Job: job.ID, Claim: claimed.Claim}}); err != nil {
			t.Fatal(err)
		}
		if lanes, err := s.Lanes(ctx); err != nil || len(lanes) != 0 {
			t.Fatal(lanes, err)
		}
	})
}

// What the contract leaves open: changes that make no sense, and an effect
// whose ID waits already.
func TestOpenToTheStore(t *testing.T) {
	ctx, s := t.Context(), memdb.New()
	job := &consign.Job{ID: consign.NewJobID(), Version: 1}
	twice := consign.Effect{ID: consign.EffectID{Job: job.ID, Seq: 1}, Kind: consign.EffectSettle}
	outcomes, err := s.Apply(ctx, []consign.Change{
		{Spec: &consign.Spec{}},
		{Forget: true},
		{Job: job, Done: &consign.Done{ID: consign.NewJobID()}},
		{Job: job, Effects: []consign.Effect{twice}},
		{Effects: []consign.Effect{twice}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range outcomes {
		if (err != nil) != (i < 3) {
			t.Errorf("the outcome of change %d is %v", i, err)
		}
	}
	if effects, err := s.Effects(ctx, 10); err != nil || len(effects) != 1 {
		t.Errorf("there are %d effects (%v), want 1", len(effects), err)
	}
}
