package consign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Bad input of workers; see badinput_test.go.

// badCapabilities are spoiled in ways that a registration and a heartbeat must
// refuse alike.
var badCapabilities = []struct {
	name, field string
	spoil       func(c *consign.Capabilities)
}{
	{"no kinds", "worker.kinds", func(c *consign.Capabilities) { c.Kinds = nil }},
	{"a nameless kind", "worker.kinds", func(c *consign.Capabilities) { c.Kinds = []string{consign.KindTask, ""} }},
	{"a kind of bad UTF-8", "worker.kinds", func(c *consign.Capabilities) { c.Kinds = []string{"TASK\xff"} }},
	{"a kind of a megabyte", "worker.kinds", func(c *consign.Capabilities) { c.Kinds = []string{strings.Repeat("k", 1<<20)} }},
	{"a model of bad UTF-8", "worker.models", func(c *consign.Capabilities) { c.Models = []string{"\xfe"} }},
	{"a model of a megabyte", "worker.models", func(c *consign.Capabilities) { c.Models = []string{strings.Repeat("m", 1<<20)} }},
	{"a nameless model", "worker.models", func(c *consign.Capabilities) { c.Models = []string{""} }},
	{"too many kinds", "worker.kinds", func(c *consign.Capabilities) { c.Kinds = slices.Repeat([]string{"k"}, 4097) }},
	{"too many models", "worker.models", func(c *consign.Capabilities) { c.Models = slices.Repeat([]string{"m"}, 4097) }},
	{"too many slots", "worker.slots", func(c *consign.Capabilities) { c.Slots = 1<<16 + 1 }},
	{"no tier", "worker.max_context_tier", func(c *consign.Capabilities) { c.MaxContextTier = 0 }},
	{"tier 5", "worker.max_context_tier", func(c *consign.Capabilities) { c.MaxContextTier = 5 }},
	{"tier 255", "worker.max_context_tier", func(c *consign.Capabilities) { c.MaxContextTier = 255 }},
	{"no slots", "worker.slots", func(c *consign.Capabilities) { c.Slots = 0 }},
	{"minus one slots", "worker.slots", func(c *consign.Capabilities) { c.Slots = -1 }},
	{"least slots", "worker.slots", func(c *consign.Capabilities) { c.Slots = math.MinInt }},
	{"a nameless label", "worker.labels", func(c *consign.Capabilities) { c.Labels = map[string]string{"": "v"} }},
	{"= in a label", "worker.labels", func(c *consign.Capabilities) { c.Labels = map[string]string{"k": "a=b"} }},
	{", in a label", "worker.labels", func(c *consign.Capabilities) { c.Labels = map[string]string{"a,b": "v"} }},
	{"a label of bad UTF-8", "worker.labels", func(c *consign.Capabilities) { c.Labels = map[string]string{"k": "\xff"} }},
	{"a thousand labels", "worker.labels", func(c *consign.Capabilities) { c.Labels = manyLabels(1000) }},
}

func badRegistrations() []badCase {
	var cases []badCase
	type reg = consign.Registration
	// add spoils a good registration of a third worker.
	add := func(name string, want want, spoil func(w *badWorld, id *sign.Identity, r *reg)) {
		cases = append(cases, badCase{name: name, want: want, call: func(w *badWorld) func() error {
			id := seededIdentity(12)
			r := registration(w.t, w.q, id, badCaps)
			spoil(w, id, &r)
			return func() error { _, err := w.q.Register(w.ctx, r); return err }
		}})
	}
	resign := func(w *badWorld, id *sign.Identity, r *reg) {
		var err error
		r.Signature, err = id.Sign(consign.RegistrationMessage(w.q.ID(), r.Origin, r.Nonce, r.KeyBundle))
		w.must(err)
	}
	add("no algorithm", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Algorithm = "" })
	add("unknown algorithm", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Algorithm = "none" })
	add("algorithm of another key", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Algorithm = sign.RSAPSS })
	add("no key", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.PublicKey = nil })
	add("half a key", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.PublicKey = r.PublicKey[:16] })
	add("key of small order", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) {
		r.PublicKey = append([]byte{1}, make([]byte, 31)...)
	})
	add("key that is no point", field("worker.public_key"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.PublicKey = bytes.Repeat([]byte{0xff}, 32) })
	add("key of another worker", field("signature"), func(w *badWorld, _ *sign.Identity, r *reg) { r.PublicKey = w.keyA.Public().Bytes() })
	add("no signature", field("signature"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Signature = nil })
	add("signature with a bit flipped", field("signature"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Signature[40] ^= 4 })
	add("half a signature", field("signature"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Signature = r.Signature[:32] })
	add("signature by another key", field("signature"), func(w *badWorld, _ *sign.Identity, r *reg) { resign(w, w.keyA, r) })
	add("signature for another queue", field("signature"), func(w *badWorld, id *sign.Identity, r *reg) {
		var err error
		r.Signature, err = id.Sign(consign.RegistrationMessage(consign.QueueID{1}, r.Origin, r.Nonce, r.KeyBundle))
		w.must(err)
	})
	add("signature over the nonce alone", field("signature"), func(w *badWorld, id *sign.Identity, r *reg) {
		var err error
		r.Signature, err = id.Sign(r.Nonce)
		w.must(err)
	})
	add("other origin than was signed", field("signature"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.Origin = "wss://queue.example" })
	add("other key bundle than was signed", field("signature"), func(_ *badWorld, _ *sign.Identity, r *reg) { r.KeyBundle = []byte("bundle") })
	add("no nonce", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) { r.Nonce = nil; resign(w, id, r) })
	add("short nonce", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) { r.Nonce = r.Nonce[:24]; resign(w, id, r) })
	add("long nonce", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) {
		r.Nonce = append(r.Nonce, 0)
		resign(w, id, r)
	})
	add("made-up nonce", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) { r.Nonce = make([]byte, 56); resign(w, id, r) })
	add("nonce dated later", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) { r.Nonce[4]++; resign(w, id, r) })
	add("nonce of another queue", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) {
		other, stop := startQueueStop(w.t, consign.Config{Identity: seededIdentity(2)})
		defer stop()
		r.Nonce = registration(w.t, other, id, badCaps).Nonce
		resign(w, id, r)
	})
	add("expired nonce", field("nonce"), func(*badWorld, *sign.Identity, *reg) { time.Sleep(time.Minute + time.Second) })
	add("used nonce", field("nonce"), func(w *badWorld, _ *sign.Identity, r *reg) {
		_, err := w.q.Register(w.ctx, *r)
		w.must(err)
	})
	add("nonce used by another worker", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) {
		first := registration(w.t, w.q, w.keyA, badCaps)
		_, err := w.q.Register(w.ctx, first)
		w.must(err)
		r.Nonce = first.Nonce
		resign(w, id, r)
	})
	add("nonce spent on a bad signature", field("nonce"), func(w *badWorld, id *sign.Identity, r *reg) {
		r.Signature[0] ^= 1
		if _, err := w.q.Register(w.ctx, *r); field("signature")(err) != "" {
			w.t.Fatal(err)
		}
		resign(w, id, r)
	})
	for _, bad := range badCapabilities {
		add(bad.name, field(bad.field), func(_ *badWorld, _ *sign.Identity, r *reg) { bad.spoil(&r.Capabilities) })
	}
	add("closed queue", is(consign.ErrClosed), func(w *badWorld, id *sign.Identity, r *reg) {
		_, err := w.q.Register(w.ctx, *r) // so that it is known, and nothing is written for it
		w.must(err)
		*r = registration(w.t, w.q, id, badCaps)
		w.stop()
	})
	return cases
}

// claimCalls are the calls of a worker about one of its claims.
var claimCalls = map[string]func(w *badWorld, s consign.Session, c consign.Claim) error{
	"report": func(w *badWorld, s consign.Session, c consign.Claim) error {
		return s.Report(w.ctx, consign.Report{Claim: c, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("line")}}})
	},
	"fail": func(w *badWorld, s consign.Session, c consign.Claim) error {
		return s.Fail(w.ctx, consign.Failure{Claim: c, Reason: "no"})
	},
	"release": func(w *badWorld, s consign.Session, c consign.Claim) error {
		return s.Release(w.ctx, consign.Release{Claim: c, Reason: "no"})
	},
	"complete": func(w *badWorld, s consign.Session, c consign.Claim) error {
		return s.Complete(w.ctx, consign.Completion{Claim: c, Result: badResult})
	},
	// A heartbeat has no error for a claim: it lists it as lost, and renews
	// nothing.
	"heartbeat": func(w *badWorld, s consign.Session, c consign.Claim) error {
		beat, err := s.Heartbeat(w.ctx, consign.Heartbeat{Capabilities: badCaps, FreeSlots: 1, Claims: []consign.Claim{c}})
		if err != nil {
			return err
		}
		synctest.Wait()
		time.Sleep(4 * time.Second) // past the next renewal
		lost := beat.Lost
		if len(lost) == 0 { // only the store knew
			beat, err = s.Heartbeat(w.ctx, consign.Heartbeat{Capabilities: badCaps, FreeSlots: 1})
			if err != nil {
				return err
			}
			lost = beat.Lost
		}
		for _, l := range lost {
			if l == c {
				return consign.ErrLeaseLost
			}
		}
		return fmt.Errorf("the claim is not in %v", lost)
	},
}

func badSessionCalls() []badCase {
	var cases []badCase
	about := func(name string, want want, call func(w *badWorld) func() error) {
		cases = append(cases, badCase{name: name, want: want, call: call})
	}
	for name, call := range claimCalls {
		lost := func(what string, prepare func(w *badWorld) (consign.Session, consign.Claim)) {
			about(name+" "+what, is(consign.ErrLeaseLost), func(w *badWorld) func() error {
				s, c := prepare(w)
				return func() error { return call(w, s, c) }
			})
		}
		claimOf := func(a *consign.Assignment) consign.Claim { return consign.Claim{Job: a.Job, Claim: a.Claim} }
		lost("of no job", func(w *badWorld) (consign.Session, consign.Claim) {
			return w.a, consign.Claim{Job: consign.NewJobID(), Claim: consign.NewClaimID()}
		})
		lost("of the zero claim", func(w *badWorld) (consign.Session, consign.Claim) { return w.a, consign.Claim{} })
		lost("of the zero claim of a queued job", func(w *badWorld) (consign.Session, consign.Claim) {
			return w.a, consign.Claim{Job: w.queued().ID}
		})
		lost("of a made-up claim", func(w *badWorld) (consign.Session, consign.Claim) {
			return w.a, consign.Claim{Job: w.running().Job, Claim: consign.NewClaimID()}
		})
		lost("of another job's claim", func(w *badWorld) (consign.Session, consign.Claim) {
			first, second := w.running(), w.running()
			return w.a, consign.Claim{Job: first.Job, Claim: second.Claim}
		})
		lost("of another worker's claim", func(w *badWorld) (consign.Session, consign.Claim) { return w.b, claimOf(w.running()) })
		lost("of a stale claim", func(w *badWorld) (consign.Session, consign.Claim) {
			a, _ := w.stale()
			return w.a, claimOf(a)
		})
		lost("of a stale claim, in a new session", func(w *badWorld) (consign.Session, consign.Claim) {
			a, _ := w.stale()
			return openSession(w.t, w.q, w.keyA, badCaps), claimOf(a)
		})
		lost("of a claim that was released", func(w *badWorld) (consign.Session, consign.Claim) {
			a := w.running()
			w.must(w.a.Release(w.ctx, consign.Release{Claim: claimOf(a)}))
			return w.a, claimOf(a)
		})
		lost("of a job that failed", func(w *badWorld) (consign.Session, consign.Claim) {
			a := w.running()
			w.must(w.a.Fail(w.ctx, consign.Failure{Claim: claimOf(a), Kind: consign.FailPayload}))
			return w.a, claimOf(a)
		})
		lost("of a job that was cancelled", func(w *badWorld) (consign.Session, consign.Claim) {
			a := w.running()
			_, err := w.acme.Cancel(w.ctx, a.Job)
			w.must(err)
			return w.a, claimOf(a)
		})
		if name != "complete" && name != "heartbeat" { // a completion may overtake a heartbeat
			lost("of a job that is completed", func(w *badWorld) (consign.Session, consign.Claim) {
				a, _ := w.completed()
				return w.a, claimOf(a)
			})
		}
		about(name+", closed queue", is(consign.ErrClosed), func(w *badWorld) func() error {
			c := claimOf(w.running())
			w.stop()
			return func() error {
				if name == "complete" {
					return w.a.Complete(w.ctx, w.completion(&consign.Assignment{Job: c.Job, Claim: c.Claim}))
				}
				return call(w, w.a, c)
			}
		})
	}
	for _, call := range []string{"fail", "release", "complete"} {
		about(call+" of a job that was cancelled says so", is(consign.ErrLeaseLost, consign.ErrCancelled), func(w *badWorld) func() error {
			a := w.running()
			_, err := w.acme.Cancel(w.ctx, a.Job)
			w.must(err)
			c := w.completion(a)
			return func() error {
				if call == "complete" {
					return w.a.Complete(w.ctx, c)
				}
				return claimCalls[call](w, w.a, c.Claim)
			}
		})
	}
	badBeat := func(name string, want want, spoil func(h *consign.Heartbeat)) {
		about("heartbeat with "+name, want, func(w *badWorld) func() error {
			h := consign.Heartbeat{Capabilities: badCaps, FreeSlots: 1}
			spoil(&h)
			return func() error { _, err := w.a.Heartbeat(w.ctx, h); return err }
		})
	}
	for _, bad := range badCapabilities {
		badBeat(bad.name, field(bad.field), func(h *consign.Heartbeat) { bad.spoil(&h.Capabilities) })
	}
	badBeat("too many warm models", field("worker.warm"), func(h *consign.Heartbeat) {
		h.Warm = slices.Repeat([]consign.WarmModel{{Name: "m"}}, 4097)
	})
	badBeat("too many rates", field("worker.rates"), func(h *consign.Heartbeat) {
		h.Rates = map[string]float64{}
		for i := range 4097 {
			h.Rates[strconv.Itoa(i)] = 1
		}
	})
	badBeat("too many claims", field("worker.claims"), func(h *consign.Heartbeat) { h.Claims = make([]consign.Claim, 1<<16+1) })
	badBeat("minus one free slots", field("worker.free_slots"), func(h *consign.Heartbeat) { h.FreeSlots = -1 })
	badBeat("minus one warm models", field("worker.max_warm"), func(h *consign.Heartbeat) { h.MaxWarm = -1 })
	badBeat("a negative rate", field("worker.rates"), func(h *consign.Heartbeat) { h.Rates = map[string]float64{"m": -1} })
	badBeat("a rate of zero", field("worker.rates"), func(h *consign.Heartbeat) { h.Rates = map[string]float64{"m": 0} })
	badBeat("a rate that is no number", field("worker.rates"), func(h *consign.Heartbeat) { h.Rates = map[string]float64{"m": math.NaN()} })
	badBeat("an infinite rate", field("worker.rates"), func(h *consign.Heartbeat) { h.Rates = map[string]float64{"m": math.Inf(1)} })
	badBeat("a model warm since tomorrow", field("worker.warm"), func(h *consign.Heartbeat) { h.Warm = []consign.WarmModel{{Name: "m", Since: -24 * time.Hour}} })
	badBeat("a model warm since the least duration", field("worker.warm"), func(h *consign.Heartbeat) {
		h.Warm = []consign.WarmModel{{Name: "m", Since: math.MinInt64}}
	})
	badBeat("a nameless warm model", field("worker.warm"), func(h *consign.Heartbeat) { h.Warm = []consign.WarmModel{{}} })
	badBeat("a warm model of bad UTF-8", field("worker.warm"), func(h *consign.Heartbeat) { h.Warm = []consign.WarmModel{{Name: "\xff"}} })

	badReport := func(name string, items ...consign.ReportItem) {
		about("report of "+name, field("report"), func(w *badWorld) func() error {
			a := w.running()
			return func() error {
				return w.a.Report(w.ctx, consign.Report{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Items: items})
			}
		})
	}
	badReport("an unknown kind", consign.ReportItem{Kind: 3})
	badReport("kind 255", consign.ReportItem{Kind: consign.ReportLog}, consign.ReportItem{Kind: 255})
	badReport("more than a megabyte", consign.ReportItem{Data: make([]byte, 1<<20+1)})
	badReport("100,001 lines", make([]consign.ReportItem, 100_001)...)
	about("report of 100,001 lines, bit by bit", field("report"), func(w *badWorld) func() error {
		a := w.running()
		r := consign.Report{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Items: make([]consign.ReportItem, 50_000)}
		w.must(w.a.Report(w.ctx, r))
		w.must(w.a.Report(w.ctx, r))
		r.Items = r.Items[:1]
		return func() error { return w.a.Report(w.ctx, r) }
	})
	about("fail of an unknown kind", field("failure.kind"), func(w *badWorld) func() error {
		a := w.running()
		return func() error {
			return w.a.Fail(w.ctx, consign.Failure{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Kind: 3})
		}
	})
	about("claim without patience", is(context.Canceled), func(w *badWorld) func() error {
		ctx, stop := context.WithCancel(w.ctx)
		stop()
		return func() error { _, err := w.a.Claim(ctx); return err }
	})
	about("claim of a closed queue", is(consign.ErrClosed), func(w *badWorld) func() error {
		w.stop()
		return func() error { _, err := w.a.Claim(w.ctx); return err }
	})
	about("claim when the queue closes", is(consign.ErrClosed), func(w *badWorld) func() error {
		return func() error {
			go func() { synctest.Wait(); w.stop() }()
			_, err := w.a.Claim(w.ctx)
			return err
		}
	})
	silent := func(w *badWorld) { time.Sleep(2 * time.Minute) }
	about("claim in a session that has ended", is(consign.ErrSession), func(w *badWorld) func() error {
		silent(w)
		return func() error { _, err := w.a.Claim(w.ctx); return err }
	})
	about("heartbeat in a session that has ended", is(consign.ErrSession), func(w *badWorld) func() error {
		silent(w)
		return func() error {
			_, err := w.a.Heartbeat(w.ctx, consign.Heartbeat{Capabilities: badCaps})
			return err
		}
	})
	about("claim by a worker that is flagged", is(consign.ErrRemoved), func(w *badWorld) func() error {
		w.flagged()
		return func() error { _, err := w.a.Claim(w.ctx); return err }
	})
	about("claim by a worker that is flagged, in a new session", is(consign.ErrRemoved), func(w *badWorld) func() error {
		w.flagged()
		s := openSession(w.t, w.q, w.keyA, badCaps)
		return func() error { _, err := s.Claim(w.ctx); return err }
	})
	about("register a worker that is removed", is(consign.ErrRemoved), func(w *badWorld) func() error {
		w.removed()
		r := registration(w.t, w.q, w.keyA, badCaps)
		return func() error { _, err := w.q.Register(w.ctx, r); return err }
	})
	return cases
}

// flagged lets worker A hand in bad results until it may work no more.
func (w *badWorld) flagged() {
	w.t.Helper()
	for range 10 {
		_, err := w.acme.Submit(w.ctx, plainRequest(w))
		w.must(err)
		a, err := w.a.Claim(w.ctx)
		if errors.Is(err, consign.ErrRemoved) {
			return
		}
		w.must(err)
		if err := w.a.Complete(w.ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); !errors.Is(err, consign.ErrBadResult) {
			w.t.Fatal("preparing: ", err)
		}
		synctest.Wait()
	}
	w.t.Fatal("preparing: ten bad results, and no flag")
}

// removed writes a review's verdict on worker A into the store.
func (w *badWorld) removed() {
	w.t.Helper()
	r, err := w.q.Worker(w.ctx, w.keyA.Public().ID())
	w.must(err)
	r.Standing.Removed = true
	body, err := json.Marshal(&r)
	w.must(err)
	doc, err := w.store.Doc(w.ctx, consign.DocWorker, r.ID.String())
	w.must(err)
	doc.Version, doc.Body = doc.Version+1, body
	errs, err := w.store.Apply(w.ctx, []consign.Change{{ID: consign.ChangeID{1}, Docs: []consign.Doc{doc}}})
	w.must(errors.Join(err, errs[0]))
}

// badCompletions are those that the record is not to blame for.
func badCompletions() []badCase {
	var cases []badCase
	about := func(name string, want want, rejects bool, call func(w *badWorld) func() error) {
		cases = append(cases, badCase{name: name, want: want, rejects: rejects, call: call})
	}
	complete := func(w *badWorld, c consign.Completion) func() error {
		return func() error { return w.a.Complete(w.ctx, c) }
	}
	about("oversize result", field("result"), false, func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.Result = make([]byte, 2001)
		return complete(w, c)
	})
	about("other result than the record's", badRecord("record.result_hash"), true, func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.Result = []byte("another result")
		return complete(w, c)
	})
	about("no result, with a record of one", badRecord("record.result_hash"), true, func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.Result = nil
		return complete(w, c)
	})
	about("other exit status than the record's", badRecord("record.exit_status"), true, func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.ExitStatus = 1
		return complete(w, c)
	})
	about("the same again", fine, false, func(w *badWorld) func() error {
		_, c := w.completed()
		return complete(w, c)
	})
	about("the same again, after it was acknowledged", fine, false, func(w *badWorld) func() error {
		a, c := w.completed()
		w.must(w.acme.Acknowledge(w.ctx, a.Job))
		return complete(w, c)
	})
	about("the same again, in a new session", fine, false, func(w *badWorld) func() error {
		_, c := w.completed()
		s := openSession(w.t, w.q, w.keyA, badCaps)
		return func() error { return s.Complete(w.ctx, c) }
	})
	about("the same again, by another worker", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		_, c := w.completed()
		return func() error { return w.b.Complete(w.ctx, c) }
	})
	about("another result afterwards, properly signed", is(consign.ErrConflict), false, func(w *badWorld) func() error {
		a, c := w.completed()
		c.Result = []byte("a second thought")
		c.Record = signedRecord(w.t, w.keyA, recordOf(a, c.Result, 2))
		return complete(w, c)
	})
	about("another record afterwards", is(consign.ErrConflict), false, func(w *badWorld) func() error {
		a, c := w.completed()
		c.Record = signedRecord(w.t, w.keyA, recordOf(a, c.Result, 2))
		return complete(w, c)
	})
	about("another result afterwards, with the first record", is(consign.ErrConflict), false, func(w *badWorld) func() error {
		_, c := w.completed()
		c.Result = []byte("a second thought")
		return complete(w, c)
	})
	about("another result afterwards, without a record", is(consign.ErrConflict), false, func(w *badWorld) func() error {
		_, c := w.completed()
		c.Record = nil
		return complete(w, c)
	})
	about("another exit status afterwards", is(consign.ErrConflict), false, func(w *badWorld) func() error {
		_, c := w.completed()
		c.ExitStatus = 1
		return complete(w, c)
	})
	about("the same again, once forgotten", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		_, c := w.completed()
		time.Sleep(2 * time.Minute)
		return complete(w, c)
	})
	cases[len(cases)-1].config.Retention = time.Minute
	about("stale, properly signed", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		a, _ := w.stale()
		return complete(w, w.completion(a))
	})
	about("stale, after the new holder's", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		a, b := w.stale()
		w.must(w.b.Complete(w.ctx, consign.Completion{Claim: consign.Claim{Job: b.Job, Claim: b.Claim}, Result: badResult,
			Record: signedRecord(w.t, w.keyB, recordOf(b, badResult, 1))}))
		return complete(w, w.completion(a))
	})
	about("stale, with the new holder's claim", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		_, b := w.stale()
		return complete(w, w.completion(b))
	})
	about("another worker's claim, properly signed", is(consign.ErrLeaseLost), false, func(w *badWorld) func() error {
		a := w.running()
		c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: badResult, Record: signedRecord(w.t, w.keyB, recordOf(a, badResult, 1))}
		return func() error { return w.b.Complete(w.ctx, c) }
	})
	unsigned := consign.Config{NoReceipts: true}
	add := func(name string, want want, call func(w *badWorld) func() error) {
		cases = append(cases, badCase{name: "no receipts: " + name, want: want, config: unsigned, call: call})
	}
	add("a record that nobody asked for", field("record"), func(w *badWorld) func() error {
		a := w.running()
		c := w.completion(a)
		c.Record = signedRecord(w.t, w.keyA, recordOf(a, badResult, 1))
		return complete(w, c)
	})
	add("oversize result", field("result"), func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.Result = make([]byte, 2001)
		return complete(w, c)
	})
	add("made-up claim", is(consign.ErrLeaseLost), func(w *badWorld) func() error {
		c := w.completion(w.running())
		c.Claim.Claim = consign.NewClaimID()
		return complete(w, c)
	})
	add("another worker's claim", is(consign.ErrLeaseLost), func(w *badWorld) func() error {
		c := w.completion(w.running())
		return func() error { return w.b.Complete(w.ctx, c) }
	})
	add("stale", is(consign.ErrLeaseLost), func(w *badWorld) func() error {
		a, _ := w.stale()
		return complete(w, w.completion(a))
	})
	add("the same again", fine, func(w *badWorld) func() error {
		_, c := w.completed()
		return complete(w, c)
	})
	add("another result afterwards", is(consign.ErrConflict), func(w *badWorld) func() error {
		_, c := w.completed()
		c.Result = []byte("a second thought")
		return complete(w, c)
	})
	add("receipt", is(consign.ErrNotFound), func(w *badWorld) func() error {
		a, _ := w.completed()
		return func() error { _, err := w.acme.Receipt(w.ctx, a.Job); return err }
	})
	return cases
}

// badRecords are completions of worker A's own claim whose record is bad.
func badRecords() []badCase {
	var cases []badCase
	add := func(name string, want want, record func(w *badWorld, a *consign.Assignment) []byte) {
		cases = append(cases, badCase{name: name, want: want, rejects: true, call: func(w *badWorld) func() error {
			a := w.running()
			c := w.completion(a)
			c.Record = record(w, a)
			return func() error { return w.a.Complete(w.ctx, c) }
		}})
	}
	// signed spoils a field before worker A signs, and commits to it.
	signed := func(name, fieldName string, spoil func(w *badWorld, r *consign.Record)) {
		add("signed with another "+name, badRecord(fieldName), func(w *badWorld, a *consign.Assignment) []byte {
			r := recordOf(a, badResult, 1)
			spoil(w, &r)
			return signedRecord(w.t, w.keyA, r)
		})
	}
	type rec = consign.Record
	signed("queue", "record.queue_id", func(_ *badWorld, r *rec) { r.QueueID[31] ^= 1 })
	signed("job", "record.job_id", func(_ *badWorld, r *rec) { r.JobID[15] ^= 1 })
	signed("claim", "record.claim_id", func(_ *badWorld, r *rec) { r.ClaimID[0] ^= 128 })
	signed("kind", "record.kind", func(_ *badWorld, r *rec) { r.Kind = consign.KindContainer })
	signed("requested model", "record.model_requested", func(_ *badWorld, r *rec) { r.ModelRequested = "n" })
	signed("comparator", "record.comparator", func(_ *badWorld, r *rec) { r.Comparator = consign.ComparatorNone })
	signed("header hash", "record.h_hash", func(_ *badWorld, r *rec) { r.HHash[7] ^= 16 })
	signed("input hash", "record.input_hash", func(_ *badWorld, r *rec) { r.InputHash[0] ^= 1 })
	signed("result hash", "record.result_hash", func(_ *badWorld, r *rec) { r.ResultHash[0] ^= 1 })
	signed("exit status", "record.exit_status", func(_ *badWorld, r *rec) { r.ExitStatus = 1 })
	signed("job of this worker", "record.job_id", func(w *badWorld, r *rec) {
		other := w.running()
		r.JobID = other.Job
		w.must(w.a.Complete(w.ctx, w.completion(other))) // so that one job is queued again, not two
	})
	add("of another claim of the same job", badRecord("record.claim_id"), func(w *badWorld, a *consign.Assignment) []byte {
		first := *a
		w.must(w.a.Release(w.ctx, consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}))
		synctest.Wait()
		// Worker B gets it first, so that worker A may have it again.
		b, err := w.b.Claim(w.ctx)
		w.must(err)
		w.must(w.b.Release(w.ctx, consign.Release{Claim: consign.Claim{Job: b.Job, Claim: b.Claim}}))
		synctest.Wait()
		*a, err = w.a.Claim(w.ctx)
		w.must(err)
		return signedRecord(w.t, w.keyA, recordOf(&first, badResult, 1))
	})
	cases[len(cases)-1].call = reclaimed
	add("of worker B", badRecord("record.signatures"), func(w *badWorld, a *consign.Assignment) []byte {
		return signedRecord(w.t, w.keyB, recordOf(a, badResult, 1))
	})
	add("of the queue's own key", badRecord("record.signatures"), func(w *badWorld, a *consign.Assignment) []byte {
		return signedRecord(w.t, seededIdentity(1), recordOf(a, badResult, 1))
	})
	add("of a foreign queue", badRecord("record.queue_id"), func(w *badWorld, a *consign.Assignment) []byte {
		foreign := *a
		foreign.Queue = consign.QueueIDOf(seededIdentity(2).Public())
		return signedRecord(w.t, w.keyA, recordOf(&foreign, badResult, 1))
	})

	// body alters the text of the signed body; worker A signs again where
	// signs says so.
	body := func(name string, want want, signs bool, alter func(body string) string) {
		add(name, want, func(w *badWorld, a *consign.Assignment) []byte {
			envelope, err := consign.SignRecord(w.keyA, recordOf(a, badResult, 1))
			w.must(err)
			altered := []byte(alter(string(envelope.Payload)))
			if bytes.Equal(altered, envelope.Payload) {
				w.t.Fatal("preparing: nothing was altered")
			}
			if signs {
				envelope, err = sign.SignEnvelope(w.keyA, consign.RecordType, altered)
				w.must(err)
			}
			envelope.Payload = altered
			text, err := envelope.MarshalJSON()
			w.must(err)
			return text
		})
	}
	for _, key := range []string{"claim_id", "comparator", "epoch", "exit_status", "finished_at", "format", "h_hash", "input_hash", "job_id", "kind",
		"model", "model_requested", "poe", "queue_id", "result_hash", "seq", "started_at", "t_commit", "worker_id"} {
		body("forged "+key, badRecord("record.signatures"), false, func(b string) string { return flip(b, key) })
		body("without "+key, badRecord(without(key)), true, func(b string) string { return drop(b, key) })
	}
	// What a flip breaks though it is signed: mostly the commitment, sometimes
	// the form. What is the worker's word alone (epoch, seq, times) is not
	// listed.
	for key, blamed := range map[string]string{
		"claim_id": "record.poe", "comparator": "record.comparator", "exit_status": "record.exit_status", "format": "record", "h_hash": "record.h_hash",
		"input_hash": "record.poe", "job_id": "record.poe", "kind": "record.kind", "model": "record.poe", "model_requested": "record.model_requested",
		"poe": "record.poe", "queue_id": "record.queue_id", "result_hash": "record.poe", "t_commit": "record.poe", "worker_id": "record.worker_id",
	} {
		body("signed over a flipped "+key, badRecord(blamed), true, func(b string) string { return flip(b, key) })
	}
	malformed := badRecord("record")
	body("duplicate key", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":0,"epoch":0`, 1) })
	body("duplicate key, other value", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":0,"epoch":1`, 1) })
	body("unknown key", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":0,"evil":1`, 1) })
	body("unknown last key", malformed, true, func(b string) string { return b[:len(b)-1] + `,"zzz":1}` })
	body("keys out of order", malformed, true, func(b string) string {
		return strings.Replace(b, `"epoch":0,"exit_status":0`, `"exit_status":0,"epoch":0`, 1)
	})
	body("key in capitals", malformed, true, func(b string) string { return strings.Replace(b, `"epoch"`, `"EPOCH"`, 1) })
	body("trailing data", malformed, true, func(b string) string { return b + " " })
	body("trailing object", malformed, true, func(b string) string { return b + b })
	body("leading space", malformed, true, func(b string) string { return " " + b })
	body("space within", malformed, true, func(b string) string { return strings.Replace(b, ":0,", ": 0,", 1) })
	body("number as float", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":0.0`, 1) })
	body("number as text", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":"0"`, 1) })
	body("number of 2^53", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":9007199254740992`, 1) })
	body("negative number", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":-1`, 1) })
	body("negative zero", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":-0`, 1) })
	body("seq of zero", malformed, true, func(b string) string { return strings.Replace(b, `"seq":1`, `"seq":0`, 1) })
	body("null", malformed, true, func(b string) string { return strings.Replace(b, `"epoch":0`, `"epoch":null`, 1) })
	body("hex in capitals", malformed, true, func(b string) string { return strings.Replace(b, `"h_hash":"e3b0`, `"h_hash":"E3B0`, 1) })
	body("text of bad UTF-8", malformed, true, func(b string) string { return strings.Replace(b, `"kind":"TASK"`, "\"kind\":\"TASK\xff\"", 1) })
	body("needless escape", malformed, true, func(b string) string { return strings.Replace(b, `"kind":"TASK"`, `"kind":"\u0054ASK"`, 1) })
	body("cut in the middle", malformed, true, func(b string) string { return b[:len(b)/2] })
	body("empty body", malformed, true, func(string) string { return "" })
	body("body of null", malformed, true, func(string) string { return "null" })
	body("body of an array", malformed, true, func(b string) string { return "[" + b + "]" })
	body("body of 65 KiB", malformed, true, func(b string) string { return b[:len(b)-1] + `,"z":"` + strings.Repeat("z", 65<<10) + `"}` })
	body("body nested deeply", malformed, true, func(string) string { return strings.Repeat("[", 60<<10) })
	body("finished before it started", badRecord("record.finished_at"), true, func(b string) string {
		return strings.Replace(b, `"finished_at":1700000001000000`, `"finished_at":1699999999999999`, 1)
	})

	// text alters the JSON of the envelope.
	text := func(name string, want want, alter func(envelope string) string) {
		add(name, want, func(w *badWorld, a *consign.Assignment) []byte {
			return []byte(alter(string(signedRecord(w.t, w.keyA, recordOf(a, badResult, 1)))))
		})
	}
	bad := is(consign.ErrBadResult, sign.ErrEnvelope)
	text("no record", bad, func(string) string { return "" })
	text("envelope of null", bad, func(string) string { return "null" })
	text("envelope of nothing", bad, func(string) string { return "{}" })
	text("envelope of an array", bad, func(e string) string { return "[" + e + "]" })
	text("envelope of text", bad, func(string) string { return "a record, honestly" })
	text("envelope of bad UTF-8", bad, func(e string) string { return strings.Replace(e, `"keyid":"`, "\"keyid\":\"\xff", 1) })
	text("envelope with trailing data", bad, func(e string) string { return e + "x" })
	text("two envelopes", bad, func(e string) string { return e + e })
	text("half an envelope", bad, func(e string) string { return e[:len(e)/2] })
	text("envelope with an unknown key", bad, func(e string) string { return e[:len(e)-1] + `,"extra":1}` })
	text("envelope with a duplicate key", bad, func(e string) string { return e[:len(e)-1] + `,"payloadType":"` + consign.RecordType + `"}` })
	text("envelope with a key in capitals", bad, func(e string) string { return strings.Replace(e, `"payload":`, `"PAYLOAD":`, 1) })
	text("envelope without signatures", bad, func(e string) string {
		return e[:strings.Index(e, `"signatures":`)] + `"signatures":[]}`
	})
	text("envelope with a line break in base64", bad, func(e string) string { return strings.Replace(e, `"payload":"`, `"payload":"\n`, 1) })
	text("envelope with URL-safe base64", bad, func(e string) string { return strings.Replace(e, `"payload":"`, `"payload":"-_`, 1) })
	text("envelope of 17 signatures", bad, func(e string) string {
		one := e[strings.Index(e, `[`)+1 : strings.LastIndex(e, `]`)]
		return strings.Replace(e, one, strings.Repeat(one+",", 16)+one, 1)
	})
	text("envelope of two signatures", badRecord("record.signatures"), func(e string) string {
		one := e[strings.Index(e, `[`)+1 : strings.LastIndex(e, `]`)]
		return strings.Replace(e, one, one+","+one, 1)
	})
	text("envelope of more than a megabyte", bad, func(e string) string { return e + strings.Repeat(" ", 1<<20) })
	text("type of an acceptance", badRecord("record.payloadType"), func(e string) string {
		return strings.Replace(e, consign.RecordType, consign.AcceptanceType, 1)
	})
	text("no type", badRecord("record.payloadType"), func(e string) string { return strings.Replace(e, consign.RecordType, "", 1) })
	add("signed as another type", badRecord("record.payloadType"), func(w *badWorld, a *consign.Assignment) []byte {
		envelope, err := consign.SignRecord(w.keyA, recordOf(a, badResult, 1))
		w.must(err)
		envelope, err = sign.SignEnvelope(w.keyA, "application/json", envelope.Payload)
		w.must(err)
		text, err := envelope.MarshalJSON()
		w.must(err)
		return text
	})
	add("signed as another type, sent as a record", badRecord("record.signatures"), func(w *badWorld, a *consign.Assignment) []byte {
		envelope, err := consign.SignRecord(w.keyA, recordOf(a, badResult, 1))
		w.must(err)
		envelope, err = sign.SignEnvelope(w.keyA, "application/json", envelope.Payload)
		w.must(err)
		envelope.PayloadType = consign.RecordType
		text, err := envelope.MarshalJSON()
		w.must(err)
		return text
	})
	for _, s := range []struct {
		name  string
		spoil func(sig []byte) []byte
	}{
		{"a bit flipped", func(s []byte) []byte { s[0] ^= 1; return s }},
		{"its last bit flipped", func(s []byte) []byte { s[63] ^= 128; return s }},
		{"its end cut off", func(s []byte) []byte { return s[:63] }},
		{"a byte appended", func(s []byte) []byte { return append(s, 0) }},
		{"zeros for it", func([]byte) []byte { return make([]byte, 64) }},
	} {
		add("signature with "+s.name, badRecord("record.signatures"), func(w *badWorld, a *consign.Assignment) []byte {
			envelope, err := consign.SignRecord(w.keyA, recordOf(a, badResult, 1))
			w.must(err)
			envelope.Signatures[0].Sig = s.spoil(envelope.Signatures[0].Sig)
			text, err := envelope.MarshalJSON()
			w.must(err)
			return text
		})
	}
	return cases
}

// reclaimed has worker A hold a job for the second time, and hand in the
// record of the first.
func reclaimed(w *badWorld) func() error {
	first := w.running()
	claim := func(a *consign.Assignment) consign.Claim { return consign.Claim{Job: a.Job, Claim: a.Claim} }
	w.must(w.a.Release(w.ctx, consign.Release{Claim: claim(first)}))
	b, err := w.b.Claim(w.ctx) // worker A is passed over for a while
	w.must(err)
	w.must(w.b.Release(w.ctx, consign.Release{Claim: claim(&b)}))
	again, err := w.a.Claim(w.ctx)
	w.must(err)
	if again.Job != first.Job || again.Claim == first.Claim {
		w.t.Fatal("preparing: not the same job under a new claim")
	}
	c := w.completion(first)
	c.Claim = claim(&again)
	return func() error { return w.a.Complete(w.ctx, c) }
}

// member finds a member of a canonical body: from its key to the end of its
// value.
func member(body, key string) (from, value, to int) {
	from = strings.Index(body, `"`+key+`":`)
	value = from + len(key) + 3
	to = value
	if body[value] == '"' {
		to += 2 + strings.IndexByte(body[value+1:], '"')
	} else {
		to += strings.IndexAny(body[value:], ",}")
	}
	return from, value, to
}

// flip changes one character of a member's value and keeps its form.
func flip(body, key string) string {
	_, value, to := member(body, key)
	at := to - 1
	if body[value] == '"' {
		at--
	}
	other := byte('1')
	if body[at] == '1' {
		other = '0'
	}
	return body[:at] + string(other) + body[at+1:]
}

// drop takes a member out.
func drop(body, key string) string {
	from, _, to := member(body, key)
	if body[to] == ',' {
		return body[:from] + body[to+1:]
	}
	return body[:from-1] + body[to:]
}

// without is what is to blame for a body without the key: what is required is
// missing, the others are then zero.
func without(key string) string {
	switch key {
	case "model":
		return "record.poe"
	case "model_requested":
		return "record.model_requested"
	}
	return "record"
}

// TestReasonsAreText hands in reasons that are no text: what a store gets is.
func TestReasonsAreText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBadWorld(t, consign.Config{})
		for _, said := range []string{"\xff\xfe", "a\x00b", strings.Repeat("x", 4095) + "é", strings.Repeat("\xff", 10_000), strings.Repeat("é", 10_000)} {
			a := w.running()
			claim := consign.Claim{Job: a.Job, Claim: a.Claim}
			w.must(w.a.Fail(w.ctx, consign.Failure{Claim: claim, Kind: consign.FailPayload, Reason: said}))
			j, err := w.acme.Get(w.ctx, a.Job)
			if err != nil || j.State != consign.StateFailed || j.Reason == "" {
				t.Fatalf("%.20q: job is %s, %q (%v)", said, j.State, j.Reason, err)
			}
			for e, err := range w.acme.Events(w.ctx, a.Job, 0) {
				if err != nil || !utf8.ValidString(e.Reason) || strings.Contains(e.Reason, "\x00") || len(e.Reason) > 3*4096 {
					t.Errorf("%.20q: the log says %.40q in %d bytes (%v)", said, e.Reason, len(e.Reason), err)
				}
			}
		}
	})
}

// TestReportsAfterBadOnes lets nobody else's bad report cost a line of the log.
func TestReportsAfterBadOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBadWorld(t, consign.Config{})
		a := w.running()
		good := consign.Report{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Items: make([]consign.ReportItem, 5)}
		bad := good
		bad.Claim.Claim = consign.NewClaimID()
		for range 3 {
			w.must(w.a.Report(w.ctx, good))
			for _, s := range []consign.Session{w.a, w.b} {
				if err := s.Report(w.ctx, bad); !errors.Is(err, consign.ErrLeaseLost) {
					t.Error(err)
				}
			}
		}
		log, err := w.store.Log(w.ctx, a.Job, 0, 100)
		if err != nil || len(log) != 2+15 {
			t.Errorf("%d entries, not a submit, a claim and 15 lines (%v)", len(log), err)
		}
	})
}
