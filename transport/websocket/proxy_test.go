package websocket_test

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between the ends and spoils what passes.
type proxy struct {
	to    string
	spoil func(rng *rand.Rand, from, to *net.TCPConn)

	mu    sync.Mutex
	rng   *rand.Rand
	conns []*net.TCPConn
	cuts  int
}

// startProxy serves until the test has ended, and returns its address.
func startProxy(t testing.TB, to string, seed uint64, spoil func(rng *rand.Rand, from, to *net.TCPConn)) (*proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: to, spoil: spoil, rng: rand.New(rand.NewPCG(seed, 0))}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", p.to)
			if err != nil {
				_ = near.Close()
				continue
			}
			conns.Go(func() { p.join(near.(*net.TCPConn), far.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.cut(); conns.Wait() })
	return p, l.Addr().String()
}

// join passes bytes both ways until either end has gone.
func (p *proxy) join(a, b *net.TCPConn) {
	p.mu.Lock()
	p.conns = append(p.conns, a, b)
	seeds := [2]uint64{p.rng.Uint64(), p.rng.Uint64()}
	p.mu.Unlock()
	var both sync.WaitGroup
	for i, way := range [2][2]*net.TCPConn{{a, b}, {b, a}} {
		both.Go(func() {
			p.spoil(rand.New(rand.NewPCG(seeds[i], 1)), way[0], way[1])
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

// cut resets all connections that there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.SetLinger(0)
		_ = c.Close()
	}
	p.conns = nil
	p.cuts++
}

// pass copies until an error, through bend.
func pass(from, to *net.TCPConn, bend func(chunk []byte) (ok bool)) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !bend(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// The ways in which a network fails.

func whole(_ *rand.Rand, from, to *net.TCPConn) { pass(from, to, func([]byte) bool { return true }) }

func delay(rng *rand.Rand, from, to *net.TCPConn) {
	pass(from, to, func([]byte) bool { time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond); return true })
}

func slice(rng *rand.Rand, from, to *net.TCPConn) {
	_ = to.SetNoDelay(true)
	buf := make([]byte, 64)
	for {
		n, err := from.Read(buf[:1+rng.IntN(len(buf))])
		if err != nil {
			return
		}
		for i := range n {
			if _, err := to.Write(buf[i : i+1]); err != nil {
				return
			}
		}
	}
}

// reset ends the connection in the middle of something, after some thousand
// bytes.
func reset(rng *rand.Rand, from, to *net.TCPConn) {
	left := 2000 + rng.IntN(12000)
	pass(from, to, func(chunk []byte) bool {
		if left -= len(chunk); left < 0 {
			_, _ = to.Write(chunk[:len(chunk)/2])
			_ = from.SetLinger(0)
			_ = to.SetLinger(0)
			return false
		}
		return true
	})
}

// halfOpen loses one direction without a word, after some thousand bytes.
func halfOpen(rng *rand.Rand, from, to *net.TCPConn) {
	left := 2000 + rng.IntN(12000)
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if left -= n; left < 0 {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
