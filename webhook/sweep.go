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
	whole      = time.Minute     // between sweeps of all the outbox; the others begin where the last one ended
	atOnce     = 256             // tries under way
	perAccount = 16              // of one account, and how many of it are started before the others' turn
	pageSize   = 64              // documents read at once
	maxReads   = 64              // of the store, for one account's turn
	grace      = 5 * time.Second // to write what came of a try
)

// turns bounds the tries under way, in all and of each account.
type turns struct {
	ended chan struct{} // holds one token: a try has ended since it was taken

	mu   sync.Mutex
	all  int            // tries under way
	busy map[string]int // and by account
}

func newTurns() turns {
	return turns{ended: make(chan struct{}, 1), busy: map[string]int{}}
}

// full reports whether an account must wait. Half of all slots are for accounts
// that have no try under way, so that a few accounts whose servers hang cannot
// hold all.
func (t *turns) full(account string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.busy[account] {
	case 0:
		return t.all >= atOnce
	case perAccount:
		return true
	}
	return t.all >= atOnce/2
}

func (t *turns) begin(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all++
	t.busy[account]++
}

func (t *turns) end(account string) {
	t.mu.Lock()
	t.all--
	if t.busy[account]--; t.busy[account] == 0 {
		delete(t.busy, account)
	}
	t.mu.Unlock()
	select {
	case t.ended <- struct{}{}:
	default:
	}
}

// round is what one Run knows of the outbox.
type round struct {
	*Sender
	group sync.WaitGroup
	// behind has the accounts of which more is due than could be started, and
	// after which key that begins. Sweeps step over them; goOn sees to them.
	behind map[string]string
	swept  time.Time // when the last sweep without an error began, zero if there was an error since
	all    time.Time // when the last one of all the outbox began
}

// look sweeps the outbox: all of it now and then, in between what has come due
// since the last sweep, with a minute for clocks that differ.
func (r *round) look(ctx context.Context) error {
	if err := r.readClock(ctx); err != nil {
		return err
	}
	now, from := r.now(), ""
	if !r.swept.IsZero() && now.Sub(r.all) < whole {
		from = consign.OutboxKey(consign.At(r.swept.Add(-time.Minute)), "", consign.JobID{})[:minuteSize]
	} else {
		r.all = now
	}
	r.swept = now
	return r.sweep(ctx, from)
}

// sweep starts what is due after a key, of each account as much as it may have,
// and notes which accounts have more. It steps over what those have without
// reading it, minute by minute (consign.OutboxKey). What goes wrong with one
// delivery does not keep it from the others; the error tells of the last.
func (r *round) sweep(ctx context.Context, after string) (failed error) {
	started := map[string]int{}
	for size := pageSize; ; {
		docs, err := r.cfg.Store.Docs(ctx, consign.DocWebhook, after, size)
		if err != nil {
			return err
		}
		now := consign.At(r.now())
		minute := consign.OutboxKey(now, "", consign.JobID{})[:minuteSize]
		more := len(docs) == size
		for _, doc := range docs {
			if doc.Key <= after {
				continue // stepped over
			}
			if len(doc.Key) == keySize && doc.Key[:minuteSize] > minute {
				return failed // later, and so are all that follow
			}
			after = doc.Key
			d, ok := read(doc)
			if !ok {
				r.cfg.Logger.Error("webhook: an entry of the outbox cannot be read, and is dropped", "key", doc.Key)
				if err := r.write(ctx, remove(doc)); err != nil && !errors.Is(err, consign.ErrVersion) {
					failed = err
				}
				continue
			}
			turn := doc.Key[:consign.OutboxTurn]
			begins, behind := r.behind[d.Account]
			switch {
			case doc.Key >= consign.OutboxKey(now+1, d.Account, consign.JobID{}): // later in this minute
				after = turn + "~"
			case behind:
				after, r.behind[d.Account] = turn+"~", min(begins, turn)
			case started[d.Account] >= perAccount || r.turns.full(d.Account):
				after, r.behind[d.Account] = turn+"~", turn
			default:
				started[d.Account]++
				if err := r.start(ctx, d, doc); err != nil { // with the store or with this one: others may fare better
					after, r.behind[d.Account], failed = turn+"~", doc.Key, err
				}
			}
		}
		if !more || ctx.Err() != nil {
			return failed
		}
		if size = min(2*size, pageSize); after > docs[len(docs)-1].Key {
			size = 1 // what follows may be to be stepped over too
		}
	}
}

// goOn gives each account that is behind a turn, if it is not full. It reports
// whether one could have another turn at once.
func (r *round) goOn(ctx context.Context) (more bool, failed error) {
	for account, after := range r.behind {
		if r.turns.full(account) {
			continue
		}
		next, err := r.turn(ctx, account, after)
		switch {
		case err != nil:
			r.behind[account], failed = next, err
		case next == "":
			delete(r.behind, account)
		default:
			r.behind[account] = next
			more = more || !r.turns.full(account)
		}
	}
	return more && failed == nil, failed
}

// turn starts what an account has due after a key, as much as it may have. It
// returns after which key to go on, "" if nothing more is due.
func (r *round) turn(ctx context.Context, account, after string) (next string, err error) {
	name := consign.OutboxKey(0, account, consign.JobID{})[minuteSize:consign.OutboxTurn]
	started := 0
	for range maxReads {
		docs, err := r.cfg.Store.Docs(ctx, consign.DocWebhook, after, perAccount)
		if err != nil {
			return after, err
		}
		due := consign.OutboxKey(consign.At(r.now())+1, account, consign.JobID{})
		for _, doc := range docs {
			if len(doc.Key) != keySize { // a sweep drops it
				after = doc.Key
				continue
			}
			minute := doc.Key[:minuteSize]
			if minute > due[:minuteSize] {
				return "", nil
			}
			if doc.Key[minuteSize:consign.OutboxTurn] != name { // of another account: on to this one's in that minute, or to the next minute
				if after = minute + name; after < doc.Key {
					after = minute + "~"
				}
				break
			}
			if doc.Key >= due {
				return "", nil
			}
			if started == perAccount || r.turns.full(account) {
				return after, nil
			}
			after = doc.Key
			d, ok := read(doc)
			if !ok {
				continue // a sweep drops it
			}
			if err := r.start(ctx, d, doc); err != nil {
				return after, err
			}
			started++
		}
		if len(docs) == 0 {
			return "", nil
		}
	}
	return after, nil
}

// minuteSize is how many bytes of a key are its minute, keySize how many it has.
const minuteSize, keySize = 20, consign.OutboxTurn + 8 + 1 + 36

// read returns what a document says, if it is one of the outbox's.
func read(doc consign.Doc) (d consign.Delivery, ok bool) {
	err := json.Unmarshal(doc.Body, &d)
	return d, err == nil && len(doc.Key) == keySize
}

// start makes a try, unless another Sender was faster.
func (r *round) start(ctx context.Context, d consign.Delivery, doc consign.Doc) error {
	r.turns.begin(d.Account)
	taken, err := r.take(ctx, &d, doc)
	if err != nil || taken == nil {
		r.turns.end(d.Account)
		return err
	}
	r.group.Go(func() {
		defer r.turns.end(d.Account)
		r.deliver(ctx, d, *taken)
	})
	return nil
}

// take moves a delivery that is due out of the way of other Senders, for as
// long as a try may take. It returns nil where another one was faster.
func (s *Sender) take(ctx context.Context, d *consign.Delivery, doc consign.Doc) (taken *consign.Doc, err error) {
	d.Tries++
	next := entry(*d, s.now().Add(s.cfg.Timeout+grace))
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
