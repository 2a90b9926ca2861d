package longpoll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// DialConfig says where a queue is and who calls it.
type DialConfig struct {
	// URL is where the handler is served: "https://queue.example.com", with the
	// path below which it is, if there is one.
	URL string
	// Token is the submitter's bearer token. Defaults to none. Workers need
	// none: they prove that they hold their key.
	Token string
	// Client makes the requests. Defaults to one that keeps a connection for
	// every call that waits.
	Client *http.Client
}

// Dial returns the two faces of the queue that a handler serves at a URL. It
// connects when they are used. It returns a *consign.FieldError for a URL that
// is none.
//
// Calls are not tried again by themselves, but for a Session's Report; client
// and worker do, and what was carried out although its answer was lost is then
// not carried out twice.
func Dial(c DialConfig) (consign.SubmitterAPI, consign.WorkerAPI, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, nil, fieldError("url", fmt.Sprintf("is %.200q", c.URL), `give a URL like "https://queue.example.com", without a query or a password`)
	}
	d := &dialer{base: strings.TrimSuffix(u.String(), "/"), origin: strings.ToLower(u.Scheme + "://" + u.Host), token: c.Token, client: c.Client}
	if d.client == nil {
		d.client = &http.Client{Transport: newTransport(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &remoteSubmitter{d}, &remoteWorkers{d}, nil
}

// newTransport keeps connections: each call that waits has one to itself.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024
	t.DisableCompression = true // most of what comes is ciphertext
	return t
}

const (
	// answerWithin is how long an answer may take beyond what the call waits
	// for. After it the connection is taken for dead.
	answerWithin = time.Minute
	// pollFor is how long one poll waits at the queue.
	pollFor = 30 * time.Second
	// maxAnswer bounds an answer in bytes: a result and the rest of its job.
	maxAnswer = 64 << 20
)

// dialer makes the requests of both faces.
type dialer struct {
	base   string
	origin string
	token  string
	client *http.Client
}

// exchange is one request and what its answer is read into.
type exchange struct {
	method string
	path   string
	token  string
	in     any           // nil: no body
	out    any           // nil: the answer has no body
	wait   time.Duration // how long the queue may wait before it answers
	once   bool          // it must not be carried out twice
	key    string        // names it at the queue, which carries out what has the same name once
}

// do makes a request. found is false where the answer is that there is nothing.
// The error is the queue's, ctx's, or says that there was no answer.
func (d *dialer) do(ctx context.Context, x exchange) (found bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	limited, cancel := context.WithTimeoutCause(ctx, x.wait+answerWithin, errNoAnswer)
	defer cancel()
	found, err = d.exchange(limited, x)
	switch {
	case err == nil || answered(err):
		return found, err
	case ctx.Err() != nil:
		return false, ctx.Err()
	case limited.Err() != nil:
		return false, fmt.Errorf("longpoll: %s: %w after %v", d.base, errNoAnswer, x.wait+answerWithin)
	}
	return false, err
}

var errNoAnswer = errors.New("no answer")

// answered reports whether err is the queue's word, rather than the network's.
func answered(err error) bool {
	_, ok := errors.AsType[*answerError](err)
	return ok
}

// answerError marks an error that came as a problem.
type answerError struct{ error }

func (a *answerError) Unwrap() error { return a.error }

// errTooLarge is what a largeError is: the body is beyond a bound on its way.
var errTooLarge = errors.New("too large")

type largeError struct{ error }

func (l *largeError) Unwrap() []error { return []error{l.error, errTooLarge} }

func (d *dialer) exchange(ctx context.Context, x exchange) (found bool, err error) {
	resp, err := d.send(ctx, x, msgpackType)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode == http.StatusNoContent {
		return false, nil
	}
	if x.out == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return true, err
	}
	body, err := readAnswer(resp)
	if err != nil {
		return false, err
	}
	codec := wire.JSON
	if resp.Header.Get("Content-Type") == msgpackType {
		codec = wire.Msgpack
	}
	if err := codec.DecodeAnswer(body, x.out); err != nil {
		return false, fmt.Errorf("longpoll: %s: an answer that cannot be read: %s", d.base, err.Error())
	}
	return true, nil
}

// send makes a request and returns an answer with a good status.
func (d *dialer) send(ctx context.Context, x exchange, accept string) (*http.Response, error) {
	var body io.Reader
	if x.in != nil {
		data, err := wire.Msgpack.Encode(x.in)
		if err != nil {
			return nil, &answerError{err} // as the queue would
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, x.method, d.base+x.path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", msgpackType)
	}
	if x.token != "" {
		req.Header.Set("Authorization", "Bearer "+x.token)
	}
	switch {
	case x.key != "":
		req.Header.Set(idempotencyKey, x.key)
		req.GetBody = nil // its caller repeats it, and has to know that it did
	case !x.once:
		req.Header[idempotencyKey] = []string{} // not sent: it lets net/http repeat what a dead connection took
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer func() { _ = resp.Body.Close() }() // it was only read
		return nil, d.refused(resp)
	}
	return resp, nil
}

// refused reads what a queue, or something before it, says.
func (d *dialer) refused(resp *http.Response) error {
	body, err := readAnswer(resp)
	if err != nil {
		return err
	}
	var p wire.Problem
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == problemType && wire.JSON.DecodeAnswer(body, &p) == nil && p.Code != "" {
		if err := p.Err(); resp.StatusCode == http.StatusRequestEntityTooLarge {
			return &answerError{&largeError{err}}
		} else {
			return &answerError{err}
		}
	}
	if resp.StatusCode == http.StatusRequestEntityTooLarge { // a proxy has a bound, too
		return &largeError{fmt.Errorf("longpoll: %s answers %s: a proxy before it takes no body of that size", d.base, resp.Status)}
	}
	return fmt.Errorf("longpoll: %s answers %s, which is not the queue's word: is the URL right, and the proxy before it well?", d.base, resp.Status)
}

func readAnswer(resp *http.Response) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, max(512, min(resp.ContentLength+bytes.MinRead, 1<<20))))
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	if n > maxAnswer {
		err = fmt.Errorf("longpoll: an answer of more than %d bytes", maxAnswer)
	}
	return buf.Bytes(), err
}
