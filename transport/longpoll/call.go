package longpoll

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// call is one request and its answer.
type call struct {
	w http.ResponseWriter
	r *http.Request
	h *handler

	account string // of a submitter's call
	api     consign.SubmitterAPI
}

const (
	msgpackType = "application/msgpack"
	jsonType    = "application/json"
	problemType = "application/problem+json"

	// bodyTime and answerTime are how long a body may take to come and an
	// answer to go.
	bodyTime   = time.Minute
	answerTime = time.Minute
	// maxWait is the longest that a long poll waits, whatever it asks for.
	maxWait = time.Minute
	// gzipFrom is the size from which compression pays for its work.
	gzipFrom = 4 << 10
)

func fieldError(field, problem, remedy string) error {
	return &consign.FieldError{Field: field, Problem: problem, Remedy: remedy}
}

// refusal is an error of HTTP's, which the queue never hears of. At the far
// end it is its *consign.FieldError.
type refusal struct {
	status int
	code   string
	consign.FieldError
}

func (r *refusal) Unwrap() error { return &r.FieldError }

// read decodes the body.
func (c *call) read(v any) error {
	codec := wire.JSON
	switch kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type")); kind {
	case jsonType:
	case msgpackType:
		codec = wire.Msgpack
	default:
		return &refusal{http.StatusUnsupportedMediaType, "unsupported_media_type",
			consign.FieldError{Field: "Content-Type", Problem: fmt.Sprintf("is %.80q", kind), Remedy: "send " + jsonType}}
	}
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" {
		return &refusal{http.StatusUnsupportedMediaType, "unsupported_media_type",
			consign.FieldError{Field: "Content-Encoding", Problem: fmt.Sprintf("is %.80q", encoding), Remedy: "send the body as it is"}}
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	// The server goes on reading, to notice when the client goes: without end.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	return codec.Decode(body, v)
}

func (c *call) body() ([]byte, error) {
	large := &refusal{http.StatusRequestEntityTooLarge, "too_large", consign.FieldError{Field: "body",
		Problem: fmt.Sprintf("has more than %d bytes", c.h.MaxBody), Remedy: "send less"}}
	if c.r.ContentLength > c.h.MaxBody {
		return nil, large
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(512, min(c.r.ContentLength+bytes.MinRead, 1<<20))))
	_, err := buf.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, c.h.MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, large
	}
	if err != nil {
		return nil, fieldError("body", "did not come whole: "+err.Error(), "send it again")
	}
	return buf.Bytes(), nil
}

// msgpack reports whether the caller wants msgpack.
func (c *call) msgpack() bool { return strings.Contains(c.r.Header.Get("Accept"), msgpackType) }

// answer sends a value in the form that the caller accepts.
func (c *call) answer(status int, v any) error {
	codec, kind := wire.JSON, jsonType
	if c.msgpack() {
		codec, kind = wire.Msgpack, msgpackType
	}
	body, err := codec.Encode(v)
	if err != nil {
		return fmt.Errorf("longpoll: %w: the answer: %s", errInternal, err.Error())
	}
	c.w.Header().Set("Content-Type", kind)
	return c.send(status, body)
}

// errInternal marks an error that looks like the caller's and is not.
var errInternal = errors.New("internal")

// send sends a body, compressed where that pays: msgpack carries ciphertext as
// it is, which does not compress.
func (c *call) send(status int, body []byte) error {
	header := c.w.Header()
	if kind := header.Get("Content-Type"); kind != msgpackType {
		header.Set("Vary", "Accept, Accept-Encoding")
		if len(body) >= gzipFrom && acceptsGzip(c.r.Header.Get("Accept-Encoding")) {
			header.Set("Content-Encoding", "gzip")
			body = compressed(body)
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(answerTime))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // whoever is gone asks again
	return nil
}

func acceptsGzip(accept string) bool {
	for encoding := range strings.SplitSeq(accept, ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(encoding), ";")
		if name == "gzip" {
			return strings.ReplaceAll(quality, " ", "") != "q=0"
		}
	}
	return false
}

// gzips are kept, since each has a large table.
var gzips = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level exists
	return w
}}

func compressed(body []byte) []byte {
	var buf bytes.Buffer
	w := gzips.Get().(*gzip.Writer)
	defer gzips.Put(w)
	w.Reset(&buf)
	_, _ = w.Write(body) // to memory
	_ = w.Close()
	return buf.Bytes()
}

// fail sends an error as problem details.
func (c *call) fail(err error) {
	if c.r.Context().Err() != nil && errors.Is(err, c.r.Context().Err()) {
		return // nobody is there any more
	}
	p := c.problem(err)
	if p.Status == http.StatusUnauthorized {
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="consign"`)
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		c.w.Header().Set("Retry-After", "1")
	}
	body, _ := wire.JSON.Encode(p) // NewProblem made it
	c.w.Header().Set("Content-Type", problemType)
	_ = c.send(p.Status, body)
}

func (c *call) problem(err error) wire.Problem {
	if errors.Is(err, errInternal) {
		err = errors.New(err.Error())
	}
	p := wire.NewProblem(err)
	if r, ok := errors.AsType[*refusal](err); ok {
		p.Code, p.Status, p.Type, p.Title = r.code, r.status, wire.ProblemType+r.code, http.StatusText(r.status)
	}
	if p.Code == wire.CodeInternal && c.r.Context().Err() == nil {
		c.h.Logger.Error("consign: longpoll", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	return p
}

// jobID is the {id} of the path.
func (c *call) jobID() (consign.JobID, error) { return consign.ParseJobID(c.r.PathValue("id")) }

// wait is the query's wait: how long the caller will wait for an answer.
func (c *call) wait() (time.Duration, error) {
	text := c.r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fieldError("wait", fmt.Sprintf("is %.80q", text), `say how long, as in "30s"`)
	}
	return min(d, maxWait), nil
}

// waiting is the request's context with the caller's patience as its deadline.
func (c *call) waiting(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.r.Context(), d)
}
