package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/examples/internal/cli"
)

// runOne submits a job, shows how it goes, and prints what came of it.
func (q *queue) runOne(ctx context.Context, o options, r consign.SubmitRequest) error {
	if _, err := q.Submit(ctx, r); err != nil {
		return err
	}
	return q.follow(ctx, o, r.ID, func() (client.Result, error) { return q.finish(ctx, r) })
}

// collect takes up a job that an earlier process submitted.
func (q *queue) collect(ctx context.Context, o options, id consign.JobID) error {
	return q.follow(ctx, o, id, func() (client.Result, error) { return q.Collect(ctx, id) })
}

// finish waits for a job that was submitted and verifies its result.
func (q *queue) finish(ctx context.Context, r consign.SubmitRequest) (client.Result, error) {
	if r.Custody == consign.CustodyTransit {
		return q.finishTransit(ctx, r.ID)
	}
	return q.Run(ctx, r) // which knows that it was submitted
}

// follow shows a job while finish waits for it, and delivers the result.
func (q *queue) follow(ctx context.Context, o options, id consign.JobID, finish func() (client.Result, error)) error {
	fmt.Fprintf(os.Stderr, "job %s\n", id)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	v := &view{terminal: cli.IsTerminal(os.Stderr)}
	var watchers sync.WaitGroup
	watchers.Go(func() { v.states(q.Events(watching, id, 0)) })
	watchers.Go(func() { v.words(q.Stream(watching, id)) })
	unfinished, finished := context.WithCancel(watching)
	watchers.Go(func() { v.queued(unfinished, q, id) })
	result, err := finish()
	finished()
	if err != nil {
		stop()
	}
	watchers.Wait()
	v.newLine()
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted; the job goes on: submit -collect %s", id)
	case err != nil:
		return errors.Join(err, q.giveUp(ctx, id, err))
	}
	return q.deliver(ctx, o, v, result)
}

// giveUp lets go of the keys of a job that ended without a result.
func (q *queue) giveUp(ctx context.Context, id consign.JobID, err error) error {
	if _, over := errors.AsType[*client.JobError](err); !over {
		return nil
	}
	return q.Acknowledge(ctx, id)
}

// deliver hands out a result that was verified, and only then lets go of its
// keys.
func (q *queue) deliver(ctx context.Context, o options, v *view, r client.Result) error {
	output := r.Output
	switch {
	case o.resultFile != "" || !cli.IsTerminal(os.Stdout):
	case v.terminal && string(output) == v.text.String():
		output = nil // is on the terminal already
	default:
		output = []byte(cli.Printable(string(output)) + "\n")
	}
	if err := save(o.resultFile, output); err != nil {
		return err
	}
	if o.receiptFile != "" {
		receipt, err := json.MarshalIndent(r.Receipt, "", "  ")
		if err == nil {
			err = save(o.receiptFile, append(receipt, '\n'))
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "verified: signed by worker %s, accepted by the queue\n", r.Worker)
	if r.Acceptance.Custody == consign.CustodyTransit {
		fmt.Fprintln(os.Stderr, "custody transit: the queue read it, and that the result answers what you sent is the queue's word")
	}
	return q.Acknowledge(ctx, r.ID)
}

// view shows a job: on a terminal its text as it comes, elsewhere in lines.
type view struct {
	terminal bool

	mu      sync.Mutex
	attempt int
	text    strings.Builder // of that attempt
	midLine bool
}

// states shows what happens to the job. An error ends it: whoever waits for the
// job gets it as well.
func (v *view) states(entries func(func(consign.LogEntry, error) bool)) {
	for e, err := range entries {
		if err != nil {
			return
		}
		if e.Event == consign.EventReport {
			continue
		}
		line := fmt.Sprintf("%s: %s", e.Event, e.State)
		if e.Attempt > 0 {
			line += fmt.Sprintf(", attempt %d", e.Attempt)
		}
		if e.Reason != "" {
			line += ": " + e.Reason
		}
		v.line(line)
	}
}

// sayQueued is how often a job that waits is asked why.
const sayQueued = 5 * time.Second

// queued says why the job waits, until ctx is done.
func (v *view) queued(ctx context.Context, q *queue, id consign.JobID) {
	look := time.NewTicker(sayQueued)
	defer look.Stop()
	for last := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		x, err := q.Explain(ctx, id)
		if err == nil && x.State == consign.StateQueued && x.Reason != last { // of an error others hear
			v.line("queued: " + x.Reason)
			last = x.Reason
		}
	}
}

// words shows what the workers say. It is a preview: an error ends it, and
// matters to nobody else.
func (v *view) words(pieces func(func(client.Piece, error) bool)) {
	for p, err := range pieces {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				v.line("no preview any more: " + err.Error())
			}
			return
		}
		switch {
		case p.Kind != consign.ReportPart:
			v.line(fmt.Sprintf("%s: %s", p.Kind, p.Data))
		case v.terminal:
			v.part(p)
		default:
			v.line(fmt.Sprintf("part: %q", p.Data))
		}
	}
}

func (v *view) line(text string) {
	v.newLine()
	fmt.Fprintln(os.Stderr, cli.Printable(text))
}

func (v *view) newLine() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.midLine {
		fmt.Fprintln(os.Stderr)
		v.midLine = false
	}
}

func (v *view) part(p client.Piece) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p.Attempt != v.attempt {
		v.attempt = p.Attempt
		v.text.Reset()
	}
	v.text.Write(p.Data)
	text := cli.Printable(string(p.Data))
	fmt.Fprint(os.Stderr, text)
	v.midLine = !strings.HasSuffix(text, "\n")
}
