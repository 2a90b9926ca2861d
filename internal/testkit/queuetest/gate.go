package queuetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
)

// gate is a store some of whose calls wait, before or after they are carried
// out, until it is opened: what happens meanwhile overtakes them.
type gate struct {
	consign.Store
	// before and after say which calls wait, until the gate is open. Nil: none.
	before, after func(call) bool

	arrived chan call     // those that wait
	opened  chan struct{} // closed when it is opened
	through chan error    // what became of each of them
	open    func()
}

// call is one of Apply, Renew and Lapsed, with what it was given or has found.
type call struct {
	method  string
	changes []consign.Change
	lapsed  []*consign.Job
}

// about reports a call that commits a change with the event.
func about(kind consign.EventKind) func(call) bool {
	return func(c call) bool {
		return slices.ContainsFunc(c.changes, func(c consign.Change) bool { return c.Job != nil && len(c.Log) > 0 && c.Log[0].Event == kind })
	}
}

func renewal(c call) bool { return c.method == "Renew" }

// gate is a gate that is shut, until the case is over.
func (s *stand) gate(before, after func(call) bool) *gate {
	g := &gate{before: before, after: after, arrived: make(chan call, 1000), opened: make(chan struct{}), through: make(chan error, 1000)}
	g.open = sync.OnceFunc(func() { close(g.opened) })
	s.gates = append(s.gates, g)
	return g
}

// in puts the gate before a store.
func (g *gate) in(s consign.Store) consign.Store {
	g.Store = s
	return g
}

// waits waits until a call has arrived.
func (g *gate) waits(s *stand) error {
	select {
	case <-g.arrived:
		return nil
	case <-time.After(s.patience()):
		return errors.New("nothing comes to the gate")
	}
}

// passes opens the gate and waits until a call that has waited is through. The
// outcome is the store's.
func (g *gate) passes(s *stand) (outcome, err error) {
	g.open()
	select {
	case outcome = <-g.through:
		return outcome, nil
	case <-time.After(s.patience()):
		return nil, errors.New("nothing gets through the gate")
	}
}

// wait holds a call up. It ends with the call's context.
func (g *gate) wait(ctx context.Context, which func(call) bool, c call) (held bool, err error) {
	select {
	case <-g.opened:
		return false, nil
	default:
	}
	if which == nil || !which(c) {
		return false, nil
	}
	g.arrived <- c
	select {
	case <-g.opened:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

func (g *gate) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	c := call{method: "Apply", changes: changes}
	held, err := g.wait(ctx, g.before, c)
	if err != nil {
		return nil, err
	}
	outcomes, err := g.Store.Apply(ctx, changes)
	late, waited := g.wait(ctx, g.after, c)
	if held || late {
		g.through <- errors.Join(append(slices.Clone(outcomes), err, waited)...)
	}
	if waited != nil {
		return nil, waited
	}
	return outcomes, err
}

func (g *gate) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	held, err := g.wait(ctx, g.before, call{method: "Renew"})
	if err != nil {
		return nil, err
	}
	outcomes, err := g.Store.Renew(ctx, renewals)
	if held {
		g.through <- errors.Join(append(slices.Clone(outcomes), err)...)
	}
	return outcomes, err
}

func (g *gate) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	jobs, err := g.Store.Lapsed(ctx, n)
	if _, waited := g.wait(ctx, g.after, call{method: "Lapsed", lapsed: jobs}); waited != nil {
		return nil, waited
	}
	return jobs, err
}

// blind is a store whose queue never sees what time has done.
type blind struct{ consign.Store }

func (blind) Lapsed(context.Context, int) ([]*consign.Job, error) { return nil, nil }
func (blind) Due(context.Context, consign.Instant, int) ([]*consign.Job, consign.Instant, error) {
	return nil, 0, nil
}

func blinded(s consign.Store) consign.Store { return blind{s} }

// mute is a store that does not tell what others have done.
type mute struct{ consign.Store }

func muted(s consign.Store) consign.Store { return mute{s} }

// counting counts renewals.
type counting struct {
	consign.Store
	calls atomic.Int64
}

func (c *counting) in(s consign.Store) consign.Store {
	c.Store = s
	return c
}

func (c *counting) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	c.calls.Add(1)
	return c.Store.Renew(ctx, renewals)
}
