package longpoll

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/peer"
	"github.com/consignq/consign/transport/internal/wire"
)

func (h *handler) routeWorkers() {
	h.handle("POST /v1/workers/challenge", h.challenge)
	h.handle("POST /v1/workers/register", h.register)
	h.handle("POST /v1/workers/{id}/heartbeat", h.heartbeat)
	h.handle("POST /v1/workers/{id}/claim", h.claim)
	h.handle("DELETE /v1/workers/{id}/claim/{request}", h.abandon)
	h.handle("POST /v1/workers/{id}/claims", h.claims)
	h.handle("POST /v1/workers/{id}/completions", h.completions)
	h.handle("POST /v1/jobs/{id}/heartbeat", h.report)
	h.handle("POST /v1/jobs/{id}/complete", h.complete)
	h.handle("POST /v1/jobs/{id}/fail", h.failed)
	h.handle("POST /v1/jobs/{id}/release", h.release)
	h.handle("POST /v1/trust/pairings/claim", h.claimPairing)
}

func (h *handler) challenge(c *call) error {
	challenge, err := h.Workers.Challenge(c.r.Context())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewChallenge(challenge))
}

// registered answers a registration.
type registered struct {
	Worker  consign.WorkerID `json:"worker_id"`
	Token   string           `json:"session_token"`
	Expires time.Time        `json:"expires_at"`
}

func (h *handler) register(c *call) error {
	var in wire.Registration
	if err := c.read(&in); err != nil {
		return err
	}
	r := in.Value()
	if len(h.Origins) > 0 && !slices.Contains(h.Origins, r.Origin) {
		return fieldError("origin", fmt.Sprintf("is %.80q, which is not here", r.Origin), "dial this queue by an address of its own, and sign that")
	}
	worker, addr := peer.WorkerID(&r), peer.Addr(c.r, h.TrustedProxies)
	session, err := h.joins.Register(addr, worker, func() (consign.Session, error) { return h.Workers.Register(c.r.Context(), r) })
	if err != nil {
		return err
	}
	token, until, err := h.sessions.add(worker, addr, session)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, registered{worker, token, until.UTC().Truncate(time.Second)})
}

// session is the session whose token the call carries.
func (h *handler) session(c *call) (*session, error) {
	token, err := bearer(c.r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", consign.ErrSession, err)
	}
	return h.sessions.get(token)
}

// worker is the session of the worker that the path names.
func (h *handler) worker(c *call) (*session, error) {
	s, err := h.session(c)
	if err != nil {
		return nil, err
	}
	if id := c.r.PathValue("id"); id != s.worker.String() {
		return nil, fmt.Errorf("%w: worker %.80q is not this session's", consign.ErrNotFound, id)
	}
	return s, nil
}

func (h *handler) heartbeat(c *call) error {
	s, err := h.worker(c)
	if err != nil {
		return err
	}
	var in wire.Heartbeat
	if err := c.read(&in); err != nil {
		return err
	}
	beat := in.Value()
	for _, claim := range beat.Claims {
		s.forget(claim.Claim)
	}
	reply, err := s.Heartbeat(c.r.Context(), beat)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewHeartbeatReply(reply))
}

// claimRequest names a claim request, so that it can be sent again.
type claimRequest struct {
	Request string `json:"request_id,omitempty"`
}

// checkRequest bounds what a session keeps of a request's name.
func checkRequest(name string) error { return checkName("request_id", name) }

func checkName(field, name string) error {
	if len(name) > 64 {
		return fieldError(field, fmt.Sprintf("has %d bytes", len(name)), "choose a name of at most 64 bytes, 16 random ones in hexadecimal for one")
	}
	return nil
}

func (h *handler) claim(c *call) error {
	s, err := h.worker(c)
	if err != nil {
		return err
	}
	wait, err := c.wait()
	if err != nil {
		return err
	}
	var in claimRequest
	if err := c.read(&in); err != nil {
		return err
	}
	if err := checkRequest(in.Request); err != nil {
		return err
	}
	// A queue that has a job at hand needs a moment to hand it out, too.
	ctx, cancel := c.waiting(max(wait, 10*time.Millisecond))
	defer cancel()
	var a consign.Assignment
	if in.Request == "" {
		a, err = s.Claim(ctx)
	} else {
		a, err = s.claim(ctx, in.Request)
	}
	switch {
	case err == nil && c.r.Context().Err() != nil && in.Request == "":
		go s.giveBack(a)
		return nil
	case err == nil && c.r.Context().Err() != nil:
		s.missed(a.Claim)
		return nil
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil, errors.Is(err, context.Canceled) && ctx.Err() == nil: // abandoned
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case err != nil:
		return err
	}
	s.sent(a.Claim)
	return c.answer(http.StatusOK, wire.NewAssignment(a))
}

func (h *handler) abandon(c *call) error {
	s, err := h.worker(c)
	if err != nil {
		return err
	}
	name := c.r.PathValue("request")
	if err := checkRequest(name); err != nil {
		return err
	}
	s.abandon(name)
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// idempotencyKey is the header that names a report, so that it can be sent
// again. A header: a coordinator that does not know it takes the report, too.
const idempotencyKey = "Idempotency-Key"

// report takes log lines as text, too.
type report struct {
	wire.Report
	Lines []string `json:"lines,omitempty"`
}

func (h *handler) report(c *call) error {
	var in report
	return h.about(c, &in, &in.Claim, func(ctx context.Context, s *session) error {
		r := in.Value()
		for _, line := range in.Lines {
			r.Items = append(r.Items, consign.ReportItem{Kind: consign.ReportLog, Data: []byte(line)})
		}
		key := c.r.Header.Get(idempotencyKey)
		if key == "" {
			return s.Report(ctx, r)
		}
		if err := checkName(idempotencyKey, key); err != nil {
			return err
		}
		return s.once(ctx, key, r)
	})
}

func (h *handler) complete(c *call) error {
	var in wire.Completion
	return h.about(c, &in, &in.Claim, func(ctx context.Context, s *session) error { return s.Complete(ctx, in.Value()) })
}

func (h *handler) failed(c *call) error {
	var in wire.Failure
	return h.about(c, &in, &in.Claim, func(ctx context.Context, s *session) error { return s.Fail(ctx, in.Value()) })
}

func (h *handler) release(c *call) error {
	var in wire.Release
	return h.about(c, &in, &in.Claim, func(ctx context.Context, s *session) error { return s.Release(ctx, in.Value()) })
}

// about reads what a worker says of a claim and passes it on. The job is the
// path's; the body may name it once more.
func (h *handler) about(c *call, in any, claim *wire.Claim, tell func(context.Context, *session) error) error {
	s, err := h.session(c)
	if err != nil {
		return err
	}
	id, err := c.jobID()
	if err != nil {
		return err
	}
	if err := c.read(in); err != nil {
		return err
	}
	switch {
	case claim.Claim.IsZero():
		return missingClaim()
	case !claim.Job.IsZero() && claim.Job != id:
		return fieldError("job_id", "is not the path's", "send both the same, or leave it out of the body")
	}
	claim.Job = id
	s.forget(claim.Claim)
	if err := tell(c.r.Context(), s); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
