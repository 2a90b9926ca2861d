package websocket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	from "github.com/consignq/consign/transport/internal/peer"
	"github.com/consignq/consign/transport/internal/wire"
)

const (
	// registerWithin is how long a connection may be without a session.
	registerWithin = 20 * time.Second
	// maxGreeting is the largest message before there is a session: two key
	// bundles in base64.
	maxGreeting = 128 << 10
	// maxCalls is how many requests of a connection are worked on at once. When
	// there are as many no more is read, so that a worker that does not read its
	// answers is not read from either.
	maxCalls = 64
	// maxClaims is how many claim requests of a connection may wait for a job, or
	// for their answer to go.
	maxClaims = 1024
	// releaseTime is how long it may take to give jobs back.
	releaseTime = time.Minute
)

// peer is the coordinator's end of a worker's connection.
type peer struct {
	link
	h       *Handler
	addr    netip.Addr
	ctx     context.Context // ends with the connection
	session consign.Session // the reader's: nil before register

	out   *outbox
	turns chan struct{} // one for each of maxCalls
	work  sync.WaitGroup

	mu      sync.Mutex
	numbers numbers
	claims  int                               // of maxClaims
	untaken map[consign.ClaimID]consign.Claim // sent, and nobody has said that they came
}

// serveWorker serves one of our own subprotocols until the connection ends.
func serveWorker(h *Handler, l link, addr netip.Addr) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{link: l, h: h, addr: addr, ctx: ctx, out: newOutbox(l), turns: make(chan struct{}, maxCalls),
		numbers: numbers{known: map[uint64]*begun{}}, untaken: map[consign.ClaimID]consign.Claim{}}
	p.conn.SetReadLimit(maxGreeting)
	late := time.AfterFunc(registerWithin, func() { _ = p.conn.Close(ws.StatusPolicyViolation, "register first") })
	defer late.Stop()
	var writer sync.WaitGroup
	writer.Go(p.out.write)
	for {
		data, err := p.read()
		if err != nil {
			break
		}
		p.message(data)
		if p.session != nil {
			late.Stop()
		}
	}
	cancel()
	_ = p.conn.Close(ws.StatusProtocolError, "that is no WebSocket") // unless it is closed
	p.out.end()
	writer.Wait()
	p.work.Wait()
	for _, claim := range p.untaken {
		p.work.Go(func() { giveBack(p.session, claim) })
	}
	p.work.Wait()
}

// giveBack returns a job that the worker did not get.
func giveBack(s consign.Session, claim consign.Claim) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTime)
	defer cancel()
	// Where this fails the lease ends the claim.
	_ = s.Release(ctx, consign.Release{Claim: claim, Reason: "the worker went away before it got the job"})
}

// message takes what the worker sent: all of it, or nothing.
func (p *peer) message(data []byte) {
	frames, err := p.split(data)
	if err != nil {
		p.fail(wire.Frame{}, err)
		return
	}
	for _, frame := range frames {
		p.frame(frame)
	}
}

// frame takes one of them. Requests are worked on beside each other.
func (p *peer) frame(data []byte) {
	f, err := p.codec.DecodeHead(data)
	if err != nil {
		p.fail(f, err)
		return
	}
	switch f.Type {
	case wire.FrameChallenge, wire.FrameCancel, wire.FramePing, wire.FrameClaim:
		p.bare(f, data)
	case wire.FrameRegister:
		p.register(f, data)
	case wire.FrameAck:
		p.acknowledged(f, data)
	case wire.FrameHeartbeat:
		request(p, f, data, p.heartbeat)
	case wire.FrameReport:
		request(p, f, data, p.report)
	case wire.FrameComplete:
		request(p, f, data, p.complete)
	case wire.FrameFail:
		request(p, f, data, p.failed)
	case wire.FrameRelease:
		request(p, f, data, p.release)
	case wire.FramePair:
		request(p, f, data, p.pair)
	default:
		p.fail(f, fieldError("type", fmt.Sprintf("is %.80q", f.Type), "send one of the frames of docs/wire-protocol.md"))
	}
}

// bare takes a frame that carries nothing.
func (p *peer) bare(f wire.Frame, data []byte) {
	var head wire.Frame
	if err := p.codec.Decode(data, &head); err != nil { // there is more
		p.fail(f, err)
		return
	}
	switch f.Type {
	case wire.FrameChallenge:
		p.challenge(f)
	case wire.FrameCancel:
		p.mu.Lock()
		p.numbers.cancel(f.ID)
		p.mu.Unlock()
	case wire.FramePing:
		p.answer(f, nil)
	case wire.FrameClaim:
		p.claim(f, data)
	}
}

// request reads a frame and works on it in its turn.
func request[F any](p *peer, f wire.Frame, data []byte, do func(context.Context, wire.Frame, *F) (any, error)) {
	ctx, ok := p.begin(f, data)
	if !ok {
		return
	}
	in := new(F)
	if err := p.codec.Decode(data, in); err != nil { // answered in the reader's turn, like a frame that is none
		p.end(ctx, f, nil, err)
		return
	}
	p.turns <- struct{}{}
	p.work.Go(func() {
		defer func() { <-p.turns }()
		out, err := do(ctx, f, in)
		p.end(ctx, f, out, err)
	})
}

// begin gives a request a context, which ends with the connection or when the
// worker takes it back. It reports false for one that is not to be worked on:
// it is refused then, or came before.
func (p *peer) begin(f wire.Frame, data []byte) (context.Context, bool) {
	if p.session == nil {
		p.fail(f, fmt.Errorf("%w: register first", consign.ErrSession))
		return nil, false
	}
	ctx, cancel := context.WithCancel(p.ctx)
	p.mu.Lock()
	answer, err := p.numbers.begin(f.ID, data, cancel)
	p.mu.Unlock()
	switch {
	case err == nil && answer == nil:
		return ctx, true
	case err == nil:
		p.send(answer)
	case !errors.Is(err, errBegun):
		p.fail(f, err)
	}
	cancel()
	return nil, false
}

// end answers a request.
func (p *peer) end(ctx context.Context, f wire.Frame, out any, err error) {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		out, err = nil, nil // it was taken back, and nothing came of it
	}
	answer := p.form(f, out, err)
	p.mu.Lock()
	p.numbers.end(f.ID, answer)
	p.mu.Unlock()
	p.send(answer)
}

// form returns the frame that answers: out, a plain ack where that is nil, or
// the error.
func (p *peer) form(f wire.Frame, out any, err error) []byte {
	if err == nil {
		if out == nil {
			out = &wire.Frame{Type: wire.FrameAck, ID: f.ID}
		}
		data, bad := p.codec.Encode(out)
		if bad == nil {
			return data
		}
		err = errors.New(bad.Error()) // the queue's fault
	}
	problem := wire.NewProblem(err)
	if problem.Code == wire.CodeInternal {
		p.h.config.Logger.Error("consign: websocket", "frame", f.Type, "error", err)
	}
	data, _ := p.codec.Encode(wire.ErrorFrame{Frame: wire.Frame{Type: wire.FrameError, ID: f.ID}, Error: problem}) // NewProblem made it
	return data
}

func (p *peer) answer(f wire.Frame, out any) { p.send(p.form(f, out, nil)) }
func (p *peer) fail(f wire.Frame, err error) { p.send(p.form(f, nil, err)) }

// send has a frame written, unless the connection is over.
func (p *peer) send(frame []byte) {
	_ = p.out.put(context.Background(), func() ([]byte, error) { return frame, nil })
}

func (p *peer) challenge(f wire.Frame) {
	challenge, err := p.h.config.Workers.Challenge(p.ctx)
	if err != nil {
		p.fail(f, err)
		return
	}
	p.answer(f, wire.ChallengeFrame{Frame: f, Challenge: wire.NewChallenge(challenge)})
}

func (p *peer) register(f wire.Frame, data []byte) {
	var in wire.RegisterFrame
	err := p.codec.Decode(data, &in)
	r := in.Registration.Value()
	switch {
	case err != nil:
	case p.session != nil:
		err = fieldError("type", "is register, and this connection has a session", "open another connection")
	case len(p.h.config.Origins) > 0 && !slices.Contains(p.h.config.Origins, r.Origin):
		err = fieldError("origin", fmt.Sprintf("is %.80q, which is not here", r.Origin), "dial this queue by an address of its own, and sign that")
	default:
		p.session, err = p.h.joins.Register(p.addr, from.WorkerID(&r), func() (consign.Session, error) { return p.h.config.Workers.Register(p.ctx, r) })
	}
	if err != nil {
		p.fail(f, err)
		return
	}
	p.conn.SetReadLimit(p.h.config.MaxMessage)
	p.numbers.last = f.ID // what is below it is of an earlier connection
	p.answer(f, wire.RegisteredFrame{Frame: wire.Frame{Type: wire.FrameRegistered, ID: f.ID}, Worker: from.WorkerID(&r)})
}

// acknowledged notes that a job has come.
func (p *peer) acknowledged(f wire.Frame, data []byte) {
	var in wire.TakenFrame
	if err := p.codec.Decode(data, &in); err != nil {
		p.fail(f, err)
		return
	}
	p.taken(in.Claim.Claim)
}

// taken notes that the worker knows of a claim: it has named it.
func (p *peer) taken(claims ...consign.ClaimID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range claims {
		delete(p.untaken, c)
	}
}

// claim waits for a job and pushes it.
func (p *peer) claim(f wire.Frame, data []byte) {
	ctx, ok := p.begin(f, data)
	if !ok {
		return
	}
	p.mu.Lock()
	many := p.claims == maxClaims
	if !many {
		p.claims++
	}
	p.mu.Unlock()
	if many { // answered in the reader's turn: who does not read that is not read from
		p.end(ctx, f, nil, fmt.Errorf("%w: %d claim requests wait on this connection", consign.ErrBusy, maxClaims))
		return
	}
	p.work.Go(func() {
		a, err := p.session.Claim(ctx)
		var out any
		if err == nil {
			p.mu.Lock()
			p.untaken[a.Claim] = consign.Claim{Job: a.Job, Claim: a.Claim}
			p.mu.Unlock()
			out = &wire.AssignFrame{Frame: wire.Frame{Type: wire.FrameAssign, ID: f.ID}, Assignment: wire.NewAssignment(a)}
		}
		p.end(ctx, f, out, err)
		p.mu.Lock()
		p.claims--
		p.mu.Unlock()
	})
}

func (p *peer) heartbeat(ctx context.Context, f wire.Frame, in *wire.HeartbeatFrame) (any, error) {
	beat := in.Heartbeat.Value()
	for _, c := range beat.Claims {
		p.taken(c.Claim)
	}
	reply, err := p.session.Heartbeat(ctx, beat)
	return wire.HeartbeatAckFrame{Frame: wire.Frame{Type: wire.FrameAck, ID: f.ID}, HeartbeatReply: wire.NewHeartbeatReply(reply)}, err
}

func (p *peer) report(ctx context.Context, _ wire.Frame, in *wire.ReportFrame) (any, error) {
	p.taken(in.Claim.Claim)
	r := in.Report.Value()
	for _, line := range in.Lines {
		r.Items = append(r.Items, consign.ReportItem{Kind: consign.ReportLog, Data: []byte(line)})
	}
	return nil, p.session.Report(ctx, r)
}

func (p *peer) complete(ctx context.Context, _ wire.Frame, in *wire.CompleteFrame) (any, error) {
	p.taken(in.Claim.Claim)
	return nil, p.session.Complete(ctx, in.Completion.Value())
}

func (p *peer) failed(ctx context.Context, _ wire.Frame, in *wire.FailFrame) (any, error) {
	p.taken(in.Claim.Claim)
	return nil, p.session.Fail(ctx, in.Failure.Value())
}

func (p *peer) release(ctx context.Context, _ wire.Frame, in *wire.ReleaseFrame) (any, error) {
	p.taken(in.Claim.Claim)
	return nil, p.session.Release(ctx, in.Release.Value())
}

func (p *peer) pair(ctx context.Context, f wire.Frame, in *wire.PairFrame) (any, error) {
	pairing, err := p.h.guesses.Claim(p.addr, func() (consign.Pairing, error) { return p.session.ClaimPairing(ctx, in.Code) })
	return wire.PairedFrame{Frame: wire.Frame{Type: wire.FramePaired, ID: f.ID}, Pairing: wire.NewPairing(pairing)}, err
}
