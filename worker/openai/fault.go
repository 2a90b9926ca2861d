package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/consignq/consign/worker"
	"github.com/openai/openai-go/v3/packages/ssestream"
)

// engineError is what the engine answered instead of a result.
type engineError struct {
	status  int // of HTTP; 200 for an error in mid-stream
	message string
}

func (e *engineError) Error() string {
	message := e.message
	if message == "" {
		message = "no reason given"
	}
	if e.status == http.StatusOK {
		return "the engine stopped in the middle: " + message
	}
	return fmt.Sprintf("the engine says %d %s: %s", e.status, http.StatusText(e.status), message)
}

var (
	errLoading = errors.New("no answer within Config.LoadTimeout")
	errIdle    = errors.New("no token within Config.IdleTimeout")
	errTooMuch = errors.New("the engine sends more than any answer has")
)

// worked reports whether it is already said whose fault an error is.
func worked(err error) bool {
	return errors.Is(err, worker.ErrPayload) || errors.Is(err, worker.ErrRefused)
}

// fault says whose fault an error is. parent is the context that the worker
// gave, run the one of this request.
func fault(parent, run context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case parent.Err() != nil:
		return context.Cause(parent)
	case worked(err):
		return err
	}
	if run.Err() != nil {
		err = context.Cause(run)
	}
	if engine, ok := errors.AsType[*engineError](err); ok {
		return engine.fault()
	}
	if stream, ok := errors.AsType[*ssestream.StreamError](err); ok {
		return (&engineError{http.StatusOK, reasonIn(stream.Event.Data)}).fault()
	}
	return fmt.Errorf("openai: %s", plain(err))
}

// fault judges an answer by its status and, since engines disagree on those, by
// what it says.
func (e *engineError) fault() error {
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(strings.ToLower(e.message), w) {
				return true
			}
		}
		return false
	}
	switch {
	// Ollama 0.12 and later with truncate:false; vLLM; llama.cpp. Another
	// worker may give the prompt more room.
	case says("context length", "context size", "context window", "exceed_context", "available context"):
		return fmt.Errorf("%w: the prompt is too long for the context here: %w", worker.ErrRefused, e)
	// This machine's limits, under any status.
	case says("more system memory", "does not support", "not enough memory"):
		return fmt.Errorf("%w: %w", worker.ErrRefused, e)
	// Ollama says so with 500, or in the stream.
	case says(`option "`, "invalid json schema", "invalid format"):
		return fmt.Errorf("%w: %w", worker.ErrPayload, e)
	}
	switch e.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		if says("not found", "does not exist") {
			return fmt.Errorf("%w: %w", worker.ErrRefused, e)
		}
		return fmt.Errorf("%w: %w", worker.ErrPayload, e)
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, 499:
		return fmt.Errorf("openai: %w", e)
	case http.StatusNotImplemented:
		return fmt.Errorf("%w: %w", worker.ErrRefused, e)
	}
	if e.status >= 300 && e.status < 500 { // no such model, a key that is wrong, an address that moved
		return fmt.Errorf("%w: %w", worker.ErrRefused, e)
	}
	return fmt.Errorf("openai: %w", e)
}

// plain leaves the worker's addresses out of what the submitter reads.
func plain(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Sprintf("the engine cannot be reached: %s: %v", op.Op, op.Err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "the engine cannot be reached: " + dns.Err
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the engine broke the connection off: " + err.Error()
	}
	return err.Error()
}
