package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Owner checks that a store stays the queue's that ran on it first.
func (s Suite) Owner(t *testing.T) {
	check := func(name string, f func(*testing.T, *place)) {
		t.Run(name, func(t *testing.T) {
			s.run(t, func(t *testing.T) {
				p := &place{open: s.Place(t)}
				p.store = p.open()
				f(t, p)
			})
		})
	}
	check("another identity", anotherIdentity)
	check("no identity", noIdentity)
	check("a key that is lost", lostKey)
	check("many at once", manyAtOnce)
	check("a document that is none", noDocument)
}

type place struct {
	open  func() consign.Store
	store consign.Store
}

// running is a queue that was started; ended receives what Run returned.
type running struct {
	*consign.Queue
	stop  context.CancelFunc
	ended chan error
}

func (p *place) start(t *testing.T, id *sign.Identity) *running {
	t.Helper()
	q, err := consign.New(consign.Config{Store: p.store, Identity: id, NoReceipts: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{q, cancel, make(chan error, 1)}
	go func() { r.ended <- q.Run(ctx) }()
	return r
}

// runs ends the queue, and reports whether it had started: then it answers.
func (r *running) runs() error {
	_, err := r.Submitter("acme").Explain(context.Background(), consign.NewJobID())
	r.stop()
	if end := <-r.ended; !errors.Is(end, context.Canceled) || !errors.Is(err, consign.ErrNotFound) {
		return errors.Join(end, err)
	}
	return nil
}

// refused is the *FieldError that a start ended with.
func (r *running) refused() (*consign.FieldError, error) {
	defer r.stop()
	err := r.runs()
	f, ok := errors.AsType[*consign.FieldError](err)
	if !ok || f.Field != "config.identity" || !errors.Is(err, consign.ErrClosed) {
		return nil, fmt.Errorf("the start ends with %v", err)
	}
	return f, nil
}

// owner is whose the store is, by its document.
func (p *place) owner(t *testing.T) (string, consign.Doc) {
	t.Helper()
	docs, err := p.store.Docs(t.Context(), consign.DocQueue, "", 10)
	if err != nil || len(docs) > 1 {
		t.Fatal(docs, err)
	}
	if len(docs) == 0 {
		return "", consign.Doc{}
	}
	var body struct{ Queue string }
	if err := json.Unmarshal(docs[0].Body, &body); err != nil {
		t.Fatal(err)
	}
	return body.Queue, docs[0]
}

func (p *place) apply(t *testing.T, d consign.Doc) {
	t.Helper()
	errs, err := p.store.Apply(t.Context(), []consign.Change{{ID: consign.ChangeID(consign.NewJobID()), Docs: []consign.Doc{d}}})
	if err = errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

func queueID(n byte) string { return consign.QueueIDOf(identity(n).Public()).String() }

func anotherIdentity(t *testing.T, p *place) {
	for round := range 3 {
		if err := p.start(t, identity(1)).runs(); err != nil {
			t.Fatal(err)
		}
		f, err := p.start(t, identity(2)).refused()
		if err != nil {
			t.Fatal(err)
		}
		if text := f.Error(); !strings.Contains(text, queueID(1)) || !strings.Contains(text, queueID(2)) || f.Remedy == "" {
			t.Errorf("it says: %s", text)
		}
		if name, d := p.owner(t); name != queueID(1) || d.Version != 1 {
			t.Errorf("round %d: the store is that of %s, version %d", round, name, d.Version)
		}
		p.store = p.open() // as after a restart
	}
}

// noIdentity: such a queue leaves no mark, works on any store, and takes in no
// worker where it is not at home.
func noIdentity(t *testing.T, p *place) {
	home := p.start(t, nil)
	if err := register(t.Context(), home.Queue, 7); err != nil {
		t.Errorf("on a store that is nobody's: %v", err)
	}
	if err := home.runs(); err != nil {
		t.Fatal(err)
	}
	if name, _ := p.owner(t); name != "" {
		t.Errorf("the store is that of %s, whose key is gone", name)
	}
	if err := p.start(t, identity(1)).runs(); err != nil {
		t.Fatal(err)
	}
	guest := p.start(t, nil)
	err := register(t.Context(), guest.Queue, 7)
	// Another coordinator may do, so it is nothing that a caller gives up for.
	if _, final := errors.AsType[*consign.FieldError](err); final || !errors.Is(err, consign.ErrClosed) {
		t.Errorf("a worker on another queue's store: %v", err)
	}
	sub := guest.Submitter("acme")
	job, err := sub.Submit(t.Context(), consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := guest.Cancel(t.Context(), job.ID, ""); err != nil || info.State != consign.StateCancelled {
		t.Errorf("a cancel: %v, %v", info.State, err)
	}
	if err := guest.runs(); err != nil {
		t.Error(err)
	}
}

func register(ctx context.Context, q *consign.Queue, n byte) error {
	challenge, err := q.Challenge(ctx)
	if err != nil {
		return err
	}
	id := identity(n)
	signature, err := id.Sign(consign.RegistrationMessage(challenge.Queue, "inproc", challenge.Nonce, nil))
	if err != nil {
		return err
	}
	_, err = q.Register(ctx, consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(),
		Origin: "inproc", Nonce: challenge.Nonce, Signature: signature, Capabilities: capabilities})
	return err
}

// lostKey does what the remedy says.
func lostKey(t *testing.T, p *place) {
	if err := p.start(t, identity(1)).runs(); err != nil {
		t.Fatal(err)
	}
	_, d := p.owner(t)
	p.apply(t, consign.Doc{Kind: d.Kind, Key: d.Key, Version: d.Version + 1})
	if err := p.start(t, identity(2)).runs(); err != nil {
		t.Fatal(err)
	}
	if name, _ := p.owner(t); name != queueID(2) {
		t.Errorf("the store is that of %q", name)
	}
	if _, err := p.start(t, identity(1)).refused(); err != nil {
		t.Error(err)
	}
}

// race lets all find that the store is nobody's, before one makes it its own.
type race struct {
	consign.Store
	begun chan struct{} // closed when all have
	mu    sync.Mutex
	to    int
}

func (r *race) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	d, err := r.Store.Doc(ctx, kind, key)
	if kind == consign.DocQueue {
		r.mu.Lock()
		if r.to--; r.to == 0 {
			close(r.begun)
		}
		r.mu.Unlock()
		<-r.begun
	}
	return d, err
}

// manyAtOnce starts queues of two identities on a store that is nobody's:
// those of one of them run.
func manyAtOnce(t *testing.T, p *place) {
	const queues = 6
	store := p.store
	defer func() { p.store = store }()
	p.store = &race{Store: store, begun: make(chan struct{}), to: queues}
	var group sync.WaitGroup
	var mu sync.Mutex
	ran := map[string]int{}
	for i := range byte(queues) {
		group.Go(func() {
			id := identity(1 + i%2)
			r := p.start(t, id)
			if err := r.runs(); err == nil {
				mu.Lock()
				defer mu.Unlock()
				ran[queueID(1+i%2)]++
			} else if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "config.identity" {
				t.Errorf("queue %d ends with %v", i, err)
			}
		})
	}
	group.Wait()
	name, _ := p.owner(t)
	if len(ran) != 1 || ran[name] != queues/2 {
		t.Errorf("the store is that of %s, and these ran: %v", name, ran)
	}
}

// noDocument: what cannot be read is nobody's leave to start.
func noDocument(t *testing.T, p *place) {
	p.apply(t, consign.Doc{Kind: consign.DocQueue, Key: "id", Version: 1, Body: []byte(`{"queue":7}`)})
	err := p.start(t, identity(1)).runs()
	if err == nil || !strings.Contains(err.Error(), consign.DocQueue) {
		t.Errorf("it ends with %v", err)
	}
}
