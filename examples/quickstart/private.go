package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
)

// paired is the worker that runs our PRIVATE jobs.
const paired = "laptop"

const letter = "Dear Dr. Weber, the results are in: please call me on +49 30 901820, or write to anna@example.org before 2026-12-01. Anna"

// private pairs with the laptop and has it run a job that nobody else can read,
// the queue and its owner neither. It returns what came of it.
func private(ctx context.Context, out io.Writer, queue *consign.Queue, submitter *client.Client, keyring *client.Keyring, f fleet) (client.Result, error) {
	laptop := f.named(paired)
	fingerprint := laptop.identity.Public().Fingerprint()
	fmt.Fprintf(out, "\nA PRIVATE job goes only to a worker that we paired with. The owner of the laptop reads out its fingerprint:\n  %s\nWe pin it, and the key of the job is sealed to the laptop.\n", fingerprint)

	// Pairing tells the queue whom to send the jobs to; pinning is what the client
	// goes by, so a queue that lies about the worker's key gets nothing to read.
	if err := keyring.Pin(fingerprint); err != nil {
		return client.Result{}, err
	}
	if err := queue.Pair(ctx, consign.Pairing{Account: account, Worker: laptop.worker.ID()}); err != nil {
		return client.Result{}, err
	}
	if err := registered(ctx, submitter, laptop.worker.ID()); err != nil {
		return client.Result{}, err
	}
	r := request(payload{Task: "extract", Text: letter})
	r.Privacy = consign.PrivacyPrivate
	result, err := submitter.Run(ctx, r)
	if err != nil {
		return result, fmt.Errorf("the PRIVATE job: %w", err)
	}
	if result.Worker != laptop.worker.ID() || result.Acceptance.Custody != consign.CustodySealed {
		return result, fmt.Errorf("the PRIVATE job went to worker %s in custody %s: please report this", result.Worker, result.Acceptance.Custody)
	}
	fmt.Fprintf(out, "The queue has %d bytes of result, which begin with %.16x. Opened, they are:\n  %s\n", len(result.Result), result.Result, printable(string(result.Output)))
	return result, nil
}

// registered waits until the queue names the worker and its keys, which each
// worker tells it when it registers.
func registered(ctx context.Context, submitter *client.Client, id consign.WorkerID) error {
	for {
		keys, err := submitter.Keys(ctx)
		if err != nil || slices.ContainsFunc(keys.Workers, func(w consign.WorkerKeys) bool { return w.ID == id }) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
