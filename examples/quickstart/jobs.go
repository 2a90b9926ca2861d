package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
)

// job is one request and what came of it.
type job struct {
	name    string
	request consign.SubmitRequest
	poison  bool // has to fail
	result  client.Result
	err     error
	why     string // it failed, as its worker said
}

// ok reports whether the job ended as it should: with a verified result, or, a
// poisoned one, by failing with a reason.
func (j *job) ok() bool {
	if failed, is := errors.AsType[*client.JobError](j.err); j.poison {
		return is && failed.Job.State == consign.StateFailed && j.why != ""
	}
	return j.err == nil && j.result.Verification == consign.VerificationVerified
}

// payload is what the TASK executor reads; see package worker/task.
type payload struct {
	Task      string              `json:"task"`
	Text      string              `json:"text"`
	Sentences int                 `json:"sentences,omitempty"`
	Labels    map[string][]string `json:"labels,omitempty"`
}

var topics = map[string][]string{
	"business":     {"customer", "invoice", "price", "market", "company"},
	"cryptography": {"signature", "key", "hash", "encrypt", "verify"},
	"physics":      {"light", "colour", "motion", "energy", "particle"},
	"software":     {"code", "function", "server", "worker", "database"},
}

// request makes a job's request. It is PUBLIC, so any worker may get it, and
// nothing is said of its custody: the client then seals it in escrow.
func request(p payload) consign.SubmitRequest {
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	encode.SetEscapeHTML(false) // the tier goes by characters: add none
	_ = encode.Encode(p)        // strings always encode
	return consign.SubmitRequest{Kind: consign.KindTask, Payload: b.Bytes()}
}

// makeJobs asks three things about each text, and then about a cut of one for
// each tier that has no job yet, if there is so much text.
func makeJobs(texts []text, poison bool) (jobs []*job) {
	add := func(t text) {
		for _, p := range []payload{
			{Task: "summarize", Text: t.text, Sentences: 3},
			{Task: "classify", Text: t.text, Labels: topics},
			{Task: "extract", Text: t.text},
		} {
			jobs = append(jobs, &job{name: p.Task + " " + t.name, request: request(p)})
		}
	}
	for _, t := range texts {
		add(t)
	}
	seen := map[consign.Tier]bool{}
	for _, j := range jobs {
		seen[j.tier()] = true
	}
	texts = append(slices.Clip(texts), join(texts))
	for tier := consign.Tier(1); tier <= consign.MaxTier; tier++ {
		for _, t := range texts {
			if c, ok := t.cut(tier); ok && !seen[tier] {
				add(c)
				seen[tier] = true
			}
		}
	}
	if poison {
		jobs = append(jobs, &job{name: "poison", poison: true, request: request(payload{Task: "sumarize", Text: "Misspelt."})})
	}
	return jobs
}

// tier is the tier that the queue will put the job in.
func (j *job) tier() consign.Tier {
	return consign.DefaultTierBounds.Tier(uint32(utf8.RuneCount(j.request.Payload))) //nolint:gosec // bounded by load
}

func (j *job) verdict() string {
	switch {
	case j.ok() && j.poison:
		return "none, for a reason: " + printable(j.why)
	case errors.Is(j.err, context.Canceled):
		return "NONE: not finished"
	case j.err != nil:
		return "NONE: " + printable(j.err.Error()+" "+j.why)
	}
	return string(j.result.Verification)
}

// run seals the job, submits it, waits, and verifies and opens what comes of it.
func (j *job) run(ctx context.Context, submitter *client.Client) {
	j.result, j.err = submitter.Run(ctx, j.request)
	if _, failed := errors.AsType[*client.JobError](j.err); failed {
		j.why = lastWords(ctx, submitter, j.result.ID)
	}
}

// lastWords returns why a job failed. The queue only knows that it did: what the
// worker says of a sealed job is sealed to the submitter.
func lastWords(ctx context.Context, submitter *client.Client, id consign.JobID) (words string) {
	for piece, err := range submitter.Stream(ctx, id) {
		if err != nil {
			return err.Error()
		}
		if piece.Kind == consign.ReportLog {
			words = string(piece.Data)
		}
	}
	return words
}
