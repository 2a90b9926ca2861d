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

// docGone is the kind of a document about a URL that answered 410, by account
// and URL.
const docGone = "webhook_gone"

func goneKey(account, url string) string {
	sum := sha256.Sum256([]byte(account + "\x00" + url))
	return hex.EncodeToString(sum[:])
}

// try makes one call. An error that wraps errOver is the last.
func (s *Sender) try(ctx context.Context, d consign.Delivery) error {
	url, message, err := s.message(ctx, d)
	if err != nil {
		return err
	}
	gone, err := s.cfg.Store.Doc(ctx, docGone, goneKey(d.Account, url))
	if err != nil {
		return err
	}
	if gone.Version > 0 {
		return fmt.Errorf("%w: the URL answered 410 Gone before", errOver)
	}
	status, err := s.post(ctx, d, url, message)
	switch {
	case prohibited(err):
		return fmt.Errorf("%w: %w", errOver, err)
	case err != nil:
		return err
	case status == http.StatusGone:
		err := s.write(ctx, consign.Doc{Kind: docGone, Key: goneKey(d.Account, url), Version: 1, Body: []byte(`{}`)})
		if err != nil && !errors.Is(err, consign.ErrVersion) {
			return err
		}
		return fmt.Errorf("%w: the URL answers 410 Gone, and is not called again", errOver)
	case status < 200 || status > 299:
		return fmt.Errorf("webhook: the answer is status %d", status)
	}
	return nil
}

// prohibited reports an address that must not be dialled.
func prohibited(err error) bool {
	return errors.Is(err, ssrf.ErrProhibitedIP) || errors.Is(err, ssrf.ErrProhibitedNetwork) || errors.Is(err, ssrf.ErrProhibitedPort)
}

// message returns where to send what.
func (s *Sender) message(ctx context.Context, d consign.Delivery) (url string, body []byte, err error) {
	ids := []consign.JobID{d.Job}
	jobs, err := s.cfg.Store.Jobs(ctx, ids)
	if err != nil {
		return "", nil, err
	}
	specs, err := s.cfg.Store.Specs(ctx, ids)
	if err != nil {
		return "", nil, err
	}
	if jobs[0] == nil || specs[0] == nil {
		return "", nil, fmt.Errorf("%w: the job was forgotten", errOver)
	}
	m := Message{Type: "job.ended", Timestamp: d.Since.Time().UTC(), Data: MessageData{Job: d.Job, Status: jobs[0].State.String()}}
	if jobs[0].State == consign.StateCompleted {
		done, err := s.cfg.Store.Done(ctx, d.Job)
		if err != nil {
			return "", nil, err
		}
		if done != nil {
			m.Data.Verification = string(done.Verification)
		}
	}
	body, err = json.Marshal(m)
	return specs[0].Webhook, body, err
}

func (s *Sender) post(ctx context.Context, d consign.Delivery, url string, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errOver, err)
	}
	if req.Header, err = signed(s.cfg.Identity, d.Account, "msg_"+d.Job.String(), body, time.Now()); err != nil {
		return 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // so that the connection can be used again
	return resp.StatusCode, nil
}
