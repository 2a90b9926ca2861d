package openai

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/consignq/consign/worker"
	api "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/shared"
)

// viaOpenAI speaks OpenAI's protocol through its SDK, which reads nothing from
// the environment and tries nothing twice: the queue does.
func (e *Executor) viaOpenAI(r *run, name string, m modelInfo) error {
	options := []option.RequestOption{
		option.WithBaseURL(e.root + "/v1/"),
		option.WithHTTPClient(e.client),
		option.WithMaxRetries(0),
		option.WithMiddleware(func(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			res, err := next(req)
			if err != nil {
				return nil, err
			}
			if err := admit(res, r.limit()); err != nil {
				return nil, err
			}
			return res, nil
		}),
	}
	if e.cfg.APIKey != "" {
		options = append(options, option.WithAPIKey(e.cfg.APIKey))
	}
	r.options = optionsDigest([]float64{r.req.temperature, r.req.topP})
	var err error
	if r.req.raw {
		err = r.completion(name, options)
	} else {
		err = r.chat(name, options)
	}
	switch {
	case err != nil:
		e.forget(name)
		return err
	case r.finish == "":
		return fmt.Errorf("the answer has no end: %w", io.ErrUnexpectedEOF)
	case m.context > 0 && r.promptTokens+r.outputTokens > int64(m.context):
		return fmt.Errorf("%w: prompt and answer (%d and %d tokens) need more than the %d tokens of context here", worker.ErrRefused, r.promptTokens, r.outputTokens, m.context)
	}
	return nil
}

func (r *run) chat(name string, options []option.RequestOption) error {
	p := api.ChatCompletionNewParams{
		Model:         name,
		MaxTokens:     api.Int(int64(r.req.maxTokens)), // not max_completion_tokens, which few engines know
		Temperature:   api.Float(r.req.temperature),
		StreamOptions: api.ChatCompletionStreamOptionsParam{IncludeUsage: api.Bool(true)},
	}
	for _, m := range r.req.messages {
		switch m.Role {
		case "system":
			p.Messages = append(p.Messages, api.SystemMessage(m.Content))
		case "assistant":
			p.Messages = append(p.Messages, api.AssistantMessage(m.Content))
		default:
			p.Messages = append(p.Messages, api.UserMessage(m.Content))
		}
	}
	if r.req.temperature > 0 {
		p.TopP = api.Float(r.req.topP)
	}
	if r.req.seed != nil {
		p.Seed = api.Int(*r.req.seed)
	}
	if r.req.stop != nil {
		p.Stop.OfStringArray = r.req.stop
	}
	if r.req.schema != nil {
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "result", Schema: r.req.schema.source, Strict: api.Bool(true)},
		}
	}
	service := api.NewChatCompletionService(options...)
	return read(service.NewStreaming(r.ctx, p), func(c api.ChatCompletionChunk) error {
		r.usage(c.Usage)
		for _, choice := range c.Choices {
			if choice.Index != 0 {
				return errChoices
			}
			r.ends(choice.FinishReason)
			if err := r.next(choice.Delta.Content); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *run) completion(name string, options []option.RequestOption) error {
	p := api.CompletionNewParams{
		Model:         api.CompletionNewParamsModel(name),
		Prompt:        api.CompletionNewParamsPromptUnion{OfString: api.String(r.req.messages[0].Content)},
		MaxTokens:     api.Int(int64(r.req.maxTokens)),
		Temperature:   api.Float(r.req.temperature),
		StreamOptions: api.ChatCompletionStreamOptionsParam{IncludeUsage: api.Bool(true)},
	}
	if r.req.temperature > 0 {
		p.TopP = api.Float(r.req.topP)
	}
	if r.req.seed != nil {
		p.Seed = api.Int(*r.req.seed)
	}
	if r.req.stop != nil {
		p.Stop.OfStringArray = r.req.stop
	}
	service := api.NewCompletionService(options...)
	return read(service.NewStreaming(r.ctx, p), func(c api.Completion) error {
		r.usage(c.Usage)
		for _, choice := range c.Choices {
			if choice.Index != 0 {
				return errChoices
			}
			r.ends(string(choice.FinishReason))
			if err := r.next(choice.Text); err != nil {
				return err
			}
		}
		return nil
	})
}

var errChoices = errors.New("the engine sent several answers to one question")

// read passes the chunks of a stream on until its end.
func read[T any](stream *ssestream.Stream[T], chunk func(T) error) error {
	defer func() { _ = stream.Close() }()
	for stream.Next() {
		if err := chunk(stream.Current()); err != nil {
			return err
		}
	}
	return stream.Err()
}

func (r *run) next(s string) error {
	r.heard()
	return r.delta(s)
}

func (r *run) ends(reason string) {
	if reason != "" {
		r.finish = reason
	}
}

func (r *run) usage(u api.CompletionUsage) {
	if u.PromptTokens > 0 || u.CompletionTokens > 0 {
		r.promptTokens, r.outputTokens = u.PromptTokens, u.CompletionTokens
	}
}
