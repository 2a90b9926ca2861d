package openai

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
)

// Ollama is spoken to by its own endpoints: /v1 takes no num_ctx and counts on
// 2,048 or 4,096 tokens, past which it forgets silently.

type ollamaRequest struct {
	Model     string          `json:"model"`
	Messages  []message       `json:"messages,omitempty"` // of /api/chat
	Prompt    string          `json:"prompt,omitempty"`   // of /api/generate
	Raw       bool            `json:"raw,omitempty"`      // likewise
	Stream    bool            `json:"stream"`
	Format    json.RawMessage `json:"format,omitempty"`
	KeepAlive string          `json:"keep_alive"`
	Options   ollamaOptions   `json:"options"`

	// Since 0.12.6 Ollama refuses what does not fit instead of cutting it.
	Truncate bool `json:"truncate"`
	Shift    bool `json:"shift"`
}

// ollamaOptions leave nothing to the Modelfile or to a version's defaults that
// would change the answer. Penalties are off: they would forbid a faithful
// repetition, and differ between engines.
type ollamaOptions struct {
	NumCtx           int      `json:"num_ctx"`
	NumPredict       int      `json:"num_predict"`
	NumThread        int      `json:"num_thread,omitempty"`
	Temperature      float64  `json:"temperature"`
	TopK             int      `json:"top_k"`
	TopP             float64  `json:"top_p"`
	MinP             float64  `json:"min_p"`
	RepeatPenalty    float64  `json:"repeat_penalty"`
	PresencePenalty  float64  `json:"presence_penalty"`
	FrequencyPenalty float64  `json:"frequency_penalty"`
	Seed             int64    `json:"seed"` // -1: at random
	Stop             []string `json:"stop,omitempty"`
}

// digest covers what decides which token follows, and not how many do, nor where
// they are computed. A seed is the job's.
func (o ollamaOptions) digest() string {
	o.NumCtx, o.NumPredict, o.NumThread, o.Seed, o.Stop = 0, 0, 0, 0, nil
	return optionsDigest(o)
}

// ollamaLine is a line of either endpoint's stream.
type ollamaLine struct {
	Message struct {
		Content string `json:"content"`
	} `json:"message"`
	Response string `json:"response"`
	Error    string `json:"error"`

	Done         bool   `json:"done"`
	DoneReason   string `json:"done_reason"`
	PromptTokens int64  `json:"prompt_eval_count"`
	OutputTokens int64  `json:"eval_count"`
}

func (e *Executor) viaOllama(r *run, name string, m modelInfo, out *worker.Output) error {
	tokens := e.window(r, name, m)
	body := ollamaRequest{
		Model: name, Stream: true, KeepAlive: e.cfg.KeepAlive.String(),
		Options: ollamaOptions{NumCtx: tokens, NumPredict: r.req.maxTokens, NumThread: e.cfg.Threads,
			Temperature: r.req.temperature, TopK: 40, TopP: r.req.topP, RepeatPenalty: 1, Seed: -1},
	}
	r.options = body.Options.digest()
	if r.req.seed != nil {
		body.Options.Seed = *r.req.seed
	}
	if r.req.stop != nil {
		body.Options.Stop = slices.Concat(m.stop, r.req.stop)
	}
	if r.req.schema != nil {
		body.Format = r.req.schema.source
	}
	path := "/api/chat"
	if r.req.raw {
		path, body.Raw, body.Prompt = "/api/generate", true, r.req.messages[0].Content
	} else {
		body.Messages = r.req.messages
	}
	last, err := e.stream(r, path, body, r.delta)
	if err != nil {
		e.forget(name)
		return err
	}
	r.finish, r.promptTokens, r.outputTokens = last.DoneReason, last.PromptTokens, last.OutputTokens
	if err := e.whole(r, body, m); err != nil {
		return err
	}
	return e.loaded(r.ctx, name, m, out)
}

// stream posts a request, passes the deltas on and returns the last line.
func (e *Executor) stream(r *run, path string, body ollamaRequest, delta func(string) error) (ollamaLine, error) {
	r.wait()
	res, err := e.post(r.ctx, path, body, r.limit())
	if err != nil {
		return ollamaLine{}, err
	}
	defer func() { _ = res.Body.Close() }()
	lines := json.NewDecoder(res.Body)
	for {
		var line ollamaLine
		err := lines.Decode(&line)
		switch {
		case errors.Is(err, io.EOF) && r.repeats >= 30:
			// Ollama breaks a looping answer off without a word, and would do
			// the same next time.
			return line, fmt.Errorf("%w: the model repeats %q without end, so the engine broke its answer off", worker.ErrRefused, cut(r.last, 60))
		case err != nil:
			return line, err
		case line.Error != "":
			return line, &engineError{200, cut(line.Error, maxMessage)}
		}
		r.heard()
		if err := delta(line.Message.Content + line.Response); err != nil {
			return line, err
		}
		if line.Done {
			_, _ = io.CopyN(io.Discard, res.Body, 1<<10) // so that the connection can be used again
			return line, nil
		}
	}
}

// window is the context that a model was last asked to have.
type window struct {
	tokens int
	used   time.Time
}

// window chooses num_ctx: the tier's, or a higher tier's where prompt and
// answer would hardly fit; and not less than a moment ago, since Ollama loads
// the model anew for another size.
func (e *Executor) window(r *run, name string, m modelInfo) int {
	tier := min(max(r.task.Tier, 1), consign.MaxTier)
	tokens := e.cfg.Contexts[tier-1]
	guess := r.req.bytes/3 + r.req.maxTokens
	for _, more := range e.cfg.Contexts[tier:] {
		if tokens < guess {
			tokens = more
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if last := e.windows[name]; time.Since(last.used) < e.cfg.KeepAlive {
		tokens = max(tokens, last.tokens)
	}
	e.windows[name] = window{tokens, time.Now()}
	if m.context > 0 {
		tokens = min(tokens, m.context)
	}
	return tokens
}

// whole makes sure that the model saw all of the prompt. Ollama before 0.12.6
// cuts the middle out of a long message, drops the oldest messages of a long
// talk, and forgets half of it all when the answer fills the context, with 200
// OK and only its counts to tell.
func (e *Executor) whole(r *run, body ollamaRequest, m modelInfo) error {
	tokens := int64(body.Options.NumCtx)
	p, n := r.promptTokens, r.outputTokens
	filled := r.finish == "length" && n < int64(r.req.maxTokens)
	if p >= tokens || p+n > tokens || filled {
		return tooLong(p, n, int(tokens), m)
	}
	// A token has at least a byte, so this much cannot have been cut.
	if r.req.bytes+m.extra+64*len(body.Messages)+512 <= int(tokens) {
		return nil
	}
	if p <= 0 || m.turns {
		return fmt.Errorf("%w: nothing shows that the model saw the whole prompt", worker.ErrRefused)
	}
	first := -1
	turns := 0
	for i, msg := range body.Messages {
		if msg.Role != "system" {
			if turns++; first < 0 {
				first = i
			}
		}
	}
	if turns < 2 { // a single message is never dropped
		return nil
	}
	// Without the oldest message the prompt must be shorter. If it is not, that
	// message was not in it.
	rest := slices.Concat(body.Messages[:first], body.Messages[first+1:])
	body.Messages, body.Format, body.Options.NumPredict, body.Options.Stop = rest, nil, 1, nil
	probe, err := e.stream(r, "/api/chat", body, func(string) error { return nil })
	if err != nil {
		return err
	}
	switch {
	case p > probe.PromptTokens:
		return nil
	case m.context > 0 && int(tokens) >= m.context:
		return bad("messages", fmt.Sprintf("do not fit: they need more than the %d tokens that the model takes", m.context), "send fewer or shorter ones")
	default:
		return fmt.Errorf("%w: the engine dropped the oldest of %d messages to fit %d tokens", worker.ErrRefused, len(rest)+1, tokens)
	}
}

// tooLong says that prompt and answer do not fit: nobody's fault where another
// worker may give the model more room, and the job's where the model has none.
func tooLong(prompt, output int64, tokens int, m modelInfo) error {
	if m.context > 0 && tokens >= m.context {
		return bad("prompt", fmt.Sprintf("does not fit: with the answer it needs more than the %d tokens that the model takes", m.context),
			"shorten it, or lower max_tokens")
	}
	return fmt.Errorf("%w: prompt and answer (%d and %d tokens) need more than the %d tokens of context that this worker gives them", worker.ErrRefused, prompt, output, tokens)
}

// ollamaTags is an answer of /api/tags and of /api/ps.
type ollamaTags struct {
	Models []struct {
		Name    string `json:"name"`
		Digest  string `json:"digest"`
		Size    int64  `json:"size"`
		VRAM    int64  `json:"size_vram"`
		Details struct {
			Quantization string `json:"quantization_level"`
		} `json:"details"`
	} `json:"models"`
}

// loaded compares the model that ran with the one that the record will name,
// and notes the memory that it takes.
func (e *Executor) loaded(ctx context.Context, name string, m modelInfo, out *worker.Output) error {
	var ps ollamaTags
	_ = e.ask(ctx, "/api/ps", nil, &ps) // without it the answer is no worse
	for _, l := range ps.Models {
		if !sameName(l.Name, name) {
			continue
		}
		if l.Digest != m.digest {
			e.forget(name)
			return fmt.Errorf("model %q was replaced while it ran", cut(name, 200))
		}
		out.Use.MemoryBytes = max(l.Size-l.VRAM, 0)
		out.Use.VideoMemoryBytes = max(l.VRAM, 0)
	}
	return nil
}

func (e *Executor) ollamaModel(ctx context.Context, name string) (modelInfo, error) {
	var tags ollamaTags
	if err := e.ask(ctx, "/api/tags", nil, &tags); err != nil {
		return modelInfo{}, err
	}
	var m modelInfo
	found := false
	for _, tag := range tags.Models {
		if sameName(tag.Name, name) {
			m.digest, m.quantization, found = tag.Digest, tag.Details.Quantization, true
		}
	}
	if !found {
		return modelInfo{}, noModel(name, "ollama pull it, or name another")
	}
	var show ollamaShow
	if err := e.ask(ctx, "/api/show", map[string]string{"model": name}, &show); err != nil {
		return modelInfo{}, err
	}
	architecture, _ := show.Info["general.architecture"].(string)
	context, _ := show.Info[architecture+".context_length"].(float64)
	m.context = int(max(context, 0))
	m.extra, m.turns = len(show.System), len(show.Messages) > 0
	m.stop, m.content = show.stops(), show.content()
	return m, nil
}

// ollamaShow is an answer of /api/show.
type ollamaShow struct {
	Modelfile  string            `json:"modelfile"`
	Parameters string            `json:"parameters"`
	Template   string            `json:"template"`
	System     string            `json:"system"`
	Messages   []json.RawMessage `json:"messages"`
	Info       map[string]any    `json:"model_info"`
}

// content digests what makes a model answer as it does, or returns "" where
// the blobs are not named by their digests. Ollama's own digest of a model
// that was not pulled differs from machine to machine, since it covers the
// path of the blobs.
func (s *ollamaShow) content() string {
	h := sha256.New()
	blobs := 0
	for line := range strings.Lines(s.Modelfile) {
		word, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, blob, ok := strings.Cut(path, "sha256-")
		if ok && (word == "FROM" || word == "ADAPTER") {
			h.Write(fmt.Appendf(nil, "%s %q\n", word, blob))
			blobs++
		}
	}
	h.Write(fmt.Appendf(nil, "%q %q %q %q\n", s.Template, s.System, s.Parameters, s.Messages))
	if blobs == 0 {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// stops are the sequences at which the model's own turns end. A request's
// would replace them.
func (s *ollamaShow) stops() []string {
	var all []string
	for line := range strings.Lines(s.Parameters) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "stop" {
			continue
		}
		value = strings.TrimSpace(value)
		if text, err := strconv.Unquote(value); err == nil {
			value = text
		}
		all = append(all, value)
	}
	return all
}

func (e *Executor) ollamaModels(ctx context.Context) ([]Model, error) {
	var tags, ps ollamaTags
	if err := e.ask(ctx, "/api/tags", nil, &tags); err != nil {
		return nil, err
	}
	if err := e.ask(ctx, "/api/ps", nil, &ps); err != nil {
		return nil, err
	}
	warm := make(map[string]bool)
	for _, m := range ps.Models {
		warm[m.Name] = true
	}
	models := make([]Model, 0, len(tags.Models))
	for _, m := range tags.Models {
		models = append(models, Model{Name: m.Name, Digest: m.Digest, Quantization: m.Details.Quantization, Warm: warm[m.Name]})
	}
	return models, nil
}

// sameName compares names as Ollama does: without regard to case, with
// ":latest" where there is no tag.
func sameName(a, b string) bool { return strings.EqualFold(tagged(a), tagged(b)) }

func tagged(name string) string {
	if strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		return name
	}
	return name + ":latest"
}
