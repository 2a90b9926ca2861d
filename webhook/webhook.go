// Package webhook tells submitters by HTTP that their jobs have ended, in the
// form of Standard Webhooks 1.0.
//
// A job that was submitted with a webhook puts its end into the store's outbox
// in the change that ends it. A Sender reads the outbox: any number of them may
// run on one store, as the coordinators of one queue do. A message may come more
// than once, with the same ID; it never carries a result or a key, only which
// job has ended how. A delivery goes on to the end of its schedule, whether the
// job is still kept or not.
//
// Accounts take turns: what one account has waiting, and how slow its servers
// are, delays no other's messages by more than a second or so, unless the servers of
// more than a hundred accounts hang at once and hold all 256 tries.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"code.dny.dev/ssrf"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Config is what a Sender is made of. Store, Identity and Seed are required.
type Config struct {
	// Store is the queue's own.
	Store consign.Store
	// Identity is the queue's own: it signs messages.
	Identity *sign.Identity
	// Seed returns what the accounts' secrets follow from, at least 32 random
	// bytes that all Senders of a queue have: Secret("webhook") of the vault,
	// where there is one. It is asked for each message.
	Seed func() []byte

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
	case c.Seed == nil || len(c.Seed()) < seedSize:
		return bad("Seed", fmt.Sprintf("is nil or returns less than %d bytes", seedSize), "give 32 random bytes, as Secret of a vault")
	case c.Timeout < 0 || slices.ContainsFunc(c.Schedule, func(d time.Duration) bool { return d < 0 }):
		return bad("Schedule", "or Timeout is negative", "give times of zero or more")
	}
	return nil
}

// Sender delivers what is in a store's outbox.
type Sender struct {
	cfg    Config
	client *http.Client
	turns  turns
	ahead  atomic.Int64 // how far the store's clock is, in nanoseconds
}

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
	return &Sender{cfg: c, turns: newTurns(), client: &http.Client{
		Timeout: c.Timeout,
		Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConns: atOnce, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10},
		// A redirect could lead anywhere: it is a failure like any other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Run delivers until ctx is done, and returns its error. What is under way then
// is tried again by the next Run.
func (s *Sender) Run(ctx context.Context) error {
	r := &round{Sender: s, behind: map[string]string{}}
	defer r.group.Wait()
	defer s.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	atOnce := make(chan struct{})
	close(atOnce)
	var forgot time.Time
	var turn <-chan struct{} // nil while no account is behind
	failing := false         // and it was logged
	for {
		var failed error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			failed = r.look(ctx)
			if failed == nil && time.Since(forgot) >= goneLook {
				forgot = time.Now()
				failed = s.forget(ctx)
			}
			timer.Reset(poll)
		case <-turn:
		}
		more, err := r.goOn(ctx)
		if failed = errors.Join(failed, err); failed != nil {
			r.swept = time.Time{} // the next sweep is one of all
		}
		switch {
		case failed != nil && !failing && ctx.Err() == nil:
			s.cfg.Logger.Warn("webhook: the outbox cannot be read or written, trying on", "error", failed)
			failing = true
		case failed == nil && failing:
			s.cfg.Logger.Info("webhook: the outbox can be read and written again")
			failing = false
		}
		switch {
		case more:
			turn = atOnce
		case failed != nil || len(r.behind) == 0:
			turn = nil
		default:
			turn = s.turns.ended
		}
	}
}

// now is the time by which the outbox goes: the store's, where it has a clock of
// its own, since the queues that fill it go by that.
func (s *Sender) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *Sender) readClock(ctx context.Context) error {
	clock, own := s.cfg.Store.(consign.Clock)
	if !own {
		return nil
	}
	there, err := clock.Now(ctx)
	if err == nil {
		s.ahead.Store(int64(there.Sub(consign.At(time.Now()))))
	}
	return err
}

// Enable calls a URL again that has answered 410 Gone, before the three days
// are over for which it is not called.
func (s *Sender) Enable(ctx context.Context, account, url string) error {
	doc, err := s.cfg.Store.Doc(ctx, docGone, goneKey(account, url))
	if err != nil || doc.Version == 0 {
		return err
	}
	return s.write(ctx, remove(doc))
}
