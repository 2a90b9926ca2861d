package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
)

const (
	poll       = time.Second     // how late a delivery may be, beside its own time
	atOnce     = 256             // tries under way
	perAccount = 16              // of one account, and how many of it one sweep starts
	pageSize   = 64              // documents read at once
	grace      = 5 * time.Second // to write what came of a try
)

// turns bounds the tries under way, in all and of each account.
type turns struct {
	slots chan struct{}
	ended chan struct{} // holds one token: an account that was full has had room since it was taken

	mu   sync.Mutex
	busy map[string]int // tries under way, by account
}

func newTurns() turns {
	return turns{slots: make(chan struct{}, atOnce), ended: make(chan struct{}, 1), busy: map[string]int{}}
}

func (t *turns) full(account string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy[account] >= perAccount
}

// begin waits for a slot.
func (t *turns) begin(ctx context.Context, account string) error {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[account]++
	return nil
}

func (t *turns) end(account string) {
	t.mu.Lock()
	wasFull := t.busy[account] >= perAccount
	if t.busy[account]--; t.busy[account] == 0 {
		delete(t.busy, account)
	}
	t.mu.Unlock()
	<-t.slots
	if !wasFull {
		return
	}
	select {
	case t.ended <- struct{}{}:
	default:
	}
}

// left says why a sweep did not start all that is due.
type left int

const (
	leftNothing left = iota
	leftFull         // accounts have as many tries under way as they may
	leftTurn         // accounts have had their turn: the next sweep can start more
)

// sweep starts what is due, of each account as much as it may have. It goes
// through the outbox once, and steps over what an account cannot start now
// without reading it, minute by minute (consign.OutboxKey). What goes wrong with
// one delivery does not keep it from the others; the error tells of the last.
func (s *Sender) sweep(ctx context.Context, group *sync.WaitGroup) (rest left, failed error) {
	started := map[string]int{}
	for after := ""; ; {
		docs, err := s.cfg.Store.Docs(ctx, consign.DocWebhook, after, pageSize)
		if err != nil {
			return rest, err
		}
		now := consign.At(time.Now())
		minute := consign.OutboxKey(now, "", consign.JobID{})[:minuteSize]
		for _, doc := range docs {
			if doc.Key <= after {
				continue // stepped over
			}
			if len(doc.Key) == keySize && doc.Key[:minuteSize] > minute {
				return rest, failed // later, and so are all that follow
			}
			after = doc.Key
			d, ok := read(doc)
			if !ok {
				s.cfg.Logger.Error("webhook: an entry of the outbox cannot be read, and is dropped", "key", doc.Key)
				if err := s.write(ctx, remove(doc)); err != nil && !errors.Is(err, consign.ErrVersion) {
					failed = err
				}
				continue
			}
			overTurn := doc.Key[:consign.OutboxTurn] + "~"
			switch {
			case doc.Key >= consign.OutboxKey(now+1, d.Account, consign.JobID{}): // later in this minute
				after = overTurn
				continue
			case started[d.Account] >= perAccount:
				after, rest = overTurn, leftTurn
				continue
			case s.turns.full(d.Account):
				after, rest = overTurn, max(rest, leftFull)
				continue
			}
			if err := s.start(ctx, d, doc, group); err != nil {
				after, failed = overTurn, err // with the store or with this one: others may fare better
				continue
			}
			started[d.Account]++
		}
		if len(docs) < pageSize || ctx.Err() != nil {
			return rest, failed
		}
	}
}

// minuteSize is how many bytes of a key are its minute, keySize how many it has.
const minuteSize, keySize = 20, consign.OutboxTurn + 8 + 1 + 36

// read returns what a document says, if it is one of the outbox's.
func read(doc consign.Doc) (d consign.Delivery, ok bool) {
	err := json.Unmarshal(doc.Body, &d)
	return d, err == nil && len(doc.Key) == keySize
}

// start makes a try, unless another Sender was faster.
func (s *Sender) start(ctx context.Context, d consign.Delivery, doc consign.Doc, group *sync.WaitGroup) error {
	if err := s.turns.begin(ctx, d.Account); err != nil {
		return err
	}
	taken, err := s.take(ctx, &d, doc)
	if err != nil || taken == nil {
		s.turns.end(d.Account)
		return err
	}
	group.Go(func() {
		defer s.turns.end(d.Account)
		s.deliver(ctx, d, *taken)
	})
	return nil
}

// take moves a delivery that is due out of the way of other Senders, for as
// long as a try may take. It returns nil where another one was faster.
func (s *Sender) take(ctx context.Context, d *consign.Delivery, doc consign.Doc) (taken *consign.Doc, err error) {
	d.Tries++
	next := entry(*d, time.Now().Add(s.cfg.Timeout+grace))
	err = s.write(ctx, remove(doc), next)
	if errors.Is(err, consign.ErrVersion) {
		return nil, nil
	}
	return &next, err
}

func remove(doc consign.Doc) consign.Doc {
	return consign.Doc{Kind: doc.Kind, Key: doc.Key, Version: doc.Version + 1}
}

// entry is a delivery's document.
func entry(d consign.Delivery, due time.Time) consign.Doc {
	body, err := json.Marshal(d)
	if err != nil {
		panic("webhook: " + err.Error()) // never: a Delivery is a plain struct
	}
	return consign.Doc{Kind: consign.DocWebhook, Key: consign.OutboxKey(consign.At(due), d.Account, d.Job), Version: 1, Body: body}
}

func (s *Sender) write(ctx context.Context, docs ...consign.Doc) error {
	errs, err := s.cfg.Store.Apply(ctx, []consign.Change{{ID: consign.ChangeID(consign.NewClaimID()), Docs: docs}})
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return errs[0]
}
