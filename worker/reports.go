package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
)

const (
	// reportEvery is how long reports gather before they are sent together.
	// Sending each token by itself would be slow, and tell an onlooker its
	// length.
	reportEvery = 50 * time.Millisecond
	// maxPending is how many bytes of reports wait at most; what comes on top
	// is lost. A single item of any size is taken.
	maxPending = 256 << 10
	// itemCost is what an item costs beyond its bytes.
	itemCost = 64
)

// reporter gathers what one executor streams and sends it in order, one batch
// at a time. Its own goroutine starts with the first item. A batch that fails
// is not sent again, since a new session could not tell it from a new one: a
// preview may be lost, but is never doubled. A line in the log says how many
// items are missing, and where. (Of a sealed job send tries again by itself: a
// part that comes twice can be told.)
type reporter struct {
	calling context.Context                                                        // bounds the sending
	send    func(ctx context.Context, items []consign.ReportItem, last bool) error // last: none will follow

	mu       sync.Mutex
	silent   bool               // nothing is sent any more
	stop     context.CancelFunc // the sending; nil before the first item
	items    []consign.ReportItem
	size     int
	progress int // which item is the latest progress, from 1; 0: none
	failed   int // items before these that could not be sent
	dropped  int // items after these for which there was no room
	closed   bool
	wake     chan struct{} // capacity 1; closed with the reporter; nil before the first item
	stopped  chan struct{} // closed when the goroutine has ended; nil before the first item
}

func (r *reporter) add(kind consign.ReportKind, data []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.put(kind, data)
	if r.stopped == nil {
		r.wake, r.stopped = make(chan struct{}, 1), make(chan struct{})
		var sending context.Context
		sending, r.stop = context.WithCancel(r.calling)
		if r.silent {
			r.stop()
		}
		go r.loop(sending)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// put appends an item, or joins it to one that waits.
func (r *reporter) put(kind consign.ReportKind, data []byte) {
	if kind == consign.ReportProgress && r.progress > 0 {
		item := &r.items[r.progress-1]
		r.size += len(data) - len(item.Data)
		item.Data = append(item.Data[:0], data...)
		return
	}
	n := len(r.items)
	if n > 0 && r.size+len(data) > maxPending {
		r.dropped++
		return
	}
	r.size += len(data)
	if n > 0 && kind == consign.ReportPart && r.items[n-1].Kind == kind {
		r.items[n-1].Data = append(r.items[n-1].Data, data...)
		return
	}
	r.size += itemCost
	r.items = append(r.items, consign.ReportItem{Kind: kind, Data: append([]byte(nil), data...)})
	if kind == consign.ReportProgress {
		r.progress = len(r.items)
	}
}

func (r *reporter) loop(sending context.Context) {
	defer close(r.stopped)
	for open := true; open; {
		_, open = <-r.wake
		if open {
			// Gather, unless the reporter is closed meanwhile.
			timer := time.NewTimer(reportEvery)
			for waiting := true; waiting && open; {
				select {
				case <-timer.C:
					waiting = false
				case _, open = <-r.wake:
				}
			}
			timer.Stop()
		}
		r.flush(sending, !open)
	}
}

func (r *reporter) flush(sending context.Context, last bool) {
	r.mu.Lock()
	items, failed, dropped := r.items, r.failed, r.dropped
	r.items, r.size, r.progress, r.failed, r.dropped = nil, 0, 0, 0, 0
	r.mu.Unlock()
	if len(items)+failed == 0 {
		return
	}
	batch := items
	if failed > 0 {
		batch = append([]consign.ReportItem{lostNote(failed)}, items...)
	}
	if dropped > 0 {
		batch = append(batch, lostNote(dropped))
	}
	if err := r.send(sending, batch, last); err != nil {
		r.mu.Lock()
		r.failed += failed + len(items) + dropped
		r.mu.Unlock()
	}
}

func lostNote(n int) consign.ReportItem {
	return consign.ReportItem{Kind: consign.ReportLog, Data: fmt.Appendf(nil, "[consign: %d reports were lost here]", n)}
}

// silence ends the sending, at once.
func (r *reporter) silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = true
	if r.stop != nil {
		r.stop()
	}
}

// close sends what is left and waits for it, but no longer than so: then the
// sending ends.
func (r *reporter) close(patience time.Duration) {
	r.mu.Lock()
	if !r.closed && r.stopped != nil {
		close(r.wake)
	}
	r.closed = true
	r.mu.Unlock()
	if r.stopped == nil {
		return // there never was any
	}
	impatience := time.AfterFunc(patience, r.silence)
	<-r.stopped
	impatience.Stop()
	r.silence()
}
