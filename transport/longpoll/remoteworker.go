package longpoll

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/retry"
	"github.com/consignq/consign/transport/internal/wire"
)

// remoteWorkers is the consign.WorkerAPI at a URL.
type remoteWorkers struct{ d *dialer }

var _ consign.WorkerAPI = (*remoteWorkers)(nil)

// Origin is the address that was dialled, for the worker to sign.
func (w *remoteWorkers) Origin() string { return w.d.origin }

func (w *remoteWorkers) Challenge(ctx context.Context) (consign.Challenge, error) {
	var out wire.Challenge
	_, err := w.d.do(ctx, exchange{method: http.MethodPost, path: "/v1/workers/challenge", out: &out})
	return out.Value(), err
}

func (w *remoteWorkers) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	var out registered
	_, err := w.d.do(ctx, exchange{method: http.MethodPost, path: "/v1/workers/register", in: wire.NewRegistration(r), out: &out, once: true})
	if err != nil {
		return nil, err
	}
	return &remoteSession{d: w.d, path: "/v1/workers/" + out.Worker.String(), token: out.Token}, nil
}

// remoteSession is a consign.Session at a URL.
type remoteSession struct {
	d     *dialer
	path  string
	token string

	slots    slots
	results  results
	reported atomic.Uint64 // the last report's number
}

var _ consign.Session = (*remoteSession)(nil)

func (s *remoteSession) call(ctx context.Context, x exchange) error {
	x.method, x.token = http.MethodPost, s.token
	_, err := s.d.do(ctx, x)
	return err
}

func (s *remoteSession) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	var out wire.HeartbeatReply
	err := s.call(ctx, exchange{path: s.path + "/heartbeat", in: wire.NewHeartbeat(h), out: &out})
	return out.Value(), err
}

const (
	// reportTries is how often a report is sent, and reportWithin when the second
	// try is due: the connection may be dead, and the answer not come. Each waits
	// twice as long as the one before, since the way may be slow.
	reportTries  = 3
	reportWithin = 10 * time.Second
)

// Report sends a report until the queue has answered, a few times at most: only
// here is it known under which name, by which the session at the queue tells it
// from another. Where that session is gone nobody knows whether a try before had
// come, and the error is that there was no answer.
func (s *remoteSession) Report(ctx context.Context, r consign.Report) error {
	key := strconv.FormatUint(s.reported.Add(1), 36)
	try := func(within time.Duration) error {
		ctx, cancel := context.WithTimeoutCause(ctx, within, errNoAnswer)
		defer cancel()
		err := s.call(ctx, exchange{path: jobPath(r.Job, "/heartbeat"), in: wire.NewReport(r), key: key})
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return context.Cause(ctx)
		}
		return err
	}
	waits := retry.NewBackOff()
	var lost error
	for n := range reportTries {
		err := try(reportWithin << n)
		switch {
		case lost != nil && errors.Is(err, consign.ErrSession):
			return lost
		case err == nil || answered(err):
			return err
		}
		if lost = err; !retry.Sleep(ctx, waits.NextBackOff()) {
			break
		}
	}
	return lost
}

func (s *remoteSession) Fail(ctx context.Context, f consign.Failure) error {
	return s.call(ctx, exchange{path: jobPath(f.Job, "/fail"), in: wire.NewFailure(f)})
}

func (s *remoteSession) Release(ctx context.Context, r consign.Release) error {
	return s.call(ctx, exchange{path: jobPath(r.Job, "/release"), in: wire.NewRelease(r)})
}

func (s *remoteSession) ClaimPairing(ctx context.Context, code string) (consign.Pairing, error) {
	var out wire.Pairing
	err := s.call(ctx, exchange{path: pairingsPath + "/claim", in: claimPairing{code}, out: &out, once: true}) // a code is good once
	return out.Value(), err
}
