package longpoll

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

const (
	// streamBeat is how often a stream that has nothing to say says so, so that
	// proxies keep it and a dead one is noticed.
	streamBeat = 15 * time.Second
	// streamLife is after how long a stream is cut.
	streamLife = 24 * time.Hour
	streamType = "text/event-stream"
)

// events streams a job's log as server-sent events: each entry's event is what
// happened and its id is its number, so that Last-Event-ID goes on after it.
// The event "end" ends the stream, or "error" with a problem; a stream that
// ends without either was cut.
func (h *handler) events(c *call) error {
	id, err := c.jobID()
	if err != nil {
		return err
	}
	after, err := lastEvent(c.r)
	if err != nil {
		return err
	}
	ctx, cancel := c.waiting(streamLife)
	defer cancel()
	entries := make(chan streamed)
	go func() {
		defer close(entries)
		for e, err := range c.api.Events(ctx, id, after) {
			select {
			case entries <- streamed{e, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	// What fails before the first entry is an answer like any other.
	s := &stream{c: c, control: http.NewResponseController(c.w)}
	beat := time.NewTicker(time.Second) // a stream that has nothing to tell yet begins soon, all the same
	defer beat.Stop()
	for {
		var err error
		select {
		case e, more := <-entries:
			switch {
			case ctx.Err() != nil:
				return nil // it is old enough: the reader resumes it
			case !more:
				_ = s.event("end", "", []byte("{}")) // whoever is gone asks again
				return nil
			case e.err != nil && !s.started:
				return e.err
			case e.err != nil:
				problem, _ := wire.JSON.Encode(c.problem(e.err)) // NewProblem made it
				_ = s.event("error", "", problem)
				return nil
			}
			var data []byte
			if data, err = wire.JSON.Encode(wire.NewLogEntry(e.entry)); err == nil {
				err = s.event(e.entry.Event.String(), strconv.FormatUint(uint64(e.entry.Seq), 10), data)
			}
		case <-beat.C:
			beat.Reset(streamBeat)
			err = s.write([]byte(":\n\n"))
		case <-c.r.Context().Done():
			return nil
		}
		if err != nil {
			return nil // the reader has gone, and resumes if it wants more
		}
	}
}

type streamed struct {
	entry consign.LogEntry
	err   error
}

// lastEvent is where the stream goes on.
func lastEvent(r *http.Request) (consign.Seq, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fieldError("Last-Event-ID", fmt.Sprintf("is %.80q", text), "send the id of the last event that came")
	}
	return consign.Seq(n), nil
}

// stream writes server-sent events.
type stream struct {
	c       *call
	control *http.ResponseController
	started bool
}

func (s *stream) event(kind, id string, data []byte) error {
	var b []byte
	if kind != "" {
		b = fmt.Appendf(b, "event: %s\n", kind)
	}
	if id != "" {
		b = fmt.Appendf(b, "id: %s\n", id)
	}
	b = append(append(b, "data: "...), data...)
	for b[len(b)-1] == '\n' { // JSON.Encode ends with one
		b = b[:len(b)-1]
	}
	return s.write(append(b, "\n\n"...))
}

func (s *stream) write(b []byte) error {
	if !s.started {
		s.started = true
		s.c.w.Header().Set("Content-Type", streamType)
		s.c.w.Header().Set("X-Accel-Buffering", "no") // of proxies that would hold it back
		s.c.w.WriteHeader(http.StatusOK)
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(answerTime))
	if _, err := s.c.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}
