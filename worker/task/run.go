package task

import (
	"bytes"
	"context"
	"encoding/json"
)

// Limits of one job. They hold before any work is done.
const (
	MaxPayload = 8 << 20  // bytes of the whole payload, JSON escapes included
	MaxText    = 1 << 20  // bytes of text, in UTF-8
	MaxSchema  = 64 << 10 // bytes of a JSON Schema
)

// Run does one TASK job: a JSON payload in, a JSON result out. The same payload
// gives the same bytes on every worker of the same [Class]: no clock, no
// randomness, no network, no files, and no floating point in what is returned.
//
// A payload that can never succeed gives a *[PayloadError]. When ctx ends first
// its error is returned as it is. There are no other errors: what the text does
// not say is part of the result (a reason, valid:false), never an error.
//
// Run keeps no state and may be called from many goroutines.
func Run(ctx context.Context, payload []byte) (result []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := parsePayload(payload)
	if err != nil {
		return nil, err
	}
	switch p.task {
	case "summarize", "summarise":
		return run(ctx, p, readSummarize, summarize)
	case "classify":
		return run(ctx, p, readClassify, classify)
	case "extract":
		return run(ctx, p, readExtract, extract)
	}
	return nil, payloadError("task", "is not a task of this worker: "+quote(p.task),
		"send summarize, classify or extract")
}

// run reads a task's options strictly, does it, and encodes its result.
func run[O, R any](ctx context.Context, p *payload, read func(*payload) (O, error),
	do func(context.Context, string, O) (R, error)) ([]byte, error) {
	options, err := read(p)
	if err != nil {
		return nil, err
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	r, err := do(ctx, p.text, options)
	if err != nil {
		return nil, err
	}
	return encode(r)
}

// encode writes compact JSON with text as it is: no HTML escapes.
func encode[R any](r R) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
