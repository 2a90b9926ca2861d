package queuetest

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
)

// Replay takes jobs through drawn events, legal or not. Each goes on from the
// job that the store gives back, which has to be the one that Job.Next made;
// in the end the stored logs, replayed, lead to the jobs that are stored, and a
// change that comes twice has changed nothing.
func (s Suite) Replay(t *testing.T) {
	s.check(t, func(rt *rapid.T) {
		drafts := rapid.SliceOfN(rapid.Custom(drawDraft), 1, 6).Draw(rt, "jobs")
		moves := rapid.SliceOfN(rapid.Custom(drawMove), 1, 60).Draw(rt, "moves")
		var err error
		s.run(t, func(t *testing.T) {
			r := replay{t: t, store: s.Place(t)()}
			if err = r.begin(drafts); err == nil {
				err = errors.Join(r.play(moves), r.compare())
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// drawDraft draws a job that is not stored yet. Its ID is given later.
func drawDraft(t *rapid.T) consign.Job {
	j := consign.Job{Account: "acme", Custody: rapid.SampledFrom([]consign.Custody{consign.CustodyPlain, consign.CustodyEscrow, consign.CustodySealed, consign.CustodyTransit}).Draw(t, "custody"),
		Offset: time.Duration(rapid.IntRange(0, 65).Draw(t, "offset")) * time.Second, Price: consign.Price(rapid.IntRange(0, 2).Draw(t, "price")),
		MaxAttempts: rapid.IntRange(1, 5).Draw(t, "attempts"), QueueTime: time.Duration(rapid.Int64Range(0, 1e5).Draw(t, "queue time")) * time.Millisecond,
		Chars: rapid.Uint32Range(0, 1e6).Draw(t, "chars")}
	j.Lane = consign.Lane{Account: "acme", Offset: j.Offset, Needs: consign.Needs{Kind: consign.KindTask, Tier: 2}}.String()
	j.CreatedAt = consign.Instant(rapid.Int64Range(1, 1e9).Draw(t, "created"))
	j.ReadyAt = j.CreatedAt + consign.Instant(rapid.Int64Range(0, 1e9).Draw(t, "delay"))
	if rapid.Bool().Draw(t, "has deadline") {
		j.Deadline = j.CreatedAt + consign.Instant(rapid.Int64Range(1, 1e9).Draw(t, "deadline"))
	}
	return j
}

// move is an event of one of the jobs.
type move struct {
	job    int
	pick   int  // which event: of those that are possible, or
	any    bool // of all
	passes consign.Instant
	shade  byte
	twice  bool // the change comes a second time
}

func drawMove(t *rapid.T) move {
	return move{job: rapid.IntRange(0, 5).Draw(t, "job"), pick: rapid.IntRange(0, 1000).Draw(t, "event"), any: rapid.IntRange(0, 7).Draw(t, "any") == 0,
		passes: consign.Instant(rapid.Int64Range(0, 1e8).Draw(t, "passes")), shade: rapid.Byte().Draw(t, "shade"), twice: rapid.IntRange(0, 7).Draw(t, "twice") == 0}
}

// event is what the move does to a job as it is stored.
func (m move) event(j *consign.Job) *consign.Event {
	var kinds []consign.EventKind
	for kind := consign.EventSubmit; kind <= consign.EventReport; kind++ {
		if _, err := j.Next(&consign.Event{Kind: kind}, 1, &rules); err == nil || m.any {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return nil
	}
	ev := &consign.Event{Kind: kinds[m.pick%len(kinds)], Change: consign.ChangeID(consign.NewJobID()), Reason: []string{"", "why"}[m.shade%2]}
	switch ev.Kind {
	case consign.EventClaim:
		ev.Claim, ev.Worker, ev.Lease = consign.NewClaimID(), consign.WorkerID{1 + m.shade%3}, shortLease
		ev.Limit = consign.Instant(m.shade) * 1e6
	case consign.EventComplete:
		ev.Drawn = m.shade%4 == 0
	case consign.EventFail:
		ev.Fail = consign.FailKind(m.shade % 3)
	}
	return ev
}

var rules = consign.Rules{BackoffBase: time.Second, BackoffMax: 5 * time.Minute, Exclusion: 30 * time.Second,
	Retention: 24 * time.Hour, AckRetention: 10 * time.Minute, Tombstone: 24 * time.Hour}

// shortLease is over when the store is asked again.
const shortLease = time.Microsecond

// replay is a store, and what it has to hold.
type replay struct {
	t       *testing.T
	store   consign.Store
	now     consign.Instant
	ids     []consign.JobID
	want    map[consign.JobID]*held
	effects []consign.Effect
}

// held is what the store has to hold of a job.
type held struct {
	job  *consign.Job
	spec *consign.Spec
	done *consign.Done
	log  []consign.LogEntry
}

// begin submits the jobs.
func (r *replay) begin(drafts []consign.Job) error {
	r.want = map[consign.JobID]*held{}
	for _, j := range drafts {
		j.ID = consign.NewJobID()
		r.now = max(r.now, j.CreatedAt)
		r.ids, r.want[j.ID] = append(r.ids, j.ID), &held{job: &j}
	}
	for _, id := range r.ids {
		if err := r.move(r.want[id].job, &consign.Event{Kind: consign.EventSubmit, Change: consign.ChangeID(consign.NewJobID())}, false); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) play(moves []move) error {
	for i, m := range moves {
		r.now += m.passes
		id := r.ids[m.job%len(r.ids)]
		jobs, err := r.store.Jobs(r.t.Context(), []consign.JobID{id})
		if err != nil {
			return err
		}
		if err := r.same(jobs[0]); err != nil {
			return fmt.Errorf("move %d: %w", i, err)
		}
		ev := m.event(jobs[0])
		if ev == nil {
			continue
		}
		if err := r.move(jobs[0], ev, m.twice); err != nil {
			return fmt.Errorf("move %d, %s of a job that is %s: %w", i, ev.Kind, jobs[0].State, err)
		}
	}
	return nil
}

// move applies an event to a job and commits what comes of it.
func (r *replay) move(j *consign.Job, ev *consign.Event, twice bool) error {
	tr, err := j.Next(ev, r.now, &rules)
	if _, illegal := errors.AsType[*consign.TransitionError](err); illegal {
		return nil
	} else if err != nil {
		return err
	}
	h := r.want[j.ID]
	c := consign.Change{ID: ev.Change, Job: tr.Job, Log: tr.Log, Effects: tr.Effects, Docs: tr.Docs}
	switch ev.Kind {
	case consign.EventSubmit:
		c.Spec = &consign.Spec{ID: j.ID, Kind: consign.KindTask, Payload: []byte("payload of " + j.ID.String()), Custody: j.Custody, Chars: j.Chars, Tier: 2}
		h.spec = c.Spec
	case consign.EventComplete:
		c.Done = &consign.Done{ID: j.ID, Claim: j.Claim, Worker: j.Worker, Result: []byte("result under " + j.Claim.String()), AcceptedAt: r.now}
		h.done = c.Done
		fallthrough
	case consign.EventFail, consign.EventReject, consign.EventRelease:
		c.Guard = &consign.Guard{Job: j.ID, Claim: j.Claim}
	case consign.EventLeaseLost:
		time.Sleep(2 * shortLease)
		c.Guard = &consign.Guard{Job: j.ID, Claim: j.Claim, Lapsed: true}
	case consign.EventPurge:
		c.Forget = true
		h.spec, h.done, h.log = nil, nil, nil
	}
	changes := []consign.Change{c}
	if twice {
		changes = append(changes, c)
	}
	outcomes, err := r.store.Apply(r.t.Context(), changes)
	if err != nil || outcomes[0] != nil {
		return fmt.Errorf("its change: %w", errors.Join(err, outcomes[0]))
	}
	if twice && !errors.Is(outcomes[1], consign.ErrVersion) && !errors.Is(outcomes[1], consign.ErrGuard) {
		return fmt.Errorf("its change, for the second time: %w", outcomes[1])
	}
	h.job = tr.Job
	if !c.Forget {
		h.log = append(h.log, tr.Log...)
	}
	r.effects = append(r.effects, tr.Effects...)
	return nil
}

// same checks a job that the store gave. The end of a lease is the store's own.
func (r *replay) same(got *consign.Job) error {
	if got == nil {
		return errors.New("a job is not there")
	}
	want := *r.want[got.ID].job
	if want.State == consign.StateRunning {
		if got.LeaseUntil == 0 {
			return fmt.Errorf("job %s runs without the end of its lease", got.ID)
		}
		want.LeaseUntil = got.LeaseUntil
	}
	if *got != want {
		return fmt.Errorf("stored is\n%+v, want\n%+v", *got, want)
	}
	return nil
}

// compare compares all that is stored with what has to be.
func (r *replay) compare() error {
	ctx := r.t.Context()
	jobs, err := r.store.Jobs(ctx, r.ids)
	if err != nil {
		return err
	}
	specs, err := r.store.Specs(ctx, r.ids)
	if err != nil {
		return err
	}
	for i, id := range r.ids {
		if err := r.same(jobs[i]); err != nil {
			return err
		}
		want := r.want[id]
		done, err := r.store.Done(ctx, id)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(specs[i], want.spec) || !reflect.DeepEqual(done, want.done) {
			return fmt.Errorf("job %s has the spec %+v and the end %+v, want %+v and %+v", id, specs[i], done, want.spec, want.done)
		}
		log, err := r.store.Log(ctx, id, 0, 10_000)
		if err != nil {
			return err
		}
		slices.SortFunc(want.log, func(a, b consign.LogEntry) int { return cmp.Compare(a.Seq, b.Seq) })
		if len(log) != len(want.log) || len(log) > 0 && !reflect.DeepEqual(log, want.log) {
			return fmt.Errorf("the log of job %s is\n%+v, want\n%+v", id, log, want.log)
		}
		if err := again(jobs[i], log); err != nil {
			return err
		}
	}
	effects, err := r.store.Effects(ctx, 10_000)
	if err != nil {
		return err
	}
	if !slices.Equal(effects, r.effects) {
		return fmt.Errorf("the effects are\n%+v, want\n%+v", effects, r.effects)
	}
	return nil
}

// again replays a log: it is a way through the state machine that ends where
// the job is.
func again(j *consign.Job, log []consign.LogEntry) error {
	at := consign.StateNone
	attempt, faults := 0, 0
	for _, e := range log {
		if e.Event == consign.EventSettle {
			continue
		}
		before := consign.Job{State: at, Attempt: attempt, Faults: faults, MaxAttempts: j.MaxAttempts, AckedAt: 0}
		if _, err := before.Next(&consign.Event{Kind: e.Event, Worker: e.Worker}, e.At, &rules); err != nil {
			return fmt.Errorf("the log of job %s: %w", j.ID, err)
		}
		switch e.Event {
		case consign.EventClaim:
			attempt++
		case consign.EventFail, consign.EventReject, consign.EventLeaseLost, consign.EventLimit:
			faults++
		}
		if e.Attempt != attempt {
			return fmt.Errorf("the log of job %s has attempt %d where %d ran", j.ID, e.Attempt, attempt)
		}
		at = e.State
	}
	if !j.Purged && (at != j.State || attempt != j.Attempt || faults != j.Faults) {
		return fmt.Errorf("job %s is %s after %d attempts and %d faults, its log says %s, %d and %d", j.ID, j.State, j.Attempt, j.Faults, at, attempt, faults)
	}
	return nil
}
