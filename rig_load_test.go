package consign_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// What the benchmarks, the load tests and the bad-input tests share: a running
// queue, and workers that are driven call by call.

// startQueue runs a queue until the test ends. Its store is a memdb unless c
// has one.
func startQueue(tb testing.TB, c consign.Config) *consign.Queue {
	tb.Helper()
	q, _ := startQueueStop(tb, c)
	return q
}

// startQueueStop is startQueue with the means to end it sooner.
func startQueueStop(tb testing.TB, c consign.Config) (q *consign.Queue, stop func()) {
	tb.Helper()
	if c.Store == nil {
		c.Store = memdb.New()
	}
	return testkit.Start(tb, c)
}

// seededIdentity is an ed25519 identity that is the same in every run.
func seededIdentity(n uint64) *sign.Identity {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n+1)
	return sign.FromEd25519Seed(seed)
}

// registration answers a challenge of the queue.
func registration(tb testing.TB, q consign.WorkerAPI, id *sign.Identity, caps consign.Capabilities) consign.Registration {
	tb.Helper()
	challenge, err := q.Challenge(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	r := consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(), Origin: "inproc",
		Nonce: challenge.Nonce, Capabilities: caps}
	r.Signature, err = id.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, r.KeyBundle))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// openSession registers a worker.
func openSession(tb testing.TB, q consign.WorkerAPI, id *sign.Identity, caps consign.Capabilities) consign.Session {
	tb.Helper()
	s, err := q.Register(context.Background(), registration(tb, q, id, caps))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// recordOf is an honest record of the assignment.
func recordOf(a *consign.Assignment, result []byte, seq int64) consign.Record {
	return consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model, Model: a.Model,
		HHash: sha256.Sum256(a.Header), InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result),
		Comparator: a.Comparator, Seq: seq, StartedAt: 1_700_000_000_000_000, FinishedAt: 1_700_000_001_000_000}
}

// signedRecord is a record as the JSON of its envelope.
func signedRecord(tb testing.TB, id *sign.Identity, r consign.Record) []byte {
	tb.Helper()
	envelope, err := consign.SignRecord(id, r)
	if err != nil {
		tb.Fatal(err)
	}
	record, err := envelope.MarshalJSON()
	if err != nil {
		tb.Fatal(err)
	}
	return record
}
