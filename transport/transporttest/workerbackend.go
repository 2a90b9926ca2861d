package transporttest

import (
	"context"
	"time"

	"github.com/consignq/consign"
)

// backend is a scripted consign.WorkerAPI that opens one session after the
// other.
type backend struct {
	challenge func(context.Context) (consign.Challenge, error)
	register  func(context.Context, consign.Registration) (consign.Session, error)
	session   consign.Session // for everyone, where register is nil
}

func (b *backend) Challenge(ctx context.Context) (consign.Challenge, error) {
	if b.challenge == nil {
		return consign.Challenge{Queue: consign.QueueID{1}, Nonce: []byte("nonce")}, nil
	}
	return b.challenge(ctx)
}

func (b *backend) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	if b.register == nil {
		return b.session, nil
	}
	return b.register(ctx, r)
}

// session is a scripted consign.Session. A method without a script fails with
// err, or succeeds where that is nil.
type session struct {
	err       error
	heartbeat func(context.Context, consign.Heartbeat) (consign.HeartbeatReply, error)
	claim     func(context.Context) (consign.Assignment, error)
	report    func(context.Context, consign.Report) error
	complete  func(context.Context, consign.Completion) error
	failure   func(context.Context, consign.Failure) error
	release   func(context.Context, consign.Release) error
	pairing   func(context.Context, string) (consign.Pairing, error)
}

func (s *session) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	if s.heartbeat == nil {
		return consign.HeartbeatReply{Interval: 10 * time.Second}, s.err
	}
	return s.heartbeat(ctx, h)
}

func (s *session) Claim(ctx context.Context) (consign.Assignment, error) {
	if s.claim == nil {
		return consign.Assignment{}, s.err
	}
	return s.claim(ctx)
}

func (s *session) Report(ctx context.Context, r consign.Report) error {
	if s.report == nil {
		return s.err
	}
	return s.report(ctx, r)
}

func (s *session) Complete(ctx context.Context, c consign.Completion) error {
	if s.complete == nil {
		return s.err
	}
	return s.complete(ctx, c)
}

func (s *session) Fail(ctx context.Context, f consign.Failure) error {
	if s.failure == nil {
		return s.err
	}
	return s.failure(ctx, f)
}

func (s *session) Release(ctx context.Context, r consign.Release) error {
	if s.release == nil {
		return s.err
	}
	return s.release(ctx, r)
}

func (s *session) ClaimPairing(ctx context.Context, code string) (consign.Pairing, error) {
	if s.pairing == nil {
		return consign.Pairing{}, s.err
	}
	return s.pairing(ctx, code)
}
