package longpoll

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// sessionLife is how long a session's token holds. A worker registers again
// then; its claims live on.
const sessionLife = time.Hour

// sessions are the workers' sessions, by the hash of their token.
type sessions struct {
	mu    sync.RWMutex
	max   int
	open  map[[32]byte]*session
	swept time.Time
	log   *slog.Logger
}

func (s *sessions) init(most int, log *slog.Logger) {
	s.max, s.open, s.log = most, map[[32]byte]*session{}, log
}

// add opens a session and returns its token. It returns ErrBusy where there
// are as many as there may be.
func (s *sessions) add(worker consign.WorkerID, api consign.Session) (token string, until time.Time, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	token = hex.EncodeToString(random[:])
	now := time.Now()
	until = now.Add(sessionLife)
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > time.Minute {
		s.swept = now
		for key, old := range s.open {
			if now.After(old.until) {
				delete(s.open, key)
			}
		}
	}
	if len(s.open) >= s.max {
		return "", until, fmt.Errorf("%w: there are %d sessions", consign.ErrBusy, s.max)
	}
	s.open[sha256.Sum256([]byte(token))] = newSession(api, worker, until, s.log)
	return token, until, nil
}

// get returns the session of a token, or ErrSession.
func (s *sessions) get(token string) (*session, error) {
	s.mu.RLock()
	found := s.open[sha256.Sum256([]byte(token))]
	s.mu.RUnlock()
	if found == nil || time.Now().After(found.until) {
		return nil, fmt.Errorf("%w: the token is unknown, or older than %v: register again", consign.ErrSession, sessionLife)
	}
	return found, nil
}
