package main

import (
	"context"
	"crypto/sha256"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
)

// finishTransit waits for a job that the queue sealed, and checks what its
// submitter can check without the ciphertext: that the worker signed this
// stored result for this job and claim, and that the queue accepted it. That
// the input was what was sent, and that Opened is what the result opens to, is
// the queue's word. It returns a *client.JobError and a *consign.ReceiptError.
func (q *queue) finishTransit(ctx context.Context, id consign.JobID) (client.Result, error) {
	job, err := q.Wait(ctx, id)
	res := client.Result{JobInfo: job, Output: job.Opened}
	if err == nil && job.State != consign.StateCompleted {
		err = &client.JobError{Job: job}
	}
	if err != nil {
		return res, err
	}
	worker, err := sign.ParsePublicKey(sign.Ed25519, job.Worker[:])
	if err != nil {
		return res, err
	}
	if res.Receipt, err = q.Receipt(ctx, id); err != nil {
		return res, err
	}
	if res.Record, err = consign.VerifyRecord(res.Receipt.Record, worker); err != nil {
		return res, err
	}
	if res.Acceptance, err = consign.VerifyAcceptance(res.Receipt.Acceptance, q.key); err != nil {
		return res, err
	}
	for field, holds := range map[string]bool{
		"record.queue_id":    res.Record.QueueID == consign.QueueIDOf(q.key),
		"record.job_id":      res.Record.JobID == id,
		"record.claim_id":    res.Record.ClaimID == job.Claim,
		"record.result_hash": res.Record.ResultHash == sha256.Sum256(job.Result),
		"acceptance.record":  res.Acceptance.Record == res.Receipt.Record.Name(),
		"acceptance.custody": res.Acceptance.Custody == consign.CustodyTransit,
	} {
		if !holds {
			return res, &consign.ReceiptError{Field: field, Problem: "is of something else than this job", Err: consign.ErrBadReceipt}
		}
	}
	return res, nil
}
