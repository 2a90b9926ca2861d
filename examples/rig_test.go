// Package examples_test runs the programs of this module as processes.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

// patience bounds every wait of these tests. Nothing needs a tenth of it.
const patience = 3 * time.Minute

// programs builds the programs, once, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "consign-examples-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "./coordinator", "./worker", "./submit", "./consign").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// process is a program that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	name   string
	lines  chan string // of stdout
	ended  chan struct{}
	err    error // once ended
	stderr syncBuffer
}

// start runs a program until the test ends, or stop.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startIn(t, nil, name, args...)
}

// startIn does, with more in its environment.
func startIn(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	path := name // of a program of others
	if !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
	}
	p := &process{t: t, name: name, cmd: exec.Command(path, args...), lines: make(chan string, 1<<16), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		in := bufio.NewReader(stdout)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				p.lines <- strings.TrimSuffix(line, "\n")
			}
			if err != nil {
				break
			}
		}
		close(p.lines)
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.stderr.tail())
		}
	})
	return p
}

// line returns what follows the word on the next line that begins with it.
func (p *process) line(word string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				<-p.ended
				p.t.Fatalf("%s ended (%v) and never said %q:\n%s", p.name, p.err, word, p.stderr.tail())
			}
			if rest, ok := strings.CutPrefix(line, word); ok {
				return strings.TrimSpace(rest)
			}
		case <-limit:
			p.t.Fatalf("%s never said %q:\n%s", p.name, word, p.stderr.tail())
		}
	}
}

// wait returns the rest of stdout and the error of a program that ends by
// itself.
func (p *process) wait() (string, error) {
	p.t.Helper()
	var out strings.Builder
	limit := time.After(patience)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				<-p.ended
				return out.String(), p.err
			}
			out.WriteString(line + "\n")
		case <-limit:
			p.t.Fatalf("%s does not end:\n%s", p.name, p.stderr.tail())
		}
	}
}

// stop sends a signal and waits for the end.
func (p *process) stop(signal syscall.Signal) error {
	_ = p.cmd.Process.Signal(signal) // it may have ended
	select {
	case <-p.ended:
		return p.err
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("%s did not end at %v", p.name, signal)
	}
}

// syncBuffer is a bytes.Buffer for two goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *syncBuffer) tail() string {
	all := s.all()
	return all[max(0, len(all)-4000):]
}

// gateway is the address at which the coordinator stays while it restarts.
type gateway struct {
	ln     net.Listener
	target atomic.Value // string
}

func newGateway(t *testing.T) *gateway {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{ln: ln}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() { g.carry(ctx, near) })
		}
	})
	t.Cleanup(func() { cancel(); _ = ln.Close(); group.Wait() })
	return g
}

func (g *gateway) url() string { return "http://" + g.ln.Addr().String() }

// carry passes a connection on, until either end has closed it.
func (g *gateway) carry(ctx context.Context, near net.Conn) {
	defer near.Close()
	target, _ := g.target.Load().(string)
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(near, far); cancel() })
	both.Go(func() { _, _ = io.Copy(far, near); cancel() })
	both.Wait()
}

// deployment is a coordinator behind a gateway, and who uses it.
type deployment struct {
	t       *testing.T
	gate    *gateway
	dir     string
	store   string
	key     sign.PublicKey // the queue's
	metrics string

	// Where the coordinator is dialled by another way than the gateway.
	address string
	env     []string
}

// url is where the coordinator is dialled.
func (d *deployment) url() string {
	if d.address != "" {
		return d.address
	}
	return d.gate.url()
}

func newDeployment(t *testing.T, store string) *deployment {
	d := &deployment{t: t, gate: newGateway(t), dir: t.TempDir(), store: store}
	if store == "sqlite" {
		d.store = "sqlite:" + filepath.Join(d.dir, "queue.db")
	}
	return d
}

// coordinator starts the coordinator, in the folder of the one before, and leads
// the gateway to it.
func (d *deployment) coordinator(args ...string) *process {
	d.t.Helper()
	p := start(d.t, "coordinator", append([]string{"-listen", "127.0.0.1:0", "-metrics", "127.0.0.1:0", "-store", d.store, "-dir", filepath.Join(d.dir, "coordinator"), "-lease", "3s"}, args...)...)
	url := p.line("url ")
	if err := d.key.UnmarshalText([]byte(p.line("queue-key "))); err != nil {
		d.t.Fatal(err)
	}
	d.metrics = p.line("metrics ")
	_, address, _ := strings.Cut(url, "://")
	d.gate.target.Store(address)
	return p
}

// identity makes the identity of a worker that has not run yet.
func (d *deployment) identity(name string) sign.PublicKey {
	d.t.Helper()
	dir := filepath.Join(d.dir, name)
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		d.t.Fatal(err)
	}
	id, err := sign.LoadOrCreate(filepath.Join(dir, "identity.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	return id.Public()
}

func (d *deployment) worker(name string, args ...string) *process {
	d.t.Helper()
	return startIn(d.t, d.env, "worker", append([]string{"-coordinator", d.url(), "-dir", filepath.Join(d.dir, name)}, args...)...)
}

// submit runs it with time enough for a machine that does other things as well.
func (d *deployment) submit(args ...string) *process {
	d.t.Helper()
	return startIn(d.t, d.env, "submit", append([]string{"-coordinator", d.url(), "-deadline", "0", "-dir", filepath.Join(d.dir, "submit")}, args...)...)
}
