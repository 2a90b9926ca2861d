package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	RequestHash  []byte           `json:"request_hash,omitempty"` // what it is the result of
	Error        string           `json:"error,omitempty"`

	written bool // in the file of results, by an earlier run
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
				e, known := out.before(i+1, requests[i])
				if !known {
					e = q.runLine(ctx, i+1, requests[i])
				}
				err := out.add(e)
				if err == nil && e.Verified { // its result is in the file: its keys may go
					err = q.letGo(ctx, e.ID)
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
	if out.acknowledged > 0 {
		fmt.Fprintf(os.Stderr, "%d more were done and acknowledged before\n", out.acknowledged)
	}
	if err = errors.Join(out.err, out.close()); err == nil && out.verified+out.acknowledged < len(requests) {
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
	// Sealed again it is another payload. A plain one that conflicts is one.
	if errors.Is(err, consign.ErrConflict) && r.Custody != consign.CustodyPlain {
		if job, err := q.Get(ctx, r.ID); err == nil && job.Acknowledged {
			e.Before = job.State == consign.StateCompleted
			e.Error = "the job was " + job.State.String() + " and acknowledged before: what came of it was printed then"
			if err := q.letGo(ctx, r.ID); err != nil { // of the keys that sealed it again
				e.Error += "; " + err.Error()
			}
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
	e.Verified, e.Receipt, e.RequestHash = true, &res.Receipt, requestHash(r)
	if utf8.Valid(res.Output) {
		e.Result = string(res.Output)
	} else {
		e.ResultBase64 = res.Output
	}
	return e
}

// letGo acknowledges a job, and forgets its keys even where the queue has
// forgotten the job.
func (q *queue) letGo(ctx context.Context, id consign.JobID) error {
	err := q.Acknowledge(ctx, id)
	if errors.Is(err, consign.ErrNotFound) {
		return q.keyring.Forget(id)
	}
	return err
}

// requestHash tells whether a line asks for the same under the same ID.
func requestHash(r consign.SubmitRequest) []byte {
	hash := consign.InputHash(fmt.Appendf(nil, "%q %q ", r.Kind, r.Model), r.Payload)
	return hash[:]
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
	results, receipts *os.File                 // receipts may be nil
	written           map[consign.JobID][]byte // the verified results that were there: their RequestHash
	terminal          bool
	jobs              int

	mu                           sync.Mutex
	done, verified, acknowledged int
	broken                       error // of a file: what follows would stand behind half a line
	err                          error
}

// newBatchOutput adds to files that are there: what was acknowledged is nowhere
// else.
func newBatchOutput(o options, jobs int) (*batchOutput, error) {
	b := &batchOutput{results: os.Stdout, terminal: cli.IsTerminal(os.Stderr), jobs: jobs}
	var err error
	if o.resultFile != "" {
		if b.results, err = appendTo(o.resultFile); err == nil {
			b.written, err = readResults(b.results)
		}
	}
	if o.receiptFile != "" && err == nil {
		b.receipts, err = appendTo(o.receiptFile)
	}
	return b, err
}

// appendTo opens a file for further lines. What is there is on the disk then,
// and its last line has an end.
func appendTo(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666) //nolint:gosec // as the umask has it
	if err != nil {
		return nil, err
	}
	if err := endLine(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func endLine(f *os.File) error {
	r, size, err := reread(f)
	if err != nil || size == 0 {
		return err
	}
	defer r.Close() //nolint:errcheck // was only read
	last := make([]byte, 1)
	if _, err := r.ReadAt(last, size-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		if _, err := f.WriteString("\n"); err != nil {
			return err
		}
	}
	return f.Sync()
}

// reread opens what is in a file that is written. Of a pipe, or an empty file,
// the size is 0 and the reader nil.
func reread(f *os.File) (r *os.File, size int64, err error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, 0, err
	}
	r, err = os.Open(f.Name())
	return r, info.Size(), err
}

// readResults returns the jobs whose verified results are in a file. Lines that
// are torn or somebody else's are none.
func readResults(f *os.File) (map[consign.JobID][]byte, error) {
	r, size, err := reread(f)
	if err != nil || size == 0 {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // was only read
	written := map[consign.JobID][]byte{}
	for lines := bufio.NewReader(r); ; {
		text, err := lines.ReadBytes('\n')
		var e ended
		if json.Unmarshal(text, &e) == nil && e.Verified && len(e.RequestHash) > 0 {
			written[e.ID] = e.RequestHash
		}
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// before says of a line that is not to be sent why.
func (b *batchOutput) before(n int, r consign.SubmitRequest) (e ended, known bool) {
	hash, known := b.written[r.ID]
	e = ended{Line: n, ID: r.ID}
	switch {
	case known && bytes.Equal(hash, requestHash(r)):
		e.Verified, e.written = true, true
	case known:
		e.Error = "the file of results has one of another text, kind or model under this id: give the line a new one"
	}
	return e, known
}

// add prints what came of a job. It returns once files have it; the receipt
// first, as a line whose result is there is not run again.
func (b *batchOutput) add(e ended) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	receipt := e.Receipt
	e.Receipt = nil
	if b.receipts != nil && receipt != nil {
		b.write(b.receipts, ended{Line: e.Line, ID: e.ID, Verified: true, Receipt: receipt})
	}
	if !e.written {
		b.write(b.results, e)
	}
	if b.broken != nil {
		return b.broken
	}
	if b.done++; e.Verified {
		b.verified++
	}
	if e.Before {
		b.acknowledged++
	}
	if b.terminal {
		cli.Bar(b.done, b.jobs, fmt.Sprintf("%d verified", b.verified))
		return nil
	}
	verdict := "verified"
	if !e.Verified {
		verdict = "NOT verified: " + cli.Printable(e.Error)
	}
	fmt.Fprintf(os.Stderr, "line %d, job %s: %s\n", e.Line, e.ID, verdict)
	return nil
}

// write writes a line, unless one before it failed.
func (b *batchOutput) write(f *os.File, e ended) {
	if b.broken != nil {
		return
	}
	if b.broken = json.NewEncoder(f).Encode(e); b.broken != nil || f == os.Stdout {
		return
	}
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) { // which a pipe says
		b.broken = err
	}
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
