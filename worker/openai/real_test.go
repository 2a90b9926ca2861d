package openai_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

// realOllama returns the URL of a real Ollama, a model that it has and, where
// it is our own, the group of its processes. It
// starts one of its own where CONSIGN_TEST_OLLAMA is 1, with a model from the
// shared folder, and uses the one at that address where it is a URL, with
// CONSIGN_TEST_MODEL.
func realOllama(t *testing.T) (url, model, group string) {
	t.Helper()
	url = os.Getenv("CONSIGN_TEST_OLLAMA")
	switch url {
	case "":
		t.Skip("CONSIGN_TEST_OLLAMA is not set: 1 starts a real Ollama (built once, three minutes), a URL uses one")
	case "1":
	default:
		if model = os.Getenv("CONSIGN_TEST_MODEL"); model == "" {
			t.Fatal("CONSIGN_TEST_MODEL has to name a model of " + url)
		}
		return url, model, ""
	}
	file := filepath.Join(shared, "models/stories260K-v3.gguf")
	if _, err := os.Stat(file); err != nil {
		t.Skip("no model: the shared folder belongs beside the repository: ", err)
	}
	temp := t.TempDir()
	script := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("../../scripts/ollama.sh", args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ollama.sh %v: %v\n%s", args, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	t.Cleanup(func() { script("stop", temp) })
	url = script("start", temp, file)
	pid, err := os.ReadFile(filepath.Join(temp, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return url, "stories260k-v3", strings.TrimSpace(string(pid))
}

// shared holds models and prompts that are not part of the repository.
const shared = "../../../shared"

// openings are prompts that a model of children's stories goes on with.
var openings = []string{
	"Once upon a time", "One day, Lily", "Tom and his dog", "The little bird", "It was a sunny day",
	"Mom said", "There was a big red ball", "Ben was sad because", "In the park", "The end of the story was",
}

// A real Ollama, through a queue and the worker's runtime.
func TestRealOllama(t *testing.T) {
	url, model, group := realOllama(t)
	own := group != "" // the model is ours, of 512 tokens
	e := newExecutor(t, openai.Config{URL: url, Threads: 1})
	c := newFleet(t, 1, e) // one at a time: see TestRealOllamaJobs
	payload := func(prompt string) string { return `{"prompt":"` + prompt + `","max_tokens":60}` }

	t.Run("greedy is repeatable", func(t *testing.T) {
		began := time.Now()
		results := make([][2]string, len(openings))
		var all sync.WaitGroup
		for i, prompt := range openings {
			for round := range 2 {
				all.Go(func() {
					res, err := c.Run(t.Context(), inference(model, payload(prompt)))
					if err != nil {
						t.Error(err)
						return
					}
					results[i][round] = string(res.Result)
				})
			}
		}
		all.Wait()
		for i, r := range results {
			if r[0] == "" || r[0] != r[1] {
				t.Errorf("%q: %q, then %q", openings[i], r[0], r[1])
			}
		}
		t.Logf("%d jobs in %v, the model's loading included; %q: %q", 2*len(openings), time.Since(began).Round(time.Millisecond), openings[0], results[0][0])
	})

	t.Run("parts are the result", func(t *testing.T) {
		res, err := c.Run(t.Context(), inference(model, `{"prompt":"Once upon a time","max_tokens":200,"temperature":0.8,"seed":1}`))
		if err != nil {
			t.Fatal(err)
		}
		joined, n := parts(t, c, res.ID)
		if n == 0 || joined != string(res.Result) {
			t.Errorf("%d parts join to %q, the result is %q", n, joined, res.Result)
		}
		r := res.Record
		t.Logf("%d parts of %d tokens; record: engine %q, class %q, use %+v", n, r.ResourceUse.OutputTokens, r.Engine, r.Class, r.ResourceUse)
		if !strings.HasPrefix(r.Engine, "ollama/") || r.ModelDigest == "" || !strings.Contains(r.Class, "temperature=0.8,top_p=1,seeded") {
			t.Errorf("the record is %+v", r)
		}
	})

	t.Run("the model is warm", func(t *testing.T) {
		warm := e.Warm(t.Context())
		if len(warm) == 0 || warm[0].Name != model {
			t.Errorf("warm: %v", warm)
		}
	})

	t.Run("JSON Schema", func(t *testing.T) {
		res, err := c.Run(t.Context(), inference(model, `{"prompt":"Is it good?","max_tokens":100,"json_schema":{"type":"object","required":["label"],"properties":{"label":{"enum":["positive","negative"]}}}}`))
		if err != nil || !strings.Contains(string(res.Result), "itive") && !strings.Contains(string(res.Result), "negative") {
			t.Errorf("%q: %v", res.Result, err)
		}
		_, err = c.Run(t.Context(), inference(model, `{"prompt":"Is it good?","max_tokens":3,"json_schema":{"type":"object","required":["label"],"properties":{"label":{"enum":["positive","negative"]}}}}`))
		if err == nil || !strings.Contains(err.Error(), "the JSON was cut off") {
			t.Errorf("JSON cut off: %v", err)
		}
	})

	t.Run("raw", func(t *testing.T) {
		res, err := c.Run(t.Context(), inference(model, `{"prompt":"Once upon a time","raw":true,"max_tokens":12}`))
		if err != nil || len(res.Result) == 0 {
			t.Errorf("%q: %v", res.Result, err)
		}
	})

	t.Run("unknown model", func(t *testing.T) {
		_, err := e.Execute(t.Context(), &worker.Task{Model: "nope", Payload: []byte("x")})
		wantFault(t, err, worker.ErrRefused, `no model "nope" here`)
	})

	t.Run("cut prompts", func(t *testing.T) {
		if !own {
			t.Skip("needs the model of 512 tokens")
		}
		long := strings.Repeat("The little bird sang. ", 120)
		for name, payload := range map[string]string{
			"one message":  `{"prompt":"` + long + `","max_tokens":5}`,
			"raw":          `{"prompt":"` + long + `","raw":true,"max_tokens":5}`,
			"long answer":  `{"prompt":"` + long[:1300] + `","max_tokens":1000}`,
			"old messages": `{"messages":[{"role":"user","content":"` + long[:1500] + `"},{"role":"assistant","content":"Yes."},{"role":"user","content":"` + long[:900] + `"}],"max_tokens":5}`,
		} {
			res, err := c.Run(t.Context(), inference(model, payload))
			if err == nil {
				t.Errorf("%s: an answer to a cut prompt: %q, %+v", name, res.Result, res.Record.ResourceUse)
			}
			t.Logf("%s: %v", name, err)
		}
		// Several messages that just fit are answered.
		res, err := c.Run(t.Context(), inference(model, `{"messages":[{"role":"user","content":"`+long[:600]+`"},{"role":"assistant","content":"Yes."},{"role":"user","content":"`+long[:300]+`"}],"max_tokens":5}`))
		if err != nil {
			t.Errorf("a talk that fits: %v", err)
		}
		t.Logf("a talk that fits: %q, %+v", res.Result, res.Record.ResourceUse)
	})

	t.Run("a lost claim stops the engine", func(t *testing.T) {
		if !own || runtime.GOOS != "linux" {
			t.Skip("looks at the processor time of an Ollama of its own")
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 2)
		for range 2 { // Ollama's slots
			go func() {
				// Too hot to end soon.
				_, err := e.Execute(ctx, &worker.Task{Model: model, Payload: []byte(`{"prompt":"Once","max_tokens":131072,"temperature":2,"seed":1}`)})
				ended <- err
			}()
		}
		began := processorTime(t, group)
		wait(t, "Ollama to compute", func() bool { return processorTime(t, group)-began >= 50*time.Millisecond })
		cancel(consign.ErrLeaseLost)
		for range 2 {
			if err := <-ended; !errors.Is(err, consign.ErrLeaseLost) {
				t.Error(err)
			}
		}
		wait(t, "Ollama to rest", func() bool {
			before := processorTime(t, group)
			time.Sleep(300 * time.Millisecond)
			return processorTime(t, group)-before <= 20*time.Millisecond
		})
	})
}

// wait waits for what another process does.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited a minute for ", what)
		}
	}
}

// processorTime is what the processes of a group have used.
func processorTime(t *testing.T, group string) time.Duration {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var ticks int64
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// After the name in brackets: state, parent, group, ...
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if f[2] == group {
			user, _ := strconv.ParseInt(f[11], 10, 64)
			system, _ := strconv.ParseInt(f[12], 10, 64)
			ticks += user + system
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
