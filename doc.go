// Package consign is an embeddable job queue for AI inference on machines that
// the queue's owner does not control.
//
// A program gives a [Queue] a store, and gets jobs labelled by the length of
// their prompts, a scheduler that fits them to unequal workers, leases that
// survive crashes, payloads that are sealed between submitter and worker, and a
// signed receipt for every result. A queue, a worker and a submitter, in one
// process:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"strings"
//
//		"github.com/consignq/consign"
//		"github.com/consignq/consign/client"
//		"github.com/consignq/consign/crypto/sign"
//		"github.com/consignq/consign/store/memdb"
//		"github.com/consignq/consign/vault"
//		"github.com/consignq/consign/worker"
//	)
//
//	func main() {
//		ctx, stop := context.WithCancel(context.Background())
//		defer stop()
//
//		identity := sign.Generate()                  // signs what the queue accepts; sign.LoadOrCreate keeps it
//		keys, err := vault.NewMemory(vault.Config{}) // of sealed jobs, apart from the store
//		check(err)
//		queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity, Vault: keys})
//		check(err)
//		go queue.Run(ctx)
//
//		shout := func(_ context.Context, t *worker.Task) (worker.Output, error) {
//			return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
//		}
//		w, err := worker.New(worker.Config{API: queue, Identity: sign.Generate(),
//			Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(shout)}})
//		check(err)
//		go w.Run(ctx)
//
//		c, err := client.New(client.Config{API: queue.Submitter("acme"), QueueKey: identity.Public()})
//		check(err)
//		result, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("hello")}) // sealed from here to the worker
//		check(err)
//		fmt.Printf("%s, signed by its worker: %t\n", result.Output, result.Record.WorkerID == w.ID())
//	}
//
//	func check(err error) {
//		if err != nil {
//			panic(err)
//		}
//	}
//
// # Concepts
//
// A job is one unit of work, run whole by one worker. Who submits it, waits
// for it and acknowledges its result is the submitter. The coordinator is the
// process that embeds the [Queue]. A worker is a process that claims jobs and
// runs them; its key is its name, the [WorkerID].
//
// An attempt is one claim of a job by one worker. Its [ClaimID] names it
// everywhere, and is the fencing token: only the holder of the current claim
// can change anything about the job. The lease is how long an attempt holds
// without a heartbeat.
//
// A ticket is a place on the ready list: an attempt that a job still needs. A
// [Lane] holds the tickets of one account with equal requirements, in the order
// in which they are claimed. Lanes with equal requirements take turns, so
// accounts are served alike however much one of them has queued.
//
// Custody says who can read a job. Sealed, only the workers that its submitter
// pinned; in escrow, whichever worker claims it, which is given the key by the
// [Vault]; the queue has ciphertext of both. In transit the queue seals for a
// submitter that cannot. Plain is stored as it came, where the request says so.
//
// The tier, 1 to 4, comes from the length of the prompt. A worker declares the
// highest that it can run. What else a job needs is in [Needs], what a worker
// has in [Capabilities], and a [Scheduler] decides between them.
//
// The [Record] is what a worker signs about an attempt. With the queue's signed
// [Acceptance] it is the [Receipt], which anyone can verify offline. It holds
// the PoE, a hash commitment to the result ([PoEv2]): it says who returned what
// for which job, and is no proof of honesty. What the queue believes of a worker
// is its [Standing].
//
// # The two faces
//
// Whoever wants work done holds a [SubmitterAPI], and whoever does it a
// [WorkerAPI] and its [Session]. [Queue.Submitter] returns the first and a
// Queue is the second; a transport returns the same interfaces at the far end.
// Programs are written against them: package client and package worker know
// nothing of where the queue runs.
//
// # Guarantees
//
//   - An acknowledged submit is as durable as its store.
//   - A job is run at least once, unless it ends before. At most one attempt's
//     result is ever the job's.
//   - A claim that is no longer current gets [ErrLeaseLost] and changes nothing.
//     The same completion again gets the first answer.
//   - Terminal states never change. A result, its record, the log and all that
//     the job does to other records land in one atomic [Change].
//   - A job's price is held on the account before the job is admitted.
//   - PRIVATE jobs go only to workers paired with the account.
//   - A crash, a timeout or a payload that nobody can run never counts as a
//     worker's fault.
//   - Every job has a reason for its state, which [SubmitterAPI.Explain] tells,
//     and every refusal says what to do.
//
// # Non-goals
//
//   - Running a job only once. No queue can promise that of machines that it
//     does not control: make jobs harmless to repeat.
//   - Proving that a worker computed honestly. Receipts say who answers for a
//     result; re-running a sample elsewhere finds cheats. The rules for that are
//     here, the queue does not draw jobs yet.
//   - Splitting a job. An inference request is run whole by one worker.
//   - Hiding a job from the worker that runs it, or sizes, times and names from
//     the queue: docs/trust-model.md says who can read what.
//   - Workflows, cron, and being a message broker.
//
// # Time and errors
//
// Rules have no clock: the state machine ([Job.Next]) and the engine are given
// the time. A lease is judged by the store's clock alone. Errors are few, found
// with errors.Is, and every method names those that it returns; a [FieldError]
// says which field of a request is wrong and what would be right.
package consign
