// Worker runs jobs for a coordinator elsewhere.
//
//	go run ./examples/worker -h
//
// Read it from here: main.go is the story, keys.go and journal.go what the
// worker keeps, pair.go how it comes to run somebody's PRIVATE jobs.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
	"github.com/consignq/consign/worker/task"
)

const help = `worker runs jobs for a coordinator: TASK jobs always, and LLM_INFER jobs with -openai-url.

  worker -coordinator https://queue.example.com
  worker -coordinator https://queue.example.com -openai-url http://127.0.0.1:11434     with Ollama on this machine
  worker -coordinator https://queue.example.com -pair BCDFG-HJKLM                      to run somebody's PRIVATE jobs, too

It prints its fingerprint, which those who give it PRIVATE jobs have to know from you. SIGTERM makes it take no more
jobs, finish what it runs, and end.`

type options struct {
	coordinator, transport, dir, identity, openaiURL, pair, pin string
	slots, maxTier, threads                                     int
	log                                                         *slog.Logger
}

func main() { cli.Main("worker", run) }

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	api, err := o.dial()
	if err != nil {
		return err
	}
	closeDir, err := cli.OpenDir(o.dir)
	if err != nil {
		return err
	}
	defer func() { _ = closeDir() }()
	identity, err := sign.LoadOrCreate(cmp.Or(o.identity, filepath.Join(o.dir, "identity.pem")))
	if err != nil {
		return err
	}
	fmt.Printf("worker %s\nfingerprint %s\n", consign.WorkerID(identity.Public().ID()), identity.Public().Fingerprint())
	keys, err := encryptionKeys(filepath.Join(o.dir, "encryption.pem"))
	if err != nil {
		return err
	}
	c := worker.Config{API: api, Identity: identity, EncryptionKeys: keys, Slots: o.slots, Logger: o.log,
		Capabilities: consign.Capabilities{MaxContextTier: consign.Tier(o.maxTier)}}
	if c.Executors, c.Capabilities.Models, err = o.executors(ctx); err != nil {
		return err
	}
	pins, err := o.pinned(ctx, c)
	if err != nil {
		return err
	}
	c.Pinned = func(submitter [32]byte) bool { return pins[sign.Fingerprint(sign.Ed25519, submitter[:])] }
	return o.work(ctx, c)
}

func parse(args []string) (o options, err error) {
	flags := cli.NewFlags("worker", help)
	flags.StringVar(&o.coordinator, "coordinator", "http://127.0.0.1:8080", "`URL` of the coordinator")
	flags.StringVar(&o.transport, "transport", "ws", "how to talk to it: `ws`, which is pushed its jobs, or http, where a proxy lets no WebSocket through")
	dir := flags.Dir("the keys, the pinned submitters and the records of this worker; one for each worker")
	flags.StringVar(&o.identity, "identity", "", "`FILE` of the key that signs its results and is its name; made if it is not there; else it is identity.pem in -dir")
	flags.StringVar(&o.openaiURL, "openai-url", "", "`URL` of an Ollama or OpenAI-compatible server whose models run LLM_INFER jobs")
	flags.IntVar(&o.threads, "openai-threads", 0, "threads that Ollama uses for a model; 0: as many as it likes")
	flags.IntVar(&o.slots, "slots", 1, "how many jobs run at once")
	flags.IntVar(&o.maxTier, "max-tier", int(consign.MaxTier), "the longest prompts to take: 1 (below 1,500 characters), 2 (6,000), 3 (24,000) or 4")
	flags.StringVar(&o.pair, "pair", "", "`CODE` of a submitter (submit -pair) whose PRIVATE jobs this worker is to run")
	flags.StringVar(&o.pin, "pin", "", "`FINGERPRINT` of a submitter, as its owner told you: run its PRIVATE jobs; with -pair nobody is asked")
	logger := flags.Log()
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if err := flags.NoArgs(); err != nil {
		return o, err
	}
	if o.slots < 1 {
		return o, cli.FieldError("slots", fmt.Sprintf("is %d", o.slots), "give at least 1")
	}
	if o.maxTier < 1 || o.maxTier > int(consign.MaxTier) {
		return o, cli.FieldError("max-tier", fmt.Sprintf("is %d", o.maxTier), "give 1 to 4")
	}
	o.dir = *dir
	o.log, err = logger()
	return o, err
}

// dial returns the coordinator. It does not call it yet.
func (o *options) dial() (consign.WorkerAPI, error) {
	switch o.transport {
	case "ws":
		return websocket.Dial(websocket.DialConfig{URL: o.coordinator})
	case "http":
		_, api, err := longpoll.Dial(longpoll.DialConfig{URL: o.coordinator})
		return api, err
	}
	return nil, cli.FieldError("transport", fmt.Sprintf("is %q", o.transport), "say ws or http")
}

// executors returns what runs jobs, by kind, and the models that there are for
// it.
func (o *options) executors(ctx context.Context) (map[string]worker.Executor, []string, error) {
	task.Class() // loads its tables now, rather than on the first job's time
	executors := map[string]worker.Executor{consign.KindTask: task.Executor{}}
	if o.openaiURL == "" {
		return executors, nil, nil
	}
	engine, err := openai.New(openai.Config{URL: o.openaiURL, Threads: o.threads})
	if err != nil {
		return nil, nil, err
	}
	models, err := engine.Models(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("the server at -openai-url does not list its models: start it first: %w", err)
	}
	var names []string
	for _, m := range models {
		names = append(names, m.Name)
	}
	executors[consign.KindInference] = engine
	return executors, names, nil
}

// work runs the worker until ctx is done.
func (o *options) work(ctx context.Context, c worker.Config) error {
	j, err := openJournal(filepath.Join(o.dir, "records.jsonl"))
	if err != nil {
		return err
	}
	defer func() { _ = j.Close() }() // every line was synced
	c.Seq, c.Journal = j.seq, j.add
	w, err := worker.New(c)
	if err != nil {
		return err
	}
	o.log.Info("working", "coordinator", o.coordinator, "transport", o.transport, "slots", c.Slots, "max_tier", o.maxTier, "models", strings.Join(c.Capabilities.Models, ","))
	err = w.Run(ctx)
	o.log.Info("ended")
	return err
}
