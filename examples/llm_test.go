package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

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
// and on HTTP, with a real model. One of them is killed amid the jobs. Half of the
// jobs are PRIVATE, which the coordinator cannot read.
func TestRealOllamaDeployment(t *testing.T) {
	engine, model := ollama(t)
	d := newDeployment(t, "sqlite")
	d.coordinator()
	workers := make([]*process, 2)
	for i, transport := range []string{"ws", "http"} {
		name := "worker-" + transport
		fingerprint := d.identity(name).Fingerprint()
		p := d.submit("-pair", "-confirm", fingerprint)
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
		retried  atomic.Int32
	)
	for range 16 {
		group.Go(func() {
			for i := range next {
				r, parts, err := story(t.Context(), c, model, i)
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
				if r.Attempts > 1 {
					retried.Add(1)
				}
				if done.Add(1) == jobs/4 {
					_ = workers[0].stop(syscall.SIGKILL)
				}
			}
		})
	}
	for i := range jobs {
		next <- i
	}
	close(next)
	group.Wait()
	t.Logf("%d jobs: %d verified, %d streamed, %d tried more than once", jobs, done.Load(), streamed.Load(), retried.Load())
	if done.Load() != jobs || streamed.Load() == 0 {
		t.Error("some are missing")
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
func story(ctx context.Context, c *client.Client, model string, i int) (r client.Result, parts string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	openings := []string{"Once upon a time", "One day, Lily", "Tom and his dog", "The little bird", "It was a sunny day"}
	request := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindInference, Model: model,
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
