package faults

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// toxics are what a network does: latency with jitter, a connection that is
// reset, one that goes silent, bytes that come one slice at a time, little
// bandwidth, and an end in the middle of what is said.
var toxics = []string{
	`"type": "latency", "attributes": {"latency": 80, "jitter": 60}`,
	`"type": "reset_peer", "attributes": {"timeout": 0}`,
	`"type": "reset_peer", "attributes": {"timeout": 30}`,
	`"type": "timeout", "attributes": {"timeout": 0}`,
	`"type": "timeout", "attributes": {"timeout": 50}`,
	`"type": "slicer", "attributes": {"average_size": 40, "size_variation": 20, "delay": 200}`,
	`"type": "bandwidth", "attributes": {"rate": 20}`,
	`"type": "limit_data", "attributes": {"bytes": 900}`,
}

// proxy is a network between two ends.
type proxy struct {
	*toxiproxy.Proxy
	random *rand.Rand
	n      int
}

func newProxy(t *testing.T, upstream string) *proxy {
	t.Helper()
	p := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "network", "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &proxy{p, rand.New(rand.NewPCG(seed, 5)), 0}
}

// poison adds a toxic in one direction, each in turn, for a while.
func (p *proxy) poison(ctx context.Context, t *testing.T) {
	t.Helper()
	stream := []string{"upstream", "downstream"}[p.random.IntN(2)]
	name := fmt.Sprint("toxic", p.n)
	spec := fmt.Sprintf(`{"name": %q, "stream": %q, "toxicity": 0.7, %s}`, name, stream, toxics[p.n%len(toxics)])
	p.n++
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(spec)); err != nil {
		t.Fatal(err)
	}
	sleep(ctx, time.Duration(100+p.random.IntN(200))*time.Millisecond)
	if err := p.Toxics.RemoveToxic(ctx, name); err != nil {
		t.Fatal(err)
	}
}

// toxicsOnHTTP poisons the network between a queue and all who call it, n
// times.
func toxicsOnHTTP(t *testing.T, n int, plant mutant) *verdict {
	s := running(t, coordinator{Lease: 2 * time.Second, Plant: plant})
	p := newProxy(t, s.addr)
	l := start(t, newBalancer(p.Listen), 12, 3, consign.CustodyPlain, plant)
	for range n {
		l.moves(t, 2)
		p.poison(l.ctx, t)
	}
	l.drain()
	v := judgedOn(t, s.store, l)
	s.stop()
	return v
}

// toxicsOnPostgres poisons the network between two coordinators and their
// database, n times.
func toxicsOnPostgres(t *testing.T, n int, plant mutant) *verdict {
	p := newProxy(t, bridge(t, filepath.Join(pgtest.Private(t).Dir(), ".s.PGSQL.5432")))
	host, port, _ := strings.Cut(p.Listen, ":")
	c := coordinator{DSN: "host=" + host + " port=" + port + " user=postgres dbname=postgres sslmode=disable pool_max_conns=20", Lease: 3 * time.Second, Plant: plant}
	first, second := running(t, c), running(t, c)
	l := start(t, newBalancer(first.addr, second.addr), 12, 4, consign.CustodyPlain, plant)
	for range n {
		l.moves(t, 2)
		p.poison(l.ctx, t)
	}
	l.drain()
	first.stop()
	second.stop()
	return judged(t, c, l)
}

// bridge gives a server that listens on a socket in the file system a port as
// well, since toxiproxy knows no other. It lasts as long as the test.
func bridge(t *testing.T, socket string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", socket)
			if err != nil {
				_ = near.Close()
				continue
			}
			for _, ends := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(ends[0], ends[1])
					_ = ends[0].Close()
					_ = ends[1].Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}
