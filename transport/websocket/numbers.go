package websocket

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
)

const (
	// maxKept is how many answers of a connection are kept, and maxKeptBytes how
	// many bytes of them; a longer one than maxAnswerKept is not.
	maxKept       = 64
	maxKeptBytes  = 16 << 10
	maxAnswerKept = 4 << 10
)

// numbers is what a connection remembers of its requests, so that one that
// arrives twice is carried out once. Their numbers rise, also over the
// connections of a worker that dials again: what is not above the highest so
// far has been carried out, here or before.
type numbers struct {
	last  uint64            // the highest so far
	known map[uint64]*begun // worked on, or answered and kept
	kept  []uint64          // of these the answered ones, oldest first
	bytes int               // of their answers
}

// begun is a request that was begun.
type begun struct {
	sum    uint64             // of its frame
	cancel context.CancelFunc // nil once it is answered
	answer []byte             // its frame, then
}

// errBegun says that a request came again while it is worked on: it will be
// answered once.
var errBegun = errors.New("websocket: the request is being worked on")

var seed = maphash.MakeSeed()

// begin takes a request in. Where it came before it returns its answer, or
// errBegun; a *consign.FieldError for a number that cannot be used.
func (n *numbers) begin(id uint64, frame []byte, cancel context.CancelFunc) (answer []byte, err error) {
	sum := maphash.Bytes(seed, frame)
	before := n.known[id]
	switch {
	case id == 0:
		return nil, fieldError("id", "is missing", "number the requests from 1")
	case before != nil && before.sum != sum:
		return nil, fieldError("id", fmt.Sprintf("is %d, of another request", id), "use each number once")
	case before != nil && before.cancel != nil:
		return nil, errBegun
	case before != nil:
		return before.answer, nil
	case id <= n.last:
		return nil, fieldError("id", fmt.Sprintf("is %d, and the requests have come to %d: it was carried out before, or belongs to an earlier connection", id, n.last),
			"give each request a higher number than those before it")
	}
	n.last = id
	n.known[id] = &begun{sum: sum, cancel: cancel}
	return nil, nil
}

// end notes the answer of a request, and keeps it for a while.
func (n *numbers) end(id uint64, answer []byte) {
	r := n.known[id]
	r.cancel() // nobody will any more
	if len(answer) > maxAnswerKept {
		delete(n.known, id)
		return
	}
	r.cancel, r.answer = nil, answer
	n.kept = append(n.kept, id)
	n.bytes += len(answer)
	for len(n.kept) > maxKept || n.bytes > maxKeptBytes {
		oldest := n.kept[0]
		n.kept = n.kept[1:]
		n.bytes -= len(n.known[oldest].answer)
		delete(n.known, oldest)
	}
}

// cancel ends the context of a request that is worked on.
func (n *numbers) cancel(id uint64) {
	if r := n.known[id]; r != nil && r.cancel != nil {
		r.cancel()
	}
}
