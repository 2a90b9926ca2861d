package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// maxEvent bounds a line of JSON, an event of a stream, and a document.
	maxEvent = 8 << 20
	// maxError bounds an error's body, maxMessage what is told of it.
	maxError, maxMessage = 64 << 10, 1000
)

func newTransport() http.RoundTripper {
	return &http.Transport{
		// No proxy: prompts go to the engine and nowhere else.
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// admit takes a response if it is a success, and bounds its body: total bytes
// in all, and maxEvent between two empty lines of an event stream or between
// two lines of anything else.
func admit(res *http.Response, total int64) error {
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxError))
		return &engineError{status: res.StatusCode, message: reasonIn(body)}
	}
	events := strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	res.Body = &bounded{ReadCloser: res.Body, left: total, events: events}
	return nil
}

// bounded fails a body that is larger than any honest one.
type bounded struct {
	io.ReadCloser
	left   int64
	events bool
	run    int  // bytes since the last separator
	bol    bool // nothing but CR since the last LF
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooMuch
	}
	for _, c := range p[:n] {
		b.run++
		switch c {
		case '\n':
			if !b.events || b.bol {
				b.run = 0
			}
			b.bol = true
		case '\r':
		default:
			b.bol = false
		}
		if b.run > maxEvent {
			return 0, errTooMuch
		}
	}
	return n, err
}

// reasonIn finds the reason in an engine's error: {"error":"..."} (Ollama, LM
// Studio), {"error":{"message":"..."}} (OpenAI), {"message":"..."} or
// {"detail":"..."} (older vLLM), or the text itself.
func reasonIn(body []byte) string {
	var e struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	text := string(bytes.TrimSpace(body))
	if json.Unmarshal(body, &e) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var s string
		switch {
		case json.Unmarshal(e.Error, &s) == nil && s != "":
			text = s
		case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		case e.Message != "":
			text = e.Message
		case json.Unmarshal(e.Detail, &s) == nil && s != "":
			text = s
		}
	}
	return cut(strings.ToValidUTF8(text, "\uFFFD"), maxMessage)
}

// post starts a request whose answer is read by the caller.
func (e *Executor) post(ctx context.Context, path string, body any, total int64) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return e.do(ctx, http.MethodPost, path, bytes.NewReader(data), total)
}

func (e *Executor) do(ctx context.Context, method, path string, body io.Reader, total int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.root+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if e.cfg.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+e.cfg.APIKey)
	}
	res, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := admit(res, total); err != nil {
		return nil, err
	}
	return res, nil
}

// ask reads a document; body nil asks with GET.
func (e *Executor) ask(ctx context.Context, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var res *http.Response
	var err error
	if body == nil {
		res, err = e.do(ctx, http.MethodGet, path, nil, maxEvent)
	} else {
		res, err = e.post(ctx, path, body, maxEvent)
	}
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("%s is not what was expected: %w", path, err)
	}
	return nil
}

// askTimeout bounds a question about the engine itself.
const askTimeout = 10 * time.Second

// refused reports whether a question got an answer, but not a useful one: this
// is another engine.
func refused(err error) bool {
	engine, ok := errors.AsType[*engineError](err)
	if ok {
		return engine.status < 500 && engine.status != http.StatusTooManyRequests
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind)
}
