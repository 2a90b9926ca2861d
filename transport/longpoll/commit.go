package longpoll

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// PaymentGate stands before a submit. It reports whether the submit may go on;
// where not, it has answered the request itself, with 402 and what its payment
// scheme asks for.
type PaymentGate func(w http.ResponseWriter, r *http.Request, due Due) bool

// Due is what a submit costs.
type Due struct {
	Account string
	Jobs    int
	Price   consign.Price // of all of them
}

// commitRequest is a job as the seeds' clients send it. One of Payload and
// Sealed is there.
type commitRequest struct {
	ID           consign.JobID     `json:"job_id"`
	Kind         string            `json:"job_type"`
	Model        string            `json:"model"`
	Payload      json.RawMessage   `json:"payload"`
	Sealed       *sealed           `json:"sealed"`
	AllowPlain   bool              `json:"allow_plain"`
	HardwareTier uint8             `json:"hardware_tier"`
	VRAM         uint32            `json:"vram_mib"`
	Labels       map[string]string `json:"labels"`
	Priority     wire.Priority     `json:"priority"`
	Deadline     float64           `json:"deadline_seconds"`
	Privacy      wire.Privacy      `json:"privacy_class"`
	ClientKey    []byte            `json:"client_pubkey"`
	Webhook      string            `json:"webhook"`
	QuoteID      string            `json:"quote_id"`
}

// sealed is a payload that the submitter sealed itself (docs/sealed-format.md).
type sealed struct {
	Custody     consign.Custody `json:"custody"`
	Header      []byte          `json:"header"`
	Ciphertext  []byte          `json:"ciphertext"`
	Chars       uint32          `json:"chars"`
	PromptBytes uint64          `json:"prompt_bytes"`
	Wraps       []wire.Wrap     `json:"wraps"`
	Signature   []byte          `json:"signature"`
}

// committed answers a commit.
type committed struct {
	Job    consign.JobID `json:"job_id"`
	Status string        `json:"status"`
	Price  string        `json:"price"`
}

// A commit's defaults: how long a job waits for a worker, and how long tasks
// and inference may take in all (seed 001).
const (
	commitQueueTime    = 30 * time.Second
	taskDeadline       = 30 * time.Second
	inferenceDeadline  = 60 * time.Second
	maxDeadlineSeconds = 365 * 24 * 60 * 60
)

func (h *handler) commit(c *call, policy consign.Policy) error {
	var in commitRequest
	if err := c.read(&in); err != nil {
		return err
	}
	r, err := in.request(policy)
	if err != nil {
		return err
	}
	if in.QuoteID != "" {
		if err := h.keepsPromise(c, in.QuoteID, &r); err != nil {
			return err
		}
	}
	if paid, err := h.paid(c, r); !paid || err != nil {
		return err
	}
	job, err := c.api.Submit(c.r.Context(), r)
	if err != nil {
		return in.explain(err)
	}
	return c.answer(http.StatusCreated, committed{job.ID, wire.Status(job.State), job.Price.String()})
}

// request makes it a consign.SubmitRequest.
func (in *commitRequest) request(policy consign.Policy) (consign.SubmitRequest, error) {
	r := consign.SubmitRequest{ID: in.ID, Kind: in.Kind, Model: in.Model, Policy: policy, HardwareTier: in.HardwareTier, VRAM: in.VRAM, Labels: in.Labels,
		Priority: consign.Priority(in.Priority), Privacy: consign.Privacy(in.Privacy), ClientKey: in.ClientKey, Webhook: in.Webhook}
	switch {
	case in.Payload != nil && in.Sealed != nil:
		return r, fieldError("payload", "is there beside sealed", "send one of the two")
	case in.Payload == nil && in.Sealed == nil:
		return r, fieldError("payload", "is missing", "send any JSON value, or a sealed payload as sealed")
	case in.Sealed != nil && in.AllowPlain:
		return r, fieldError("allow_plain", "is set for a sealed payload", "leave it out")
	case in.Deadline < 0 || in.Deadline > maxDeadlineSeconds:
		return r, fieldError("deadline_seconds", fmt.Sprintf("is %v", in.Deadline), "give seconds from now, at most a year")
	}
	r.Deadline = time.Duration(in.Deadline * float64(time.Second))
	if r.Deadline == 0 {
		r.Deadline = map[string]time.Duration{consign.KindTask: taskDeadline, consign.KindInference: inferenceDeadline}[in.Kind]
	}
	r.QueueTime = commitQueueTime
	if s := in.Sealed; s != nil {
		r.Custody, r.Header, r.Payload, r.Chars, r.PromptBytes, r.Signature = s.Custody, s.Header, s.Ciphertext, s.Chars, s.PromptBytes, s.Signature
		for _, w := range s.Wraps {
			r.Wraps = append(r.Wraps, consign.Wrap(w))
		}
		return r, nil
	}
	r.Payload, r.Custody = in.Payload, consign.CustodyTransit
	if in.AllowPlain {
		r.Custody = consign.CustodyPlain
	}
	return r, nil
}

// explain puts a refusal of the custody transit, which the request did not
// name, in the request's own words.
func (in *commitRequest) explain(err error) error {
	bad, ok := errors.AsType[*consign.FieldError](err)
	if ok && in.Sealed == nil && !in.AllowPlain && (bad.Field == "custody" || bad.Field == "header") {
		return fieldError("payload", "is bare, and this queue cannot seal it", "seal it and send it as sealed, or set allow_plain if anybody may read it")
	}
	return err
}

// keepsPromise checks that a job costs what was quoted.
func (h *handler) keepsPromise(c *call, id string, r *consign.SubmitRequest) error {
	p, err := readPromise(h.QuoteKey, c.account, id)
	if err != nil {
		return err
	}
	q, err := price(c, r)
	if err != nil {
		return err
	}
	return p.holds(r.Kind, q.Policy, q.Price, time.Now())
}

// price asks the queue what a job costs.
func price(c *call, r *consign.SubmitRequest) (consign.Quote, error) {
	chars := r.Chars
	if r.Header == nil {
		chars = uint32(utf8.RuneCount(r.Payload)) //nolint:gosec // bounded by MaxBody
	}
	return c.api.Quote(c.r.Context(), consign.QuoteRequest{Kind: r.Kind, Policy: r.Policy, Chars: chars})
}

// paid asks the gate whether the jobs may be submitted. Where not, the gate
// has answered.
func (h *handler) paid(c *call, rs ...consign.SubmitRequest) (bool, error) {
	if h.PaymentGate == nil {
		return true, nil
	}
	due := Due{Account: c.account, Jobs: len(rs)}
	for i := range rs {
		q, err := price(c, &rs[i])
		if err != nil {
			return false, err
		}
		due.Price += q.Price
	}
	return due.Price == 0 || h.PaymentGate(c.w, c.r, due), nil
}
