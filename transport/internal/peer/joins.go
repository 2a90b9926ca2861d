package peer

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Joins bounds how many new workers may register from one address, and in all,
// within an hour. A key costs a stranger nothing, and the queue keeps a record
// of each. A worker that was let in within this hour or the one before is not
// new, wherever it comes from: else strangers would lock out a fleet that comes
// back.
type Joins struct {
	// PerAddress and Total are the bounds.
	PerAddress, Total int

	mu         sync.Mutex
	this, last *joined // nil: there was none
}

const joinWindow = time.Hour

// joined is what is known of an hour.
type joined struct {
	began time.Time
	from  map[netip.Addr]int // new workers, with those of whom the queue is being asked
	total int                // of from
	in    map[consign.WorkerID]bool
}

// ticket is a registration between begin and end.
type ticket struct {
	hour   *joined
	addr   netip.Addr
	worker consign.WorkerID
	counts bool
}

// begin counts a worker that is new, or wraps consign.ErrBusy. Each try counts
// until its end, so that tries at once cannot hide one behind the other.
func (j *Joins) begin(addr netip.Addr, w consign.WorkerID, now time.Time) (ticket, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.this == nil || now.Sub(j.this.began) >= joinWindow {
		j.this, j.last = &joined{began: now, from: map[netip.Addr]int{}, in: map[consign.WorkerID]bool{}}, j.this
	}
	t := ticket{j.this, addr, w, false}
	switch {
	case j.this.in[w] || j.last != nil && j.last.in[w]:
		return t, nil
	case j.this.from[addr] >= j.PerAddress:
		return t, fmt.Errorf("%w: %d workers have registered from this address within an hour", consign.ErrBusy, j.PerAddress)
	case j.this.total >= j.Total:
		return t, fmt.Errorf("%w: %d workers have registered within an hour", consign.ErrBusy, j.Total)
	}
	t.counts = true
	j.this.from[addr]++
	j.this.total++
	return t, nil
}

// end notes whether the worker was let in. It counts once, and not at all where
// it was not.
func (j *Joins) end(t ticket, admitted bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t.counts && (!admitted || t.hour.in[t.worker]) {
		t.hour.total--
		if t.hour.from[t.addr]--; t.hour.from[t.addr] == 0 {
			delete(t.hour.from, t.addr)
		}
	}
	// Those who come back every hour do not pile up beyond what is new of an hour.
	if admitted && len(t.hour.in) < 2*j.Total {
		t.hour.in[t.worker] = true
	}
}

// Register makes a WorkerAPI's Register for a request, within the bounds.
func (j *Joins) Register(addr netip.Addr, w consign.WorkerID, register func() (consign.Session, error)) (consign.Session, error) {
	t, err := j.begin(addr, w, time.Now())
	if err != nil {
		return nil, err
	}
	s, err := register()
	j.end(t, err == nil)
	return s, err
}

// WorkerID names a worker that the queue lets in.
func WorkerID(r *consign.Registration) consign.WorkerID {
	if key, err := sign.ParsePublicKey(r.Algorithm, r.PublicKey); err == nil {
		return consign.WorkerID(key.ID())
	}
	return sha256.Sum256(r.PublicKey) // of an algorithm that the queue knows and we do not
}
