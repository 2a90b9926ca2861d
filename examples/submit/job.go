package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/consignq/consign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/worker/task"
)

// line is a job, as a line of a batch or the flags say it.
type line struct {
	ID      consign.JobID   `json:"id"`
	Kind    string          `json:"kind"`
	Model   string          `json:"model"`
	Task    string          `json:"task"`
	Text    string          `json:"text"`
	Payload json.RawMessage `json:"payload"` // instead of Task and Text
	Private bool            `json:"private"`
	Custody consign.Custody `json:"custody"`
	Webhook string          `json:"webhook"`
}

// line is what the flags say of a text.
func (o *options) line(text []byte) line {
	l := line{Kind: o.kind, Model: o.model, Task: o.task, Private: o.private, Custody: consign.Custody(o.custody), Webhook: o.webhook}
	if o.raw {
		l.Payload = text
	} else {
		l.Text = string(text)
	}
	return l
}

// request makes a job of it, with a name. It returns a *consign.FieldError.
func (l line) request() (consign.SubmitRequest, error) {
	r := consign.SubmitRequest{ID: l.ID, Kind: l.Kind, Model: l.Model, Custody: l.Custody, Webhook: l.Webhook}
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	if l.Private {
		r.Privacy = consign.PrivacyPrivate
	}
	switch {
	case l.Custody != "" && !slices.Contains([]consign.Custody{consign.CustodySealed, consign.CustodyEscrow, consign.CustodyTransit, consign.CustodyPlain}, l.Custody):
		return r, cli.FieldError("custody", fmt.Sprintf("is %.80q", l.Custody), "say sealed, escrow, transit or plain, or leave it out")
	case l.Custody == consign.CustodySealed && !l.Private:
		return r, cli.FieldError("custody", "is sealed, and the job is not -private", "give -private, too, or leave the custody out")
	}
	var err error
	r.Payload, err = l.payload()
	return r, err
}

// tasks are what worker/task can do.
var tasks = []string{"summarize", "summarise", "classify", "extract"}

// payload is what the executors of the kind read; see worker/task and
// worker/openai.
func (l *line) payload() ([]byte, error) {
	switch {
	case l.Payload != nil:
		return l.Payload, nil
	case l.Text == "":
		return nil, &consign.FieldError{Field: "text", Problem: "is empty", Remedy: "send at least one character"}
	case l.Kind == consign.KindTask && l.Task == "":
		return nil, cli.FieldError("task", "is missing", "say summarize, classify or extract, or send the whole payload with -raw")
	case l.Kind == consign.KindTask && !slices.Contains(tasks, l.Task):
		return nil, cli.FieldError("task", fmt.Sprintf("is %.80q", l.Task), "say summarize, classify or extract, or send the whole payload with -raw")
	case l.Kind == consign.KindTask && len(l.Text) > task.MaxText: // sealed, nobody would see it before a worker has it
		return nil, &consign.FieldError{Field: "text", Problem: fmt.Sprintf("has %d bytes", len(l.Text)), Remedy: fmt.Sprintf("send at most %d; split longer texts into several jobs", task.MaxText)}
	case l.Kind == consign.KindTask:
		return encode(map[string]string{"task": l.Task, "text": l.Text})
	case l.Kind == consign.KindInference && bytes.HasPrefix(bytes.TrimSpace([]byte(l.Text)), []byte("{")):
		return encode(map[string]string{"prompt": l.Text}) // else it would be taken for a payload
	}
	return []byte(l.Text), nil
}

func encode(payload map[string]string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the tier goes by characters: add none
	err := e.Encode(payload)
	return bytes.TrimSpace(b.Bytes()), err
}

// readText reads what is to be sent.
func readText(file string) (data []byte, err error) {
	if file == "-" {
		data, err = io.ReadAll(os.Stdin)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		err = cli.Usage(&consign.FieldError{Field: "arguments", Problem: "name a file that cannot be read: " + err.Error(), Remedy: "name one that you may read, or - for stdin"})
	}
	return data, err
}
