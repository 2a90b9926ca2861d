// Submit sends jobs to a coordinator, and believes no result that it has not
// verified.
//
//	go run ./examples/submit -h
//
// Read it from here: main.go is the story, queue.go whom it talks to, reach.go
// whether it can, job.go what it sends, one.go and batch.go what it does with it, transit.go what can
// be said of a job that the queue sealed, pair.go how it comes to trust a
// worker.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/examples/internal/cli"
)

const help = `submit sends a job to a coordinator, shows how it goes, and prints its result once that is verified.

  submit -kind TASK -task summarize article.txt
  submit -kind LLM_INFER -model llama3.2:1b prompt.txt
  echo "Why is the sky blue?" | submit -kind LLM_INFER -model llama3.2:1b -
  submit -batch jobs.jsonl                    many, each line like {"task":"classify","text":"..."}
  submit -pair                                lets a worker that you know run your PRIVATE jobs: then submit -private ...
  submit -collect ID                          fetches the result of a job that was interrupted

Payloads are sealed before they leave. What opens the results is in -dir until they have been printed. Exit status: 0
if everything is verified, 2 for wrong use, else 1.`

type options struct {
	coordinator, tokenFile, queueKey, dir string
	kind, task, model, custody            string
	private, raw, pair                    bool
	confirm, collect, batch               string
	resultFile, receiptFile               string
	webhook                               string
	deadline                              deadline
	file                                  string
}

func main() { cli.Main("submit", run) }

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	do, err := o.command()
	if err != nil {
		return err
	}
	q, err := o.open(ctx)
	if err != nil {
		return advice(err)
	}
	return advice(do(ctx, q))
}

// command returns what is to be done, once all that it sends is read and found
// good. It returns wrong use alone.
func (o *options) command() (func(context.Context, *queue) error, error) {
	switch {
	case o.pair && o.confirm == "" && !cli.IsTerminal(os.Stdin):
		return nil, cli.FieldError("confirm", "is empty, and nobody can be asked", "give the fingerprint that the worker's owner told you")
	case o.pair:
		return func(ctx context.Context, q *queue) error { return q.pair(ctx, o.confirm) }, nil
	case o.batch != "":
		requests, err := o.readBatch()
		return func(ctx context.Context, q *queue) error { return q.runBatch(ctx, *o, requests) }, err
	case o.collect != "":
		id, err := consign.ParseJobID(o.collect)
		if err != nil {
			return nil, cli.FieldError("collect", "is no ID: "+err.Error(), "give what submit printed behind \"job\"")
		}
		return func(ctx context.Context, q *queue) error { return q.collect(ctx, *o, id) }, nil
	}
	text, err := readText(o.file)
	if err != nil {
		return nil, err
	}
	r, err := o.line(text).request()
	if err != nil {
		return nil, cli.Usage(err)
	}
	r.Deadline = o.deadline.of(r.Kind)
	return func(ctx context.Context, q *queue) error { return q.runOne(ctx, *o, r) }, nil
}

// advice says of errors of the queue's what to do with this program.
func advice(err error) error {
	field, refused := errors.AsType[*consign.FieldError](err)
	switch {
	case refused && field.Field == "authorization":
		return &consign.FieldError{Field: "-token-file", Problem: "is missing, or holds a token that this queue does not know", Remedy: "give the file with the token that the queue's owner gave you"}
	case errors.Is(err, client.ErrNotPinned) || errors.Is(err, consign.ErrNoWorker):
		return fmt.Errorf("%w: run submit -pair first, with the owner of a worker at the telephone", err)
	}
	return err
}

// deadline is -deadline, and what holds without it.
type deadline struct {
	set   bool
	after time.Duration
}

// of is how long a single job of a kind has: as long as the first protocol
// gives it, where nothing else was said. Jobs of a batch wait for each other,
// so they have none then.
func (d deadline) of(kind string) time.Duration {
	switch {
	case d.set:
		return d.after
	case kind == consign.KindTask:
		return 30 * time.Second
	case kind == consign.KindInference:
		return time.Minute
	}
	return 0
}

func (d *deadline) parse(text string) (err error) {
	if d.after, err = time.ParseDuration(text); err == nil && d.after < 0 {
		err = errors.New("it is negative: say how long, as in 10m, or 0 for ever")
	}
	d.set = err == nil
	return err
}

func parse(args []string) (o options, err error) {
	flags := cli.NewFlags("submit", help)
	flags.StringVar(&o.coordinator, "coordinator", "http://127.0.0.1:8080", "`URL` of the coordinator")
	flags.StringVar(&o.tokenFile, "token-file", "", "`FILE` that holds the token of your account")
	flags.StringVar(&o.queueKey, "queue-key", "", "public `KEY` of the queue, as its owner told you; without it the first that answers is believed, and no other afterwards")
	dir := flags.Dir("your identity, whom you trust, and the keys of jobs under way")
	flags.StringVar(&o.kind, "kind", consign.KindTask, "`TASK`, LLM_INFER, or a kind of the queue's own")
	flags.StringVar(&o.task, "task", "", "of a TASK: `summarize`, classify or extract")
	flags.StringVar(&o.model, "model", "", "`NAME` of the model, for LLM_INFER")
	flags.BoolVar(&o.raw, "raw", false, "the file is the payload itself, with options of your own, and not the text or prompt")
	flags.BoolVar(&o.private, "private", false, "only for workers that you paired and confirmed")
	flags.StringVar(&o.custody, "custody", "", "who can read it: `sealed` (only workers that you confirmed; the default with -private), escrow (the default; the queue's vault keeps the key), transit (the queue reads and seals it), plain (anybody there)")
	flags.Func("deadline", "the job expires after such a `TIME`, as in 10m; 0: never (default 30s for a TASK, 1m for LLM_INFER, else and in a -batch 0)", o.deadline.parse)
	flags.StringVar(&o.webhook, "webhook", "", "`URL` that the coordinator tells when the job has ended; it has to run with -webhooks")
	flags.StringVar(&o.resultFile, "result", "", "`FILE` for the result, instead of stdout")
	flags.StringVar(&o.receiptFile, "receipt", "", "`FILE` for the receipt")
	flags.StringVar(&o.batch, "batch", "", "`FILE` of jobs, a JSON object each line: text or payload, and what else differs from the flags: id, kind, task, model, private, custody, webhook. Prints a JSON object for each")
	flags.StringVar(&o.collect, "collect", "", "`ID` of a job that this folder has the keys of: wait for it and print its result")
	flags.BoolVar(&o.pair, "pair", false, "make a pairing code, and trust the worker that claims it once you have compared fingerprints")
	flags.StringVar(&o.confirm, "confirm", "", "`FINGERPRINT` of the worker, as its owner told you: with -pair nobody is asked")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.dir = *dir
	if o.pair || o.batch != "" || o.collect != "" {
		return o, flags.NoArgs()
	}
	if flags.NArg() != 1 {
		return o, cli.Usage(&consign.FieldError{Field: "arguments", Problem: "do not name one file", Remedy: "name the file to send, or - for stdin, behind all flags; see -h"})
	}
	o.file = flags.Arg(0)
	return o, nil
}

// save writes to a file, or to stdout where there is none.
func save(path string, data []byte) error {
	if path == "" {
		_, err := os.Stdout.Write(data)
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
