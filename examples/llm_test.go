package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/transport/longpoll"
)

// ollama starts a real Ollama with a tiny model, and returns its URL and the
// model's name.
func ollama(t *testing.T) (url, model string) {
	t.Helper()
	if os.Getenv("CONSIGN_TEST_OLLAMA") == "" {
		t.Skip("CONSIGN_TEST_OLLAMA is not set: 1 starts a real Ollama (built once, three minutes)")
	}
	file := "../../shared/models/stories260K-v3.gguf"
	if _, err := os.Stat(file); err != nil {
		t.Skip("no model: the shared folder belongs beside the repository: ", err)
	}
	dir := t.TempDir()
	script := func(args ...string) string {
		cmd := exec.Command("../scripts/ollama.sh", args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ollama.sh %v: %v\n%s", args, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	t.Cleanup(func() { script("stop", dir) })
	return script("start", dir, file), "stories260k-v3"
}

// TestRealOllamaDeployment is the main path whole: 200 sealed jobs over HTTP to a
// coordinator with its jobs on disk, and from there to two workers, on WebSocket
// and on HTTP, with a real model. One of them is killed while the coordinator
// knows it to run a job, which the other completes. Half of the jobs are
// PRIVATE, which the coordinator cannot read.
func TestRealOllamaDeployment(t *testing.T) {
	engine, model := ollama(t)
	d := newDeployment(t, "sqlite")
	d.coordinator()
	workers, names := make([]*process, 2), make([]consign.WorkerID, 2)
	for i, transport := range []string{"ws", "http"} {
		name := "worker-" + transport
		key := d.identity(name)
		names[i] = key.ID()
		p := d.submit("-pair", "-confirm", key.Fingerprint())
		workers[i] = d.worker(name, "-transport", transport, "-openai-url", engine, "-openai-threads", "1", "-slots", "2", "-pair", p.line("code "), "-pin", p.line("fingerprint "))
		if _, err := p.wait(); err != nil {
			t.Fatalf("submit -pair: %v\n%s", err, p.stderr.tail())
		}
	}
	c := d.client()

	const jobs = 200
	var (
		group    sync.WaitGroup
		next     = make(chan int)
		done     atomic.Int32
		streamed atomic.Int32
		mu       sync.Mutex
		under    = map[consign.JobID]bool{} // submitted, and not collected
		results  = map[consign.JobID]client.Result{}
		claimed  = make(chan time.Time, jobs) // when, of each result by the worker that lives
		quarter  = make(chan struct{})        // closed when a quarter is there
	)
	for range 16 {
		group.Go(func() {
			for i := range next {
				id := consign.NewJobID()
				mu.Lock()
				under[id] = true
				mu.Unlock()
				r, parts, err := story(t.Context(), c, model, id, i)
				mu.Lock()
				delete(under, id)
				mu.Unlock()
				if err != nil {
					t.Errorf("job %d: %v", i, err)
					continue
				}
				d.checkReceipt(r.Receipt)
				if !strings.HasPrefix(string(r.Output), parts) || len(r.Output) == 0 {
					t.Errorf("job %d: its parts are %q, and it is %q", i, parts, r.Output)
				}
				if parts != "" {
					streamed.Add(1)
				}
				mu.Lock()
				results[id] = r
				mu.Unlock()
				if done.Add(1) == jobs/4 {
					close(quarter)
				}
				if r.Worker == names[1] {
					claimed <- r.ClaimedAt
				}
			}
		})
	}
	// held is what a worker runs, by the coordinator's word.
	held := func(worker consign.WorkerID) (claims []consign.Claim) {
		mu.Lock()
		ids := slices.Collect(maps.Keys(under))
		mu.Unlock()
		for _, id := range ids {
			if info, err := c.Get(t.Context(), id); err == nil && info.State == consign.StateRunning && info.Worker == worker {
				claims = append(claims, consign.Claim{Job: id, Claim: info.Claim})
			}
		}
		return claims
	}
	var orphans []consign.Claim
	group.Go(func() {
		select {
		case <-quarter:
		case <-time.After(patience):
			return
		}
		for orphans == nil {
			stopped := time.Now()
			_ = workers[0].cmd.Process.Signal(syscall.SIGSTOP)
			before := held(names[0])
			var at time.Time
			for at.Before(stopped) { // until what it sent before has long come
				select {
				case at = <-claimed:
				case <-time.After(patience):
					t.Error("the other worker completes nothing")
					return
				}
			}
			for _, claim := range held(names[0]) {
				if slices.Contains(before, claim) {
					orphans = append(orphans, claim)
				}
			}
			if orphans == nil {
				_ = workers[0].cmd.Process.Signal(syscall.SIGCONT)
			}
		}
		_ = workers[0].stop(syscall.SIGKILL)
	})
	for i := range jobs {
		next <- i
	}
	close(next)
	group.Wait()
	retried := 0
	for _, r := range results {
		if r.Attempts > 1 {
			retried++
		}
	}
	t.Logf("%d jobs: %d verified, %d streamed, %d tried more than once; the worker that was killed ran %d", jobs, done.Load(), streamed.Load(), retried, len(orphans))
	if done.Load() != jobs || streamed.Load() == 0 {
		t.Error("some are missing")
	}
	if len(orphans) == 0 {
		t.Error("the worker that was killed ran nothing")
	}
	for _, o := range orphans {
		if r := results[o.Job]; r.Attempts < 2 || r.Worker != names[1] || r.Claim == o.Claim {
			t.Errorf("job %s, which was lost with its worker, completed by %s in its attempt %d", o.Job, r.Worker, r.Attempts)
		}
	}
}

// client is a submitter in this process, with the keyring of the program.
func (d *deployment) client() *client.Client {
	d.t.Helper()
	api, _, err := longpoll.Dial(longpoll.DialConfig{URL: d.gate.url()})
	if err != nil {
		d.t.Fatal(err)
	}
	keyring, err := client.OpenKeyring(filepath.Join(d.dir, "submit"))
	if err != nil {
		d.t.Fatal(err)
	}
	identity, err := keyring.Identity()
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := client.New(client.Config{API: api, QueueKey: d.key, Keyring: keyring, Identity: identity})
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// story runs a job and returns, beside its result, what was streamed of the
// last attempt that could be followed.
func story(ctx context.Context, c *client.Client, model string, id consign.JobID, i int) (r client.Result, parts string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	openings := []string{"Once upon a time", "One day, Lily", "Tom and his dog", "The little bird", "It was a sunny day"}
	request := consign.SubmitRequest{ID: id, Kind: consign.KindInference, Model: model,
		Payload: fmt.Appendf(nil, `{"prompt":"%s, number %d,","max_tokens":32}`, openings[i%len(openings)], i)}
	if i%2 == 0 {
		request.Privacy = consign.PrivacyPrivate
	}
	if _, err := c.Submit(ctx, request); err != nil {
		return r, "", err
	}
	attempt := 0
	for p, err := range c.Stream(ctx, request.ID) {
		if err != nil {
			// A preview may have a hole, where an attempt was cut off.
			if ctx.Err() != nil {
				return r, "", err
			}
			break
		}
		if p.Kind != consign.ReportPart {
			continue
		}
		if p.Attempt != attempt {
			attempt, parts = p.Attempt, ""
		}
		parts += string(p.Data)
	}
	r, err = c.Collect(ctx, request.ID)
	if err == nil && attempt != r.Attempts {
		parts = "" // of an attempt that was given up
	}
	return r, parts, errors.Join(err, c.Acknowledge(ctx, request.ID))
}
