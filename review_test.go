package consign_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

// takes reports whether the worker of a session gets a job that is there, and
// completes it.
func (p *couple) takes(q *consign.Queue, s consign.Session) error {
	p.submit(q)
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	a, err := s.Claim(ctx)
	if err != nil {
		return err
	}
	return complete(p.t.Context(), s, a)
}

// A worker that was removed gets no job at any queue of the store, nor a new
// session, and is told why; one that was cleared works again. What it runs goes
// on.
func TestReview(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memdb.New()
		p := newCouple(t, store, store, nil)
		id := seededIdentity(1)
		worker := consign.WorkerID(id.Public().ID())
		if _, err := p.a.Review(t.Context(), worker, consign.EvidenceRemove, ""); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("removal of a worker that is not known: %v", err)
		}
		at := map[*consign.Queue]consign.Session{p.a: openSession(t, p.a, id, benchCaps), p.b: openSession(t, p.b, id, benchCaps)}
		p.submit(p.a)
		running, err := at[p.b].Claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		go func() { _, err := at[p.a].Claim(t.Context()); waiting <- err }()
		time.Sleep(time.Second)
		record, err := p.a.Review(t.Context(), worker, consign.EvidenceRemove, "its key was stolen")
		if err != nil || record.Standing.State() != consign.StandingRemoved {
			t.Fatalf("%+v, %v", record, err)
		}
		if err := inTime(time.Millisecond, waiting); !errors.Is(err, consign.ErrRemoved) || !strings.Contains(err.Error(), "its key was stolen") {
			t.Errorf("its claim that waits: %v", err)
		}
		time.Sleep(time.Second + time.Millisecond) // the other queue looks
		for q, s := range at {
			if err := p.takes(q, s); !errors.Is(err, consign.ErrRemoved) || !strings.Contains(err.Error(), "its key was stolen") {
				t.Errorf("it claims: %v", err)
			}
			if err := register(t, q, id); !errors.Is(err, consign.ErrRemoved) || !strings.Contains(err.Error(), "its key was stolen") {
				t.Errorf("it registers: %v", err)
			}
		}
		if err := complete(t.Context(), at[p.b], running); err != nil {
			t.Errorf("what it ran: %v", err)
		}
		if record, err = p.b.Review(t.Context(), worker, consign.EvidenceClear, ""); err != nil || record.Standing.State() != consign.StandingActive || record.Reason != "" {
			t.Fatalf("%+v, %v", record, err)
		}
		time.Sleep(time.Second + time.Millisecond)
		for q, s := range at {
			if err := errors.Join(p.takes(q, s), register(t, q, id)); err != nil {
				t.Errorf("cleared: %v", err)
			}
		}
		if got, err := p.a.Worker(t.Context(), worker); err != nil || got.Standing.Row != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		for kind, bad := range map[consign.EvidenceKind][2]string{consign.EvidenceMatch: {"", "review.kind"}, consign.EvidenceRemove: {"a\x00b", "reason"}, "": {"", "review.kind"}} {
			why, field := bad[0], bad[1]
			if _, err := p.a.Review(t.Context(), worker, kind, why); !isField(err, field) {
				t.Errorf("a review that is %q, because %q: %v", kind, why, err)
			}
		}
	})
}

// A worker that is removed while it registers does not slip through: neither
// where the queue hears of the removal before it knows the worker, nor where its
// document changed in between.
func TestReviewBesideARegistration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memdb.New()
		slow := &lateDoc{Store: store}
		p := newCouple(t, store, slow, nil)
		id := seededIdentity(1)
		openSession(t, p.a, id, benchCaps)
		slow.after = func() { // the document was read, and the answer is on its way
			if _, err := p.a.Review(t.Context(), consign.WorkerID(id.Public().ID()), consign.EvidenceRemove, ""); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Second) // the queue looks
		}
		s := openSession(t, p.b, id, benchCaps)
		time.Sleep(2 * time.Second)
		if err := p.takes(p.b, s); !errors.Is(err, consign.ErrRemoved) {
			t.Errorf("it claims: %v", err)
		}
	})
}

// lateDoc is a store whose next answer about a worker comes late.
type lateDoc struct {
	consign.Store
	after func()
}

func (s *lateDoc) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	d, err := s.Store.Doc(ctx, kind, key)
	if f := s.after; f != nil && kind == consign.DocWorker {
		s.after = nil
		f()
	}
	return d, err
}

// register tries to register a worker.
func register(t *testing.T, q *consign.Queue, id *sign.Identity) error {
	t.Helper()
	_, err := q.Register(t.Context(), registration(t, q, id, benchCaps))
	return err
}
