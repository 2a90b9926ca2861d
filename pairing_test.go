package consign_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

// pairWorld is a queue with two submitters and a worker.
type pairWorld struct {
	store *dumpStore
	q     *consign.Queue
	acme  consign.SubmitterAPI
	other consign.SubmitterAPI
	key   *sign.Identity // the worker's
	w     consign.Session
	me    []byte // acme's key
}

func inPairWorld(t *testing.T, test func(t *testing.T, w *pairWorld)) {
	bubble(t, func(t *testing.T) {
		w := &pairWorld{store: newDumpStore(), key: seededIdentity(10), me: seededIdentity(20).Public().Bytes()}
		q, stop := startQueueStop(t, consign.Config{Store: w.store, Identity: seededIdentity(1)})
		defer stop()
		w.q, w.acme, w.other = q, q.Submitter("acme"), q.Submitter("other")
		w.w = openSession(t, q, w.key, anyTask)
		test(t, w)
	})
}

// private says what a PRIVATE submit of acme's comes to.
func (w *pairWorld) private() error {
	_, err := w.acme.Submit(context.Background(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("secret"), Custody: consign.CustodyPlain, Privacy: consign.PrivacyPrivate})
	return err
}

func (w *pairWorld) offer(t *testing.T) string {
	t.Helper()
	c, err := w.acme.NewPairing(context.Background(), w.me)
	if err != nil {
		t.Fatal(err)
	}
	return c.Code
}

// PRIVATE jobs flow from the confirmation on, and no sooner; a revoked pairing
// ends them.
func TestPairing(t *testing.T) {
	inPairWorld(t, func(t *testing.T, w *pairWorld) {
		ctx := context.Background()
		code := w.offer(t)
		if err := w.private(); !errors.Is(err, consign.ErrNoWorker) {
			t.Errorf("PRIVATE with an open code: %v", err)
		}
		p, err := w.w.ClaimPairing(ctx, " "+strings.ToLower(code)+" ") // as people type
		if err != nil || !p.Pending || p.Account != "" || !bytes.Equal(p.Submitter, w.me) || p.SubmitterFingerprint != seededIdentity(20).Public().Fingerprint() {
			t.Fatalf("the worker gets %+v, %v", p, err)
		}
		if err := w.private(); !errors.Is(err, consign.ErrNoWorker) {
			t.Errorf("PRIVATE with a pending pairing: %v", err)
		}
		if k, err := w.acme.Keys(ctx); err != nil || len(k.Workers) != 0 {
			t.Errorf("keys of a pending worker: %+v, %v", k, err)
		}
		id := consign.WorkerID(w.key.Public().ID())
		if _, err := w.acme.ConfirmPairing(ctx, id, seededIdentity(11).Public().Fingerprint()); !isField(err, "fingerprint") {
			t.Errorf("another's fingerprint: %v", err)
		}
		if _, err := w.other.ConfirmPairing(ctx, id, w.key.Public().Fingerprint()); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("confirmed by another account: %v", err)
		}
		for range 2 {
			p, err := w.acme.ConfirmPairing(ctx, id, strings.ToLower(w.key.Public().Fingerprint()))
			if err != nil || p.Pending {
				t.Fatalf("confirmed as %+v, %v", p, err)
			}
		}
		if err := w.private(); err != nil {
			t.Errorf("PRIVATE with a confirmed pairing: %v", err)
		}
		if list, err := w.acme.Pairings(ctx); err != nil || len(list) != 1 || list[0].Worker != id {
			t.Errorf("pairings: %+v, %v", list, err)
		}
		if list, err := w.other.Pairings(ctx); err != nil || len(list) != 0 {
			t.Errorf("another account's pairings: %+v, %v", list, err)
		}
		for range 2 {
			if err := w.acme.RevokePairing(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.private(); !errors.Is(err, consign.ErrNoWorker) {
			t.Errorf("PRIVATE with a revoked pairing: %v", err)
		}
	})
}

// A code is good once, for ten minutes, and the store never has it.
func TestPairingCodes(t *testing.T) {
	inPairWorld(t, func(t *testing.T, w *pairWorld) {
		ctx := context.Background()
		first := w.offer(t)
		for what, text := range w.store.dump(t) {
			if strings.Contains(text, first) || strings.Contains(text, strings.ReplaceAll(first, "-", "")) {
				t.Errorf("the code is stored in %s", what)
			}
		}
		codes := []string{first}
		for range 4 {
			codes = append(codes, w.offer(t))
		}
		if _, err := w.acme.NewPairing(ctx, w.me); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("a sixth code: %v", err)
		}
		if _, err := w.other.NewPairing(ctx, seededIdentity(30).Public().Bytes()); err != nil {
			t.Errorf("a code of another account: %v", err)
		}
		if _, err := w.w.ClaimPairing(ctx, first); err != nil {
			t.Fatal(err)
		}
		if _, err := w.w.ClaimPairing(ctx, first); !isField(err, "code") {
			t.Errorf("a code that was used: %v", err)
		}
		w.offer(t) // there is room again
		time.Sleep(10*time.Minute + time.Second)
		if _, err := w.w.ClaimPairing(ctx, codes[1]); !isField(err, "code") {
			t.Errorf("a code that has expired: %v", err)
		}
		for range 5 {
			w.offer(t)
		}
		kept, err := w.store.Docs(ctx, consign.DocPairingCode, "", 100)
		if err != nil || len(kept) != 6 { // five of acme's and the other's, which nobody has asked about since
			t.Errorf("%d codes are kept, %v", len(kept), err)
		}
		if _, err := w.acme.NewPairing(ctx, w.me[:31]); !isField(err, "submitter") {
			t.Errorf("a key of 31 bytes: %v", err)
		}
	})
}

// One worker that guesses is stopped; many are slowed down, and one who knows
// a code still gets in.
func TestPairingGuesses(t *testing.T) {
	inPairWorld(t, func(t *testing.T, w *pairWorld) {
		ctx := context.Background()
		guess := func(s consign.Session, n int) error {
			_, err := s.ClaimPairing(ctx, fmt.Sprintf("BBBBB-BBB%02d", n))
			return err
		}
		for i := range 5 {
			if err := guess(w.w, i); !isField(err, "code") {
				t.Fatalf("guess %d: %v", i, err)
			}
		}
		if _, err := w.w.ClaimPairing(ctx, w.offer(t)); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("a good code after five guesses: %v", err)
		}
		began := time.Now()
		for k := range 20 {
			s := openSession(t, w.q, seededIdentity(uint64(100+k)), anyTask)
			for i := range 5 {
				if err := guess(s, i); !isField(err, "code") {
					t.Fatalf("guess %d of worker %d: %v", i, k, err)
				}
			}
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("100 guesses took %v", took)
		}
		honest := openSession(t, w.q, seededIdentity(200), anyTask)
		if _, err := honest.ClaimPairing(ctx, w.offer(t)); err != nil {
			t.Errorf("a good code among guesses: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := w.w.ClaimPairing(ctx, w.offer(t)); err != nil {
			t.Errorf("a good code an hour later: %v", err)
		}
	})
}

// Guesses that a worker makes all at once are counted as well.
func TestPairingGuessesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q, stop := startQueueStop(t, consign.Config{Store: slowDocs{memdb.New()}})
		defer stop()
		w := openSession(t, q, seededIdentity(10), anyTask)
		errs := make([]error, 100)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() { _, errs[i] = w.ClaimPairing(context.Background(), fmt.Sprintf("BBBBB-BBB%02d", i)) })
		}
		group.Wait()
		tried := 0
		for _, err := range errs {
			if isField(err, "code") {
				tried++
			} else if !errors.Is(err, consign.ErrBusy) {
				t.Error(err)
			}
		}
		if tried != 5 {
			t.Errorf("%d codes were tried", tried)
		}
	})
}

// slowDocs takes a second for each document.
type slowDocs struct{ consign.Store }

func (s slowDocs) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	time.Sleep(time.Second)
	return s.Store.Doc(ctx, kind, key)
}

// What was pending is pending, and what was confirmed is confirmed, for the
// next process too.
func TestPairingOutlivesTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		store := memdb.New()
		config := consign.Config{Store: store, Identity: seededIdentity(1)}
		q, stop := startQueueStop(t, config)
		pending, confirmed := seededIdentity(10), seededIdentity(11)
		acme := q.Submitter("acme")
		for _, key := range []*sign.Identity{pending, confirmed} {
			c, err := acme.NewPairing(ctx, seededIdentity(20).Public().Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openSession(t, q, key, anyTask).ClaimPairing(ctx, c.Code); err != nil {
				t.Fatal(err)
			}
		}
		left, err := acme.NewPairing(ctx, seededIdentity(20).Public().Bytes())
		if err != nil {
			t.Fatal(err)
		}
		submit := func(q *consign.Queue) error {
			_, err := q.Submitter("acme").Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain, Privacy: consign.PrivacyPrivate})
			return err
		}
		stop()
		q, stop = startQueueStop(t, config)
		if err := submit(q); !errors.Is(err, consign.ErrNoWorker) {
			t.Errorf("PRIVATE with two pending pairings: %v", err)
		}
		if _, err := q.Submitter("acme").ConfirmPairing(ctx, confirmed.Public().ID(), confirmed.Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
		stop()
		q, stop = startQueueStop(t, config)
		defer stop()
		if err := submit(q); err != nil {
			t.Errorf("PRIVATE with a confirmed pairing: %v", err)
		}
		if _, err := openSession(t, q, seededIdentity(12), anyTask).ClaimPairing(ctx, left.Code); err != nil {
			t.Errorf("a code of the process before: %v", err)
		}
	})
}

func isField(err error, field string) bool {
	f, ok := errors.AsType[*consign.FieldError](err)
	return ok && f.Field == field
}
