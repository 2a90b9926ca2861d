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
	waits map[uint64]chan answer // of calls; nil: nobody waits any more
}

// answer is a frame that came for a call.
type answer struct {
	frame wire.Frame
	data  []byte
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
		frames, err := r.codec.Split(data)
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
	wait, known := r.waits[f.ID]
	delete(r.waits, f.ID)
	r.mu.Unlock()
	switch {
	case wait != nil:
		wait <- answer{f, data} // there is room for one
	case known && f.Type == wire.FrameAssign:
		go r.giveBack(data)
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
			r.post(wire.Frame{Type: wire.FramePing})
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
	wait := make(chan answer, 1)
	err := r.out.put(ctx, func() ([]byte, error) { // numbers rise in the order of the frames
		head.ID = r.last.Add(1)
		data, err := r.codec.Encode(request)
		if err == nil {
			r.mu.Lock()
			r.waits[head.ID] = wait
			r.mu.Unlock()
		}
		return data, err // as the queue would say it
	})
	if err != nil {
		return err
	}
	a, err := r.receive(ctx, head.ID, wait)
	if err != nil {
		return err
	}
	if a.frame.Type == wire.FrameError {
		return r.refused(a.data)
	}
	if out == nil {
		return nil
	}
	if err := r.codec.DecodeAnswer(a.data, out); err != nil {
		return fmt.Errorf("websocket: an answer that cannot be read: %s", err.Error())
	}
	return nil
}

// receive waits for the answer of a request.
func (r *remote) receive(ctx context.Context, id uint64, wait chan answer) (answer, error) {
	select {
	case a := <-wait:
		return a, nil
	case <-r.out.ended:
		select {
		case a := <-wait: // it came just before
			return a, nil
		default:
			return answer{}, errUnanswered
		}
	case <-ctx.Done():
	}
	if !r.abandon(id) {
		return <-wait, nil // it came just now
	}
	go r.post(wire.Frame{Type: wire.FrameCancel, ID: id})
	return answer{}, ctx.Err()
}

// abandon says that nobody waits for an answer. It reports false where there is
// one already.
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
func (r *remote) giveBack(data []byte) {
	var in wire.AssignFrame
	if r.codec.DecodeAnswer(data, &in) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	claim := consign.Claim{Job: in.Job, Claim: in.Claim}
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
	if !s.r.post(wire.TakenFrame{Frame: wire.Frame{Type: wire.FrameAck}, Claim: wire.Claim{Job: out.Job, Claim: out.Claim}}) {
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
