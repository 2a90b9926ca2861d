package longpoll

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

func (h *handler) routeSubmitters() {
	routes := map[string]func(*call) error{
		"GET /v1/quote":                        h.quote,
		"POST /v1/jobs/commit/fast":            func(c *call) error { return h.commit(c, consign.PolicyFast) },
		"POST /v1/jobs/commit/cheap":           func(c *call) error { return h.commit(c, consign.PolicyCheap) },
		"POST /v1/jobs":                        h.submit,
		"POST /v1/jobs/batch":                  h.submitMany,
		"GET /v1/jobs/{id}":                    h.job,
		"GET /v1/jobs/{id}/events":             h.events,
		"GET /v1/jobs/{id}/explain":            h.explain,
		"GET /v1/jobs/{id}/receipt":            h.receipt,
		"DELETE /v1/jobs/{id}":                 h.cancel,
		"POST /v1/jobs/{id}/ack":               h.acknowledge,
		"POST /v1/trust/pairings":              h.newPairing,
		"GET /v1/trust/pairings":               h.pairings,
		"POST /v1/trust/pairings/{id}/confirm": h.confirmPairing,
		"DELETE /v1/trust/pairings/{id}":       h.revokePairing,
		"GET /v1/keys":                         h.keys,
	}
	if h.Webhooks != nil {
		routes["GET /v1/webhooks/keys"] = h.webhookKeys
	}
	for pattern, f := range routes {
		h.handle(pattern, func(c *call) error {
			if err := h.submitter(c); err != nil {
				return err
			}
			return f(c)
		})
	}
}

// webhookKeys is what the account checks its webhooks with.
func (h *handler) webhookKeys(c *call) error {
	secret, publicKey := h.Webhooks(c.account)
	return c.answer(http.StatusOK, webhookKeys{secret, publicKey})
}

type webhookKeys struct {
	Secret    string `json:"secret"`
	PublicKey string `json:"public_key,omitempty"`
}

// submit takes a job as the client library sends it.
func (h *handler) submit(c *call) error {
	var in wire.SubmitRequest
	if err := c.read(&in); err != nil {
		return err
	}
	r := in.Value()
	if paid, err := h.paid(c, r); !paid || err != nil {
		return err
	}
	job, err := c.api.Submit(c.r.Context(), r)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, wire.NewJobInfo(job))
}

type batch struct {
	Jobs []wire.SubmitRequest `json:"jobs"`
}

type outcomes struct {
	Outcomes []wire.SubmitOutcome `json:"outcomes"`
}

func (h *handler) submitMany(c *call) error {
	var in batch
	if err := c.read(&in); err != nil {
		return err
	}
	rs := make([]consign.SubmitRequest, len(in.Jobs))
	for i, r := range in.Jobs {
		rs[i] = r.Value()
	}
	if paid, err := h.paid(c, rs...); !paid || err != nil {
		return err
	}
	out := outcomes{make([]wire.SubmitOutcome, 0, len(rs))}
	for _, o := range c.api.SubmitMany(c.r.Context(), rs) {
		if o.Err != nil {
			p := c.problem(o.Err)
			out.Outcomes = append(out.Outcomes, wire.SubmitOutcome{Error: &p})
			continue
		}
		out.Outcomes = append(out.Outcomes, wire.NewSubmitOutcome(o))
	}
	return c.answer(http.StatusOK, out)
}

// job answers with the job as it is, or once it has ended.
func (h *handler) job(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	wait, err := c.wait()
	if err != nil {
		return err
	}
	var job consign.JobInfo
	if wait == 0 {
		job, err = c.api.Get(c.r.Context(), id)
	} else {
		ctx, cancel := c.waiting(wait)
		defer cancel()
		job, err = c.api.Wait(ctx, id)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return h.showJob(c, job)
}

// jobView is a job for people and foreign clients: the result as the JSON that
// it is or as text, and the receipt with it.
type jobView struct {
	wire.JobInfo
	Result  any              `json:"result,omitempty"`
	Receipt *consign.Receipt `json:"receipt,omitempty"`
}

func (h *handler) showJob(c *call, job consign.JobInfo) error {
	if c.msgpack() {
		return c.answer(http.StatusOK, wire.NewJobInfo(job))
	}
	view := jobView{JobInfo: wire.NewJobInfo(job)}
	readable := job.Result
	if job.Opened != nil {
		readable = job.Opened
		view.Opened = nil
	}
	if view.Result = readableResult(readable); view.Result != nil && job.Opened == nil {
		view.JobInfo.Result = nil
	}
	if job.State == consign.StateCompleted {
		receipt, err := c.api.Receipt(c.r.Context(), job.ID)
		if err != nil && !errors.Is(err, consign.ErrNotFound) {
			return err
		}
		if err == nil {
			view.Receipt = &receipt
		}
	}
	return c.answer(http.StatusOK, view)
}

// readableResult is a result as JSON has it: itself, a text, or nil where it
// is neither.
func readableResult(b []byte) any {
	switch {
	case len(b) == 0 || !utf8.Valid(b):
		return nil
	case json.Valid(b):
		return json.RawMessage(b)
	}
	return string(b)
}

func (h *handler) explain(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	x, err := c.api.Explain(c.r.Context(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewExplanation(x))
}

// receipt answers in JSON alone: a receipt is a file to keep.
func (h *handler) receipt(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	receipt, err := c.api.Receipt(c.r.Context(), id)
	if err != nil {
		return err
	}
	body, err := wire.JSON.Encode(receipt)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", jsonType)
	return c.send(http.StatusOK, body)
}

func (h *handler) cancel(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	job, err := c.api.Cancel(c.r.Context(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewJobInfo(job))
}

func (h *handler) acknowledge(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	if err := c.api.Acknowledge(c.r.Context(), id); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) keys(c *call) error {
	keys, err := c.api.Keys(c.r.Context())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewKeys(keys))
}
