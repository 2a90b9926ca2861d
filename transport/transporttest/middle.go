package transporttest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// Middle is a bad network between the ends of a transport, in one of several
// ways. A transport over TCP dials Addr in place of its server, and asks Twice
// of each message that it delivers; one in a single process wraps its backend
// in Worker or Submitter.
type Middle struct {
	t      testing.TB
	faults faults

	mu      sync.Mutex
	random  *rand.Rand
	mended  bool
	count   int // of faults
	proxies []*testkit.Proxy
}

// faults are what a Middle does.
type faults struct {
	name string
	net  testkit.NetFaults
	// twice is how likely a message is delivered twice, lost a call fails, late
	// it is slow.
	twice, lost, late float64
}

var allFaults = []faults{
	{name: "delay", net: testkit.NetFaults{Delay: 0.5, MaxDelay: 10 * time.Millisecond}, late: 0.5},
	{name: "slice", net: testkit.NetFaults{Slice: 0.5}},
	{name: "reset", net: testkit.NetFaults{Reset: 0.02}, lost: 0.1},
	{name: "half-open", net: testkit.NetFaults{HalfOpen: 0.02, Dead: 300 * time.Millisecond}, lost: 0.1, late: 0.1},
	{name: "duplicate", twice: 0.5},
	{name: "all", net: testkit.NetFaults{Delay: 0.1, MaxDelay: 10 * time.Millisecond, Slice: 0.1, Reset: 0.01, HalfOpen: 0.01, Dead: 300 * time.Millisecond}, twice: 0.2, lost: 0.1, late: 0.1},
}

func newMiddle(t testing.TB, f faults) *Middle {
	return &Middle{t: t, faults: f, random: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // a test's
}

// Addr returns an address that leads to the given one, host and port, through
// the network. It lasts as long as the test.
func (m *Middle) Addr(address string) string {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := testkit.StartProxy(address, m.random.Uint64(), m.faults.net)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(p.Close)
	m.proxies = append(m.proxies, p)
	return p.Addr()
}

// Twice says whether the message that goes now is to be delivered twice. A
// transport whose contract says that a message must not be sent again, such as
// an HTTP request that is not idempotent, need not ask for it.
func (m *Middle) Twice() bool { return m.happens(m.faults.twice) }

// Worker is the network of a transport that has none: calls are slow, lost, and
// carried out twice where the contract allows that.
func (m *Middle) Worker(api consign.WorkerAPI) consign.WorkerAPI {
	return testkit.FaultyWorker(api, m.decide)
}

// Submitter is likewise.
func (m *Middle) Submitter(api consign.SubmitterAPI) consign.SubmitterAPI {
	return testkit.FaultySubmitter(api, m.decide)
}

var errLost = errors.New("transporttest: the network lost it")

func (m *Middle) decide(c testkit.Call) testkit.Fault {
	var f testkit.Fault
	m.happens(m.faults.net.Slice) // a call comes in one piece: it is only counted
	if m.happens(m.faults.late) {
		f.Delay = 10 * time.Millisecond
	}
	if m.happens(m.faults.lost) {
		f.Lose = errLost
		if c.Method != "Claim" && m.happens(0.5) { // a job that was handed out is its transport's to keep
			f.Lose, f.Drop = nil, errLost
		}
	}
	switch c.Method {
	case "Heartbeat", "Complete", "Submit", "Get", "Acknowledge", "Receipt":
		f.Twice = m.happens(m.faults.twice)
	}
	return f
}

func (m *Middle) happens(p float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mended || m.random.Float64() >= p {
		return false
	}
	m.count++
	return true
}

// mend ends the faults, so that both ends can stop in order.
func (m *Middle) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mended = true
	for _, p := range m.proxies {
		p.Mend()
	}
}

// seen is how many faults there were.
func (m *Middle) seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.count
	for _, p := range m.proxies {
		n += p.Faults()
	}
	return n
}
