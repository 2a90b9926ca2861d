package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/worker/openai"
)

// place is where a language model may be.
type place struct {
	url, key string // of an engine that somebody named
	ollama   string // where one may run; "" to not look
	model    string // to ask; "" for the first
}

// model is a language model, and what asks it.
type model struct {
	name     string
	executor *openai.Executor
}

const noModel = "No language model was asked. Start Ollama with one (ollama pull llama3.2:1b), or set OPENAI_BASE_URL, and run this again to see sealed answers stream in."

// find finds a language model, or returns nil. That there is none is an error
// only where one was asked for.
func (p place) find(ctx context.Context) (*model, error) {
	named := p.url != ""
	url, patience := p.url, 30*time.Second
	if !named {
		url, patience = p.ollama, time.Second
	}
	if url == "" {
		return nil, nil
	}
	executor, err := openai.New(openai.Config{URL: url, APIKey: p.key, LoadTimeout: 3 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("OPENAI_BASE_URL: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	models, err := executor.Models(ctx)
	name := p.model
	if i := slices.IndexFunc(models, func(m openai.Model) bool { return m.Warm }); name == "" && len(models) > 0 {
		name = models[max(i, 0)].Name // what is loaded answers first
	}
	switch there := slices.ContainsFunc(models, func(m openai.Model) bool { return m.Name == name }); {
	case there:
		return &model{name, executor}, nil
	case named && err != nil:
		return nil, fmt.Errorf("the engine at %s does not answer: %w: start it, or unset OPENAI_BASE_URL", url, err)
	case p.model != "":
		return nil, fmt.Errorf("there is no model %q at %s: leave -model out, or name one that is there", p.model, url)
	case named:
		return nil, fmt.Errorf("the engine at %s has no model: load one, or unset OPENAI_BASE_URL", url)
	default:
		return nil, nil
	}
}

var questions = []string{
	"In one sentence: what is a job queue?",
	"In one sentence: why would somebody sign the results of a computation?",
}

// ask puts questions to the model, and prints the answers as they come. What is
// streamed is a preview: the result is what the receipt is about.
func (m *model) ask(ctx context.Context, out io.Writer, submitter *client.Client) error {
	if m == nil {
		fmt.Fprintln(out, "\n"+noModel)
		return nil
	}
	fmt.Fprintf(out, "\nThe same with a language model, %s. The answers stream in sealed parts:\n", printable(m.name))
	for _, q := range questions {
		fmt.Fprintf(out, "  > %s\n  ", q)
		prompt, err := json.Marshal(map[string]any{"prompt": q, "max_tokens": 80})
		if err != nil {
			return err
		}
		job, err := submitter.Submit(ctx, consign.SubmitRequest{Kind: consign.KindInference, Model: m.name, Payload: prompt})
		if err != nil {
			return err
		}
		streamed, err := follow(ctx, out, submitter, job.ID)
		if err != nil {
			return err
		}
		result, err := submitter.Collect(ctx, job.ID)
		if err != nil {
			return fmt.Errorf("%s: %w: %s (-model names another)", m.name, err, printable(lastWords(ctx, submitter, job.ID)))
		}
		if answer := string(result.Output); streamed != answer {
			fmt.Fprintf(out, "\n  The preview was not whole. The result: %s", printable(answer))
		}
		fmt.Fprintf(out, "\n  %d tokens by %s, receipt %s.\n", result.Record.ResourceUse.OutputTokens, printable(result.Record.Engine), result.Verification)
	}
	return nil
}

// follow prints what the worker of a job says, from the first word on, and
// returns what the last attempt said.
func follow(ctx context.Context, out io.Writer, submitter *client.Client, id consign.JobID) (string, error) {
	var said strings.Builder
	attempt := 0
	for piece, err := range submitter.Stream(ctx, id) {
		switch {
		case errors.Is(err, seal.ErrPartGap): // of a part that was lost on its way: a preview may break off
			return said.String(), nil
		case err != nil:
			return said.String(), err
		case piece.Kind != consign.ReportPart:
			continue
		case attempt != 0 && attempt != piece.Attempt:
			fmt.Fprint(out, "\n  Once more, by another attempt: ")
			said.Reset()
		}
		attempt = piece.Attempt
		said.Write(piece.Data)
		fmt.Fprint(out, strings.Map(visible, string(piece.Data)))
	}
	return said.String(), nil
}

// visible is printable for text that comes in pieces.
func visible(r rune) rune {
	if unicode.IsSpace(r) || unicode.IsControl(r) {
		return ' '
	}
	return r
}
