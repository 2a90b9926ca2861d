package openai

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
)

// Config says where the engine is. URL is required; every other field's zero
// value is its default.
type Config struct {
	// URL of the engine, with or without "/v1": "http://127.0.0.1:11434".
	URL string
	// APIKey is sent as a bearer token. Nothing is taken from the environment.
	// Defaults to none.
	APIKey string

	// Contexts are the tokens of context, for prompt and answer together, that
	// Ollama is asked for by tier. Ollama loads a model anew when it is asked
	// for more than before, so a worker of few models and much memory may give
	// all tiers the same. Never more than the model was made for. Defaults to
	// 4096, 8192, 16384 and 65536.
	Contexts [consign.MaxTier]int
	// Threads is num_thread for Ollama. Defaults to Ollama's choice.
	Threads int
	// KeepAlive is how long Ollama keeps a model that is not used. Defaults to
	// 5 minutes.
	KeepAlive time.Duration

	// MaxResult is the longest answer in bytes. Defaults to 4 MiB.
	MaxResult int
	// LoadTimeout bounds the time until the first token, in which the engine
	// may load the model. Defaults to 10 minutes.
	LoadTimeout time.Duration
	// IdleTimeout bounds the time between two tokens. Defaults to 1 minute.
	IdleTimeout time.Duration

	// Aliases are the engine's names of models by the names that jobs use:
	// {"llama3.1:8b": "meta-llama/Llama-3.1-8B-Instruct"}. Defaults to the
	// same names.
	Aliases map[string]string
	// Digests name the weights, by the engine's names of models, where the
	// engine cannot, which is everywhere but with Ollama. Without a digest a
	// result has no class: nobody knows what it may be compared with. Write
	// "sha256:..." and the quantisation. Defaults to none.
	Digests map[string]string
	// Engine is the engine's name and version where it cannot say so itself.
	// Defaults to what it says: "ollama/0.6.5", "vllm/0.8.5", "llama.cpp/b5046".
	Engine string
	// Class is added to the class of results: what else makes them differ
	// between machines, such as "cuda". Defaults to none.
	Class string

	// Transport carries the requests. Defaults to one of its own, without
	// proxy and compression.
	Transport http.RoundTripper
}

func (c Config) withDefaults() Config {
	for i, tokens := range [consign.MaxTier]int{4096, 8192, 16384, 65536} {
		c.Contexts[i] = cmp.Or(c.Contexts[i], tokens)
	}
	c.KeepAlive = cmp.Or(c.KeepAlive, 5*time.Minute)
	c.MaxResult = cmp.Or(c.MaxResult, 4<<20)
	c.LoadTimeout = cmp.Or(c.LoadTimeout, 10*time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	if c.Transport == nil {
		c.Transport = newTransport()
	}
	return c
}

func (c *Config) validate() error {
	wrong := func(field, problem, remedy string) error {
		return &consign.FieldError{Field: "openai.Config." + field, Problem: problem, Remedy: remedy}
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return wrong("URL", "is not the address of an engine", "give one such as http://127.0.0.1:11434")
	case c.Threads < 0:
		return wrong("Threads", fmt.Sprintf("is %d", c.Threads), "give a number, or 0 for the engine's choice")
	case c.KeepAlive < 0 || c.LoadTimeout < 0 || c.IdleTimeout < 0:
		return wrong("KeepAlive, LoadTimeout or IdleTimeout", "is below zero", "give a time above zero")
	case c.MaxResult < 0:
		return wrong("MaxResult", fmt.Sprintf("is %d", c.MaxResult), "give a number of bytes")
	}
	for i, tokens := range c.Contexts {
		if tokens < 16 || i > 0 && tokens < c.Contexts[i-1] {
			return wrong("Contexts", fmt.Sprintf("are %v", c.Contexts), "give four numbers of tokens that do not fall")
		}
	}
	return nil
}

// Executor runs LLM_INFER jobs on one engine. It may be used from many
// goroutines.
type Executor struct {
	cfg    Config
	root   string // the URL without "/v1" and without a slash at its end
	client *http.Client

	mu      sync.Mutex
	engine  engine
	asked   time.Time // when engine was learnt
	models  map[string]modelInfo
	windows map[string]window
	since   map[string]time.Time // when a model was first seen warm
}

var (
	_ worker.Executor = (*Executor)(nil)
	_ worker.Warmer   = (*Executor)(nil)
)

// New returns an executor. The engine need not run yet. It returns a
// *consign.FieldError for a bad configuration.
func New(c Config) (*Executor, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Executor{
		cfg:     c,
		root:    strings.TrimSuffix(strings.TrimRight(c.URL, "/"), "/v1"),
		client:  &http.Client{Transport: c.Transport, CheckRedirect: noRedirect},
		models:  make(map[string]modelInfo),
		windows: make(map[string]window),
		since:   make(map[string]time.Time),
	}, nil
}

// Execute implements worker.Executor. The result is the answer's text as it
// is; its parts are streamed as they come.
func (e *Executor) Execute(ctx context.Context, t *worker.Task) (worker.Output, error) {
	req, err := parse(t.Payload)
	if err != nil {
		return worker.Output{}, err
	}
	if t.Model == "" {
		return worker.Output{}, bad("model", "is missing", "name the model in the job")
	}
	r := e.begin(ctx, t, req)
	defer r.end()
	out, err := e.run(r)
	if err != nil {
		return worker.Output{}, fault(ctx, r.ctx, err)
	}
	return out, nil
}

func (e *Executor) run(r *run) (worker.Output, error) {
	engine, err := e.which(r.ctx)
	if err != nil {
		return worker.Output{}, err
	}
	name := cmp.Or(e.cfg.Aliases[r.task.Model], r.task.Model)
	model, err := e.model(r.ctx, engine, name)
	if err != nil {
		return worker.Output{}, err
	}
	out := worker.Output{Model: cut(name, 1000), ModelDigest: model.digest, Engine: engine.name}
	if engine.ollama {
		err = e.viaOllama(r, name, model, &out)
	} else {
		err = e.viaOpenAI(r, name, model)
	}
	if err == nil {
		err = r.judge()
	}
	if err != nil {
		return worker.Output{}, err
	}
	out.Result = []byte(r.text.String())
	out.Class = class(engine, model, e.cfg.Class, r)
	out.Use.PromptTokens, out.Use.OutputTokens = max(r.promptTokens, 0), max(r.outputTokens, 0)
	return out, nil
}

// class names what has to be equal before two results may be compared; "" where
// that is not known.
func class(e engine, m modelInfo, more string, r *run) string {
	if e.name == unknownEngine || m.digest == "" {
		return ""
	}
	parts := []string{e.name, cmp.Or(m.content, m.digest), cmp.Or(m.quantization, "-"), r.req.sampling(), r.options}
	if more != "" {
		parts = append(parts, more)
	}
	return cut(strings.Join(parts, " "), 1000)
}

// optionsDigest names the options that results of one class have in common, so
// that an executor which asks an engine for others has another class.
func optionsDigest(options any) string {
	b, err := json.Marshal(options)
	if err != nil {
		panic("openai: " + err.Error()) // never: they are numbers
	}
	sum := sha256.Sum256(b)
	return "options:" + hex.EncodeToString(sum[:8])
}

// run is one request to the engine while it is answered.
type run struct {
	ctx    context.Context // ends with the job's, or when the engine is silent
	cancel context.CancelCauseFunc
	timer  *time.Timer
	load   time.Duration
	idle   time.Duration
	spoke  atomic.Bool // there was a token

	task    *worker.Task
	req     *request
	max     int
	options string // digest of those that the engine is asked for and a class fixes

	text         strings.Builder
	finish       string // why the answer ended: "stop" or "length"
	promptTokens int64
	outputTokens int64
	last         string // the last delta without its spaces
	repeats      int    // how many deltas before it were equal
}

func (e *Executor) begin(ctx context.Context, t *worker.Task, req *request) *run {
	r := &run{task: t, req: req, load: e.cfg.LoadTimeout, idle: e.cfg.IdleTimeout, max: e.cfg.MaxResult}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.timer = time.AfterFunc(e.cfg.LoadTimeout, func() {
		if r.spoke.Load() {
			r.cancel(errIdle)
		} else {
			r.cancel(errLoading)
		}
	})
	return r
}

func (r *run) end() {
	r.timer.Stop()
	r.cancel(nil)
}

// wait starts the time in which the engine loads and reads.
func (r *run) wait() {
	r.spoke.Store(false)
	r.timer.Reset(r.load)
}

// heard notes that the engine is alive.
func (r *run) heard() {
	r.spoke.Store(true)
	r.timer.Reset(r.idle)
}

// delta takes the next piece of the answer.
func (r *run) delta(s string) error {
	if s == "" {
		return nil
	}
	if r.text.Len()+len(s) > r.max {
		return fmt.Errorf("%w: the answer is longer than %d bytes, which Config.MaxResult allows", worker.ErrRefused, r.max)
	}
	if trimmed := strings.TrimSpace(s); trimmed == r.last {
		r.repeats++
	} else {
		r.last, r.repeats = trimmed, 0
	}
	r.text.WriteString(s)
	r.task.Part([]byte(s))
	return nil
}

// limit is how many bytes an answer may take on the wire: far more than a
// token with all that surrounds it.
func (r *run) limit() int64 { return 16<<20 + 4<<10*int64(r.req.maxTokens) }

// judge decides whether what came is the answer.
func (r *run) judge() error {
	switch r.finish {
	case "stop", "length":
	case "content_filter", "tool_calls", "function_call":
		return fmt.Errorf("%w: the engine ended the answer with %q", worker.ErrRefused, r.finish)
	default:
		return fmt.Errorf("the engine ended the answer with %q", cut(r.finish, 60))
	}
	if r.finish == "length" {
		if 0 < r.outputTokens && r.outputTokens < int64(r.req.maxTokens) {
			return fmt.Errorf("%w: prompt and answer fill the context here: %d and %d tokens", worker.ErrRefused, r.promptTokens, r.outputTokens)
		}
		if r.req.schema != nil {
			return bad("max_tokens", fmt.Sprintf("is %d, at which the JSON was cut off", r.req.maxTokens), "send more")
		}
		r.task.Log(fmt.Sprintf("the answer was cut off at max_tokens, %d", r.req.maxTokens))
	}
	if r.req.schema == nil {
		return nil
	}
	if err := r.req.schema.check(r.text.String()); err != nil {
		return fmt.Errorf("%w: the engine's answer %w", worker.ErrRefused, err)
	}
	return nil
}
