package consign_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

func TestSmoke(t *testing.T) {
	q, err := consign.New(consign.Config{Store: memdb.New()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(run) }()

	id := sign.Generate()
	ch, _ := q.Challenge(ctx)
	caps := consign.Capabilities{Kinds: []string{"TASK"}, MaxContextTier: 4, Slots: 1}
	sig, _ := id.Sign(consign.RegistrationMessage(ch.Queue, "inproc", ch.Nonce, nil))
	s, err := q.Register(ctx, consign.Registration{Algorithm: sign.Ed25519, PublicKey: id.Public().Bytes(), Origin: "inproc", Nonce: ch.Nonce, Signature: sig, Capabilities: caps})
	if err != nil {
		t.Fatal(err)
	}
	sub := q.Submitter("acme")
	go func() {
		for i := range 10 {
			if _, err := sub.Submit(ctx, consign.SubmitRequest{Kind: "TASK", Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain}); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range 10 {
		a, err := s.Claim(ctx)
		if err != nil {
			t.Fatal(i, err)
		}
		result := []byte("done " + string(a.Payload))
		rec := consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model, HHash: sha256.Sum256(a.Header),
			InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result), Comparator: a.Comparator, Seq: int64(i + 1), StartedAt: 1, FinishedAt: 2}
		env, err := consign.SignRecord(id, rec)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := env.MarshalJSON()
		if err := s.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result, Record: b}); err != nil {
			t.Fatal(err)
		}
		info, err := sub.Wait(ctx, a.Job)
		if err != nil || info.State != consign.StateCompleted {
			t.Fatal(info, err)
		}
		r, err := sub.Receipt(ctx, a.Job)
		if err != nil {
			t.Fatal(err)
		}
		_ = r
		for e, err := range sub.Events(ctx, a.Job, 0) {
			if i == 0 {
				t.Log(e.Seq, e.Event, e.State, e.Stages(), err)
			}
		}
		if err := sub.Acknowledge(ctx, a.Job); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	t.Log(<-ended)
}

// A worker's challenge may be answered at another queue of the same identity,
// as behind a load balancer, and at none of another.
func TestChallengeCrossesQueues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, stopA := startQueueStop(t, consign.Config{Identity: seededIdentity(1)})
		defer stopA()
		b, stopB := startQueueStop(t, consign.Config{Identity: seededIdentity(1)})
		defer stopB()
		other, stopOther := startQueueStop(t, consign.Config{Identity: seededIdentity(2)})
		defer stopOther()
		r := registration(t, a, seededIdentity(10), anyTask)
		if _, err := other.Register(t.Context(), r); !isField(err, "nonce") {
			t.Errorf("at another queue: %v", err)
		}
		if _, err := b.Register(t.Context(), r); err != nil {
			t.Errorf("at a queue of the same identity: %v", err)
		}
		if _, err := b.Register(t.Context(), r); !isField(err, "nonce") {
			t.Errorf("once more: %v", err)
		}
	})
}
