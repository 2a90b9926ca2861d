// Package webhook tells submitters by HTTP that their jobs have ended, in the
// form of Standard Webhooks 1.0.
//
// A job that was submitted with a webhook puts its end into the store's outbox
// in the change that ends it. A Sender reads the outbox: any number of them may
// run on one store, as the coordinators of one queue do. A message may come more
// than once, with the same ID; it never carries a result or a key, only which
// job has ended how.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"code.dny.dev/ssrf"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Config is what a Sender is made of. Store and Identity are required.
type Config struct {
	// Store is the queue's own.
	Store consign.Store
	// Identity is the queue's own: it signs messages, and accounts' secrets
	// follow from it.
	Identity *sign.Identity

	// Schedule is how long to wait before each try, counted from the one
	// before. Defaults to 0 s, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h,
	// 24 h.
	Schedule []time.Duration
	// Timeout bounds one try. Defaults to 15 s.
	Timeout time.Duration
	// AnyAddress allows private and special addresses too, where submitters are
	// trusted. Defaults to refusing them when they are dialled, whatever name
	// led there.
	AnyAddress bool
	// Logger hears of deliveries that failed. Defaults to discarding it.
	Logger *slog.Logger
}

var defaultSchedule = []time.Duration{0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour}

func (c Config) withDefaults() Config {
	if c.Schedule == nil {
		c.Schedule = defaultSchedule
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) validate() error {
	bad := func(field, problem, remedy string) error {
		return &consign.FieldError{Field: "webhook.Config." + field, Problem: problem, Remedy: remedy}
	}
	switch {
	case c.Store == nil:
		return bad("Store", "is nil", "give the queue's store")
	case c.Identity == nil || c.Identity.Public().Algorithm() == "":
		return bad("Identity", "is empty", "give the queue's identity")
	case c.Timeout < 0 || slices.ContainsFunc(c.Schedule, func(d time.Duration) bool { return d < 0 }):
		return bad("Schedule", "or Timeout is negative", "give times of zero or more")
	}
	return nil
}

// Sender delivers what is in a store's outbox.
type Sender struct {
	cfg    Config
	client *http.Client
	slots  chan struct{} // tries under way
}

const (
	poll     = time.Second // how late a delivery may be, beside its own time
	atOnce   = 32          // tries at the same time
	pageSize = 100
)

// New checks the configuration. It returns a *consign.FieldError for a bad one,
// and calls nothing.
func New(c Config) (*Sender, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: c.Timeout}
	if !c.AnyAddress {
		dialer.Control = ssrf.New(ssrf.WithAnyPort()).Safe
	}
	return &Sender{cfg: c, slots: make(chan struct{}, atOnce), client: &http.Client{
		Timeout:   c.Timeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second},
		// A redirect could lead anywhere: it is a failure like any other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Run delivers until ctx is done, and returns its error. What is under way then
// is tried again by the next Run.
func (s *Sender) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	defer s.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		more, err := s.round(ctx, &group)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("webhook: the outbox cannot be read, trying on", "error", err)
		}
		if more {
			timer.Reset(0)
		} else {
			timer.Reset(poll)
		}
	}
}

// Enable calls a URL again that has answered 410 Gone.
func (s *Sender) Enable(ctx context.Context, account, url string) error {
	doc, err := s.cfg.Store.Doc(ctx, docGone, goneKey(account, url))
	if err != nil || doc.Version == 0 {
		return err
	}
	return s.write(ctx, remove(doc))
}

// round starts what is due. It reports whether there may be more.
func (s *Sender) round(ctx context.Context, group *sync.WaitGroup) (more bool, err error) {
	docs, err := s.cfg.Store.Docs(ctx, consign.DocWebhook, "", pageSize)
	if err != nil {
		return false, err
	}
	// Keys begin with their times: whatever is before this one is due.
	due := consign.OutboxKey(consign.At(time.Now())+1, consign.JobID{})
	for _, doc := range docs {
		if doc.Key >= due {
			return false, nil
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return false, nil
		}
		d, taken, err := s.take(ctx, doc)
		if err != nil || taken == nil {
			<-s.slots
			if err != nil {
				return false, err
			}
			continue
		}
		group.Go(func() {
			defer func() { <-s.slots }()
			s.deliver(ctx, d, *taken)
		})
	}
	return len(docs) == pageSize, nil
}

// take moves a delivery that is due out of the way of other Senders, for as
// long as a try may take. It returns nil where another one was faster.
func (s *Sender) take(ctx context.Context, doc consign.Doc) (d consign.Delivery, taken *consign.Doc, err error) {
	if err := json.Unmarshal(doc.Body, &d); err != nil {
		s.cfg.Logger.Error("webhook: an entry of the outbox cannot be read, and is dropped", "key", doc.Key, "error", err)
		return d, nil, s.write(ctx, remove(doc))
	}
	d.Tries++
	next := s.doc(d, time.Now().Add(2*s.cfg.Timeout+poll))
	err = s.write(ctx, remove(doc), next)
	if errors.Is(err, consign.ErrVersion) {
		return d, nil, nil
	}
	return d, &next, err
}

// deliver makes one try, and settles what becomes of the delivery.
func (s *Sender) deliver(ctx context.Context, d consign.Delivery, taken consign.Doc) {
	outcome := s.try(ctx, d)
	if ctx.Err() != nil {
		return // nobody knows what came of it: it is tried again
	}
	log := s.cfg.Logger.With("job", d.Job, "account", d.Account, "try", d.Tries)
	docs := []consign.Doc{remove(taken)}
	switch {
	case outcome == nil:
	case errors.Is(outcome, errOver) || d.Tries >= len(s.cfg.Schedule):
		log.Error("webhook: given up", "error", outcome)
	default:
		wait := s.cfg.Schedule[d.Tries]
		log.Info("webhook: not delivered, it is tried again", "after", wait, "error", outcome)
		docs = append(docs, s.doc(d, time.Now().Add(wait)))
	}
	if err := s.write(ctx, docs...); err != nil && !errors.Is(err, consign.ErrVersion) && ctx.Err() == nil {
		log.Warn("webhook: the outbox cannot be written, the message comes again", "error", err)
	}
}

func remove(doc consign.Doc) consign.Doc {
	return consign.Doc{Kind: doc.Kind, Key: doc.Key, Version: doc.Version + 1}
}

func (s *Sender) doc(d consign.Delivery, due time.Time) consign.Doc {
	body, err := json.Marshal(d)
	if err != nil {
		panic("webhook: " + err.Error()) // never: a Delivery is a plain struct
	}
	return consign.Doc{Kind: consign.DocWebhook, Key: consign.OutboxKey(consign.At(due), d.Job), Version: 1, Body: body}
}

func (s *Sender) write(ctx context.Context, docs ...consign.Doc) error {
	errs, err := s.cfg.Store.Apply(ctx, []consign.Change{{ID: consign.ChangeID(consign.NewClaimID()), Docs: docs}})
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	return errs[0]
}
