package longpoll

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// remoteSubmitter is the consign.SubmitterAPI at a URL.
type remoteSubmitter struct{ d *dialer }

var _ consign.SubmitterAPI = (*remoteSubmitter)(nil)

func (s *remoteSubmitter) call(ctx context.Context, x exchange) error {
	x.token = s.d.token
	_, err := s.d.do(ctx, x)
	return err
}

func jobPath(id consign.JobID, rest string) string { return "/v1/jobs/" + id.String() + rest }

func (s *remoteSubmitter) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	policy, err := wire.Policy(r.Policy).MarshalText()
	if err != nil {
		return consign.Quote{}, err
	}
	query := url.Values{"job_type": {r.Kind}, "policy": {string(policy)}, "chars": {strconv.FormatUint(uint64(r.Chars), 10)}}
	var out quoted
	err = s.call(ctx, exchange{method: http.MethodGet, path: "/v1/quote?" + query.Encode(), out: &out})
	return out.Value(), err
}

func (s *remoteSubmitter) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	var out wire.JobInfo
	// Without an ID, twice is two jobs.
	err := s.call(ctx, exchange{method: http.MethodPost, path: "/v1/jobs", in: wire.NewSubmitRequest(r), out: &out, once: r.ID.IsZero()})
	return out.Value(), err
}

// batchBytes is from how many bytes of payloads on a batch takes no more.
const batchBytes = 4 << 20

func (s *remoteSubmitter) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := make([]consign.SubmitOutcome, 0, len(rs))
	for len(rs) > 0 {
		var in batch
		once := false
		for size := 0; len(in.Jobs) < min(wire.MaxJobs, len(rs)) && size < batchBytes; {
			r := rs[len(in.Jobs)]
			size += len(r.Payload)
			once = once || r.ID.IsZero()
			in.Jobs = append(in.Jobs, wire.NewSubmitRequest(r))
		}
		n := len(in.Jobs)
		out = append(out, s.submitBatch(ctx, in, once)...)
		rs = rs[n:]
	}
	return out
}

func (s *remoteSubmitter) submitBatch(ctx context.Context, in batch, once bool) []consign.SubmitOutcome {
	var answer outcomes
	err := s.call(ctx, exchange{method: http.MethodPost, path: "/v1/jobs/batch", in: in, out: &answer, once: once})
	if err == nil && len(answer.Outcomes) != len(in.Jobs) {
		err = fmt.Errorf("longpoll: %d outcomes of %d jobs", len(answer.Outcomes), len(in.Jobs))
	}
	out := make([]consign.SubmitOutcome, len(in.Jobs))
	for i := range out {
		if err != nil {
			out[i].Err = err
		} else {
			out[i] = answer.Outcomes[i].Value()
		}
	}
	return out
}

func (s *remoteSubmitter) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return s.job(ctx, exchange{method: http.MethodGet, path: jobPath(id, "")})
}

func (s *remoteSubmitter) job(ctx context.Context, x exchange) (consign.JobInfo, error) {
	var out wire.JobInfo
	x.out = &out
	err := s.call(ctx, x)
	return out.Value(), err
}

// lastLook is how long Wait takes to see how the job is, when its caller waits
// no longer.
const lastLook = time.Second

func (s *remoteSubmitter) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	for {
		job, err := s.job(ctx, exchange{method: http.MethodGet, path: jobPath(id, "?wait="+pollFor.String()), wait: pollFor})
		switch {
		case err == nil && job.State.Terminal():
			return job, nil
		case ctx.Err() != nil:
			look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
			defer cancel()
			if seen, err := s.Get(look, id); err == nil {
				job = seen
			}
			return job, ctx.Err()
		case err != nil:
			return consign.JobInfo{}, err
		}
	}
}

func (s *remoteSubmitter) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return s.job(ctx, exchange{method: http.MethodDelete, path: jobPath(id, "")})
}

func (s *remoteSubmitter) Acknowledge(ctx context.Context, id consign.JobID) error {
	return s.call(ctx, exchange{method: http.MethodPost, path: jobPath(id, "/ack")})
}

func (s *remoteSubmitter) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	var out consign.Receipt
	err := s.call(ctx, exchange{method: http.MethodGet, path: jobPath(id, "/receipt"), out: &out})
	return out, err
}

func (s *remoteSubmitter) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	var out wire.Explanation
	err := s.call(ctx, exchange{method: http.MethodGet, path: jobPath(id, "/explain"), out: &out})
	return out.Value(), err
}

func (s *remoteSubmitter) Keys(ctx context.Context) (consign.Keys, error) {
	var out wire.Keys
	err := s.call(ctx, exchange{method: http.MethodGet, path: "/v1/keys", out: &out})
	return out.Value(), err
}

func (s *remoteSubmitter) NewPairing(ctx context.Context, submitter []byte) (consign.PairingCode, error) {
	var out wire.PairingCode
	err := s.call(ctx, exchange{method: http.MethodPost, path: pairingsPath, in: newPairing{submitter}, out: &out, once: true})
	return out.Value(), err
}

const pairingsPath = "/v1/trust/pairings"

func (s *remoteSubmitter) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	var out wire.Pairings
	err := s.call(ctx, exchange{method: http.MethodGet, path: pairingsPath, out: &out})
	return out.Value(), err
}

func (s *remoteSubmitter) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	var out wire.Pairing
	err := s.call(ctx, exchange{method: http.MethodPost, path: pairingsPath + "/" + w.String() + "/confirm", in: confirmPairing{fingerprint}, out: &out})
	return out.Value(), err
}

func (s *remoteSubmitter) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	return s.call(ctx, exchange{method: http.MethodDelete, path: pairingsPath + "/" + w.String()})
}

// Events reads one stream. It does not resume by itself: whoever knows the last
// entry that came asks for those after it.
func (s *remoteSubmitter) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		err := s.stream(ctx, id, after, func(e consign.LogEntry) bool { return yield(e, nil) })
		switch {
		case err == nil || errors.Is(err, errLeft):
		case ctx.Err() != nil:
			yield(consign.LogEntry{}, ctx.Err())
		default:
			yield(consign.LogEntry{}, err)
		}
	}
}

var errLeft = errors.New("the caller has had enough")

// streamSilence is after how long without a word a stream is taken for dead.
const streamSilence = 3 * streamBeat

func (s *remoteSubmitter) stream(ctx context.Context, id consign.JobID, after consign.Seq, yield func(consign.LogEntry) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(streamSilence, cancel)
	defer silence.Stop()
	// ctx's words are the caller's only where the caller's ctx has ended.
	resp, err := s.d.openStream(ctx, jobPath(id, "/events"), after)
	if err != nil {
		return unlessSilent(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	events := newEventReader(resp.Body)
	for {
		kind, data, err := events.next()
		silence.Reset(streamSilence)
		switch {
		case err != nil:
			return unlessSilent(err)
		case kind == "end":
			return nil
		case kind == "error":
			var p wire.Problem
			if err := wire.JSON.DecodeAnswer(data, &p); err != nil {
				return fmt.Errorf("longpoll: an event that cannot be read: %s", err.Error())
			}
			return p.Err()
		case data != nil:
			var e wire.LogEntry
			if err := wire.JSON.DecodeAnswer(data, &e); err != nil {
				return fmt.Errorf("longpoll: an event that cannot be read: %s", err.Error())
			}
			if !yield(e.Value()) {
				return errLeft
			}
			silence.Reset(streamSilence) // the caller took its time
		}
	}
}

// unlessSilent hides that a silent stream ended by a context of ours.
func unlessSilent(err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("longpoll: %w in the stream for %v", errNoAnswer, streamSilence)
	}
	return err
}

func (d *dialer) openStream(ctx context.Context, path string, after consign.Seq) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", streamType)
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if after != 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatUint(uint64(after), 10))
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }() // it was only read
		return nil, d.refused(resp)
	}
	return resp, nil
}

// eventReader reads server-sent events.
type eventReader struct{ lines *bufio.Scanner }

// maxEvent bounds a line of a stream: a report item of 1 MiB in base64 and its
// entry.
const maxEvent = 2 << 20

func newEventReader(r io.Reader) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	return &eventReader{lines}
}

// next returns an event, without data for a comment. The error of a stream that
// ends is io.ErrUnexpectedEOF: its last event says that it is over.
func (r *eventReader) next() (kind string, data []byte, err error) {
	for r.lines.Scan() {
		line := r.lines.Bytes()
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			kind = string(value)
		case "data":
			data = append(data, value...)
		case "":
			if len(line) == 0 {
				return kind, data, nil
			}
		}
	}
	if err := r.lines.Err(); err != nil {
		return "", nil, err
	}
	return "", nil, io.ErrUnexpectedEOF
}
