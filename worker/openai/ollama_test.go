package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

func isFault(err, kind error) bool { return errors.Is(err, kind) }

// Every recorded response of a real Ollama is what it is, and no more.
func TestRecordedResponses(t *testing.T) {
	const (
		// The recordings are of an engine with 512 tokens of context.
		chat = `{"prompt":"Once upon a time","max_tokens":12}`
		raw  = `{"prompt":"Once upon a time","raw":true,"max_tokens":12}`
	)
	schema := func(s string, tokens int) string {
		return fmt.Sprintf(`{"prompt":"Answer","max_tokens":%d,"json_schema":%s}`, tokens, s)
	}
	tests := map[string]struct {
		path    string
		payload string
		want    string // the result
		fault   error
		says    string
	}{
		"chat.http":             {path: "/api/chat", payload: chat, want: " to the park with her mom. She saw a"},
		"chat_format_enum.http": {path: "/api/chat", payload: schema(`{"type":"object","required":["label"],"properties":{"label":{"enum":["positive","negative"]}}}`, 64), want: `{ "label" : "positive" } `},
		"generate.http":         {path: "/api/generate", payload: raw, want: ", there was a little girl named Lily. She"},
		"generate_stream.http":  {path: "/api/generate", payload: raw, want: ", there was a little girl named Lily. She"},
		"openai_chat_stream.http": {path: "/v1/chat/completions", payload: `{"prompt":"x","max_tokens":6}`,
			want: " to the park with"},
		"openai_chat.http": {path: "/v1/chat/completions", payload: chat, says: "no end"}, // no stream was sent

		"format_cut_by_num_predict.http":  {path: "/api/chat", payload: schema(`{"type":"object"}`, 12), fault: worker.ErrPayload, says: "the JSON was cut off"},
		"overlong_silent.http":            {path: "/api/generate", payload: `{"prompt":"long","raw":true,"max_tokens":5}`, fault: worker.ErrPayload, says: "more than the 512 tokens that the model takes"},
		"overlong_truncate_false.http":    {path: "/api/generate", payload: `{"prompt":"long","raw":true,"max_tokens":5}`, fault: worker.ErrPayload, says: "more than the 512 tokens that the model takes"},
		"err_bad_host.http":               {path: "/api/chat", payload: chat, fault: worker.ErrRefused, says: "403 Forbidden"},
		"err_bad_json.http":               {path: "/api/chat", payload: chat, fault: worker.ErrPayload, says: "400 Bad Request: unexpected EOF"},
		"err_bad_option.http":             {path: "/api/chat", payload: chat, fault: worker.ErrPayload, says: `option "num_ctx" must be of type integer`},
		"err_unknown_model.http":          {path: "/api/chat", payload: chat, fault: worker.ErrRefused, says: "404 Not Found: model 'nope' not found"},
		"runner_killed_stream_false.http": {path: "/api/chat", payload: chat, says: "500 Internal Server Error: an error was encountered while running the model: unexpected EOF"},
		"runner_killed_stream_true.http":  {path: "/api/generate", payload: raw, says: "stopped in the middle: an error was encountered while running the model: unexpected EOF"},
		"embed.http":                      {path: "/api/chat", payload: chat, says: "broke the connection off"}, // what no chat answers

		// What the engine says of itself is in every test here.
		"ps.http": {}, "show.http": {}, "tags.http": {}, "version.http": {},
	}
	files, err := os.ReadDir(recorded)
	if err != nil || len(files) == 0 {
		t.Fatal("no recordings", err)
	}
	for _, f := range files {
		test, ok := tests[f.Name()]
		if !ok {
			t.Errorf("%s is not tested", f.Name())
		}
		if test.path == "" {
			continue
		}
		t.Run(f.Name(), func(t *testing.T) {
			s := newOllama(t)
			if strings.HasPrefix(test.path, "/v1/") {
				s = newServer(t)
				s.send("/v1/models", "application/json", `{"data":[{"id":"stories260k"}]}`)
			}
			s.recorded(t, test.path, f.Name())
			out, err := execute(t, openai.Config{URL: s.URL}, test.payload)
			if test.says != "" {
				wantFault(t, err, test.fault, test.says)
				return
			}
			if err != nil || string(out.Result) != test.want {
				t.Errorf("result is %q, %v; want %q", out.Result, err, test.want)
			}
		})
	}
}

// The record says what ran, and on what.
func TestRecord(t *testing.T) {
	const digest = "bdefa3ac38cd16b9c33c6728bc0376b1aa8b24623fca72ea22c914905afb72c7"
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	out, err := execute(t, openai.Config{URL: s.URL + "/v1/", Class: "cpu"}, `{"prompt":"x","max_tokens":12}`)
	if err != nil {
		t.Fatal(err)
	}
	if out.Model != "stories260k" || out.ModelDigest != digest || out.Engine != "ollama/0.0.0" || out.Class != "ollama/0.0.0 "+digest+" unknown greedy options:ee7b789fa2db8843 cpu" {
		t.Errorf("the record would say %+v", out)
	}
	if u := out.Use; u.PromptTokens != 4 || u.OutputTokens != 12 || u.MemoryBytes != 159034624 || u.VideoMemoryBytes != 0 {
		t.Errorf("use is %+v", u)
	}
	out, err = execute(t, openai.Config{URL: s.URL}, `{"prompt":"x","max_tokens":12,"temperature":0.8,"seed":7}`)
	if want := "ollama/0.0.0 " + digest + " unknown temperature=0.8,top_p=1,seeded options:778af008a3ba153d"; err != nil || out.Class != want {
		t.Errorf("class is %q, %v; want %q", out.Class, err, want)
	}
}

// What Ollama is asked for depends on nothing but the job and the tier.
func TestOllamaRequest(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	s.send("/api/show", "application/json", `{"model_info":{"general.architecture":"llama","llama.context_length":131072}}`)
	e := newExecutor(t, openai.Config{URL: s.URL, Threads: 1})
	do := func(tier consign.Tier, payload string) map[string]any {
		t.Helper()
		if _, err := e.Execute(t.Context(), &worker.Task{Model: "stories260k", Tier: tier, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		m := s.asked(t, "/api/chat")
		return m["options"].(map[string]any)
	}
	small := `{"prompt":"x","max_tokens":12}`
	o := do(1, small)
	for key, want := range map[string]float64{"num_ctx": 4096, "num_predict": 12, "temperature": 0, "repeat_penalty": 1, "num_thread": 1, "top_p": 1, "seed": -1} {
		if o[key] != want {
			t.Errorf("%s is %v, not %v", key, o[key], want)
		}
	}
	if o := do(1, `{"prompt":"x","max_tokens":12,"top_p":0.5,"seed":3}`); o["top_p"] != 1.0 || o["seed"] != -1.0 {
		t.Errorf("a greedy job has the options %v", o)
	}
	if m := s.asked(t, "/api/chat"); m["truncate"] != false || m["shift"] != false || m["stream"] != true || m["keep_alive"] != "5m0s" {
		t.Errorf("asked for %v", m)
	}
	if o := do(3, small); o["num_ctx"] != 16384.0 {
		t.Errorf("tier 3 has %v tokens", o["num_ctx"])
	}
	if o := do(1, small); o["num_ctx"] != 16384.0 {
		t.Errorf("after tier 3 the model is loaded anew for tier 1, with %v tokens", o["num_ctx"])
	}
	if o := do(4, `{"prompt":"x","max_tokens":12,"temperature":0.5,"top_p":0.9,"seed":3,"stop":"END"}`); o["num_ctx"] != 65536.0 ||
		o["temperature"] != 0.5 || o["top_p"] != 0.9 || o["seed"] != 3.0 || fmt.Sprint(o["stop"]) != "[END]" {
		t.Errorf("options are %v", o)
	}
	// A model is not stretched beyond what it was made for.
	s.recorded(t, "/api/show", "show.http")
	e = newExecutor(t, openai.Config{URL: s.URL})
	if o := do(4, small); o["num_ctx"] != 512.0 {
		t.Errorf("a model of 512 tokens is asked for %v", o["num_ctx"])
	}
}

// Models that were made on two machines have one class if they are one model,
// and keep the ends of their turns beside the job's.
func TestModelContent(t *testing.T) {
	class := func(path, weights, template, parameters string) string {
		t.Helper()
		s := newOllama(t)
		s.recorded(t, "/api/chat", "chat.http")
		show, err := json.Marshal(map[string]string{"modelfile": "# FROM x\nFROM " + path + "/sha256-" + weights + "\nTEMPLATE x\n", "template": template, "parameters": parameters})
		if err != nil {
			t.Fatal(err)
		}
		s.send("/api/show", "application/json", string(show))
		out, err := execute(t, openai.Config{URL: s.URL}, `{"prompt":"x","max_tokens":12,"stop":"END"}`)
		if err != nil {
			t.Fatal(err)
		}
		if stop := fmt.Sprint(s.asked(t, "/api/chat")["options"].(map[string]any)["stop"]); parameters != "" && stop != "[<|a|> b END]" {
			t.Errorf("stops are %s", stop)
		}
		return out.Class
	}
	same := class("/models", "ab", "T", "")
	if other := class("/elsewhere", "ab", "T", ""); other != same {
		t.Errorf("the path is in the class: %s, %s", same, other)
	}
	if strings.Contains(same, "bdefa3ac38cd") {
		t.Errorf("Ollama's digest is in the class: %s", same)
	}
	for _, other := range []string{class("/models", "ac", "T", ""), class("/models", "ab", "U", ""), class("/models", "ab", "T", "stop    \"<|a|>\"\nstop  b\nnum_ctx 512")} {
		if other == same {
			t.Error("another model has the same class")
		}
	}
}

// A long answer in a small window steps up to the next tier's context.
func TestWindowHoldsTheAnswer(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	s.send("/api/show", "application/json", `{}`)
	_, _ = execute(t, openai.Config{URL: s.URL}, `{"prompt":"x","max_tokens":10000}`)
	if got := s.asked(t, "/api/chat")["options"].(map[string]any)["num_ctx"]; got != 16384.0 {
		t.Errorf("num_ctx is %v", got)
	}
}

// Silent losses of context, each as a real Ollama shows it.
func TestContextLost(t *testing.T) {
	line := func(p, n int, reason string) string {
		return fmt.Sprintf(`{"message":{"content":"Hi"},"done":true,"done_reason":%q,"prompt_eval_count":%d,"eval_count":%d}`, reason, p, n)
	}
	talk := `{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"` + strings.Repeat("word ", 900) + `"},{"role":"assistant","content":"Yes."},{"role":"user","content":"What did I say?"}],"max_tokens":50}`
	tests := map[string]struct {
		payload     string
		main, probe string
		fault       error
		says        string
	}{
		"cut to the window":            {payload: "long", main: line(4096, 5, "stop"), fault: worker.ErrRefused, says: "4096 tokens of context that this worker gives"},
		"forgotten during the answer":  {payload: "long", main: line(4000, 200, "stop"), fault: worker.ErrRefused, says: "4096 tokens"},
		"answer fills the window":      {payload: "long", main: line(4000, 96, "length"), fault: worker.ErrRefused, says: "4096 tokens"},
		"said so, 0.12.6":              {payload: "long", main: `{"error":"the input length exceeds the context length"}`, fault: worker.ErrRefused, says: "too long"},
		"oldest message dropped":       {payload: talk, main: line(40, 5, "stop"), probe: line(40, 1, "length"), fault: worker.ErrRefused, says: "dropped the oldest of 4 messages"},
		"oldest message there":         {payload: talk, main: line(940, 5, "stop"), probe: line(40, 1, "length")},
		"no count of a doubtful chat":  {payload: talk, main: line(0, 5, "stop"), fault: worker.ErrRefused, says: "nothing shows"},
		"small chat needs no evidence": {payload: `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}`, main: line(0, 5, "stop")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newOllama(t)
			s.send("/api/show", "application/json", `{"model_info":{"general.architecture":"llama","llama.context_length":131072}}`)
			asked := 0
			s.handle("/api/chat", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if asked++; asked == 1 {
					_, _ = io.WriteString(w, test.main)
					return
				}
				if strings.Contains(string(body), "word word") || !strings.Contains(string(body), "Be kind.") {
					t.Errorf("the probe is %s", body)
				}
				_, _ = io.WriteString(w, test.probe)
			})
			out, err := execute(t, openai.Config{URL: s.URL}, test.payload)
			if wantProbe := test.probe != ""; (asked == 2) != wantProbe {
				t.Errorf("asked %d times", asked)
			}
			if test.says != "" {
				wantFault(t, err, test.fault, test.says)
			} else if err != nil || string(out.Result) != "Hi" {
				t.Errorf("%q, %v", out.Result, err)
			}
		})
	}
}

// A stream may stop in many ways, and only one of them is an answer.
func TestStreams(t *testing.T) {
	word := `{"message":{"content":"la "},"done":false}` + "\n"
	done := `{"message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":2}` + "\n"
	tests := map[string]struct {
		body   string
		config openai.Config
		want   string
		fault  error
		says   string
	}{
		"whole":                {body: word + word + done, want: "la la "},
		"ends without done":    {body: word, says: "broke the connection off"},
		"nothing at all":       {body: "", says: "broke the connection off"},
		"half a line":          {body: word + `{"message":{"con`, says: "broke the connection off"},
		"not JSON":             {body: "<html>", says: "invalid character"},
		"loops":                {body: strings.Repeat(word, 31), fault: worker.ErrRefused, says: `repeats "la"`},
		"unloaded":             {body: strings.Replace(done, `"stop"`, `"unload"`, 1), says: `"unload"`},
		"another error":        {body: word + `{"error":"POST predict: EOF"}`, says: "POST predict: EOF"},
		"too little memory":    {body: `{"error":"model requires more system memory (5.6 GiB) than is available (2.1 GiB)"}`, fault: worker.ErrRefused, says: "memory"},
		"schema not supported": {body: `{"error":"invalid JSON schema in format"}`, fault: worker.ErrPayload, says: "schema"},
		"longer than allowed":  {body: strings.Repeat(word, 9) + done, config: openai.Config{MaxResult: 20}, fault: worker.ErrRefused, says: "longer than 20 bytes"},
		"a line without end":   {body: `{"message":{"content":"` + strings.Repeat("x", 9<<20), says: "more than any answer"},
		"lines without end":    {body: strings.Repeat(`{"message":{"content":""},"pad":"`+strings.Repeat(" ", 1<<20)+`"}`+"\n", 20), says: "more than any answer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newOllama(t)
			s.send("/api/chat", "application/x-ndjson", test.body)
			test.config.URL = s.URL
			out, err := execute(t, test.config, `{"prompt":"x","max_tokens":100}`)
			if test.says != "" {
				wantFault(t, err, test.fault, test.says)
			} else if err != nil || string(out.Result) != test.want {
				t.Errorf("%q, %v", out.Result, err)
			}
			if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("the submitter would read the worker's address: %v", err)
			}
		})
	}
}

// Engines that are away, reset or redirect are not the job's fault, and their
// addresses are nobody's business.
func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + listener.Addr().String()
	listener.Close()
	_, err = execute(t, openai.Config{URL: gone}, "x")
	wantFault(t, err, nil, "cannot be reached")
	if strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the submitter would read the worker's address: %v", err)
	}

	s := newOllama(t)
	s.handle("/api/chat", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"message":{"content":"la "},"done":false}`+"\n")
		_ = http.NewResponseController(w).Flush()
		conn, _, _ := http.NewResponseController(w).Hijack()
		conn.Close()
	})
	_, err = execute(t, openai.Config{URL: s.URL}, "x")
	wantFault(t, err, nil, "broke the connection off: unexpected EOF")

	s.handle("/api/chat", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err = execute(t, openai.Config{URL: s.URL}, "x")
	wantFault(t, err, worker.ErrRefused, "307")
}

func TestUnknownModel(t *testing.T) {
	s := newOllama(t)
	_, err := newExecutor(t, openai.Config{URL: s.URL}).Execute(t.Context(), &worker.Task{Model: "nope", Payload: []byte("x")})
	wantFault(t, err, worker.ErrRefused, `no model "nope" here`)
	_, err = newExecutor(t, openai.Config{URL: s.URL}).Execute(t.Context(), &worker.Task{Payload: []byte("x")})
	wantFault(t, err, worker.ErrPayload, "name the model in the job")
}

// A model that is replaced under way is not the one that the record would name.
func TestModelReplaced(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	s.send("/api/ps", "application/json", `{"models":[{"name":"stories260k:latest","digest":"another"}]}`)
	_, err := execute(t, openai.Config{URL: s.URL}, `{"prompt":"x","max_tokens":12}`)
	wantFault(t, err, nil, "was replaced while it ran")
}

// When the claim is lost the engine is told, and the slot is free at once.
func TestCancel(t *testing.T) {
	for _, ollama := range []bool{true, false} {
		t.Run(fmt.Sprintf("ollama=%v", ollama), func(t *testing.T) {
			s, path, piece := newOllama(t), "/api/chat", `{"message":{"content":"la "},"done":false}`+"\n"
			if !ollama {
				s = newServer(t)
				s.send("/v1/models", "application/json", `{"data":[{"id":"stories260k"}]}`)
				path, piece = "/v1/chat/completions", `data: {"choices":[{"index":0,"delta":{"content":"la "}}]}`+"\n\n"
			}
			started, closed := make(chan bool), make(chan bool)
			s.handle(path, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, piece)
				_ = http.NewResponseController(w).Flush()
				close(started)
				<-r.Context().Done()
				close(closed)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			lost := errors.New("lease lost")
			go func() {
				<-started
				cancel(lost)
			}()
			_, err := newExecutor(t, openai.Config{URL: s.URL}).Execute(ctx, &worker.Task{Model: "stories260k", Payload: []byte("x")})
			if !errors.Is(err, lost) || isFault(err, worker.ErrPayload) || isFault(err, worker.ErrRefused) {
				t.Errorf("a lost claim: %v", err)
			}
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Error("the engine goes on")
			}
		})
	}
}

// An engine that falls silent, before the first token or after it, is left.
func TestSilence(t *testing.T) {
	for name, says := range map[string]string{"before": "LoadTimeout", "after": "IdleTimeout"} {
		t.Run(name, func(t *testing.T) {
			s := newOllama(t)
			s.handle("/api/chat", func(w http.ResponseWriter, r *http.Request) {
				if name == "after" {
					_, _ = io.WriteString(w, `{"message":{"content":"la "},"done":false}`+"\n")
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			})
			c := openai.Config{URL: s.URL, LoadTimeout: time.Minute, IdleTimeout: 30 * time.Millisecond}
			if name == "before" {
				c.LoadTimeout, c.IdleTimeout = 100*time.Millisecond, time.Minute
			}
			_, err := execute(t, c, "x")
			wantFault(t, err, nil, says)
		})
	}
}

func TestWarm(t *testing.T) {
	s := newOllama(t)
	e := newExecutor(t, openai.Config{URL: s.URL, Aliases: map[string]string{"tiny": "tinyrandom"}})
	models, err := e.Models(t.Context())
	var names []string
	for _, m := range models {
		names = append(names, fmt.Sprint(m.Name, " ", m.Warm, " ", m.Quantization))
	}
	if want := []string{"stories260k true unknown", "tiny false F16"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("models are %q, %v; want %q", names, err, want)
	}
	first := e.Warm(t.Context())
	time.Sleep(time.Millisecond)
	second := e.Warm(t.Context())
	if len(first) != 1 || len(second) != 1 || second[0].Name != "stories260k" || second[0].Since <= first[0].Since {
		t.Errorf("warm: %v, then %v", first, second)
	}
	s.send("/api/ps", "application/json", `{"models":[]}`)
	if warm := e.Warm(t.Context()); len(warm) != 0 {
		t.Errorf("warm once unloaded: %v", warm)
	}
	s.Close()
	if warm := e.Warm(t.Context()); len(warm) != 0 {
		t.Errorf("warm with the engine gone: %v", warm)
	}
}
