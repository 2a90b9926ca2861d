// Quickstart runs a whole queue in one process: a store in memory, four workers
// of different strength, and a submitter that believes nothing without a
// receipt. It needs nothing but Go.
//
//	go run ./examples/quickstart [-poison] [FILE...]
//
// It summarizes, classifies and extracts from the files, by default from the
// project's own documents. Read it from here: main.go is the story, fleet.go
// the workers, jobs.go the requests, texts.go the files, show.go the printing.
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
)

func main() {
	// The first Ctrl-C drains: what runs may finish. The second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, isTerminal(os.Stdout))
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, terminal bool) error {
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(out)
	poison := flags.Bool("poison", false, "also submit a job that nobody can run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	texts, err := load(flags.Args())
	if err != nil {
		return err
	}
	jobs := makeJobs(texts, *poison)

	// A queue is a store and an identity. The identity signs that a result was
	// accepted, and its public key names the queue. A program that restarts
	// keeps it in a file: sign.LoadOrCreate.
	identity := sign.Generate()
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity})
	if err != nil {
		return err
	}
	fleet, err := newFleet(queue)
	if err != nil {
		return err
	}
	drained, stop := start(ctx, queue, fleet)
	defer stop()

	// A client submits, waits, and verifies each receipt with keys that it got
	// by another way than the queue's answers. Here that is easy: all of them
	// were made above.
	submitter, err := client.New(client.Config{
		API:       queue.Submitter("quickstart"),
		QueueKey:  identity.Public(),
		WorkerKey: fleet.key,
	})
	if err != nil {
		return err
	}

	fmt.Fprintf(out, "%d jobs on %s.\nTheir tier, 1 to 4, goes by length. %s\n", len(jobs), names(texts), fleet)
	fmt.Fprint(out, "Custody is plain: queue and workers can read the texts. Sealed payloads come next.\n\n")
	runAll(drained, submitter, jobs, &progress{out: out, terminal: terminal, of: len(jobs)})
	table(out, jobs, fleet)
	if ctx.Err() != nil {
		return errors.New("interrupted: what was not finished was in memory only and is gone; run it again")
	}
	for _, j := range jobs {
		if !j.ok() {
			return fmt.Errorf("%s did not end as it should: %s", j.name, j.verdict())
		}
	}
	summary(out, jobs[0])
	receipt(out, jobs[0], fleet, identity.Public())
	if err := forge(out, jobs[0], fleet, identity.Public()); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nEvery receipt holds, and no forgery does. The program that you saw is examples/quickstart/main.go.")
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
			j.result, j.err = submitter.Run(ctx, j.request) // submit, wait, verify
			ended <- j
		}()
	}
	for range jobs {
		p.add(<-ended)
	}
}
