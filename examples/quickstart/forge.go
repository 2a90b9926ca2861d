package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
)

// forger is a queue that changes a bit of what it hands out.
type forger struct {
	consign.SubmitterAPI
	result, record bool
}

func (f forger) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := f.SubmitterAPI.Wait(ctx, id)
	if f.result && err == nil {
		job.Result = flip(job.Result)
	}
	return job, err
}

func (f forger) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	r, err := f.SubmitterAPI.Receipt(ctx, id)
	if f.record && err == nil {
		r.Record.Payload = flip(r.Record.Payload)
	}
	return r, err
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// forge collects a job once more, from a queue that changes a bit of the result,
// and from one that changes a bit of the record, and shows that neither passes.
func forge(ctx context.Context, out io.Writer, c client.Config, id consign.JobID) error {
	fmt.Fprintln(out)
	api := c.API
	for _, f := range []struct {
		what string
		api  forger
	}{
		{"result", forger{api, true, false}},
		{"record", forger{api, false, true}},
	} {
		c.API = f.api
		submitter, err := client.New(c)
		if err != nil {
			return err
		}
		if _, err = submitter.Collect(ctx, id); !errors.Is(err, consign.ErrBadReceipt) {
			return fmt.Errorf("a forged %s was not refused (%v): please report this", f.what, err)
		}
		fmt.Fprintf(out, "With one bit of the %s changed:\n  %v\n", f.what, err)
	}
	return nil
}

// otherKey tries to open a sealed result with another key than the one in the
// submitter's keyring, and all else right.
func otherKey(out io.Writer, r client.Result) error {
	other, err := seal.GenerateKey(seal.MLKEM768X25519)
	if err != nil {
		return err
	}
	info := seal.ResultInfo{Queue: r.Record.QueueID, Job: r.ID, Worker: r.Worker, Claim: r.Claim, Input: r.Record.InputHash}
	if _, err = seal.OpenResult(other, info, r.Result); !errors.Is(err, seal.ErrBox) {
		return fmt.Errorf("another key was not refused (%v): please report this", err)
	}
	fmt.Fprintf(out, "The result of the PRIVATE job, with another key:\n  %v\n", err)
	return nil
}
