package consign_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// Fuzz targets of what a queue reads from others. The corpora are under
// testdata/fuzz; go test runs them, go test -fuzz looks further.

// FuzzParseLane accepts exactly what Lane.String writes.
func FuzzParseLane(f *testing.F) {
	f.Add("acct=acme&kind=LLM_INFER&model=llama3.1%3A8b&off=10&tier=2")
	f.Add("kind=TASK&labels=gpu%3Da100%2Cregion%3Deu&off=65&priv=1&tier=4&vram=8192")
	f.Add("")
	f.Add("kind=TASK&kind=TASK")
	f.Add("kind=%zz")
	f.Add("tier=256")
	f.Add("off=-1")
	f.Fuzz(func(t *testing.T, text string) {
		lane, err := consign.ParseLane(text)
		if err != nil {
			return
		}
		if again := lane.String(); again != text {
			t.Errorf("%q is read as %+v, which is %q", text, lane, again)
		}
	})
}

// FuzzLane reads back every lane that admission can make.
func FuzzLane(f *testing.F) {
	f.Add("acme", "TASK", "llama3.1:8b", "gpu=a100", uint8(2), uint8(1), uint32(8192), uint8(7))
	f.Add("0", "0", "0", "0", uint8(0), uint8(0), uint32(0), uint8(0))
	f.Add("a&b=c%", "KIND ÄÖ", "+ +", "k=\x01", uint8(4), uint8(255), uint32(1<<32-1), uint8(0))
	f.Fuzz(func(t *testing.T, account, kind, model, labels string, tier, hardware uint8, vram uint32, flags uint8) {
		lane := consign.Lane{Account: account, Offset: time.Duration(flags>>3) * time.Second,
			Needs: consign.Needs{Kind: kind, Model: model, Labels: labels, Tier: consign.Tier(tier), HardwareTier: hardware, VRAM: vram,
				Docker: flags&1 != 0, Encryption: flags&2 != 0, Private: flags&4 != 0}}
		again, err := consign.ParseLane(lane.String())
		if err != nil || again != lane {
			t.Errorf("%+v is written as %q, which is read as %+v (%v)", lane, lane.String(), again, err)
		}
	})
}

// FuzzParseJobID accepts UUIDs and bare digits, and names what is wrong with
// the rest.
func FuzzParseJobID(f *testing.F) {
	f.Add("0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051")
	f.Add("0190A1B2C3D44E5F8A9B0C1D2E3F4051")
	f.Add("")
	f.Add("0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f405")
	f.Add("------------------------------------")
	f.Add("0190a1b-2c3d4-4e5f-8a9b-0c1d2e3f4051")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := consign.ParseJobID(text)
		if err != nil {
			if problem := field("job_id")(err); problem != "" || typed(err) != "" {
				t.Errorf("the answer %s%s: %v", problem, typed(err), err)
			}
			return
		}
		digits := strings.ToLower(text)
		if digits != id.String() && digits != strings.ReplaceAll(id.String(), "-", "") {
			t.Errorf("%q is read as %s", text, id)
		}
	})
}

// fuzzQueue is a queue with one worker.
func fuzzQueue(f *testing.F) (*consign.Queue, consign.Session) {
	q := startQueue(f, consign.Config{Store: memdb.New(), MaxPayload: 1 << 16, MaxResult: 1 << 16})
	caps := benchCaps
	caps.Slots = 8
	return q, openSession(f, q, seededIdentity(0), caps)
}

// FuzzSubmit admits a job or says what is wrong with it. What is admitted is
// what was asked for.
func FuzzSubmit(f *testing.F) {
	q, _ := fuzzQueue(f)
	f.Add("acme", "TASK", "", []byte("text"), []byte(nil), "plain", uint32(0), uint64(0), uint8(0), int64(0), int64(0), int64(0), 0, "region", "eu", "exact")
	f.Add("acme", "LLM_INFER", "m", []byte("0123456789"), []byte("H"), "sealed", uint32(5), uint64(7), uint8(0x15), int64(1), int64(2), int64(3), 4, "", "", "")
	f.Add("", "CONTAINER", "m\x00", []byte{0xff}, []byte(nil), "escrow", uint32(1<<31), uint64(1<<63), uint8(0xff), int64(-1), int64(-1<<63), int64(1<<63-1), -1, "=", ",", "\xff")
	f.Fuzz(func(t *testing.T, account, kind, model string, payload, header []byte, custody string, chars uint32, promptBytes uint64,
		choices uint8, delay, queueTime, deadline int64, attempts int, label, value, comparator string) {
		r := consign.SubmitRequest{Kind: kind, Model: model, Payload: payload, Header: header, Custody: consign.Custody(custody), Chars: chars,
			PromptBytes: promptBytes, Policy: consign.Policy(choices & 3), Priority: consign.Priority(choices >> 2 & 3), Privacy: consign.Privacy(choices >> 4 & 3),
			Delay: time.Duration(delay), QueueTime: time.Duration(queueTime), Deadline: time.Duration(deadline), MaxAttempts: attempts, Comparator: comparator}
		if label != "" || value != "" {
			r.Labels = map[string]string{label: value}
		}
		sub := q.Submitter(account)
		j, err := sub.Submit(context.Background(), r)
		if err != nil {
			if problem := typed(err); problem != "" {
				t.Errorf("the answer %s: %v", problem, err)
			}
			return
		}
		got, err := sub.Get(context.Background(), j.ID)
		if err != nil || got.Kind != kind || got.Model != model {
			t.Errorf("job %+v (%v) is not what was submitted: %+v", got, err, r)
		}
		if r.Custody == consign.CustodyPlain && got.Tier != consign.DefaultTierBounds.Tier(uint32(len([]rune(string(payload))))) { //nolint:gosec // at most 1<<16
			t.Errorf("%d bytes are of tier %s", len(payload), got.Tier)
		}
		if _, err := sub.Cancel(context.Background(), j.ID); err != nil {
			if _, over := errors.AsType[*consign.TransitionError](err); !over { // a deadline of a microsecond
				t.Error(err)
			}
		}
	})
}

// FuzzRegister lets in nobody without a signature over a fresh challenge.
func FuzzRegister(f *testing.F) {
	q, _ := fuzzQueue(f)
	good := registration(f, q, seededIdentity(3), badCaps)
	good.Signature[5] ^= 1
	f.Add(good.Algorithm, good.PublicKey, good.Origin, good.Nonce, good.Signature, good.KeyBundle, []byte(`{"Kinds":["TASK"],"MaxContextTier":4,"Slots":1}`), false)
	f.Add("rsa-pss-sha256", []byte{0x30, 0x82}, "", []byte(nil), []byte(nil), []byte(nil), []byte(`{}`), true)
	f.Add("ed25519", make([]byte, 32), "inproc", make([]byte, 56), make([]byte, 64), []byte("bundle"), []byte(`{"Labels":{"":"="}}`), true)
	f.Fuzz(func(t *testing.T, algorithm string, key []byte, origin string, nonce, signature, bundle, caps []byte, fresh bool) {
		r := consign.Registration{Algorithm: algorithm, PublicKey: key, Origin: origin, Nonce: nonce, Signature: signature, KeyBundle: bundle}
		_ = json.Unmarshal(caps, &r.Capabilities)
		if fresh {
			r.Nonce = registration(t, q, seededIdentity(3), badCaps).Nonce
		}
		_, err := q.Register(context.Background(), r)
		if err == nil {
			t.Errorf("it was let in: %+v", r)
			return
		}
		if problem := typed(err); problem != "" {
			t.Errorf("the answer %s: %v", problem, err)
		}
	})
}

// FuzzComplete accepts no result but the one that the worker signed.
func FuzzComplete(f *testing.F) {
	q, s := fuzzQueue(f)
	sub := q.Submitter("acme")
	id := seededIdentity(0)
	a := consign.Assignment{Kind: consign.KindTask, Comparator: "exact"}
	f.Add([]byte("the result"), int32(0), signedRecord(f, id, recordOf(&a, []byte("the result"), 1)), false)
	f.Add([]byte("the result"), int32(0), []byte(nil), true)
	f.Add([]byte(nil), int32(-1), []byte(`{"payload":"","payloadType":"application/vnd.consign.record+json","signatures":[{"sig":"AA=="}]}`), false)
	f.Add([]byte{0}, int32(1), []byte(`{"payload":"e30=","payload":"e30="}`), false)
	f.Fuzz(func(t *testing.T, result []byte, exit int32, record []byte, signed bool) {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if _, err := sub.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("text"), Custody: consign.CustodyPlain, MaxAttempts: 1}); err != nil {
			t.Fatal(err)
		}
		a, err := s.Claim(ctx)
		if errors.Is(err, consign.ErrRemoved) || errors.Is(err, consign.ErrSession) { // after a few bad results
			id = seededIdentity(uint64(time.Now().UnixNano())) //nolint:gosec // after 1970
			s = openSession(t, q, id, badCaps)
			a, err = s.Claim(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result, ExitStatus: exit, Record: record}
		if signed {
			r := recordOf(&a, []byte("the result"), 1)
			c.Record = signedRecord(t, id, r)
		}
		good := signed && string(result) == "the result" && exit == 0
		err = s.Complete(ctx, c)
		j, bad := sub.Get(ctx, a.Job)
		switch {
		case bad != nil:
			t.Fatal(bad)
		case err != nil && typed(err) != "":
			t.Errorf("the answer %s: %v", typed(err), err)
		case good != (err == nil) || good != (j.State == consign.StateCompleted):
			t.Errorf("a result (good: %v) was answered %v, and the job is %s", good, err, j.State)
		}
		if j.State == consign.StateQueued {
			_, _ = sub.Cancel(ctx, a.Job)
		}
	})
}
