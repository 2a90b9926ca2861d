package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// newEngine is an OpenAI-compatible server that says what it was asked, word by
// word.
func newEngine(t *testing.T, models ...string) *httptest.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"version":"0.8.5"}`) })
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"error":{"message":"bad key"}}`, http.StatusUnauthorized)
			return
		}
		type model struct {
			ID string `json:"id"`
		}
		list := struct {
			Data []model `json:"data"`
		}{[]model{}}
		for _, m := range models {
			list.Data = append(list.Data, model{m})
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list)
	})
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Model    string
			Messages []struct{ Content string }
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Messages) != 1 {
			t.Errorf("asked %+v, %v", asked, err)
			return
		}
		if asked.Model == "broken" {
			http.Error(w, `{"error":{"message":"bad grammar"}}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for word := range strings.FieldsSeq(asked.Messages[0].Content) {
			fmt.Fprintf(w, `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s\u001b "},"finish_reason":null}]}`+"\n\n", word)
			_ = http.NewResponseController(w).Flush()
		}
		fmt.Fprint(w, `data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
			`data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`+"\n\ndata: [DONE]\n\n")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

const short = "A lease ends. A worker renews its lease. Tea is at five."

// Answers stream in and hold, whoever named the engine.
func TestLanguageModel(t *testing.T) {
	s := newEngine(t, "parrot", "polly")
	for name, llm := range map[string]place{
		"OPENAI_BASE_URL": {url: s.URL + "/v1", key: "secret", ollama: "http://127.0.0.1:1"},
		"on this machine": {key: "secret", ollama: s.URL},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := tryAt(t, llm, false, "-model", "polly", file(t, "a.txt", short))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checkTable(t, out)
			for _, q := range questions {
				answer := regexp.MustCompile(`(?m)^  > ` + regexp.QuoteMeta(q) + "\n  (.*)\n  (.*)$").FindStringSubmatch(out)
				if answer == nil || strings.Join(strings.Fields(answer[1]), " ") != q || answer[2] != "7 tokens by vllm/0.8.5, receipt verified." {
					t.Errorf("%q came to %q in\n%s", q, answer, out)
				}
			}
			if !strings.Contains(out, "a language model, polly.") || strings.Contains(out, noModel) {
				t.Errorf("another model, or none:\n%s", out)
			}
			if strings.ContainsRune(out, '\x1b') {
				t.Error("a control character of the model reached the terminal")
			}
		})
	}
}

// Without a model the program says how to get one, unless one was asked for.
func TestNoLanguageModel(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		llm  place
		args []string
		want string // in the error; "" for none
	}{
		"nothing runs":               {llm: place{ollama: closed.URL}},
		"no model":                   {llm: place{ollama: newEngine(t).URL, key: "secret"}},
		"nothing runs, -model":       {llm: place{ollama: closed.URL}, args: []string{"-model", "x"}, want: `there is no model "x"`},
		"named, nothing runs":        {llm: place{url: closed.URL}, want: "does not answer"},
		"named, no model":            {llm: place{url: newEngine(t).URL, key: "secret"}, want: "has no model: load one"},
		"named, another model":       {llm: place{url: newEngine(t, "y").URL, key: "secret"}, args: []string{"-model", "x"}, want: `there is no model "x"`},
		"named, key refused":         {llm: place{url: newEngine(t, "y").URL}, want: "bad key"},
		"named, not an address":      {llm: place{url: "127.0.0.1"}, want: "OPENAI_BASE_URL: "},
		"named, the model is broken": {llm: place{url: newEngine(t, "broken").URL, key: "secret"}, want: "bad grammar"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := tryAt(t, c.llm, false, append(c.args, file(t, "a.txt", short))...)
			switch {
			case c.want == "" && (err != nil || !strings.Contains(out, "\n"+noModel+"\n")):
				t.Errorf("%v\n%s", err, out)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}
