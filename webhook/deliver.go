package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"code.dny.dev/ssrf"

	"github.com/consignq/consign"
)

// Message is the body of a webhook.
type Message struct {
	Type      string      `json:"type"` // "job.ended"
	Timestamp time.Time   `json:"timestamp"`
	Data      MessageData `json:"data"`
}

// MessageData says which job has ended how. The result is to be fetched.
type MessageData struct {
	Job          consign.JobID `json:"job_id"`
	Status       string        `json:"status"` // "completed", "failed", "cancelled" or "expired"
	Verification string        `json:"verification,omitempty"`
}

// errOver ends a delivery before its schedule does.
var errOver = errors.New("webhook: over")

// errStore: the store failed, which says nothing of who is to be told.
var errStore = errors.New("webhook: store")

// docGone is the kind of a document about a URL that answered 410, by account
// and URL. It is kept for goneFor, as URLs that are never named again would
// fill the store, and looked at every goneLook.
const (
	docGone  = "webhook_gone"
	goneFor  = 72 * time.Hour
	goneLook = time.Hour
)

// gone is such a document's body.
type gone struct {
	Since consign.Instant `json:"since"`
}

func goneKey(account, url string) string {
	sum := sha256.Sum256([]byte(account + "\x00" + url))
	return hex.EncodeToString(sum[:])
}

// forget removes what is old of the URLs that answered 410.
func (s *Sender) forget(ctx context.Context) error {
	old := consign.At(time.Now().Add(-goneFor))
	for after := ""; ; {
		docs, err := s.cfg.Store.Docs(ctx, docGone, after, pageSize)
		if err != nil {
			return err
		}
		for _, doc := range docs {
			after = doc.Key
			var g gone // one without a time is older than this
			if json.Unmarshal(doc.Body, &g) == nil && g.Since > old {
				continue
			}
			if err := s.write(ctx, remove(doc)); err != nil && !errors.Is(err, consign.ErrVersion) {
				return err
			}
		}
		if len(docs) < pageSize {
			return nil
		}
	}
}

// deliver makes one try, and settles what becomes of the delivery.
func (s *Sender) deliver(ctx context.Context, d consign.Delivery, taken consign.Doc) {
	log := s.cfg.Logger.With("job", d.Job, "account", d.Account, "try", d.Tries)
	hook, target, outcome := s.hook(ctx, &d)
	if outcome == nil {
		log = log.With("host", host(target)) // a path or a query may be a secret
		outcome = s.try(ctx, d, target)
	}
	if ctx.Err() != nil {
		return // nobody knows what came of it: it is tried again
	}
	docs := []consign.Doc{remove(taken)}
	switch {
	case errors.Is(outcome, errStore): // which is no try
		log.Warn("webhook: not tried, the store does not say where it goes", "error", outcome)
		d.Tries--
		docs = append(docs, entry(d, s.now().Add(grace)))
	case outcome == nil || errors.Is(outcome, errOver) || d.Tries >= len(s.cfg.Schedule):
		if outcome != nil {
			log.Error("webhook: given up", "error", outcome)
		}
		if hook.Version > 0 {
			docs = append(docs, remove(hook))
		}
	default:
		wait := s.cfg.Schedule[d.Tries]
		log.Info("webhook: not delivered, it is tried again", "after", wait, "error", outcome)
		docs = append(docs, entry(d, s.now().Add(wait)))
	}
	if err := s.write(ctx, docs...); err != nil && !errors.Is(err, consign.ErrVersion) && ctx.Err() == nil {
		log.Warn("webhook: the outbox cannot be written, the message comes again", "error", err)
	}
}

// hook reads where a delivery goes.
func (s *Sender) hook(ctx context.Context, d *consign.Delivery) (doc consign.Doc, url string, err error) {
	doc, err = s.cfg.Store.Doc(ctx, consign.DocHook, d.Hook())
	if err != nil {
		return doc, "", fmt.Errorf("%w: %w", errStore, err)
	}
	var h consign.Hook
	if doc.Version == 0 || json.Unmarshal(doc.Body, &h) != nil {
		return doc, "", fmt.Errorf("%w: the store does not say where it goes", errOver)
	}
	return doc, h.URL, nil
}

func host(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Host
}

// try makes one call. An error that wraps errOver is the last.
func (s *Sender) try(ctx context.Context, d consign.Delivery, target string) error {
	before, err := s.cfg.Store.Doc(ctx, docGone, goneKey(d.Account, target))
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	if before.Version > 0 {
		return fmt.Errorf("%w: the URL answered 410 Gone before", errOver)
	}
	body, err := json.Marshal(Message{Type: "job.ended", Timestamp: d.Since.Time().UTC(),
		Data: MessageData{Job: d.Job, Status: d.State, Verification: string(d.Verification)}})
	if err != nil {
		return err
	}
	status, err := s.post(ctx, d, target, body)
	switch {
	case prohibited(err):
		return fmt.Errorf("%w: %w", errOver, err)
	case err != nil:
		return err
	case status == http.StatusGone:
		note, err := json.Marshal(gone{Since: consign.At(time.Now())})
		if err != nil {
			return err
		}
		err = s.write(ctx, consign.Doc{Kind: docGone, Key: goneKey(d.Account, target), Version: 1, Body: note})
		if err != nil && !errors.Is(err, consign.ErrVersion) {
			return fmt.Errorf("%w: %w", errStore, err)
		}
		return fmt.Errorf("%w: the URL answers 410 Gone, and is not called for %v", errOver, goneFor)
	case status < 200 || status > 299:
		return fmt.Errorf("webhook: the answer is status %d", status)
	}
	return nil
}

// prohibited reports an address that must not be dialled.
func prohibited(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrProhibitedPort)
}

func (s *Sender) post(ctx context.Context, d consign.Delivery, target string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errOver, withoutURL(err))
	}
	if req.Header, err = s.cfg.signed(d.Account, "msg_"+d.Job.String(), body, time.Now()); err != nil {
		return 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	return resp.StatusCode, nil
}

// withoutURL is an error fit for the log.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
