package testkit

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// NetFaults are what a Proxy does to a network: each a probability per chunk of
// bytes that passes.
type NetFaults struct {
	Delay float64 // it takes up to MaxDelay
	Slice float64 // it comes in pieces of a few bytes
	Reset float64 // the connection breaks, both ways at once
	// HalfOpen is that nothing passes any more in this direction, and nobody is
	// told; after Dead the connection breaks.
	HalfOpen float64

	MaxDelay time.Duration
	Dead     time.Duration
}

// Proxy carries TCP connections to an address, with faults drawn from a seed.
type Proxy struct {
	target string
	faults NetFaults
	listen net.Listener
	all    context.Context // ends with the proxy
	stop   context.CancelFunc
	group  sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	broken int
	count  int // of faults
	whole  bool
	now    context.Context // ends with the connections that there are
	cut    context.CancelFunc
}

// StartProxy listens on the loopback interface.
func StartProxy(target string, seed uint64, f NetFaults) (*Proxy, error) {
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &Proxy{target: target, faults: f, listen: listen, all: ctx, stop: stop, random: rand.New(rand.NewPCG(seed, 1))}
	p.now, p.cut = context.WithCancel(ctx)
	p.group.Go(func() {
		for {
			near, err := listen.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			now := p.now
			p.mu.Unlock()
			p.group.Go(func() { p.carry(now, near) })
		}
	})
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Mend ends the faults: what passes from now on passes whole.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole = true
}

// Broken is how many connections were reset or went half-open.
func (p *Proxy) Broken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// Faults is how many faults there were, of any kind.
func (p *Proxy) Faults() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Cut breaks every connection that there is.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
	p.now, p.cut = context.WithCancel(p.all)
}

// Close breaks every connection and waits for the proxy's goroutines.
func (p *Proxy) Close() {
	_ = p.listen.Close()
	p.stop()
	p.group.Wait()
}

func (p *Proxy) carry(ctx context.Context, near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer far.Close()
	// A reset is one: the other end sees an error, not an end.
	near.(*net.TCPConn).SetLinger(0)
	far.(*net.TCPConn).SetLinger(0)
	ctx, over := context.WithCancel(ctx)
	defer over()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			defer over()
			p.pass(ctx, way[0], way[1])
		})
	}
	<-ctx.Done()
	near.Close()
	far.Close()
	both.Wait()
}

// pass copies one way until something breaks.
func (p *Proxy) pass(ctx context.Context, from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		chunk := buf[:n]
		delay, slice, reset, half := p.draw(n)
		wait(ctx, delay)
		if half {
			wait(ctx, p.faults.Dead)
		}
		if half || reset {
			return
		}
		for len(chunk) > 0 {
			piece := chunk
			if slice {
				piece = chunk[:min(len(chunk), 7)]
			}
			if _, err := to.Write(piece); err != nil {
				return
			}
			chunk = chunk[len(piece):]
			if slice && len(chunk) > 4096 {
				slice = false // enough of it
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) draw(n int) (delay time.Duration, slice, reset, half bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole || n == 0 {
		return 0, false, false, false
	}
	if p.random.Float64() < p.faults.Delay {
		delay = time.Duration(p.random.Float64() * float64(p.faults.MaxDelay))
	}
	slice = p.random.Float64() < p.faults.Slice
	reset = p.random.Float64() < p.faults.Reset
	half = !reset && p.random.Float64() < p.faults.HalfOpen
	if reset || half {
		p.broken++
	}
	if delay > 0 || slice || reset || half {
		p.count++
	}
	return delay, slice, reset, half
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
