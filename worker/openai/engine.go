package openai

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker"
)

// stale is after how long the engine is asked again what it is and has.
const stale = 30 * time.Second

// engine is what answers at the URL.
type engine struct {
	ollama  bool
	name    string // with its version
	context int    // tokens, of an engine that gives all models the same; 0: not known
}

const unknownEngine = "openai-compatible"

// modelInfo is what the engine says of a model.
type modelInfo struct {
	asked        time.Time
	digest       string // as the engine names it
	content      string // what is in it, "" where only the digest is known
	quantization string
	context      int  // tokens that it was made for, or is served with; 0: not known
	extra        int  // bytes that its own system prompt adds
	turns        bool // it adds messages of its own
	stop         []string
}

// Model is a model that the engine has.
type Model struct {
	Name         string // as jobs name it
	Digest       string // "" where the engine does not tell
	Quantization string // likewise
	Warm         bool   // loaded
}

// which finds out what the engine is.
func (e *Executor) which(ctx context.Context) (engine, error) {
	e.mu.Lock()
	known, asked := e.engine, e.asked
	e.mu.Unlock()
	if known.name != "" && time.Since(asked) < stale {
		return known, nil
	}
	found, err := e.detect(ctx)
	if err != nil {
		return engine{}, err
	}
	found.name = cut(cmp.Or(e.cfg.Engine, found.name), 200)
	e.mu.Lock()
	defer e.mu.Unlock()
	if found != e.engine {
		clear(e.models)
	}
	e.engine, e.asked = found, time.Now()
	return found, nil
}

func (e *Executor) detect(ctx context.Context) (engine, error) {
	var version struct {
		Version string `json:"version"`
	}
	if err := e.ask(ctx, "/api/version", nil, &version); err != nil && !refused(err) {
		return engine{}, err
	}
	if version.Version != "" {
		return engine{ollama: true, name: "ollama/" + version.Version}, nil
	}
	if err := e.ask(ctx, "/version", nil, &version); err != nil && !refused(err) {
		return engine{}, err
	}
	if version.Version != "" {
		return engine{name: "vllm/" + version.Version}, nil
	}
	var props struct {
		Build    string `json:"build_info"`
		Settings struct {
			Context int `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	if err := e.ask(ctx, "/props", nil, &props); err != nil && !refused(err) {
		return engine{}, err
	}
	if props.Build != "" {
		return engine{name: "llama.cpp/" + props.Build, context: props.Settings.Context}, nil
	}
	return engine{name: unknownEngine}, nil
}

// model asks what the engine knows of a model; ErrRefused if it has none of
// the name. llama.cpp runs whatever it has under any name, so a name that is
// not listed must not get as far.
func (e *Executor) model(ctx context.Context, in engine, name string) (modelInfo, error) {
	e.mu.Lock()
	known, ok := e.models[name]
	e.mu.Unlock()
	if ok && time.Since(known.asked) < stale {
		return known, nil
	}
	var m modelInfo
	var err error
	if in.ollama {
		m, err = e.ollamaModel(ctx, name)
	} else {
		m, err = e.listedModel(ctx, in, name)
	}
	if err != nil {
		return modelInfo{}, err
	}
	m.asked = time.Now()
	m.digest = cut(m.digest, 200)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.models[name] = m
	return m, nil
}

// forget drops what is known of a model.
func (e *Executor) forget(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.models, name)
}

func noModel(name, remedy string) error {
	return fmt.Errorf("%w: no model %q here: %s", worker.ErrRefused, cut(name, 200), remedy)
}

// listed is an answer of /v1/models. The length is vLLM's.
type listed struct {
	Data []struct {
		ID     string `json:"id"`
		Length int    `json:"max_model_len"`
	} `json:"data"`
}

func (e *Executor) listedModel(ctx context.Context, in engine, name string) (modelInfo, error) {
	var list listed
	if err := e.ask(ctx, "/v1/models", nil, &list); err != nil {
		return modelInfo{}, err
	}
	for _, m := range list.Data {
		if m.ID == name {
			return modelInfo{digest: e.cfg.Digests[name], context: cmp.Or(m.Length, in.context)}, nil
		}
	}
	return modelInfo{}, noModel(name, "it is not in /v1/models; Config.Aliases gives a job's name to one that is")
}

// Models lists what the engine has, by the names that jobs use, sorted: for
// worker.Config.Capabilities.Models.
func (e *Executor) Models(ctx context.Context) ([]Model, error) {
	in, err := e.which(ctx)
	if err != nil {
		return nil, fault(ctx, ctx, err)
	}
	var models []Model
	if in.ollama {
		models, err = e.ollamaModels(ctx)
	} else {
		models, err = e.listedModels(ctx)
	}
	if err != nil {
		return nil, fault(ctx, ctx, err)
	}
	return e.asJobsName(models), nil
}

// listedModels lists what an engine serves. Those that serve a model loaded it
// when they started; only LM Studio lists, and loads, whatever it has on its
// disk, and says in its own list which are loaded.
func (e *Executor) listedModels(ctx context.Context) ([]Model, error) {
	var list listed
	if err := e.ask(ctx, "/v1/models", nil, &list); err != nil {
		return nil, err
	}
	var own struct {
		Data []struct {
			ID           string `json:"id"`
			State        string `json:"state"`
			Quantization string `json:"quantization"`
		} `json:"data"`
	}
	if err := e.ask(ctx, "/api/v0/models", nil, &own); err != nil && !refused(err) {
		return nil, err
	}
	models := make([]Model, 0, len(list.Data))
	for _, m := range list.Data {
		model := Model{Name: m.ID, Digest: e.cfg.Digests[m.ID], Warm: true}
		for _, o := range own.Data {
			if o.ID == m.ID {
				model.Warm, model.Quantization = o.State == "loaded", o.Quantization
			}
		}
		models = append(models, model)
	}
	return models, nil
}

// asJobsName replaces the engine's names. Ollama's ":latest" may be left out
// and mostly is.
func (e *Executor) asJobsName(models []Model) []Model {
	var all []Model
	for _, m := range models {
		aliased := false
		for _, alias := range slices.Sorted(maps.Keys(e.cfg.Aliases)) {
			if sameName(e.cfg.Aliases[alias], m.Name) {
				named := m
				named.Name = alias
				all, aliased = append(all, named), true
			}
		}
		if !aliased {
			m.Name = strings.TrimSuffix(m.Name, ":latest")
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b Model) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Warm implements worker.Warmer: with Ollama and LM Studio the models that they
// have loaded, elsewhere those that the engine lists. It reports none where the engine does not answer.
func (e *Executor) Warm(ctx context.Context) []consign.WarmModel {
	models, err := e.Models(ctx)
	if err != nil {
		models = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var warm []consign.WarmModel
	since := make(map[string]time.Time, len(models))
	for _, m := range models {
		if !m.Warm {
			continue
		}
		first, ok := e.since[m.Name]
		if !ok {
			first = time.Now()
		}
		since[m.Name] = first
		warm = append(warm, consign.WarmModel{Name: m.Name, Since: time.Since(first)})
	}
	e.since = since
	return warm
}
