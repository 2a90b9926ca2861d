package client

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
)

// Piece is what a worker said while it ran a job: a preview, of which only the
// result counts.
type Piece struct {
	// Attempt is which one it is of. With a new one the text starts over.
	Attempt int
	// Kind says what Data is. It is the queue's word: a sealed job's workers
	// seal what they say, and in which order, and not as what.
	Kind consign.ReportKind
	Data []byte
}

// Stream yields what the workers of a job say, from the first word on, in plain
// and in order, and ends with the job. What an attempt of a sealed job said
// that was over, and not the accepted one, before Stream came to it, cannot be
// opened any more and is left out. The last line of one that failed says why.
//
// An error ends it: those of Events; seal.ErrBox or seal.ErrPadding for what
// does not open; seal.ErrPartGap for a part that does not come. Of a job that
// this keyring has no keys of, Data is as the queue has it.
func (c *Client) Stream(ctx context.Context, id consign.JobID) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		s := stream{c: c, id: id}
		var err error
		if s.keys, err = c.cfg.Keyring.job(id); err != nil && !errors.Is(err, ErrNoKeys) {
			yield(Piece{}, err)
			return
		}
		for e, err := range c.Events(ctx, id, 0) {
			if err == nil && s.keys != nil && e.Attempt != s.attempt && (e.Event == consign.EventClaim || e.Event == consign.EventReport) {
				err = s.begin(ctx, e)
			}
			if err == nil && e.Event == consign.EventReport {
				s.add(e)
				for p, ok := s.next(&err); ok; p, ok = s.next(&err) {
					if !yield(p, nil) {
						return
					}
				}
			}
			if err != nil {
				yield(Piece{}, err)
				return
			}
		}
		if len(s.held) > 0 {
			yield(Piece{}, fmt.Errorf("%w: %d parts cannot be opened", seal.ErrPartGap, len(s.held)))
		}
	}
}

// stream opens the parts of one attempt after the other.
type stream struct {
	c       *Client
	id      consign.JobID
	keys    *openJob // nil: nothing is to be opened
	attempt int
	opener  *seal.PartOpener // nil: the attempt's claim is not known
	held    []Piece          // not opened yet, as they came
}

// maxHeld bounds how many parts wait for one before them.
const maxHeld = 1024

// begin starts over with an attempt.
func (s *stream) begin(ctx context.Context, e consign.LogEntry) error {
	s.attempt, s.opener, s.held = e.Attempt, nil, nil
	job, err := s.c.Get(ctx, s.id)
	if err != nil {
		return err
	}
	if job.Attempts != e.Attempt || job.Worker != e.Worker || job.Claim.IsZero() {
		return nil // it is over
	}
	key, err := s.keys.resultKey(s.id)
	if err != nil {
		return err
	}
	header, err := seal.ParseHeader(s.keys.Header)
	if err != nil {
		return fmt.Errorf("%w: job %s: %w", ErrKeyring, s.id, err)
	}
	s.opener, err = seal.NewPartOpener(key, s.keys.info(header.Queue, s.id, e.Worker, job.Claim))
	return err
}

// add takes a report in.
func (s *stream) add(e consign.LogEntry) {
	if s.keys == nil || s.opener != nil {
		s.held = append(s.held, Piece{Attempt: e.Attempt, Kind: e.Report, Data: e.Data})
	}
}

// next returns the next piece in plain, if it is there. What was opened before
// is dropped.
func (s *stream) next(err *error) (Piece, bool) {
	for i := 0; i < len(s.held); i++ {
		p := s.held[i]
		var failed error
		if s.keys != nil {
			p.Data, _, failed = s.opener.Open(p.Data)
		}
		switch {
		case failed == nil:
			s.held = append(s.held[:i:i], s.held[i+1:]...)
			return p, true
		case errors.Is(failed, seal.ErrPartReplayed):
			s.held = append(s.held[:i:i], s.held[i+1:]...)
			i--
		case errors.Is(failed, seal.ErrPartGap) && len(s.held) <= maxHeld:
		default:
			*err = failed
			return Piece{}, false
		}
	}
	return Piece{}, false
}
