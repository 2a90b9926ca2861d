package consign

import (
	"container/heap"
	"slices"
	"time"
)

// What the ready index takes in from the store: pages of a lane's tickets, and
// lanes' heads that it does not know of.

// pageSize is how many tickets to read for one lane.
func (r *readyIndex) pageSize() int {
	return min(maxWindow, max(minWindow, maxTickets/max(1, len(r.lanes)-r.idle)))
}

// loaded merges a page that was read from the store after l.last. full says
// that there may be more behind it; busy reports a job whose ticket is taken
// already.
func (r *readyIndex) loaded(l *lane, page []*Job, full bool, now Instant, busy func(*Job) bool) {
	late := l.late
	l.loading, l.late = false, nil
	if l.anew {
		l.anew = false
		r.rescan(l, 0)
		return
	}
	l.more = full
	for _, j := range page {
		if j.ReadyAt > now.Add(delayHorizon) {
			l.more = false // known so far: nothing but what is after j
			r.leave(l, j)
			break
		}
		place := Place{j.Key, j.ID}
		l.last = place
		switch {
		case busy(j):
		case j.ReadyAt > now:
			heap.Push(&r.delayed, delay{at: j.ReadyAt, job: j})
		case len(l.window) == 0 || l.placeAt(len(l.window)-1).Before(place):
			l.window = append(l.window, j)
			r.tickets++
		default:
			if i := l.find(place); i == len(l.window) || l.window[i].ID != j.ID {
				l.window = slices.Insert(l.window, i, j)
				r.tickets++
			}
		}
	}
	if l.more {
		l.floor = max(l.last.Key, l.floor)
	}
	r.cut(l, maxWindow)
	r.settle(l)
	for _, j := range late {
		r.addTo(l, j, now)
	}
	for r.tickets > maxTickets && r.evict(l) {
		continue
	}
}

// rescan forgets what is known of a lane, so that it is read anew.
func (r *readyIndex) rescan(l *lane, floor Instant) {
	if l.loading {
		l.anew = true
		return
	}
	r.cut(l, 0)
	l.window = nil
	l.more, l.resume, l.last = true, 0, Place{}
	l.floor = floor
	r.settle(l)
}

// How long a lane's head in the store is given to become known, where the lane
// has other tickets: somebody is claiming it, mostly. And how long one is left
// alone that was looked at: it is not ready, or stays with whoever has it.
const (
	headGrace = 200 * time.Millisecond
	headRest  = 5 * time.Second
)

// unknown reports whether the lane's smallest key in the store is that of a
// ticket to look for: others have queued it.
func (r *readyIndex) unknown(l *lane, head, now Instant) bool {
	known := never
	if len(l.window) > 0 {
		known = l.window[0].Key
	}
	if l.more {
		known = min(known, l.floor)
	}
	if l.loading || head >= known {
		return false
	}
	if head != l.head {
		l.head, l.look = head, now
		if len(l.window) > 0 {
			l.look = now.Add(headGrace)
		}
	}
	if now < l.look {
		return false
	}
	l.look = now.Add(headRest)
	return true
}
