package websocket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// remote is the worker's end of a connection. One goroutine writes, so that a
// call can end while its message is on the way; one reads; one shows that we
// are there.
type remote struct {
	link
	out  *outbox
	last *atomic.Uint64 // the number of the last request, on any connection of the dialer

	mu    sync.Mutex
	waits map[uint64]*call // nil: nobody waits any more
}

// call waits for an answer, which the reader reads.
type call struct {
	out  any        // what is read into; nil: the answer says no more than that it is one
	done chan error // capacity 1
}

// errUnanswered: the call may have been carried out, or not.
var errUnanswered = errors.New("websocket: the connection ended before there was an answer")

// errEnded is what a session's methods return once its connection has ended.
func errEnded() error { return fmt.Errorf("%w: the connection has ended", consign.ErrSession) }

func (r *remote) close() {
	r.out.end()
	_ = r.conn.CloseNow()
}

func (r *remote) read() {
	defer r.close()
	for {
		data, err := r.link.read()
		if err != nil {
			return
		}
		frames, err := r.split(data)
		if err != nil {
			return // that is no coordinator
		}
		for _, frame := range frames {
			if r.answered(frame) != nil {
				return
			}
		}
	}
}

// answered gives an answer to the call that waits for it. One that nobody waits
// for came before.
func (r *remote) answered(data []byte) error {
	f, err := r.codec.DecodeHead(data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	c, known := r.waits[f.ID]
	delete(r.waits, f.ID)
	r.mu.Unlock()
	switch {
	case c != nil:
		c.done <- r.open(f, data, c.out) // there is room for one
	case known && f.Type == wire.FrameAssign:
		var in wire.AssignFrame
		if r.codec.DecodeAnswer(data, &in) == nil {
			go r.giveBack(consign.Claim{Job: in.Job, Claim: in.Claim})
		}
	}
	return nil
}

// open reads an answer into out. It returns the error that the answer is.
func (r *remote) open(f wire.Frame, data []byte, out any) error {
	if f.Type == wire.FrameError {
		return r.refused(data)
	}
	if out == nil {
		return nil
	}
	if err := r.codec.DecodeAnswer(data, out); err != nil {
		return fmt.Errorf("websocket: an answer that cannot be read: %s", err.Error())
	}
	return nil
}

// keepAlive shows that we are there, and gives the coordinator cause to.
func (r *remote) keepAlive(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.post(&wire.Frame{Type: wire.FramePing})
		case <-r.out.ended:
			return
		}
	}
}

// post sends a frame that gets no answer that anybody waits for. It reports
// whether the connection took it.
func (r *remote) post(frame any) bool {
	return r.out.put(context.Background(), func() ([]byte, error) { return r.codec.Encode(frame) }) == nil // ours always have a form
}

// call sends a request, whose head is part of it, and reads the answer into
// out. The error is the queue's or ctx's; ErrSession where the connection had
// ended, and errUnanswered where it ended meanwhile.
func (r *remote) call(ctx context.Context, head *wire.Frame, request, out any) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c := &call{out: out, done: make(chan error, 1)}
	err := r.out.put(ctx, func() ([]byte, error) { // numbers rise in the order of the frames
		head.ID = r.last.Add(1)
		data, err := r.codec.Encode(request)
		if err == nil {
			r.mu.Lock()
			r.waits[head.ID] = c
			r.mu.Unlock()
		}
		return data, err // as the queue would say it
	})
	if err != nil {
		return err
	}
	return r.receive(ctx, head.ID, c)
}

// receive waits for the answer of a request.
func (r *remote) receive(ctx context.Context, id uint64, c *call) error {
	err := errUnanswered
	select {
	case err := <-c.done:
		return err
	case <-r.out.ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if !r.abandon(id) {
		return <-c.done // it came just now, and may be being read
	}
	if ctx.Err() != nil {
		go r.post(&wire.Frame{Type: wire.FrameCancel, ID: id})
	}
	return err
}

// abandon says that nobody waits for an answer. It reports false where it has
// come.
func (r *remote) abandon(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, open := r.waits[id]; !open {
		return false
	}
	r.waits[id] = nil
	return true
}

// refused returns the error in an error frame. A session that the queue does not
// know needs no connection.
func (r *remote) refused(data []byte) error {
	var f wire.ErrorFrame
	if err := r.codec.DecodeAnswer(data, &f); err != nil {
		return fmt.Errorf("websocket: an error that cannot be read: %s", err.Error())
	}
	err := f.Error.Err()
	if errors.Is(err, consign.ErrSession) {
		r.close()
	}
	return err
}

// giveBack returns a job that came after its call had ended.
func (r *remote) giveBack(claim consign.Claim) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	// If the connection ends before, the coordinator gives it back.
	_ = (&remoteSession{r}).Release(ctx, consign.Release{Claim: claim, Reason: "it came after the worker had stopped waiting"})
}

// remoteSession is a consign.Session over a connection.
type remoteSession struct{ r *remote }

var _ consign.Session = (*remoteSession)(nil)

// Close ends the session and its connection.
func (s *remoteSession) Close() error {
	s.r.close()
	return nil
}

func (s *remoteSession) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	in := wire.HeartbeatFrame{Frame: wire.Frame{Type: wire.FrameHeartbeat}, Heartbeat: wire.NewHeartbeat(h)}
	var out wire.HeartbeatAckFrame
	err := s.r.call(ctx, &in.Frame, &in, &out)
	return out.HeartbeatReply.Value(), err
}

func (s *remoteSession) Claim(ctx context.Context) (consign.Assignment, error) {
	in := wire.Frame{Type: wire.FrameClaim}
	var out wire.AssignFrame
	if err := s.r.call(ctx, &in, &in, &out); err != nil {
		return consign.Assignment{}, err
	}
	if !s.r.post(&wire.TakenFrame{Frame: wire.Frame{Type: wire.FrameAck}, Claim: wire.Claim{Job: out.Job, Claim: out.Claim}}) {
		return consign.Assignment{}, errUnanswered // the coordinator gives it back
	}
	return out.Assignment.Value(), nil
}

func (s *remoteSession) Report(ctx context.Context, r consign.Report) error {
	in := wire.ReportFrame{Frame: wire.Frame{Type: wire.FrameReport}, Report: wire.NewReport(r)}
	return s.r.call(ctx, &in.Frame, &in, nil)
}

func (s *remoteSession) Complete(ctx context.Context, c consign.Completion) error {
	in := wire.CompleteFrame{Frame: wire.Frame{Type: wire.FrameComplete}, Completion: wire.NewCompletion(c)}
	return s.r.call(ctx, &in.Frame, &in, nil)
}

func (s *remoteSession) Fail(ctx context.Context, f consign.Failure) error {
	in := wire.FailFrame{Frame: wire.Frame{Type: wire.FrameFail}, Failure: wire.NewFailure(f)}
	return s.r.call(ctx, &in.Frame, &in, nil)
}

func (s *remoteSession) Release(ctx context.Context, r consign.Release) error {
	in := wire.ReleaseFrame{Frame: wire.Frame{Type: wire.FrameRelease}, Release: wire.NewRelease(r)}
	return s.r.call(ctx, &in.Frame, &in, nil)
}

func (s *remoteSession) ClaimPairing(ctx context.Context, code string) (consign.Pairing, error) {
	in := wire.PairFrame{Frame: wire.Frame{Type: wire.FramePair}, Code: code}
	var out wire.PairedFrame
	err := s.r.call(ctx, &in.Frame, &in, &out)
	return out.Pairing.Value(), err
}
