package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/examples/internal/cli"
)

// pair makes a code, waits until a worker has claimed it, and pins the worker
// whose fingerprint a person gave. It never takes the queue's word for that.
func (q *queue) pair(ctx context.Context, confirm string) error {
	// What waits for a confirmation from before belongs to a code that was given
	// up, and would be taken for the claim of this one.
	for {
		stale, ok, err := q.pending(ctx)
		if ok {
			err = q.RevokePairing(ctx, stale.Worker)
		}
		if err != nil {
			return err
		}
		if !ok {
			break
		}
	}
	code, err := q.NewPairing(ctx, q.identity.Public().Bytes())
	if err != nil {
		return err
	}
	fmt.Printf("code %s\nfingerprint %s\n", cli.Printable(code.Code), q.identity.Public().Fingerprint())
	fmt.Fprintf(os.Stderr, "Tell the worker's owner both, not by way of the queue: worker -pair %s -pin %s\nThe code is good once, until %s. Waiting for the worker ...\n",
		cli.Printable(code.Code), q.identity.Public().Fingerprint(), code.ExpiresAt.Local().Format(time.TimeOnly))
	p, err := q.claimed(ctx, code.ExpiresAt)
	if err != nil {
		return err
	}
	if confirm == "" {
		fmt.Fprint(os.Stderr, "A worker has claimed it. Type the fingerprint that the worker itself shows, as its owner tells you: ")
		answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return err
		}
		confirm = strings.TrimSpace(answer)
	}
	if confirm != p.WorkerFingerprint {
		return errors.Join(&consign.FieldError{Field: "-confirm", Problem: fmt.Sprintf("is %.80q, and who claimed the code has %.80q", confirm, p.WorkerFingerprint),
			Remedy: "if the first is what the worker shows, somebody else has claimed the code: the pairing was revoked, begin again"}, q.RevokePairing(ctx, p.Worker))
	}
	if _, err := q.ConfirmPairing(ctx, p.Worker, confirm); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "paired: your PRIVATE jobs may go to worker %s\n", p.Worker)
	return nil
}

// pending returns a pairing with this identity that is not confirmed.
func (q *queue) pending(ctx context.Context) (consign.Pairing, bool, error) {
	all, err := q.Pairings(ctx)
	for _, p := range all {
		if p.Pending && bytes.Equal(p.Submitter, q.identity.Public().Bytes()) {
			return p, true, err
		}
	}
	return consign.Pairing{}, false, err
}

// claimed waits until a worker has claimed the code.
func (q *queue) claimed(ctx context.Context, expires time.Time) (consign.Pairing, error) {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		switch p, ok, err := q.pending(ctx); {
		case err != nil || ok:
			return p, err
		case time.Now().After(expires):
			return p, errors.New("nobody has claimed the code in time: begin again")
		}
		select {
		case <-ctx.Done():
			return consign.Pairing{}, ctx.Err()
		case <-look.C:
		}
	}
}
