package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/retry"
)

// link is a worker's way to its queue: one session at a time, and a new one
// where that has ended.
type link struct {
	cfg      *Config
	keys     *keychain
	claiming context.Context // bounds what a session claims
	opened   chan struct{}   // capacity 1: a session was opened

	turn chan struct{} // capacity 1: held by who registers
	mu   sync.Mutex
	now  *session
}

// session is a Session with a context that ends with it, so that no claim
// hangs in a session that somebody else has found dead. It is left for a new
// one when the key bundle that it registered is to be renewed.
type session struct {
	consign.Session
	queue consign.QueueID // that was registered with
	ctx   context.Context
	end   context.CancelFunc
	renew time.Time
}

func newLink(w *Worker, claiming context.Context) *link {
	return &link{cfg: &w.cfg, keys: w.keys, claiming: claiming, opened: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

func (l *link) current() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil || time.Now().After(l.now.renew) {
		return nil
	}
	return l.now
}

// drop says that a session has ended.
func (l *link) drop(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.close()
	if l.now == s {
		l.now = nil
	}
}

// close ends the current session, if there is one.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now != nil {
		l.now.close()
	}
}

// close ends a session, and the connection that it may hold.
func (s *session) close() {
	s.end()
	if c, ok := s.Session.(io.Closer); ok {
		_ = c.Close() // nobody waits for what it says
	}
}

// session returns the current session, or registers. The error is ctx's, or
// one that ends the worker: a *fatal.
func (l *link) session(ctx context.Context) (*session, error) {
	if s := l.current(); s != nil {
		return s, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s := l.current(); s != nil {
		return s, nil // another goroutine had the turn before
	}
	refused := 0
	s, err := retry.Do(ctx, 0, func() (*session, error) {
		s, err := l.register(ctx)
		if _, bad := errors.AsType[*consign.FieldError](err); !bad {
			refused = 0
		} else if refused++; refused < maxRefused {
			err = errors.New(err.Error()) // no answer yet
		}
		return s, err
	}, func(err error) { l.cfg.Logger.Warn("cannot register yet", "error", err) })
	if retry.Permanent(err) {
		return nil, &fatal{err}
	}
	if err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancel(l.claiming)
	l.mu.Lock()
	if l.now != nil {
		l.now.close()
	}
	l.now = s
	l.mu.Unlock()
	select {
	case l.opened <- struct{}{}:
	default:
	}
	return s, nil
}

// maxRefused is how often in a row a registration is refused before the worker
// gives up. A nonce may have run out, or have been used by a registration
// whose answer was lost; what so many fresh ones do not mend, a person has to.
const maxRefused = 5

// fatal is an error that ends the worker.
type fatal struct{ error }

func (f *fatal) Unwrap() error { return f.error }

// register proves the worker's identity once, and offers its encryption key.
func (l *link) register(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CallTimeout)
	defer cancel()
	challenge, err := l.cfg.API.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	if l.cfg.Queue != (consign.QueueID{}) && challenge.Queue != l.cfg.Queue {
		return nil, fieldError("Queue", fmt.Sprintf("is %s, but %s answers", l.cfg.Queue, challenge.Queue), "dial the queue that is meant")
	}
	bundle, renew, err := l.keys.bundle(time.Now())
	if err != nil {
		return nil, err
	}
	public := l.cfg.Identity.Public()
	r := consign.Registration{
		Algorithm:    public.Algorithm(),
		PublicKey:    public.Bytes(),
		Origin:       l.origin(),
		Nonce:        challenge.Nonce,
		KeyBundle:    bundle,
		Capabilities: l.cfg.Capabilities,
	}
	r.Signature, err = l.cfg.Identity.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, r.KeyBundle))
	if err != nil {
		return nil, fieldError("Identity", "does not sign: "+err.Error(), "load another")
	}
	s, err := l.cfg.API.Register(ctx, r)
	return &session{Session: s, queue: challenge.Queue, renew: renew}, err
}

func (l *link) origin() string {
	if dialer, ok := l.cfg.API.(interface{ Origin() string }); ok {
		return dialer.Origin()
	}
	return "inproc"
}

// call makes a call on the current session, and once more on a new one where
// that has ended.
func (l *link) call(ctx context.Context, f func(context.Context, consign.Session) error) error {
	for again := true; ; again = false {
		s, err := l.session(ctx)
		if err != nil {
			return err
		}
		if err = f(ctx, s); !errors.Is(err, consign.ErrSession) {
			return err
		}
		l.drop(s)
		if !again {
			return err
		}
	}
}
