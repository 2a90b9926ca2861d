package consign_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// A worker that waits and then declares that it can do more gets what it can
// do now: "Workers declare a max_context_tier via heartbeat" (seed 000).
func TestHeartbeatWithMoreTakesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := startQueue(t, consign.Config{})
		caps := consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: 1}
		s := openSession(t, q, sign.Generate(), caps)
		job, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask,
			Payload: make([]byte, 30_000), Custody: consign.CustodyPlain})
		if err != nil || job.Tier != 4 {
			t.Fatal(job.Tier, err)
		}
		claimed := make(chan consign.JobID, 1)
		go func() {
			a, err := s.Claim(t.Context())
			if err != nil {
				t.Error(err)
			}
			claimed <- a.Job
		}()
		synctest.Wait()
		caps.MaxContextTier = 4
		if _, err := s.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: caps, FreeSlots: 1}); err != nil {
			t.Fatal(err)
		}
		select {
		case id := <-claimed:
			if id != job.ID {
				t.Errorf("claimed %s", id)
			}
		case <-time.After(time.Minute):
			t.Error("the claim goes on waiting beside work that it could take")
		}
	})
}

// A worker cannot hold more than it declared, however often it claims.
func TestSlotsBoundWhatAWorkerHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := startQueue(t, consign.Config{NoReceipts: true})
		s := openSession(t, q, sign.Generate(), consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: 2})
		for range 4 {
			if _, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}); err != nil {
				t.Fatal(err)
			}
		}
		var held consign.Assignment
		for range 2 {
			var err error
			if held, err = s.Claim(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Claim(t.Context()); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("a third claim of two: %v", err)
		}
		if err := s.Complete(t.Context(), consign.Completion{Claim: consign.Claim{Job: held.Job, Claim: held.Claim}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(t.Context()); err != nil {
			t.Errorf("a claim after one has ended: %v", err)
		}
	})
}

// Claims that wait at once for one slot do not all get a job when some come,
// nor after the worker has declared fewer slots.
func TestSlotsBoundClaimsThatWait(t *testing.T) {
	for _, c := range []struct{ slots, then, want int }{{1, 1, 1}, {3, 3, 3}, {4, 2, 2}, {2, 4, 4}} {
		synctest.Test(t, func(t *testing.T) {
			q := startQueue(t, consign.Config{NoReceipts: true})
			caps := consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: c.slots}
			s := openSession(t, q, sign.Generate(), caps)
			answers := make(chan error, 8)
			for range cap(answers) {
				go func() {
					_, err := s.Claim(t.Context())
					answers <- err
				}()
			}
			synctest.Wait()
			caps.Slots = c.then
			if _, err := s.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: caps}); err != nil {
				t.Fatal(err)
			}
			for range cap(answers) {
				if _, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}); err != nil {
					t.Fatal(err)
				}
			}
			held := 0
			for range cap(answers) {
				switch err := <-answers; {
				case err == nil:
					held++
				case !errors.Is(err, consign.ErrBusy):
					t.Error(err)
				}
			}
			if held != c.want {
				t.Errorf("%d slots, then %d: the worker got %d jobs", c.slots, c.then, held)
			}
		})
	}
}

// A worker that declares no more slots than it holds claims is told at once,
// where it waits for another.
func TestFewerSlotsRefuseClaimsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := startQueue(t, consign.Config{NoReceipts: true})
		caps := consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: 2}
		s := openSession(t, q, sign.Generate(), caps)
		if _, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}); err != nil {
			t.Fatal(err)
		}
		a, err := s.Claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error, 1)
		go func() { _, err := s.Claim(t.Context()); answer <- err }()
		synctest.Wait()
		caps.Slots = 1
		if _, err := s.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: caps, Claims: []consign.Claim{{Job: a.Job, Claim: a.Claim}}}); err != nil {
			t.Fatal(err)
		}
		if err := inTime(time.Millisecond, answer); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("the claim that waited: %v", err)
		}
	})
}

// What a caller does with its buffers after a call is its own affair.
func TestBuffersStayTheCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := startQueue(t, consign.Config{NoReceipts: true})
		s := openSession(t, q, sign.Generate(), consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 1, Slots: 1})
		buffer := []byte("prompt")
		job, err := q.Submitter("acme").Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: buffer, Custody: consign.CustodyPlain})
		if err != nil {
			t.Fatal(err)
		}
		copy(buffer, "xxxxxx")
		for range 2 { // the second attempt gets what the first one got
			a, err := s.Claim(t.Context())
			if err != nil || string(a.Payload) != "prompt" {
				t.Fatalf("%q, %v", a.Payload, err)
			}
			copy(a.Payload, "yyyyyy")
			if err := s.Release(t.Context(), consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
				t.Fatal(err)
			}
		}
		a, err := s.Claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		line := []byte("a line")
		if err := s.Report(t.Context(), consign.Report{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: line}}}); err != nil {
			t.Fatal(err)
		}
		copy(line, "zzzzzz")
		result := []byte("result")
		if err := s.Complete(t.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result}); err != nil {
			t.Fatal(err)
		}
		copy(result, "zzzzzz")
		if info, err := q.Submitter("acme").Wait(context.Background(), job.ID); err != nil || string(info.Result) != "result" {
			t.Errorf("%q, %v", info.Result, err)
		}
		for e, err := range q.Submitter("acme").Events(t.Context(), job.ID, 0) {
			if err != nil || e.Event == consign.EventReport && string(e.Data) != "a line" {
				t.Errorf("%q, %v", e.Data, err)
			}
		}
	})
}
