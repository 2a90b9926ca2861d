package wire

import (
	"errors"
	"net/http"

	"github.com/consignq/consign"
)

// Problem is an error on the wire: RFC 9457 problem details, with a code that
// stays the same and what a typed error carries.
type Problem struct {
	Type   string `json:"type"` // ProblemType + code
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"` // what happened
	Code   string `json:"code"`

	// Of a *consign.FieldError, and Field and Problem of a
	// *consign.ReceiptError.
	Field   string `json:"field,omitempty"`
	Problem string `json:"problem,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Of a *consign.TransitionError.
	Job   consign.JobID `json:"job_id,omitempty,omitzero"` // JSON goes by omitzero, msgpack by omitempty
	State State         `json:"state,omitempty"`
	Event EventKind     `json:"event,omitempty"`
}

// ProblemType precedes the code in a problem's type.
const ProblemType = "urn:consign:problem:"

// The codes that no sentinel has.
const (
	CodeField      = "invalid_field" // a *consign.FieldError
	CodeTransition = "transition"    // a *consign.TransitionError
	CodeInternal   = "internal"      // an error of the queue's own, which its log has
)

// sentinel is an error of the root package on the wire.
type sentinel struct {
	err    error
	code   string
	status int
	title  string
	remedy string // of an error that carries none
}

// sentinels lists them, those first that decide where an error is several.
func sentinels() [13]sentinel {
	return [...]sentinel{
		{consign.ErrBadResult, "bad_result", http.StatusUnprocessableEntity, "The result does not hold", "build the record as docs/receipt-format.md says"},
		{consign.ErrBadReceipt, "bad_receipt", http.StatusUnprocessableEntity, "The receipt does not hold", "build the record as docs/receipt-format.md says"},
		{consign.ErrLeaseLost, "lease_lost", http.StatusConflict, "The claim is not current", "stop the work"},
		{consign.ErrCancelled, "cancelled", http.StatusConflict, "The job was cancelled", "stop the work"},
		{consign.ErrIDTaken, "id_taken", http.StatusConflict, "The job ID is taken", "choose another ID"},
		{consign.ErrConflict, "conflict", http.StatusConflict, "It was used before with other content", "choose another ID for other content"},
		{consign.ErrNotFound, "not_found", http.StatusNotFound, "There is no such thing", "check the ID, and whose token you use"},
		{consign.ErrCredit, "insufficient_credit", http.StatusPaymentRequired, "The balance does not cover the price", "add credit"},
		{consign.ErrNoWorker, "no_worker", http.StatusUnprocessableEntity, "No worker is paired with the submitter", "pair a worker, or submit the job as PUBLIC"},
		{consign.ErrSession, "no_session", http.StatusUnauthorized, "The session is unknown or has ended", "register again"},
		{consign.ErrRemoved, "removed", http.StatusForbidden, "The worker may not take work", "ask the queue's owner"},
		{consign.ErrBusy, "busy", http.StatusTooManyRequests, "A bound of the queue is reached", "try again later"},
		{consign.ErrClosed, "closed", http.StatusServiceUnavailable, "The queue does not run", "try again later"},
	}
}

// NewProblem describes an error. One that no caller can act on becomes
// CodeInternal, with none of its text: that is for the queue's log.
func NewProblem(err error) Problem {
	if p, ok := errors.AsType[*remote](err); ok {
		return p.Problem // relayed as it came
	}
	p := Problem{Status: http.StatusInternalServerError, Title: "An error of the queue's own", Code: CodeInternal,
		Detail: "the queue could not answer; its log says why", Remedy: "try again; if it stays, tell the queue's owner"}
	known := false
	for _, s := range sentinels() {
		if errors.Is(err, s.err) {
			p.Code, p.Status, p.Title, p.Remedy, known = s.code, s.status, s.title, s.remedy, true
			break
		}
	}
	if f, ok := errors.AsType[*consign.FieldError](err); ok {
		p.Field, p.Problem, p.Remedy = f.Field, f.Problem, f.Remedy
		if !known {
			p.Code, p.Status, p.Title, known = CodeField, http.StatusBadRequest, "A field of the request is wrong", true
		}
	} else if r, ok := errors.AsType[*consign.ReceiptError](err); ok {
		p.Field, p.Problem = r.Field, r.Problem
	}
	if t, ok := errors.AsType[*consign.TransitionError](err); ok {
		p.Job, p.State, p.Event = t.Job, State(t.State), EventKind(t.Event)
		if !known {
			p.Code, p.Status, p.Title, p.Remedy, known = CodeTransition, http.StatusConflict, "It is not possible in the job's state", "look at the job's state", true
		}
	}
	if known {
		p.Detail = err.Error()
	}
	p.Type = ProblemType + p.Code
	return p
}

// Err rebuilds the error: errors.Is and errors.As find in it what they found
// where it came from, of the root package's errors. Its text is the detail.
func (p Problem) Err() error {
	r := &remote{Problem: p}
	for _, s := range sentinels() {
		if p.Code == s.code {
			r.causes = append(r.causes, s.err)
		}
	}
	switch {
	case p.Code == CodeField || p.Field != "" && p.Remedy != "" && !p.receipt():
		r.causes = append(r.causes, &consign.FieldError{Field: p.Field, Problem: p.Problem, Remedy: p.Remedy})
	case p.Field != "" && p.receipt():
		r.causes = []error{&consign.ReceiptError{Field: p.Field, Problem: p.Problem, Err: r.causes[0]}}
	}
	if p.Code == CodeTransition || p.Event != 0 {
		r.causes = append(r.causes, &consign.TransitionError{Job: p.Job, State: consign.State(p.State), Event: consign.EventKind(p.Event)})
	}
	return r
}

// receipt reports whether the problem is of a kind that *consign.ReceiptError
// wraps.
func (p Problem) receipt() bool { return p.Code == "bad_result" || p.Code == "bad_receipt" }

// remote is an error that came over the wire.
type remote struct {
	Problem Problem
	causes  []error
}

func (r *remote) Error() string {
	switch {
	case r.Problem.Detail != "":
		return r.Problem.Detail
	case r.Problem.Title != "":
		return "consign: " + r.Problem.Title
	}
	return "consign: an error without a text"
}

func (r *remote) Unwrap() []error { return r.causes }
