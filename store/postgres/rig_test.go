package postgres_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
)

// What the tests and benchmarks of whole queues share.

var startQueue = testkit.Start

// identity is the same one in every run.
func identity(n uint64) *sign.Identity {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n+1)
	return sign.FromEd25519Seed(seed)
}

const model = "llama3.1:8b"

func capabilities(slots int) consign.Capabilities {
	return consign.Capabilities{Kinds: []string{consign.KindInference}, Models: []string{model}, MaxContextTier: 4, Slots: slots}
}

// openSession registers a worker.
func openSession(ctx context.Context, q *consign.Queue, id *sign.Identity, slots int) (consign.Session, error) {
	challenge, err := q.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	r := consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(), Origin: "inproc",
		Nonce: challenge.Nonce, Capabilities: capabilities(slots)}
	if r.Signature, err = id.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, r.KeyBundle)); err != nil {
		return nil, err
	}
	return q.Register(ctx, r)
}

func requests(n int) []consign.SubmitRequest {
	payload := bytes.Repeat([]byte("a prompt of 200 characters "), 8)[:200]
	rs := make([]consign.SubmitRequest, n)
	for i := range rs {
		rs[i] = consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindInference, Model: model, Payload: payload, Custody: consign.CustodyPlain}
	}
	return rs
}

func submitAll(tb testing.TB, q *consign.Queue, rs []consign.SubmitRequest) {
	tb.Helper()
	for i, o := range q.Submitter("acme").SubmitMany(context.Background(), rs) {
		if o.Err != nil {
			tb.Fatal(i, o.Err)
		}
	}
}

// completion is an honest worker's, with a signed record if one is asked for.
func completion(tb testing.TB, id *sign.Identity, a *consign.Assignment, seq int64) consign.Completion {
	tb.Helper()
	c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("the answer")}
	if !a.Receipts {
		return c
	}
	now := time.Now().UnixMicro()
	envelope, err := consign.SignRecord(id, consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model,
		Model: a.Model, HHash: sha256.Sum256(a.Header), InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(c.Result),
		Comparator: a.Comparator, Seq: seq, StartedAt: now, FinishedAt: now})
	if err == nil {
		c.Record, err = envelope.MarshalJSON()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
