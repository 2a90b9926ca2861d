package postgres

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
)

// Notifications are hints: one that is lost costs the others a quarter of a
// second. They are sent after the commit, in a transaction of their own, since
// a NOTIFY takes a lock that all who commit one wait for.

const (
	gather     = 5 * time.Millisecond // how long changes gather before the others hear of them
	maxHinted  = 300                  // jobs in one notification, which holds 8,000 bytes
	tellBound  = 5 * time.Second
	watchAgain = 250 * time.Millisecond
)

// hint gathers what is to be told.
type hint struct {
	pending bool
	consign.Hint
}

// tell has the others told of the changes that were applied.
func (s *Store) tell(changes []consign.Change, outcomes []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listen == 0 {
		return
	}
	for i := range changes {
		j := changes[i].Job
		if j == nil || outcomes[i] != nil {
			continue
		}
		s.hint.Queued = s.hint.Queued || j.State == consign.StateQueued
		s.hint.Jobs = append(s.hint.Jobs, j.ID)
		if !s.hint.pending {
			s.hint.pending = true
			time.AfterFunc(gather, s.send)
		}
	}
}

// send tells the others what has gathered. It neither waits for the disk nor
// minds if it fails.
func (s *Store) send() {
	s.mu.Lock()
	h := s.hint
	s.hint = hint{}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), tellBound)
	defer cancel()
	_, _ = s.pool.Exec(ctx, "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", s.sql.channel, s.encode(h.Hint))
}

// encode puts a hint into a payload: whose it is, "q" for queued jobs or "-",
// and the jobs, or none if there are too many to name.
func (s *Store) encode(h consign.Hint) string {
	b := append([]byte{}, s.tag[:]...)
	queued := "-"
	if h.Queued {
		queued = "q"
	}
	if len(h.Jobs) <= maxHinted {
		for _, id := range h.Jobs {
			b = append(b, id[:]...)
		}
	}
	return queued + base64.RawStdEncoding.EncodeToString(b)
}

// decode reads what encode wrote, unless it is our own or cannot be read.
func (s *Store) decode(payload string) (h consign.Hint, ok bool) {
	rest, queued := strings.CutPrefix(payload, "q")
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(rest, "-"))
	if err != nil || len(b) < len(s.tag) || [8]byte(b) == s.tag {
		return h, false
	}
	h.Queued = queued
	for b = b[len(s.tag):]; len(b) >= 16; b = b[16:] {
		h.Jobs = append(h.Jobs, consign.JobID(b))
	}
	return h, true
}

// Watch implements consign.Notifier on a connection of its own, made as the
// pool makes them. Behind a pooler in transaction mode it hears nothing.
func (s *Store) Watch(ctx context.Context, changed func(consign.Hint)) {
	s.mu.Lock()
	s.listen++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.listen--
		s.mu.Unlock()
	}()
	for ctx.Err() == nil {
		_ = s.watch(ctx, changed)
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// watch listens until the connection is lost.
func (s *Store) watch(ctx context.Context, changed func(consign.Hint)) error {
	pooled, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // so that the pool is not one connection short
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.sql.channel}.Sanitize()); err != nil {
		return err
	}
	changed(consign.Hint{Queued: true}) // whatever was missed meanwhile
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if h, ok := s.decode(n.Payload); ok {
			changed(h)
		}
	}
}
