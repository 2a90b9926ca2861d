package longpoll

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// sessionLife is how long a session's token holds. A worker registers again
// then; its claims live on.
const sessionLife = time.Hour

// idleLife is how long a session lives without a request: a worker that is
// there sends a heartbeat every few seconds.
const idleLife = 10 * time.Minute

// sessions are the workers' sessions, by the hash of their token.
type sessions struct {
	mu    sync.RWMutex
	max   int // in all
	most  int // from one address
	open  map[[32]byte]*session
	from  map[netip.Addr]int
	swept time.Time
	log   *slog.Logger
}

func (s *sessions) init(inAll, fromOne int, log *slog.Logger) {
	s.max, s.most, s.log = inAll, fromOne, log
	s.open, s.from = map[[32]byte]*session{}, map[netip.Addr]int{}
}

// add opens a session and returns its token. It returns ErrBusy where there
// are as many as there may be.
func (s *sessions) add(worker consign.WorkerID, addr netip.Addr, api consign.Session) (token string, until time.Time, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	token = hex.EncodeToString(random[:])
	now := time.Now()
	until = now.Add(sessionLife)
	s.mu.Lock()
	defer s.mu.Unlock()
	full := len(s.open) >= s.max || s.from[addr] >= s.most
	if since := now.Sub(s.swept); since > time.Minute || full && since > time.Second {
		s.swept = now
		s.sweep(now)
	}
	switch {
	case len(s.open) >= s.max:
		return "", until, fmt.Errorf("%w: there are %d sessions", consign.ErrBusy, s.max)
	case s.from[addr] >= s.most:
		return "", until, fmt.Errorf("%w: there are %d sessions from this address", consign.ErrBusy, s.most)
	}
	fresh := newSession(api, worker, until, s.log)
	fresh.addr = addr
	fresh.used.Store(now.UnixNano())
	s.open[sha256.Sum256([]byte(token))] = fresh
	s.from[addr]++
	return token, until, nil
}

// sweep ends the sessions that are over. The caller holds the mutex.
func (s *sessions) sweep(now time.Time) {
	for key, old := range s.open {
		if !old.over(now) {
			continue
		}
		delete(s.open, key)
		if s.from[old.addr]--; s.from[old.addr] == 0 {
			delete(s.from, old.addr)
		}
	}
}

// over reports whether a session is too old, or was not used for too long.
func (s *session) over(now time.Time) bool {
	return now.After(s.until) || now.Sub(time.Unix(0, s.used.Load())) > idleLife
}

// get returns the session of a token, or ErrSession.
func (s *sessions) get(token string) (*session, error) {
	now := time.Now()
	s.mu.RLock()
	found := s.open[sha256.Sum256([]byte(token))]
	s.mu.RUnlock()
	if found == nil || found.over(now) {
		return nil, fmt.Errorf("%w: the token is unknown, older than %v, or was not used for %v: register again", consign.ErrSession, sessionLife, idleLife)
	}
	found.used.Store(now.UnixNano())
	return found, nil
}
