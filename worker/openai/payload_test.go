package openai_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

// A payload that nobody can run says which field is wrong and what to do.
func TestBadPayloads(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	for payload, field := range map[string]string{
		"":                             "payload",
		" \n":                          "payload",
		"\xff":                         "payload",
		strings.Repeat("x", 4<<20+1):   "payload",
		`{`:                            "payload",
		`{"prompt":"x"} more`:          "payload",
		`{"prompt":"x","prompt":"y"}`:  "payload",
		`{}`:                           "payload",
		`{"prompt":"x","messages":[]}`: "messages",
		`{"prompt":"x","messages":[{"role":"user","content":"y"}]}`: "payload",
		`{"Prompt":"x"}`:                                               `"Prompt"`,
		`{"prompt":null}`:                                              "prompt",
		`{"prompt":" "}`:                                               "prompt",
		`{"prompt":["x"]}`:                                             "prompt",
		`{"prompt":"x","temprature":1}`:                                `"temprature"`,
		`{"prompt":"x","model":"y"}`:                                   "model",
		`{"prompt":"x","stream":true}`:                                 "stream",
		`{"prompt":"x","num_predict":1}`:                               "num_predict",
		`{"prompt":"x","response_format":{}}`:                          "response_format",
		`{"prompt":"x","temperature":2.1}`:                             "temperature",
		`{"prompt":"x","temperature":"hot"}`:                           "temperature",
		`{"prompt":"x","temperature":null}`:                            "temperature",
		`{"prompt":"x","top_p":0}`:                                     "top_p",
		`{"prompt":"x","max_tokens":0}`:                                "max_tokens",
		`{"prompt":"x","max_tokens":1.5}`:                              "max_tokens",
		`{"prompt":"x","max_tokens":1e9}`:                              "max_tokens",
		`{"prompt":"x","seed":-1}`:                                     "seed",
		`{"prompt":"x","seed":2147483648}`:                             "seed",
		`{"prompt":"x","stop":""}`:                                     "stop",
		`{"prompt":"x","stop":3}`:                                      "stop",
		`{"prompt":"x","stop":["a",""]}`:                               "stop",
		`{"prompt":"x","stop":[1]}`:                                    "stop",
		`{"prompt":"x","stop":["a","b","c","d","e"]}`:                  "stop",
		`{"messages":{}}`:                                              "messages",
		`{"messages":["x"]}`:                                           "messages[0]",
		`{"messages":[{"role":"robot","content":"x"}]}`:                "messages[0].role",
		`{"messages":[{"role":"user"}]}`:                               "messages[0].content",
		`{"messages":[{"role":"user","content":[{"type":"text"}]}]}`:   "messages[0].content",
		`{"messages":[{"role":"user","content":"x","name":"y"}]}`:      `messages[0]."name"`,
		`{"messages":[{"role":"assistant","content":"x"}]}`:            "messages",
		`{"messages":[{"role":"user","content":"x"}],"raw":true}`:      "raw",
		`{"prompt":"x","raw":1}`:                                       "raw",
		`{"prompt":"x","raw":true,"json_schema":{}}`:                   "json_schema",
		`{"prompt":"x","json_schema":"object"}`:                        "json_schema",
		`{"prompt":"x","json_schema":{"type":"nonsense"}}`:             "json_schema",
		`{"prompt":"x","json_schema":{"pattern":"(?=x)"}}`:             "json_schema",
		`{"prompt":"x","json_schema":{"$ref":"https://example.org/"}}`: "json_schema",
		`{"prompt":"x","json_schema":{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/a"}}}}}`:        "json_schema",
		`{"prompt":"x","json_schema":` + bomb() + `}`:                                                           "json_schema",
		`{"prompt":"x","json_schema":` + strings.Repeat(`{"items":`, 70) + "{}" + strings.Repeat("}", 70) + `}`: "json_schema",
		`{"prompt":"x","json_schema":{"enum":["` + strings.Repeat("x", 70_000) + `"]}}`:                         "json_schema",
	} {
		_, err := execute(t, openai.Config{URL: s.URL}, payload)
		f, ok := errors.AsType[*consign.FieldError](err)
		if !ok || !errors.Is(err, worker.ErrPayload) || f.Field != "LLM_INFER."+field || f.Remedy == "" {
			t.Errorf("%.100q: %v; want one about %s", payload, err, field)
		}
	}
}

// bomb is a schema that doubles with each of its references.
func bomb() string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/a0","$defs":{`)
	for i := range 15 {
		fmt.Fprintf(&b, `"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]},`, i, i+1, i+1)
	}
	return b.String() + `"a15":{}}}`
}

// What is right is passed on as it is.
func TestPayloads(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/chat", "chat.http")
	for payload, want := range map[string]string{
		"Once upon a time":          `[map[content:Once upon a time role:user]]`,
		" [1] is not an object\n":   "[map[content: [1] is not an object\n role:user]]",
		`"quoted"`:                  `[map[content:"quoted" role:user]]`,
		` {"prompt":"x \u00e9 {"} `: `[map[content:x é { role:user]]`,
		`{"messages":[{"role":"system","content":"s"},{"content":"u","role":"user"},{"role":"assistant","content":"a"},{"role":"user","content":"v"}]}`: `[map[content:s role:system] map[content:u role:user] map[content:a role:assistant] map[content:v role:user]]`,
	} {
		// The recorded answer has 12 tokens and was cut at them; with the
		// default of 1,024 that means a full context.
		_, err := execute(t, openai.Config{URL: s.URL}, payload)
		if got := fmt.Sprint(s.asked(t, "/api/chat")["messages"]); got != want {
			t.Errorf("%q asks for %s, %v", payload, got, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]openai.Config{
		"URL":      {},
		"URL 2":    {URL: "localhost:11434"},
		"URL 3":    {URL: "http://user:word@localhost"},
		"Threads":  {URL: "http://localhost", Threads: -1},
		"KeepAliv": {URL: "http://localhost", KeepAlive: -1},
		"Contexts": {URL: "http://localhost", Contexts: [4]int{0, 2048}},
		"MaxResul": {URL: "http://localhost", MaxResult: -1},
	} {
		_, err := openai.New(c)
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || !strings.HasPrefix(f.Field, "openai.Config."+name[:3]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// away is an engine that cannot be reached.
type away struct{}

func (away) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

// FuzzPayload: whatever the payload, it is run or it is the payload's fault.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}],"json_schema":{"type":"object"},"stop":["a"],"seed":1,"temperature":0.5}`))
	f.Add([]byte("text"))
	f.Add([]byte(bomb()))
	e, err := openai.New(openai.Config{URL: "http://engine", Transport: away{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		_, err := e.Execute(t.Context(), &worker.Task{Model: "m", Payload: payload})
		if err == nil || errors.Is(err, worker.ErrRefused) {
			t.Errorf("%q: %v", payload, err)
		}
	})
}
