// Quickstart runs a whole queue in one process: a store and a vault in memory,
// four workers of different strength, and a submitter that seals what it sends
// and believes nothing without a receipt. It needs nothing but Go.
//
//	go run ./examples/quickstart [-poison] [-model NAME] [FILE...]
//
// It summarizes, classifies and extracts from the files, by default from the
// project's own documents. Then it sends one PRIVATE job to a worker that it has
// paired with. Where an Ollama runs on this machine, or OPENAI_BASE_URL (and
// OPENAI_API_KEY) name another engine, it asks a language model too.
//
// Read it from here: main.go is the story, fleet.go the workers, jobs.go the
// requests, private.go the pairing, llm.go the language model, forge.go what is
// refused, texts.go the files, show.go the printing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
)

// account is whose jobs ours are, to the queue.
const account = "quickstart"

func main() {
	// The first Ctrl-C drains: what runs may finish. The second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, isTerminal(os.Stdout), place{
		url: os.Getenv("OPENAI_BASE_URL"), key: os.Getenv("OPENAI_API_KEY"), ollama: "http://127.0.0.1:11434"})
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, terminal bool, llm place) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	poison := flags.Bool("poison", false, "also submit a job that nobody can run")
	flags.StringVar(&llm.model, "model", "", "the language `model` to ask, rather than the first that is loaded")
	if err := flags.Parse(args); err != nil {
		return err
	}
	texts, err := load(flags.Args())
	if err != nil {
		return err
	}
	jobs := makeJobs(texts, *poison)
	model, err := llm.find(ctx)
	if err != nil {
		return err
	}

	// A queue is a store and an identity. The identity signs that a result was
	// accepted, and its public key names the queue. A program that restarts
	// keeps it in a file: sign.LoadOrCreate. The vault keeps the keys of sealed
	// jobs, apart from the store, which has only ciphertext.
	identity := sign.Generate()
	keys, err := vault.NewMemory(vault.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = keys.Close() }()
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity, Vault: keys})
	if err != nil {
		return err
	}

	// A submitter's keyring has its own identity, whom it pinned, and the keys of
	// its open jobs. client.OpenKeyring keeps it in a folder.
	keyring := client.NewKeyring()
	me, err := keyring.Identity()
	if err != nil {
		return err
	}
	fleet, err := newFleet(queue, me.Public(), model)
	if err != nil {
		return err
	}
	drained, stop := start(ctx, queue, fleet)
	defer stop()

	// A client seals, submits, waits, verifies each receipt and opens the result,
	// with keys that it got by another way than the queue's answers. Here that is
	// easy: all of them were made above.
	config := client.Config{
		API:       queue.Submitter(account),
		QueueKey:  identity.Public(),
		WorkerKey: fleet.key,
		Keyring:   keyring,
		Identity:  me,
	}
	submitter, err := client.New(config)
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "%d jobs on %s.\nTheir tier, 1 to 4, goes by length. %s\n", len(jobs), names(texts), fleet)
	fmt.Fprint(out, "Custody is escrow: a text is sealed before it leaves the submitter, and the queue stores ciphertext.\n"+
		"Its key waits in a vault for the worker that claims the job.\n\n")
	runAll(drained, submitter, jobs, &progress{out: out, terminal: terminal, of: len(jobs)})
	table(out, jobs, fleet)
	err = func() error {
		for _, j := range jobs {
			if !j.ok() {
				return fmt.Errorf("%s did not end as it should: %s", j.name, j.verdict())
			}
		}
		summary(out, jobs[0])
		secret, err := private(drained, out, queue, submitter, keyring, fleet)
		if err != nil {
			return err
		}
		if err := model.ask(drained, out, submitter); err != nil {
			return err
		}
		receipt(out, jobs[0], fleet, identity.Public())
		if err := forge(drained, out, config, jobs[0].result.ID); err != nil {
			return err
		}
		return otherKey(out, secret)
	}()
	if ctx.Err() != nil {
		return errors.New("interrupted: what was not finished was in memory only and is gone; run it again")
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\nEvery receipt holds, no forgery does, and another key opens nothing. The program that you saw is examples/quickstart/main.go.")
	return nil
}

// start runs the queue and its workers until ctx is done. Then the workers
// finish what they have, and drained is done. They hand it in, so the queue has
// to outlive them: only stop ends it.
func start(ctx context.Context, queue *consign.Queue, fleet fleet) (drained context.Context, stop func()) {
	serving, closeQueue := context.WithCancel(context.WithoutCancel(ctx))
	working, sendHome := context.WithCancel(ctx)
	drained, allGone := context.WithCancel(context.WithoutCancel(ctx))
	var queueEnds, workersEnd sync.WaitGroup
	queueEnds.Go(func() { complain(queue.Run(serving)) })
	for _, m := range fleet {
		workersEnd.Go(func() { complain(m.worker.Run(working)) })
	}
	queueEnds.Go(func() {
		workersEnd.Wait()
		time.AfterFunc(200*time.Millisecond, allGone) // the last results are being read
	})
	return drained, func() {
		sendHome()
		workersEnd.Wait()
		closeQueue()
		queueEnds.Wait()
	}
}

// complain says what ended the queue or a worker, unless we did.
func complain(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
	}
}

// runAll runs all jobs at once: the queue decides who runs what, and when.
func runAll(ctx context.Context, submitter *client.Client, jobs []*job, p *progress) {
	ended := make(chan *job)
	for _, j := range jobs {
		go func() {
			j.run(ctx, submitter)
			ended <- j
		}()
	}
	for range jobs {
		p.add(<-ended)
	}
}
