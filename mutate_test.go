package consign_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

var (
	mutations    = flag.Int("mutations", 10_000, "how many requests TestMutatedRequests spoils")
	mutationSeed = flag.Uint64("mutations.seed", 1, "the dice of TestMutatedRequests")
)

// TestMutatedRequests spoils good requests at random, one or two things in
// each: the answer is a typed error, or success. Nothing panics, and an error
// leaves the store as it was, but for a rejected result.
func TestMutatedRequests(t *testing.T) {
	const perWorld = 500
	if testing.Short() {
		*mutations = min(*mutations, 1000)
	}
	sent, failed, rejected := 0, 0, 0
	for n := uint64(0); sent < *mutations; n++ {
		synctest.Test(t, func(t *testing.T) {
			m := mutator{w: newBadWorld(t, consign.Config{}), rng: rand.New(rand.NewPCG(*mutationSeed, n)), key: 100}
			m.worker()
			for range min(perWorld, *mutations-sent) {
				sent++
				err := m.request()
				if err != nil {
					failed++
				}
				if errors.Is(err, consign.ErrBadResult) {
					rejected++
				}
			}
		})
		if t.Failed() {
			t.Fatalf("with -mutations.seed %d", *mutationSeed)
		}
	}
	t.Logf("%d mutated requests: %d errors, %d of them rejected results; %d successes", sent, failed, rejected, sent-failed)
}

// mutator sends spoilt requests to a badWorld.
type mutator struct {
	w   *badWorld
	rng *rand.Rand
	key uint64 // of the present worker
	s   consign.Session
}

// worker brings in a new worker: a queue does not suffer one for long that
// hands in what this one does.
func (m *mutator) worker() {
	m.key++
	caps := badCaps
	caps.Kinds = []string{kindFixed} // which mutations hardly ever hit
	m.s = openSession(m.w.t, m.w.q, seededIdentity(m.key), caps)
}

// running is a job that the present worker holds.
func (m *mutator) running() *consign.Assignment {
	w := m.w
	for {
		_, err := w.acme.Submit(w.ctx, consign.SubmitRequest{Kind: kindFixed, Model: "m1", Payload: w.payload(), Custody: consign.CustodyPlain})
		w.must(err)
		a, err := m.s.Claim(w.ctx)
		if errors.Is(err, consign.ErrRemoved) || errors.Is(err, consign.ErrSession) || errors.Is(err, consign.ErrBusy) {
			m.worker()
			continue
		}
		w.must(err)
		return &a
	}
}

// request sends one, and checks the answer.
func (m *mutator) request() error {
	name, send := m.draw()
	synctest.Wait()
	thorough := m.rng.IntN(20) == 0
	var before map[string]string
	if thorough {
		before = m.w.store.dump(m.w.t)
	}
	writes := m.w.store.writes()
	ctx, done := context.WithTimeout(m.w.ctx, time.Second) // a wait for nothing ends
	err := send(ctx)
	done()
	synctest.Wait()
	switch {
	case err == nil, errors.Is(err, consign.ErrBadResult):
	case errors.Is(err, context.DeadlineExceeded): // a second has passed, and what was due in it was done
	case m.w.store.writes() != writes:
		m.w.t.Errorf("%s wrote to the store, though it was answered: %v", name, err)
	case thorough:
		if diff := changed(before, m.w.store.dump(m.w.t)); len(diff) > 0 {
			m.w.t.Errorf("%s changed %v, though it was answered: %v", name, diff, err)
		}
	}
	if err != nil {
		if problem := typed(err); problem != "" {
			m.w.t.Errorf("the answer to %s %s: %v", name, problem, err)
		}
	}
	return err
}

// draw makes a good request of any sort and spoils it.
func (m *mutator) draw() (name string, send func(ctx context.Context) error) {
	w := m.w
	spoiled := func(what string, request any, send func(ctx context.Context) error) (string, func(ctx context.Context) error) {
		for range 1 + m.rng.IntN(2) {
			m.spoil(reflect.ValueOf(request).Elem())
		}
		return fmt.Sprintf("%s %.300s", what, fmt.Sprintf("%+v", reflect.ValueOf(request).Elem())), send
	}
	held := func() consign.Claim {
		a := m.running()
		return consign.Claim{Job: a.Job, Claim: a.Claim}
	}
	switch m.rng.IntN(12) {
	case 0, 1:
		r := plainRequest(w)
		r.Labels, r.Comparator, r.Chars = map[string]string{"region": "eu"}, "exact", uint32(len(r.Payload))
		r.Delay, r.QueueTime, r.Deadline, r.MaxAttempts = time.Second, time.Minute, time.Hour, 3
		return spoiled("submit", &r, func(ctx context.Context) error { _, err := w.acme.Submit(ctx, r); return err })
	case 2:
		r := sealedRequest(w)
		r.ID = consign.NewJobID()
		r.PayloadHash = consign.InputHash(r.Header, r.Payload)
		return spoiled("submit", &r, func(ctx context.Context) error { _, err := w.acme.Submit(ctx, r); return err })
	case 3:
		rs := []consign.SubmitRequest{plainRequest(w), sealedRequest(w), plainRequest(w)}
		which := m.rng.IntN(len(rs))
		return spoiled("one of many", &rs[which], func(ctx context.Context) error {
			out := w.acme.SubmitMany(ctx, rs)
			if err := out[which].Err; err != nil && typed(err) != "" {
				w.t.Errorf("the answer to number %d %s: %v", which, typed(err), err)
			}
			for i := range out {
				if i != which && out[i].Err != nil {
					w.t.Errorf("submit %d of %d failed for number %d: %v", i, len(rs), which, out[i].Err)
				}
			}
			return nil // the store was written for the others
		})
	case 4:
		r := registration(w.t, w.q, seededIdentity(m.key), badCaps)
		return spoiled("register", &r, func(ctx context.Context) error { _, err := w.q.Register(ctx, r); return err })
	case 5:
		h := consign.Heartbeat{Capabilities: badCaps, FreeSlots: 2, MaxWarm: 2, Warm: []consign.WarmModel{{Name: "m1", Since: time.Minute}},
			Rates: map[string]float64{"m1": 1000}, Claims: []consign.Claim{held()}}
		h.Capabilities.Labels = map[string]string{"region": "eu"}
		return spoiled("heartbeat", &h, func(ctx context.Context) error {
			_, err := w.b.Heartbeat(ctx, h)
			if err == nil { // worker B is to be as it was
				_, err := w.b.Heartbeat(ctx, consign.Heartbeat{Capabilities: badCaps, FreeSlots: 8})
				w.must(err)
			}
			return err
		})
	case 6:
		r := consign.Report{Claim: held(), Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("line")}, {Kind: consign.ReportPart, Data: []byte("part")}}}
		return spoiled("report", &r, func(ctx context.Context) error { return m.s.Report(ctx, r) })
	case 7:
		f := consign.Failure{Claim: held(), Kind: consign.FailTransient, Reason: "out of memory"}
		return spoiled("fail", &f, func(ctx context.Context) error { return m.s.Fail(ctx, f) })
	case 8:
		r := consign.Release{Claim: held(), Reason: "shutting down"}
		return spoiled("release", &r, func(ctx context.Context) error { return m.s.Release(ctx, r) })
	case 9, 10:
		a := m.running()
		c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("the result"),
			Record: signedRecord(w.t, seededIdentity(m.key), recordOf(a, []byte("the result"), 1))}
		return spoiled("complete", &c, func(ctx context.Context) error { return m.s.Complete(ctx, c) })
	default:
		id := struct{ ID consign.JobID }{w.queued().ID}
		calls := []string{"get", "wait", "events", "cancel", "acknowledge", "receipt", "explain"}
		name := calls[m.rng.IntN(len(calls))]
		if m.rng.IntN(4) > 0 {
			return spoiled(name, &id, func(ctx context.Context) error { return submitterCalls[name](ctx, w.acme, id.ID) })
		}
		return name + " by another account", func(ctx context.Context) error { return submitterCalls[name](ctx, w.other, id.ID) }
	}
}

// spoil changes one thing somewhere in a value.
func (m *mutator) spoil(v reflect.Value) {
	rng := m.rng
	switch v.Kind() {
	case reflect.Struct:
		m.spoil(v.Field(rng.IntN(v.NumField())))
	case reflect.Array: // identifiers and hashes
		if rng.IntN(4) == 0 {
			v.SetZero()
			return
		}
		at := v.Index(rng.IntN(v.Len()))
		at.SetUint(at.Uint() ^ 1<<rng.IntN(8))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(m.spoilBytes(v.Bytes()))
			return
		}
		m.spoilList(v)
	case reflect.String:
		v.SetString(string(m.spoilBytes([]byte(v.String()))))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		m.spoil(key)
		m.spoil(value)
		altered := reflect.MakeMap(v.Type()) // the map may be shared
		for _, k := range v.MapKeys() {
			altered.SetMapIndex(k, v.MapIndex(k))
		}
		altered.SetMapIndex(key, value)
		v.Set(altered)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Float64:
		v.SetFloat([]float64{0, -1, 1e-300, 1e300, math.NaN(), math.Inf(1), math.Inf(-1)}[rng.IntN(7)])
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := []int64{0, 1, -1, math.MinInt64, math.MaxInt64, v.Int() + 1, v.Int() - 1, -v.Int(), v.Int() ^ 1<<rng.IntN(64)}[rng.IntN(9)]
		bits := 64 - v.Type().Bits()
		v.SetInt(n << bits >> bits)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := []uint64{0, 1, math.MaxUint64, v.Uint() + 1, v.Uint() - 1, v.Uint() ^ 1<<rng.IntN(v.Type().Bits())}[rng.IntN(6)]
		bits := 64 - v.Type().Bits()
		v.SetUint(n << bits >> bits)
	case reflect.Pointer:
		altered := reflect.New(v.Type().Elem()) // it may be shared
		if !v.IsNil() {
			altered.Elem().Set(v.Elem())
		}
		m.spoil(altered.Elem())
		v.Set(altered)
	default:
		panic("cannot spoil a " + v.Kind().String())
	}
}

func (m *mutator) spoilList(v reflect.Value) {
	list := reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()+1), v) // it may be shared
	switch n := list.Len(); {
	case n == 0 || m.rng.IntN(4) == 0:
		list = reflect.Append(list, reflect.Zero(v.Type().Elem()))
	case m.rng.IntN(4) == 0:
		list = list.Slice(0, n-1)
	default:
		m.spoil(list.Index(m.rng.IntN(n)))
	}
	v.Set(list)
}

// spoilBytes alters a copy.
func (m *mutator) spoilBytes(b []byte) []byte {
	rng := m.rng
	b = append([]byte(nil), b...)
	at := 0
	if len(b) > 0 {
		at = rng.IntN(len(b))
	}
	switch rng.IntN(8) {
	case 0:
		return nil
	case 1:
		return b[:at]
	case 2:
		return append(b, byte(rng.Uint32()))
	case 3:
		return append(b, b...)
	case 4:
		return append(b, strings.Repeat("x", 2500)...)
	case 5:
		return append(b[:at:at], append([]byte("\xff\x00=,"), b[at:]...)...)
	default:
		if len(b) == 0 {
			return []byte{0xc0}
		}
		b[at] ^= 1 << rng.IntN(8)
		return b
	}
}
