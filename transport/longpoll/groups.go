package longpoll

import (
	"net/http"
	"sync"
	"time"

	"github.com/consignq/consign/transport/internal/wire"
)

// The endpoints that take many claims, or many completions, in one request:
// what a request costs is then shared by all.

// claimsRequest is a poll of claim requests.
type claimsRequest struct {
	Requests []string `json:"request_ids"`
	Abandon  []string `json:"abandon,omitempty"` // to be taken back
	// Poll is the worker's number for this poll. Pending is that of the one
	// that it displaces, whose answer may be on its way: what went out there is
	// not sent again.
	Poll    uint64 `json:"poll,omitempty"`
	Pending uint64 `json:"pending,omitempty"`
}

func (in *claimsRequest) check() error {
	for field, names := range map[string][]string{"request_ids": in.Requests, "abandon": in.Abandon} {
		for _, name := range names {
			if name == "" {
				return fieldError(field, "holds an empty name", "name each free slot's request")
			}
			if err := checkRequest(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// claimed answers a poll. A request that is not in it has got nothing yet.
type claimed struct {
	Outcomes []claimOutcome `json:"outcomes"`
}

// claimOutcome is what became of a request: one of the two is there.
type claimOutcome struct {
	Request    string           `json:"request_id"`
	Assignment *wire.Assignment `json:"assignment,omitempty"`
	Error      *wire.Problem    `json:"error,omitempty"`
}

func (h *handler) claims(c *call) error {
	s, err := h.worker(c)
	if err != nil {
		return err
	}
	wait, err := c.wait()
	if err != nil {
		return err
	}
	var in claimsRequest
	if err := c.read(&in); err != nil {
		return err
	}
	if err := in.check(); err != nil {
		return err
	}
	// A queue that has a job at hand needs a moment to hand it out, too.
	ctx, cancel := c.waiting(max(wait, 10*time.Millisecond))
	defer cancel()
	out, err := s.poll(ctx, in)
	switch {
	case c.r.Context().Err() != nil:
		s.lost(out.requests)
		return nil
	case out.none(): // err is ctx's, or another poll is there
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case err != nil:
		return err
	}
	return c.answer(http.StatusOK, h.claimed(c, &out))
}

func (h *handler) claimed(c *call, out *answers) claimed {
	all := claimed{make([]claimOutcome, 0, len(out.requests)+len(out.taken)+len(out.busy))}
	fail := func(name string, err error) {
		p := c.problem(err)
		all.Outcomes = append(all.Outcomes, claimOutcome{Request: name, Error: &p})
	}
	for _, r := range out.requests {
		if r.err != nil {
			fail(r.name, r.err)
			continue
		}
		a := wire.NewAssignment(r.answer)
		all.Outcomes = append(all.Outcomes, claimOutcome{Request: r.name, Assignment: &a})
	}
	for _, name := range out.taken {
		fail(name, errTaken)
	}
	for _, name := range out.busy {
		fail(name, errOpen)
	}
	return all
}

// completions are several results, each of them its own.
type completions struct {
	Completions []wire.Completion `json:"completions"`
}

// completed has an outcome for each, in their order.
type completed struct {
	Outcomes []completionOutcome `json:"outcomes"`
}

// completionOutcome is empty for a result that was accepted.
type completionOutcome struct {
	Error *wire.Problem `json:"error,omitempty"`
}

func (h *handler) completions(c *call) error {
	s, err := h.worker(c)
	if err != nil {
		return err
	}
	var in completions
	if err := c.read(&in); err != nil {
		return err
	}
	errs := make([]error, len(in.Completions))
	complete := func(i int) error {
		done := &in.Completions[i]
		switch {
		case done.Job.IsZero():
			return fieldError("job_id", "is missing", "send the job_id of the assignment")
		case done.Claim.Claim.IsZero():
			return missingClaim()
		}
		s.forget(done.Claim.Claim)
		return s.Complete(c.r.Context(), done.Value())
	}
	var group sync.WaitGroup
	for i := range in.Completions {
		group.Go(func() {
			errs[i] = guarded(h.Logger, func() error { return complete(i) })
		})
	}
	group.Wait()
	out := completed{make([]completionOutcome, len(errs))}
	for i, err := range errs {
		if err != nil {
			p := c.problem(err)
			out.Outcomes[i].Error = &p
		}
	}
	return c.answer(http.StatusOK, out)
}

func missingClaim() error {
	return fieldError("claim_id", "is missing", "send the claim_id of the assignment")
}
