package websocket

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/consignq/consign/transport/internal/wire"
)

const (
	// maxWaiting is how many bytes of frames wait to be written. Who has another
	// one waits until they are taken, so a peer that does not read is not worked
	// for either.
	maxWaiting = 64 << 10
	// maxBatch is the largest message of several frames in bytes, within what
	// either end reads before it is told otherwise. A longer frame goes alone.
	maxBatch = 16 << 10
)

// outbox is where the frames of a connection wait for its one writer, in their
// order. In msgpack those that have gathered while the last message went share
// the next one; nothing waits for company.
type outbox struct {
	link  link
	wake  chan struct{} // capacity 1: there may be something to write
	once  sync.Once
	ended chan struct{} // closed with the connection

	mu      sync.Mutex
	waiting [][]byte
	size    int           // of waiting, in bytes
	room    chan struct{} // closed when waiting is taken; nil: nobody needs room
}

func newOutbox(l link) *outbox {
	return &outbox{link: l, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// end lets everybody go who waits here. What is not written will not be.
func (o *outbox) end() { o.once.Do(func() { close(o.ended) }) }

// put has a frame written. It calls encode in the turn of the frame, at most
// once, and returns its error; ctx's, and errEnded where the connection has
// ended. nil does not say that the frame has gone.
func (o *outbox) put(ctx context.Context, encode func() ([]byte, error)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.size >= maxWaiting {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = ctx.Err()
		case <-o.ended:
			err = errEnded()
		}
		o.mu.Lock()
		if err != nil {
			return err
		}
	}
	select {
	case <-o.ended:
		return errEnded()
	default:
	}
	data, err := encode()
	if err != nil {
		return err
	}
	o.waiting = append(o.waiting, data)
	o.size += len(data)
	select {
	case o.wake <- struct{}{}:
	default: // the writer knows
	}
	return nil
}

// take returns what waits. spare is a list that the outbox may use from now on.
func (o *outbox) take(spare [][]byte) [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	frames := o.waiting
	o.waiting, o.size = spare[:0], 0
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
	return frames
}

// write writes until the connection ends, which it ends where that fails.
func (o *outbox) write() {
	defer o.end()
	cut := func() { _ = o.link.conn.CloseNow() }
	defer cut()
	late := time.AfterFunc(writeTime, cut) // it runs while a message goes
	defer late.Stop()
	late.Stop()
	var frames, spare [][]byte
	var joined []byte
	for {
		select {
		case <-o.wake:
		case <-o.ended:
			return
		}
		runtime.Gosched() // what others are about to put comes along
		frames, spare = o.take(spare), frames
		for next := frames; len(next) > 0; {
			message, n := next[0], 1
			if n = gather(o.link.codec, next); n > 1 {
				joined = joined[:0]
				for _, frame := range next[:n] {
					joined = append(joined, frame...)
				}
				message = joined
			}
			late.Reset(writeTime)
			if o.link.conn.Write(context.Background(), o.link.kind(), message) != nil {
				return
			}
			late.Stop()
			next = next[n:]
		}
		clear(frames) // they may be large
	}
}

// gather is how many of the frames go in one message.
func gather(codec wire.Codec, frames [][]byte) int {
	if codec == wire.JSON {
		return 1
	}
	n, size := 1, len(frames[0])
	for n < min(len(frames), wire.MaxFrames) && size+len(frames[n]) <= maxBatch {
		size += len(frames[n])
		n++
	}
	return n
}
