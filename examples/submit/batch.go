package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/examples/internal/cli"
)

// atOnce is how many jobs of a batch are under way.
const atOnce = 64

// ended is what is printed of a job of a batch.
type ended struct {
	Line         int              `json:"line"`
	ID           consign.JobID    `json:"job_id"`
	Verified     bool             `json:"verified"`
	Before       bool             `json:"acknowledged_before,omitempty"`
	Worker       string           `json:"worker_id,omitempty"`
	Attempts     int              `json:"attempts,omitempty"`
	Result       string           `json:"result,omitempty"`
	ResultBase64 []byte           `json:"result_base64,omitempty"` // instead, where it is no text
	Receipt      *consign.Receipt `json:"receipt,omitempty"`
	Error        string           `json:"error,omitempty"`
}

// runBatch runs the jobs of a file.
func (q *queue) runBatch(ctx context.Context, o options, requests []consign.SubmitRequest) error {
	out, err := newBatchOutput(o, len(requests))
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, len(requests)) {
		group.Go(func() {
			for i := range next {
				e := q.runLine(ctx, i+1, requests[i])
				err := out.add(e)
				if err == nil && e.Verified { // its result is in the file: its keys may go
					err = q.Acknowledge(ctx, e.ID)
				}
				out.failed(err)
			}
		})
	}
	for i := range requests {
		next <- i
	}
	close(next)
	group.Wait()
	fmt.Fprintf(os.Stderr, "%d of %d jobs have a verified result\n", out.verified, len(requests))
	if out.before > 0 {
		fmt.Fprintf(os.Stderr, "%d more were done and acknowledged before\n", out.before)
	}
	if err = errors.Join(out.err, out.close()); err == nil && out.verified+out.before < len(requests) {
		err = errors.New("not every job has a verified result; give the lines an id, and the same file takes up what was begun")
	}
	return err
}

// readBatch returns the jobs of the lines, all of which are good. It returns a
// *consign.FieldError.
func (o *options) readBatch() (rs []consign.SubmitRequest, err error) {
	data, err := cli.ReadFile("batch", o.batch)
	if err != nil {
		return nil, err
	}
	for n, text := range bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n")) {
		l := o.line(nil)
		l.Payload = nil
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err := d.Decode(&l)
		if err == nil && d.More() {
			err = errors.New("more than one JSON value")
		}
		if err != nil {
			return nil, cli.FieldError("batch", fmt.Sprintf("has a bad line %d: %v", n+1, err), `write lines like {"task":"summarize","text":"..."}`)
		}
		r, err := l.request()
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("line %d: %w", n+1, err))
		}
		r.Deadline = o.deadline.after
		rs = append(rs, r)
	}
	return rs, nil
}

func (q *queue) runLine(ctx context.Context, n int, r consign.SubmitRequest) ended {
	e := ended{Line: n, ID: r.ID}
	var res client.Result
	_, err := q.Submit(ctx, r)
	if err == nil {
		res, err = q.finish(ctx, r)
	}
	e.Attempts = res.Attempts
	if !res.Worker.IsZero() {
		e.Worker = res.Worker.String()
	}
	if errors.Is(err, consign.ErrConflict) { // sealed again it is another payload
		if job, err := q.Get(ctx, r.ID); err == nil && job.Acknowledged {
			e.Before, e.Error = true, "the job was "+job.State.String()+" and acknowledged before: what came of it was printed then"
			return e
		}
	}
	if err != nil {
		e.Error = err.Error()
		if last := q.lastWord(ctx, r.ID, err); last != "" {
			e.Error += ": " + last
		}
		if err := q.giveUp(ctx, r.ID, err); err != nil {
			e.Error += "; " + err.Error()
		}
		return e
	}
	e.Verified, e.Receipt = true, &res.Receipt
	if utf8.Valid(res.Output) {
		e.Result = string(res.Output)
	} else {
		e.ResultBase64 = res.Output
	}
	return e
}

// lastWord is what the last worker said of a job that failed: of a sealed one
// the queue cannot read it.
func (q *queue) lastWord(ctx context.Context, id consign.JobID, err error) (last string) {
	if failed, ok := errors.AsType[*client.JobError](err); !ok || failed.Job.State != consign.StateFailed {
		return ""
	}
	for p, err := range q.Stream(ctx, id) {
		if err == nil && p.Kind == consign.ReportLog {
			last = string(p.Data)
		}
	}
	return last
}

// batchOutput takes what came of the jobs.
type batchOutput struct {
	results, receipts *os.File // receipts may be nil
	terminal          bool
	jobs              int

	mu                     sync.Mutex
	done, verified, before int
	err                    error
}

// newBatchOutput adds to files that are there: what was acknowledged is nowhere
// else.
func newBatchOutput(o options, jobs int) (*batchOutput, error) {
	b := &batchOutput{results: os.Stdout, terminal: cli.IsTerminal(os.Stderr), jobs: jobs}
	var err error
	if o.resultFile != "" {
		b.results, err = appendTo(o.resultFile)
	}
	if o.receiptFile != "" && err == nil {
		b.receipts, err = appendTo(o.receiptFile)
	}
	return b, err
}

func appendTo(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666) //nolint:gosec // as the umask has it
}

// add prints what came of a job. It returns once files have it.
func (b *batchOutput) add(e ended) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	receipt := e.Receipt
	e.Receipt = nil
	if err := b.write(b.results, e); err != nil {
		return err
	}
	if b.done++; e.Verified {
		b.verified++
	}
	if e.Before {
		b.before++
	}
	if b.terminal {
		cli.Bar(b.done, b.jobs, fmt.Sprintf("%d verified", b.verified))
	} else {
		verdict := "verified"
		if !e.Verified {
			verdict = "NOT verified: " + cli.Printable(e.Error)
		}
		fmt.Fprintf(os.Stderr, "line %d, job %s: %s\n", e.Line, e.ID, verdict)
	}
	if b.receipts == nil || !e.Verified {
		return nil
	}
	return b.write(b.receipts, ended{Line: e.Line, ID: e.ID, Verified: true, Receipt: receipt})
}

func (b *batchOutput) write(f *os.File, e ended) error {
	if err := json.NewEncoder(f).Encode(e); err != nil || f == os.Stdout {
		return err
	}
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) { // which a pipe says
		return err
	}
	return nil
}

func (b *batchOutput) failed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *batchOutput) close() error {
	var errs []error
	for _, f := range []*os.File{b.results, b.receipts} {
		if f != nil && f != os.Stdout {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
