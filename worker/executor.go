package worker

import (
	"context"
	"errors"
	"strings"

	"github.com/consignq/consign"
)

// Executor runs the jobs of a kind. It is called from as many goroutines as
// the worker has slots.
type Executor interface {
	// Execute runs one job and returns its output. ctx ends when the result is
	// no longer wanted: the lease is lost or the job was cancelled
	// (context.Cause is consign.ErrLeaseLost), the attempt's limit is over, or
	// the worker stops. Execute must then return soon: its slot stays taken
	// until it does, and Worker.Run waits for it.
	//
	// An error says whose fault it is. One that wraps ErrPayload fails the job
	// for good; one that wraps ErrRefused sends it to another worker at once;
	// any other, and a panic, is transient: the job is tried again elsewhere.
	// The submitter reads the error's text; of a sealed job in its sealed log,
	// and nobody else does. A job that ran and came to a bad
	// end by itself, such as a container that exits with status 1, is not an
	// error but an Output with its ExitStatus.
	//
	// The next job runs in the same goroutine: what Execute does to that, such as
	// runtime.LockOSThread, it undoes before it returns.
	Execute(ctx context.Context, t *Task) (Output, error)
}

// ExecutorFunc is a function as an Executor.
type ExecutorFunc func(ctx context.Context, t *Task) (Output, error)

// Execute calls f.
func (f ExecutorFunc) Execute(ctx context.Context, t *Task) (Output, error) { return f(ctx, t) }

// Warmer is an optional ability of an Executor that keeps models loaded. The
// queue prefers a worker that has the model of a job warm.
type Warmer interface {
	// Warm returns the models that are loaded. It is called before every
	// heartbeat and must answer by the end of ctx, a second or two.
	Warm(ctx context.Context) []consign.WarmModel
}

// Whose fault an executor's error is; wrap one of them with what happened:
//
//	return worker.Output{}, fmt.Errorf("%w: prompt has %d tokens, %s takes 8192", worker.ErrPayload, n, t.Model)
var (
	// ErrPayload: the job itself cannot be run, by anyone. It fails, and is
	// never counted against the worker.
	ErrPayload = errors.New("worker: bad payload")
	// ErrRefused: this worker cannot run this job; another may.
	ErrRefused = errors.New("worker: refused")
)

// Task is a job as its executor sees it. Nothing in it tells a first run from
// a later one. A Task that was made by hand, in a test of an executor, works:
// what is reported goes nowhere.
type Task struct {
	Job        consign.JobID
	Kind       string
	Model      string // as requested, "" where the kind needs none
	Tier       consign.Tier
	Chars      uint32 // of the prompt, Unicode code points
	Payload    []byte // in plain; not to be modified
	Comparator string // how results are compared, "" or "none" where they are not

	reports *reporter
}

// Progress, Log and Part stream to whoever follows the job's events. They
// never block and never fail: what cannot be delivered in time is lost, and
// only the Output counts. They may be called from several goroutines, until
// Execute returns.

// Progress says how far the job is. Only the latest of several in quick
// succession is sent.
func (t *Task) Progress(text string) { t.reports.add(consign.ReportProgress, []byte(text)) }

// Log adds a line to the job's log.
func (t *Task) Log(line string) { t.reports.add(consign.ReportLog, []byte(line)) }

// Part streams the next bytes of the result, as a preview: parts in quick
// succession are joined, and the whole result must still be in the Output. b
// may be reused.
func (t *Task) Part(b []byte) { t.reports.add(consign.ReportPart, b) }

// Output is what a job came to. Result is required in spirit and may be empty;
// strings are UTF-8 of at most 1,024 bytes and go into the signed record, which
// the queue can read whatever the job's custody: of a sealed job only Result is
// sealed.
type Output struct {
	Result     []byte // not to be modified afterwards
	ExitStatus int32  // 0 for success

	Model       string // that ran; defaults to the one that was asked for
	ModelDigest string // as the engine names its weights
	Engine      string // its name and version
	Class       string // the results that this one may be compared with
	Use         consign.ResourceUse
}

// maxReason bounds a failure's text, in bytes.
const maxReason = 4 << 10

// reason cuts a text to what a failure may carry.
func reason(text string) string {
	const cut = " [cut]"
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason-len(cut)], "") + cut
	}
	return text
}

// fault says whose fault an executor's error is.
func fault(err error) consign.FailKind {
	switch {
	case errors.Is(err, ErrPayload):
		return consign.FailPayload
	case errors.Is(err, ErrRefused):
		return consign.FailRefused
	default:
		return consign.FailTransient
	}
}
