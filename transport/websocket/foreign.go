package websocket

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// A foreign worker was written from seed 001's page: its frames are JSON with a
// type, and nothing numbers them. It takes one job at a time. The queue's words
// are put into the page's here.

// private reports whether nobody but the two ends reads along.
func private(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return r.TLS != nil || err == nil && net.ParseIP(host).IsLoopback()
}

// foreignFrame is anything that a foreign worker sends. What it says beyond that
// is ignored.
type foreignFrame struct {
	Type string `json:"type"`

	// Of register, and the last three of heartbeat.
	PublicKey string       `json:"provider_pubkey"`
	Kinds     []string     `json:"capabilities"`
	Models    []string     `json:"models"`
	Tier      consign.Tier `json:"max_context_tier"`

	// Of all that is about a job.
	Job     consign.JobID   `json:"job_id"`
	Lines   []string        `json:"lines"`  // job_heartbeat
	Reason  string          `json:"reason"` // job_fail, job_release
	Output  json.RawMessage `json:"output"` // job_complete, as is the next
	Receipt struct {
		JSON      string `json:"receipt_json"`
		Signature string `json:"signature"`
	} `json:"receipt"`
}

// foreignAssign is job_assign as the page has it, and the model.
type foreignAssign struct {
	Type    string          `json:"type"`
	Job     consign.JobID   `json:"job_id"`
	Kind    string          `json:"job_type"`
	Payload json.RawMessage `json:"payload"`
	Policy  wire.Policy     `json:"policy"`
	Privacy wire.Privacy    `json:"privacy_class"`
	Model   string          `json:"model,omitempty"`
}

// foreignAnswer is every other frame to a foreign worker.
type foreignAnswer struct {
	Type  string        `json:"type"`
	Job   consign.JobID `json:"job_id,omitzero"`
	Error *wire.Problem `json:"error,omitempty"`
}

// foreigner is the coordinator's end of a foreign worker's connection.
type foreigner struct {
	link
	h       *Handler
	addr    netip.Addr
	ctx     context.Context // ends with the connection
	session consign.Session // nil before register
	caps    consign.Capabilities

	free chan struct{} // capacity 1: the worker may get a job
	mu   sync.Mutex
	held consign.Claim // zero: none
}

// serveForeign serves a foreign worker until the connection ends. What it was
// running goes back to the queue: nothing but the connection says that a later
// one is the same worker.
func serveForeign(h *Handler, l link, addr netip.Addr) {
	ctx, cancel := context.WithCancel(context.Background())
	f := &foreigner{link: l, h: h, addr: addr, ctx: ctx, free: make(chan struct{}, 1)}
	f.conn.SetReadLimit(maxGreeting)
	late := time.AfterFunc(registerWithin, func() { _ = f.conn.Close(ws.StatusPolicyViolation, "register first") })
	defer late.Stop()
	var claims sync.WaitGroup
	for {
		data, err := f.read()
		if err != nil {
			break
		}
		var in foreignFrame
		if err = f.codec.DecodeLoose(data, &in); err == nil {
			err = f.frame(&in)
		}
		if err != nil {
			f.fail(in.Job, err)
		} else if in.Type == wire.FrameRegister {
			late.Stop()
			claims.Go(f.claim)
		}
	}
	cancel()
	_ = f.conn.Close(ws.StatusProtocolError, "that is no WebSocket") // unless it is closed
	claims.Wait()
	if f.held != (consign.Claim{}) {
		giveBack(f.session, f.held)
	}
}

// frame does what the worker says.
func (f *foreigner) frame(in *foreignFrame) error {
	switch in.Type {
	case wire.FrameRegister:
		return f.register(in)
	case wire.FrameHeartbeat, wire.FrameReport, wire.FrameComplete, wire.FrameFail, wire.FrameRelease:
	default:
		return fieldError("type", fmt.Sprintf("is %.80q", in.Type), "send register, heartbeat, job_heartbeat, job_complete, job_fail or job_release")
	}
	if f.session == nil {
		return fmt.Errorf("%w: register first", consign.ErrSession)
	}
	if in.Type == wire.FrameHeartbeat {
		return f.heartbeat(in)
	}
	return f.about(in)
}

func (f *foreigner) register(in *foreignFrame) error {
	if f.session != nil {
		return fieldError("type", "is register, and this connection has a session", "open another connection")
	}
	f.caps = consign.Capabilities{MaxContextTier: 1, Slots: 1}
	f.declare(in)
	worker := consign.WorkerID(sha256.Sum256([]byte(in.PublicKey))) // nobody's who proves a key
	session, err := f.h.joins.Register(f.addr, worker, func() (consign.Session, error) { return f.h.config.Foreign(f.ctx, in.PublicKey, f.caps) })
	if err != nil {
		return err
	}
	f.session = session
	f.free <- struct{}{}
	return f.send(foreignAnswer{Type: wire.FrameRegistered})
}

// declare takes in what a frame says of the worker.
func (f *foreigner) declare(in *foreignFrame) {
	if in.Kinds != nil {
		f.caps.Kinds = in.Kinds
	}
	if in.Models != nil {
		f.caps.Models = in.Models
	}
	if in.Tier != 0 {
		f.caps.MaxContextTier = in.Tier
	}
}

func (f *foreigner) heartbeat(in *foreignFrame) error {
	was := f.caps
	f.declare(in)
	h := consign.Heartbeat{Capabilities: f.caps, FreeSlots: 1}
	if held := f.holds(); held != (consign.Claim{}) {
		h.FreeSlots, h.Claims = 0, []consign.Claim{held}
	}
	reply, err := f.session.Heartbeat(f.ctx, h)
	if err != nil {
		f.caps = was
		return err
	}
	for _, lost := range reply.Lost {
		if f.over(lost) {
			_ = f.send(foreignAnswer{Type: wire.FrameJobCancel, Job: lost.Job}) // or the connection is over
		}
	}
	return f.send(foreignAnswer{Type: wire.FrameAck})
}

// about is what the worker says of the job that it holds.
func (f *foreigner) about(in *foreignFrame) error {
	held := f.holds()
	if held == (consign.Claim{}) || held.Job != in.Job {
		return fmt.Errorf("%w: this connection does not hold job %s", consign.ErrLeaseLost, in.Job)
	}
	var err error
	switch in.Type {
	case wire.FrameReport:
		r := consign.Report{Claim: held}
		for _, line := range in.Lines {
			r.Items = append(r.Items, consign.ReportItem{Kind: consign.ReportLog, Data: []byte(line)})
		}
		err = f.session.Report(f.ctx, r)
	case wire.FrameComplete:
		err = f.complete(held, in)
	case wire.FrameFail:
		err = f.session.Fail(f.ctx, consign.Failure{Claim: held, Reason: in.Reason})
	case wire.FrameRelease:
		err = f.session.Release(f.ctx, consign.Release{Claim: held, Reason: in.Reason})
	}
	if err != nil {
		f.fail(in.Job, err)
	} else {
		_ = f.send(foreignAnswer{Type: wire.FrameAck, Job: in.Job}) // or the connection is over
	}
	if err == nil && in.Type != wire.FrameReport || errors.Is(err, consign.ErrBadResult) || errors.Is(err, consign.ErrLeaseLost) {
		f.conn.SetReadLimit(maxGreeting) // the next job raises it
		f.over(held)                     // after the answer, so that the next job comes after it
	}
	return nil
}

// complete hands a result in. Of an output that is a JSON string that is its
// text, of any other the bytes as they were sent; it is what the receipt's hash
// is over.
func (f *foreigner) complete(held consign.Claim, in *foreignFrame) error {
	switch {
	case in.Output == nil:
		return fieldError("output", "is missing", "send any JSON value")
	case in.Receipt.JSON == "" || in.Receipt.Signature == "":
		return fieldError("receipt", "is missing, or lacks receipt_json or signature", "send both: the receipt's text, and ed25519 over its bytes")
	}
	result := []byte(in.Output)
	var text string
	if json.Unmarshal(in.Output, &text) == nil && in.Output[0] == '"' {
		result = []byte(text)
	}
	record, err := json.Marshal(consign.ForeignReceipt{JSON: in.Receipt.JSON, Signature: in.Receipt.Signature})
	if err != nil {
		return err
	}
	return f.session.Complete(f.ctx, consign.Completion{Claim: held, Result: result, Record: record})
}

func (f *foreigner) holds() consign.Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// over frees the worker for the next job. It reports false for a claim that it
// does not hold.
func (f *foreigner) over(claim consign.Claim) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held != claim {
		return false
	}
	f.held = consign.Claim{}
	f.free <- struct{}{} // it was taken when the job was
	return true
}

// claim gives the worker one job after the other.
func (f *foreigner) claim() {
	for {
		select {
		case <-f.free:
		case <-f.ctx.Done():
			return
		}
		a, err := f.session.Claim(f.ctx)
		switch {
		case err == nil:
			f.assign(a)
			continue
		case f.ctx.Err() != nil:
			return
		case errors.Is(err, consign.ErrRemoved), errors.Is(err, consign.ErrSession), errors.Is(err, consign.ErrClosed):
			f.fail(consign.JobID{}, err)
			_ = f.conn.Close(ws.StatusPolicyViolation, "register again, later")
			return
		}
		// The worker holds a job on another connection, or the queue is ailing.
		f.free <- struct{}{}
		select {
		case <-time.After(time.Second):
		case <-f.ctx.Done():
		}
	}
}

// assign sends a job to the worker. A payload that is no JSON is sent as a
// string.
func (f *foreigner) assign(a consign.Assignment) {
	claim := consign.Claim{Job: a.Job, Claim: a.Claim}
	f.mu.Lock()
	f.held = claim
	f.mu.Unlock()
	f.conn.SetReadLimit(f.h.config.MaxMessage) // for the result: nothing else is long
	payload := json.RawMessage(a.Payload)
	if !json.Valid(payload) {
		payload, _ = json.Marshal(string(a.Payload)) // a string has a form
	}
	out := foreignAssign{wire.FrameAssign, a.Job, a.Kind, payload, wire.Policy(a.Policy), wire.Privacy(consign.PrivacyPublic), a.Model}
	_ = f.send(out) // or the connection is over, and the job goes back
}

// fail sends an error.
func (f *foreigner) fail(job consign.JobID, err error) {
	problem := wire.NewProblem(err)
	if problem.Code == wire.CodeInternal && f.ctx.Err() == nil {
		f.h.config.Logger.Error("consign: websocket", "worker", "foreign", "error", err)
	}
	_ = f.send(foreignAnswer{Type: wire.FrameError, Job: job, Error: &problem}) // or the connection is over
}
