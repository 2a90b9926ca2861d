package examples_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign/internal/testkit/pgtest"
)

// said waits until a program has written a text to stderr so many times.
func (p *process) said(text string, times int) {
	p.t.Helper()
	for limit := time.Now().Add(patience); strings.Count(p.stderr.all(), text) < times; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			p.t.Fatalf("%s has not said %q %d times:\n%s", p.name, text, times, p.stderr.tail())
		}
	}
}

// waiting submits a job whose key the vault has until a worker comes.
func (d *deployment) waiting() *process {
	d.t.Helper()
	p := d.submit("-task", "classify", "../README.md")
	p.said("job ", 1)
	return p
}

// done gives the jobs a worker, and checks that each has its result.
func (d *deployment) done(jobs []*process) {
	d.t.Helper()
	d.worker("worker-1", "-slots", "4")
	for _, p := range jobs {
		if out, err := p.wait(); err != nil || !strings.HasPrefix(out, `{"task":"classify"`) {
			d.t.Errorf("a job of before: %v: %.200s\n%s", err, out, p.stderr.tail())
		}
	}
}

// refused checks that a coordinator with the vault's key of before does not
// start.
func (d *deployment) refused(kek []byte) {
	d.t.Helper()
	dir := filepath.Join(d.dir, "thief")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vault.kek"), kek, 0o600); err != nil {
		d.t.Fatal(err)
	}
	p := start(d.t, "coordinator", "-listen", "127.0.0.1:0", "-store", d.store, "-dir", dir)
	if _, err := p.wait(); err == nil || !strings.Contains(p.stderr.tail(), "is not the key of the vault") {
		d.t.Errorf("with the key of before a coordinator ended with %v:\n%s", err, p.stderr.tail())
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A coordinator that rotates its vault's key without a pause is killed again and
// again: no job loses its key, and the key of before opens nothing.
func TestRotateKEK(t *testing.T) {
	for _, store := range []string{"sqlite", "postgres"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, store)
			if store == "postgres" {
				d.store = "postgres:" + pgtest.Private(t, "fsync = off").DSN
			}
			file := filepath.Join(d.dir, "coordinator", "vault.kek")
			coordinator := d.coordinator()
			first := read(t, file)
			jobs := []*process{d.waiting(), d.waiting()}
			for range 6 {
				_ = coordinator.stop(syscall.SIGKILL)
				coordinator = d.coordinator("-rotate-kek", "1ns")
				coordinator.said("vault.kek was rotated", 3)
			}
			jobs = append(jobs, d.waiting())
			_ = coordinator.stop(syscall.SIGKILL)
			coordinator = d.coordinator("-rotate-kek", "24h")
			coordinator.said("vault.kek was rotated", 1)
			d.done(jobs)
			if err := coordinator.stop(syscall.SIGTERM); err != nil {
				t.Errorf("the coordinator, told to end: %v", err)
			}
			now := read(t, file)
			if len(strings.Fields(strings.ReplaceAll(string(now), "#", ""))) != 1 || len(now) > 8*65 || strings.Contains(string(now), string(first[:8])) {
				t.Errorf("vault.kek was %s and is %s", first, now)
			}
			if store == "postgres" {
				d.refused(first)
			}
		})
	}
}

// Two coordinators are given a new key as the page says, and one is killed amid
// it: no job loses its key, and the key of before opens nothing.
func TestRotateKEKOfSeveral(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "memdb")
	d.store = "postgres:" + pgtest.Private(t, "fsync = off").DSN
	one, two := filepath.Join(d.dir, "coordinator"), filepath.Join(d.dir, "coordinator-2")
	first := d.coordinator()
	gate := d.gate.target.Load()
	if err := os.CopyFS(two, os.DirFS(one)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.pem", "vault.kek"} {
		if err := os.Chmod(filepath.Join(two, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	service := os.Getuid()
	if service == 0 { // root may do this page for a service that has a user of its own
		service = 65534
		if err := os.Chown(filepath.Join(two, "vault.kek"), service, service); err != nil {
			t.Fatal(err)
		}
	}
	second := d.coordinator("-dir", two)
	other := d.gate.target.Load()
	before := read(t, filepath.Join(one, "vault.kek"))
	var jobs []*process
	submit := func() { // to either
		for _, at := range []any{gate, other} {
			d.gate.target.Store(at)
			jobs = append(jobs, d.waiting())
		}
	}
	submit()
	script := block(t, "sh", "vault.kek.new")
	functions, steps, _ := strings.Cut(script, "\n}\n")
	fresh := strings.Repeat("5eed", 16)
	shell := func(dir, step string) {
		t.Helper()
		if !strings.Contains(steps, step) {
			t.Fatalf("docs/deploy.md does not say %q", step)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", functions+"\n}\nold=$1 new=$2\n"+step, "sh", strings.TrimSpace(string(before)), fresh)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step, err, out)
		}
	}
	// What skips a round is refused, and used by nobody.
	kek := filepath.Join(one, "vault.kek")
	if err := os.WriteFile(kek, []byte(fresh+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Process.Signal(syscall.SIGHUP)
	first.said("is not used", 1)
	if err := os.WriteFile(kek, before, 0o600); err != nil {
		t.Fatal(err)
	}
	for n, step := range []string{"round 1 $new $old", "round 2 $old $new", "round 3 $new"} {
		shell(one, step)
		_ = first.cmd.Process.Signal(syscall.SIGHUP)
		first.said("everything is under its last key", n+1)
		submit() // the second one has not heard of it yet
		if n == 1 {
			_ = second.stop(syscall.SIGKILL) // and begins with what it was told in the round before
			second = d.coordinator("-dir", two)
			other = d.gate.target.Load()
		}
		shell(two, step)
		_ = second.cmd.Process.Signal(syscall.SIGHUP)
		second.said("everything is under its last key", []int{1, 1, 2}[n])
		submit()
	}
	for _, dir := range []string{one, two} {
		shell(dir, "shred -u vault.kek.1 vault.kek.2 vault.kek.3")
		if info, err := os.Stat(filepath.Join(dir, "vault.kek")); err != nil || dir == two && int(info.Sys().(*syscall.Stat_t).Uid) != service || info.Mode().Perm() != 0o600 {
			t.Errorf("the service cannot read vault.kek: %+v (%v)", info, err)
		}
		if files, err := filepath.Glob(filepath.Join(dir, "vault.kek*")); err != nil || fmt.Sprint(files) != fmt.Sprint([]string{filepath.Join(dir, "vault.kek")}) {
			t.Errorf("there are %v (%v)", files, err)
		}
	}
	d.done(jobs)
	d.refused(before)
	for _, p := range []*process{first, second} {
		if err := p.stop(syscall.SIGTERM); err != nil {
			t.Errorf("a coordinator, told to end: %v", err)
		}
	}
}

// A coordinator whose store is another queue's does not touch its vault's key.
func TestRotateKEKOfAnother(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "sqlite")
	coordinator := d.coordinator()
	jobs := []*process{d.waiting()}
	_ = coordinator.stop(syscall.SIGKILL)
	dir := filepath.Join(d.dir, "coordinator")
	identity, kek := filepath.Join(dir, "identity.pem"), filepath.Join(dir, "vault.kek")
	if err := os.Rename(identity, identity+".away"); err != nil {
		t.Fatal(err)
	}
	before := read(t, kek)
	for range 5 {
		p := start(t, "coordinator", "-listen", "127.0.0.1:0", "-store", d.store, "-dir", dir, "-rotate-kek", "1ns")
		if _, err := p.wait(); err == nil || !strings.Contains(p.stderr.tail(), "belongs to queue") {
			t.Fatalf("with another identity it ended with %v:\n%s", err, p.stderr.tail())
		}
		if !bytes.Equal(read(t, kek), before) {
			t.Fatal("it rotated vault.kek")
		}
	}
	if err := os.Rename(identity+".away", identity); err != nil {
		t.Fatal(err)
	}
	d.coordinator("-rotate-kek", "1ns").said("vault.kek was rotated", 1)
	d.done(jobs)
}

// A SIGHUP does not end a coordinator that has not come to its vault yet.
func TestRereadWhileStarting(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close() //nolint:errcheck
	host, port, _ := net.SplitHostPort(mute.Addr().String())
	p := start(t, "coordinator", "-listen", "127.0.0.1:0", "-store", "postgres:host="+host+" port="+port+" user=x dbname=x", "-dir", t.TempDir())
	conn, err := mute.Accept() // and it waits for an answer
	if err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Process.Signal(syscall.SIGHUP)
	conn.Close() //nolint:errcheck
	mute.Close() //nolint:errcheck
	if _, err := p.wait(); err == nil || p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v:\n%s", err, p.stderr.tail())
	}
}
