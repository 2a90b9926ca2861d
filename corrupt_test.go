package consign_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// What cannot be read costs itself, and nothing that is read with it (River
// #1324).

// A pairing that cannot be read trusts nobody, is logged once, and keeps no
// other from being taken in: at the start, or from another queue. To pair again
// repairs it.
func TestBadPairingCostsItself(t *testing.T) {
	worker := consign.WorkerID(seededIdentity(10).Public().ID())
	good := consign.Pairing{Account: "acme", Worker: worker}
	private := func(t *testing.T, q *consign.Queue, account string) error {
		_, err := q.Submitter(account).Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("secret"),
			Custody: consign.CustodyPlain, Privacy: consign.PrivacyPrivate})
		return err
	}
	for name, body := range map[string]string{
		"not JSON":         "soon",
		"another's":        `{"account":"foe","worker_id":"` + worker.String() + `"}`,
		"another type":     `{"account":7}`,
		"of no worker yet": `{}`,
	} {
		for _, running := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					ctx, store := t.Context(), memdb.New()
					bad := consign.Doc{Kind: consign.DocPairing, Key: "aaa/" + worker.String(), Version: 1, Body: []byte(body)} // the first
					damage := func() {
						errs, err := store.Apply(ctx, []consign.Change{{Docs: []consign.Doc{bad}, Counters: []consign.Delta{{Counter: "queue/admin", Add: 1}}}})
						if err := errors.Join(append(errs, err)...); err != nil {
							t.Fatal(err)
						}
					}
					if !running {
						damage()
					}
					var logged lockedBuffer
					quiet := consign.Config{Store: store, Identity: seededIdentity(1)}
					loud := quiet
					loud.Logger = slog.New(slog.NewTextHandler(&logged, nil))
					other, q := startQueue(t, quiet), startQueue(t, loud)
					if running {
						time.Sleep(2 * time.Second)
						damage()
					}
					if err := errors.Join(other.Pair(ctx, good), other.Pause(ctx, "kind/X")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(10 * time.Second)
					if err := private(t, q, "acme"); err != nil {
						t.Error("a good pairing is not taken in:", err)
					}
					for _, account := range []string{"aaa", "foe"} {
						if err := private(t, q, account); !errors.Is(err, consign.ErrNoWorker) {
							t.Errorf("a job of %s is taken: %v", account, err)
						}
					}
					if n := strings.Count(logged.String(), bad.Key); n != 1 {
						t.Errorf("it is logged %d times: %s", n, logged.String())
					}
					if all, err := q.Submitter("aaa").Pairings(ctx); len(all) > 0 || err != nil {
						t.Errorf("the account's pairings are %v, %v", all, err)
					}
					if err := other.Pair(ctx, consign.Pairing{Account: "aaa", Worker: worker}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
					if err := private(t, q, "aaa"); err != nil {
						t.Error("to pair again does not repair it:", err)
					}
				})
			})
		}
	}
}

// lockedBuffer is written to by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// holey is a store that cannot read the specs of some jobs.
type holey struct {
	consign.Store
	mu   sync.Mutex
	lost map[consign.JobID]bool
}

func (s *holey) Specs(ctx context.Context, ids []consign.JobID) ([]*consign.Spec, error) {
	specs, err := s.Store.Specs(ctx, ids)
	specs = append([]*consign.Spec{}, specs...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		if err == nil && s.lost[id] {
			specs[i] = nil
		}
	}
	return specs, err
}

// A job whose spec cannot be read is nobody's: it fails, its credit comes back,
// and the worker that claimed it gets the next one.
func TestLostSpecCostsItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		holes := &holey{Store: memdb.New(), lost: map[consign.JobID]bool{}}
		r := newRig(t, func(r *rig) { r.store.Store = holes })
		defer r.stop()
		r.credit(10 * rigPrice)
		h, _ := r.quiet(r.q)
		var lost []consign.JobID
		for range 2 {
			lost = append(lost, r.submit(r.request()).ID)
			holes.lost[lost[len(lost)-1]] = true
			time.Sleep(time.Second) // they are first in line
		}
		good := r.submit(r.request()).ID
		a, err := h.session.Claim(t.Context())
		if err != nil || a.Job != good {
			t.Fatalf("the worker gets job %s, %v", a.Job, err)
		}
		time.Sleep(time.Second)
		for _, id := range lost {
			if info := r.wait(id); info.State != consign.StateFailed || info.Attempts != 1 || !strings.Contains(info.Reason, "payload could not be read") {
				t.Errorf("job %s is %s after %d attempts: %s", id, info.State, info.Attempts, info.Reason)
			}
		}
		if b, err := r.q.Balance(t.Context(), "acme"); err != nil || b.Held != rigPrice || b.Available != 9*rigPrice {
			t.Errorf("the balance is %+v, %v", b, err)
		}
	})
}
