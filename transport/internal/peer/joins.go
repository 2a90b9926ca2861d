package peer

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// Joins bounds how many workers may register from one address, and in all,
// within an hour. A key costs a stranger nothing, and the queue keeps a record
// of each.
type Joins struct {
	// PerAddress and Total are the bounds.
	PerAddress, Total int

	mu    sync.Mutex
	began time.Time
	seen  map[netip.Addr]map[consign.WorkerID]bool
	total int
}

const joinWindow = time.Hour

// begin counts a worker that this hour has not seen from an address, or wraps
// consign.ErrBusy.
func (j *Joins) begin(addr netip.Addr, w consign.WorkerID, now time.Time) (fresh bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil || now.Sub(j.began) >= joinWindow {
		j.began, j.seen, j.total = now, map[netip.Addr]map[consign.WorkerID]bool{}, 0
	}
	here := j.seen[addr]
	switch {
	case here[w]:
		return false, nil
	case len(here) >= j.PerAddress:
		return false, fmt.Errorf("%w: %d workers have registered from this address within an hour", consign.ErrBusy, j.PerAddress)
	case j.total >= j.Total:
		return false, fmt.Errorf("%w: %d workers have registered within an hour", consign.ErrBusy, j.Total)
	case here == nil:
		here = map[consign.WorkerID]bool{}
		j.seen[addr] = here
	}
	here[w] = true
	j.total++
	return true, nil
}

// undo takes back what begin counted: the worker was not let in.
func (j *Joins) undo(addr netip.Addr, w consign.WorkerID) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if here := j.seen[addr]; here[w] {
		delete(here, w)
		j.total--
		if len(here) == 0 {
			delete(j.seen, addr)
		}
	}
}

// Register makes a WorkerAPI's Register for a request, within the bounds.
func (j *Joins) Register(addr netip.Addr, w consign.WorkerID, register func() (consign.Session, error)) (consign.Session, error) {
	fresh, err := j.begin(addr, w, time.Now())
	if err != nil {
		return nil, err
	}
	s, err := register()
	if err != nil && fresh {
		j.undo(addr, w)
	}
	return s, err
}
