package openai_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

// newVLLM is a server that says what vLLM says of itself.
func newVLLM(t *testing.T) *server {
	s := newServer(t)
	s.send("/version", "application/json", `{"version":"0.8.5"}`)
	s.send("/v1/models", "application/json", `{"object":"list","data":[{"id":"stories260k","object":"model","max_model_len":4096}]}`)
	return s
}

func chunk(content, finish string) string {
	end := "null"
	if finish != "" {
		end = `"` + finish + `"`
	}
	return fmt.Sprintf(`data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%q},"finish_reason":%s}]}`+"\n\n", content, end)
}

func usage(prompt, output int) string {
	return fmt.Sprintf(`data: {"id":"c","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`+"\n\n", prompt, output, prompt+output)
}

const sseDone = "data: [DONE]\n\n"

func TestCompatibleStreams(t *testing.T) {
	tests := map[string]struct {
		body  string
		want  string
		fault error
		says  string
	}{
		"whole":             {body: chunk("la ", "") + ": ping\n\n" + chunk("la", "stop") + usage(3, 2) + sseDone, want: "la la"},
		"no usage, no DONE": {body: chunk("la", "stop"), want: "la"},
		"no end":            {body: chunk("la", "") + sseDone, says: "no end"},
		"nothing":           {body: "", says: "no end"},
		"error in between":  {body: chunk("la", "") + `data: {"error":{"message":"CUDA out of memory","code":500}}` + "\n\n", says: "stopped in the middle: CUDA out of memory"},
		"not JSON":          {body: "data: <html>\n\n", says: "invalid character"},
		"filtered":          {body: chunk("la", "content_filter") + sseDone, fault: worker.ErrRefused, says: "content_filter"},
		"tools":             {body: chunk("", "tool_calls") + sseDone, fault: worker.ErrRefused, says: "tool_calls"},
		"aborted":           {body: chunk("la", "abort") + sseDone, says: `"abort"`},
		"two answers":       {body: strings.Replace(chunk("la", "stop"), `"index":0`, `"index":1`, 1) + sseDone, says: "several answers"},
		"context full":      {body: chunk("la", "length") + usage(4000, 96) + sseDone, fault: worker.ErrRefused, says: "fill the context"},
		"context passed":    {body: chunk("la", "stop") + usage(4090, 96) + sseDone, fault: worker.ErrRefused, says: "4096 tokens of context"},
		"cut as asked":      {body: chunk("la", "length") + usage(4, 100) + sseDone, want: "la"},
		"one event, many lines": {body: strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 9) + "\n",
			says: "more than any answer"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newVLLM(t)
			s.send("/v1/chat/completions", "text/event-stream", test.body)
			out, err := execute(t, openai.Config{URL: s.URL + "/v1"}, `{"prompt":"x","max_tokens":100}`)
			if test.says != "" {
				wantFault(t, err, test.fault, test.says)
			} else if err != nil || string(out.Result) != test.want {
				t.Errorf("%q, %v", out.Result, err)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		fault  error
		says   string
	}{
		{400, `{"error":{"message":"bad grammar"}}`, worker.ErrPayload, "bad grammar"},
		{400, `{"object":"error","message":"This model's maximum context length is 4096 tokens.","code":400}`, worker.ErrRefused, "too long"},
		{400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`, worker.ErrRefused, "too long"},
		{400, `{"error":"\"x\" does not support chat"}`, worker.ErrRefused, "does not support chat"},
		{401, `{"error":{"message":"bad key"}}`, worker.ErrRefused, "bad key"},
		{404, `{"detail":"Not Found"}`, worker.ErrRefused, "Not Found"},
		{404, ``, worker.ErrRefused, "no reason given"},
		{422, `{"detail":[{"loc":["body"]}]}`, worker.ErrPayload, "loc"},
		{429, `slow down`, nil, "slow down"},
		{499, `{"error":"request canceled"}`, nil, "request canceled"},
		{500, `{"error":"` + strings.Repeat("x", 5000) + `"}`, nil, "xxx..."},
		{503, "<html>\xff busy", nil, "busy"},
	} {
		s := newVLLM(t)
		asked := 0
		s.handle("/v1/chat/completions", func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(test.status)
			_, _ = w.Write([]byte(test.body))
		})
		_, err := execute(t, openai.Config{URL: s.URL}, "x")
		wantFault(t, err, test.fault, test.says)
		if asked != 1 {
			t.Errorf("%d: asked %d times, and it is the queue that tries again", test.status, asked)
		}
		if len(err.Error()) > 2000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

// The SDK asks for what the payload says, with the worker's key and no other.
func TestCompatibleRequest(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "of-the-environment")
	t.Setenv("OPENAI_BASE_URL", "http://192.0.2.1")
	t.Setenv("OPENAI_ORG_ID", "org")
	t.Setenv("OPENAI_CUSTOM_HEADERS", "X-Leak: yes")
	s := newVLLM(t)
	s.send("/v1/chat/completions", "text/event-stream", chunk(`{"a":1}`, "stop")+sseDone)
	out, err := execute(t, openai.Config{URL: s.URL, APIKey: "mine", Digests: map[string]string{"stories260k": "sha256:ab"}},
		`{"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}],"max_tokens":9,"temperature":0.5,"top_p":0.9,"seed":4,"stop":["E"],"json_schema":{"type":"object","required":["a"]}}`)
	if err != nil || out.Engine != "vllm/0.8.5" || out.Class != "vllm/0.8.5 sha256:ab - temperature=0.5,top_p=0.9,seeded options:b6eb2b83860c6eff" {
		t.Errorf("%+v, %v", out, err)
	}
	got := fmt.Sprint(s.asked(t, "/v1/chat/completions"))
	want := `map[max_tokens:9 messages:[map[content:s role:system] map[content:u role:user]] model:stories260k ` +
		`response_format:map[json_schema:map[name:result schema:map[required:[a] type:object] strict:true] type:json_schema] ` +
		`seed:4 stop:[E] stream:true stream_options:map[include_usage:true] temperature:0.5 top_p:0.9]`
	if got != want {
		t.Errorf("asked for\n%s\nwant\n%s", got, want)
	}
	h := s.headers["/v1/chat/completions"]
	if h.Get("Authorization") != "Bearer mine" || h.Get("X-Leak") != "" || h.Get("OpenAI-Organization") != "" {
		t.Errorf("headers are %v", h)
	}

	// Without a key none is sent; greedy jobs send a temperature of 0.
	if _, err := execute(t, openai.Config{URL: s.URL}, "x"); err != nil {
		t.Fatal(err)
	}
	if h := s.headers["/v1/chat/completions"]; h.Get("Authorization") != "" {
		t.Errorf("headers are %v", h)
	}
	if m := s.asked(t, "/v1/chat/completions"); m["temperature"] != 0.0 || m["top_p"] != nil {
		t.Errorf("asked for %v", m)
	}
}

func TestRawCompletion(t *testing.T) {
	s := newVLLM(t)
	s.send("/v1/completions", "text/event-stream", `data: {"choices":[{"index":0,"text":" there","finish_reason":null}]}`+"\n\n"+
		`data: {"choices":[{"index":0,"text":" was","finish_reason":"stop"}],"usage":{"prompt_tokens":4,"completion_tokens":2}}`+"\n\n"+sseDone)
	out, err := execute(t, openai.Config{URL: s.URL}, `{"prompt":"Once","raw":true,"max_tokens":5}`)
	if err != nil || string(out.Result) != " there was" || out.Use.PromptTokens != 4 || out.Use.OutputTokens != 2 {
		t.Errorf("%q %+v, %v", out.Result, out.Use, err)
	}
	if m := s.asked(t, "/v1/completions"); m["prompt"] != "Once" {
		t.Errorf("asked for %v", m)
	}
	if out.Class != "" || out.ModelDigest != "" {
		t.Errorf("weights that nobody names have the class %q", out.Class)
	}
}

// A schema is a promise: what does not follow it is no result.
func TestSchemaIsChecked(t *testing.T) {
	for answer, says := range map[string]string{`{"a":1}`: "", `{"b":1}`: "does not follow json_schema", "Sure! {": "is not JSON", `{"a":1} {"a":1}`: "is not JSON"} {
		s := newVLLM(t)
		s.send("/v1/chat/completions", "text/event-stream", chunk(answer, "stop")+sseDone)
		_, err := execute(t, openai.Config{URL: s.URL}, `{"prompt":"x","json_schema":{"type":"object","required":["a"]}}`)
		if says != "" {
			wantFault(t, err, worker.ErrRefused, says)
		} else if err != nil {
			t.Error(err)
		}
	}
}

func TestEngines(t *testing.T) {
	s := newServer(t)
	s.send("/props", "application/json", `{"build_info":"b5046-e4","default_generation_settings":{"n_ctx":2048}}`)
	s.send("/v1/models", "application/json", `{"data":[{"id":"/models/stories.gguf","meta":{"n_ctx_train":512}}]}`)
	s.send("/v1/chat/completions", "text/event-stream", chunk("la", "stop")+usage(2040, 20)+sseDone)
	// llama.cpp would run what it has under any name.
	_, err := execute(t, openai.Config{URL: s.URL}, "x")
	wantFault(t, err, worker.ErrRefused, "it is not in /v1/models")
	alias := map[string]string{"stories260k": "/models/stories.gguf"}
	_, err = execute(t, openai.Config{URL: s.URL, Aliases: alias}, "x")
	wantFault(t, err, worker.ErrRefused, "2048 tokens of context")
	s.send("/v1/chat/completions", "text/event-stream", chunk("la", "stop")+sseDone)
	out, err := execute(t, openai.Config{URL: s.URL, Aliases: alias}, "x")
	if err != nil || out.Engine != "llama.cpp/b5046-e4" || out.Model != "/models/stories.gguf" {
		t.Errorf("%+v, %v", out, err)
	}
	e := newExecutor(t, openai.Config{URL: s.URL, Aliases: alias})
	if warm := e.Warm(t.Context()); len(warm) != 1 || warm[0].Name != "stories260k" {
		t.Errorf("warm: %v", warm)
	}

	// Another engine, such as LM Studio, which answers anything with 200.
	s = newServer(t)
	for _, path := range []string{"/api/version", "/version", "/props"} {
		s.send(path, "application/json", `{"error":"Unexpected endpoint or method."}`)
	}
	s.send("/v1/models", "application/json", `{"data":[{"id":"stories260k"}]}`)
	s.send("/v1/chat/completions", "text/event-stream", chunk("la", "stop")+sseDone)
	digests := map[string]string{"stories260k": "sha256:ab q4_0"}
	out, err = execute(t, openai.Config{URL: s.URL, Digests: digests}, "x")
	if err != nil || out.Engine != "openai-compatible" || out.Class != "" {
		t.Errorf("%+v, %v", out, err)
	}
	if warm := newExecutor(t, openai.Config{URL: s.URL}).Warm(t.Context()); len(warm) != 1 {
		t.Errorf("warm: %v", warm)
	}
	out, err = execute(t, openai.Config{URL: s.URL, Digests: digests, Engine: "lmstudio/0.3.9"}, "x")
	if err != nil || out.Class != "lmstudio/0.3.9 sha256:ab q4_0 - greedy options:463f2998327eb3a6" {
		t.Errorf("%+v, %v", out, err)
	}

	// It lists what it could load beside what it has loaded, and tells which.
	s.send("/v1/models", "application/json", `{"data":[{"id":"stories260k"},{"id":"cold"}]}`)
	s.send("/api/v0/models", "application/json", `{"data":[{"id":"cold","state":"not-loaded"},{"id":"stories260k","state":"loaded","quantization":"Q4_K_M"}]}`)
	e = newExecutor(t, openai.Config{URL: s.URL})
	models, err := e.Models(t.Context())
	if warm := e.Warm(t.Context()); err != nil || len(models) != 2 || len(warm) != 1 || warm[0].Name != "stories260k" || models[1].Quantization != "Q4_K_M" {
		t.Errorf("models %+v, warm %v, %v", models, warm, err)
	}
}
