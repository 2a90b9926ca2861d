package openai_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker/openai"
)

// recordedAnswers holds answers of Ollama 0.6.5 by the SHA-256 of their payloads.
const recordedAnswers = "testdata/greedy.json"

// llmJob is a prompt whose answer is known: greedy answers do not vary.
type llmJob struct{ payload, want string }

// llmJobs are a hundred: those of the recordings that are answers, openings of
// stories, several times each, and real questions from the folder of prompts,
// which the model goes on with as if they were stories.
func llmJobs(t *testing.T, known map[string]string) (jobs []llmJob) {
	add := func(prompt string, times int) {
		payload := encode(t, map[string]any{"prompt": prompt, "max_tokens": 40})
		jobs = append(jobs, slices.Repeat([]llmJob{{payload, known[digest(payload)]}}, times)...)
	}
	var raw, chat struct {
		Response string
		Message  struct{ Content string }
	}
	for name, into := range map[string]any{"generate.http": &raw, "chat.http": &chat} {
		if err := json.NewDecoder(replay(t, name).Body).Decode(into); err != nil {
			t.Fatal(name, err)
		}
	}
	jobs = append(jobs, llmJob{`{"prompt":"Once upon a time","raw":true,"max_tokens":12}`, raw.Response},
		llmJob{`{"prompt":"Lily went","max_tokens":12}`, chat.Message.Content})
	for _, prompt := range openings {
		add(prompt, 3)
	}
	for _, prompt := range questions(t) {
		if len(jobs) < 100 {
			add(prompt, 1)
		}
	}
	if len(jobs) != 100 {
		t.Fatalf("%d jobs", len(jobs))
	}
	return jobs
}

// questions are the short ones, of those with an answer.
func questions(t *testing.T) (prompts []string) {
	f, err := os.Open(filepath.Join(shared, "data/prompts/tiered_prompts.jsonl.gz"))
	if err != nil {
		t.Skip("no prompts: the shared folder belongs beside the repository: ", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct {
			Prompt string
			Expect *string
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if row.Expect != nil && len(row.Prompt) < 300 {
			prompts = append(prompts, row.Prompt)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return prompts
}

// A hundred sealed jobs on a real Ollama, with a queue, its vault and a worker
// in this process: each result opened and its receipt verified, each the sum of
// its streamed parts, and equal to what was recorded. CONSIGN_UPDATE=1 records
// anew.
func TestRealOllamaJobs(t *testing.T) {
	url, model, group := realOllama(t)
	if group == "" {
		t.Skip("the answers are those of the model that the test brings")
	}
	known, answers := map[string]string{}, map[string]string{}
	update := os.Getenv("CONSIGN_UPDATE") == "1"
	if data, err := os.ReadFile(recordedAnswers); !update && (err != nil || json.Unmarshal(data, &known) != nil) {
		t.Fatal(recordedAnswers, err)
	}
	// One at a time and in one order: what else is in Ollama's batch, and what of
	// the prompt is in its cache, decides how sums are rounded, and of answers of
	// 40 tokens that were computed two at a time one in a thousand was another.
	c := newFleet(t, 1, newExecutor(t, openai.Config{URL: url, Threads: 1}))
	var mu sync.Mutex
	var all sync.WaitGroup
	var compared, streamed, tokens atomic.Int64
	began := time.Now()
	for _, job := range llmJobs(t, known) {
		r := inference(model, job.payload)
		r.ID, r.Custody = consign.NewJobID(), consign.CustodyEscrow
		if _, err := c.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			res, err := c.Run(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			got := string(res.Output)
			if res.Acceptance.Custody != consign.CustodyEscrow || res.Record.JobID != r.ID || strings.Contains(string(res.Result), got) {
				t.Errorf("record %+v, acceptance %+v, the stored result %q", res.Record, res.Acceptance, res.Result)
			}
			tokens.Add(res.Record.ResourceUse.OutputTokens)
			joined, n := parts(t, c, res.ID)
			if streamed.Add(int64(n)); joined != got || got != "" && n == 0 {
				t.Errorf("%d parts join to %q, the result is %q", n, joined, got)
			}
			if update && job.want == "" {
				mu.Lock()
				answers[digest(job.payload)] = got
				mu.Unlock()
				return
			}
			if runtime.GOARCH != "amd64" {
				return // another processor may round otherwise
			}
			if compared.Add(1); got != job.want || got == "" {
				t.Errorf("%s: %q, recorded was %q", job.payload, got, job.want)
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("100 sealed jobs of %d tokens in %v, %.1f jobs/s, the model's loading included; %d parts; %d results equal to the recorded ones",
		tokens.Load()/100, took.Round(time.Millisecond), 100/took.Seconds(), streamed.Load(), compared.Load())
	if update && !t.Failed() {
		data, err := json.MarshalIndent(answers, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(recordedAnswers, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func digest(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return hex.EncodeToString(sum[:])
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
