package wire

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
)

var codecs = []Codec{JSON, Msgpack}

// carried is a type that crosses the wire: a consign.X and its form here.
type carried struct {
	name   string
	filled func() reflect.Value // a consign.X with every field set
	encode func(Codec, reflect.Value) ([]byte, error)
	// cross sends one through a codec and returns what comes out.
	cross func(Codec, reflect.Value) (reflect.Value, error)
	// decode reads bytes and, where they are one, sends it once more.
	decode func(Codec, []byte) (first, second any, err error)
}

func carry[X, W any](to func(X) W, from func(W) X) carried {
	cross := func(c Codec, x X) (X, error) {
		var w W
		data, err := c.Encode(to(x))
		if err == nil {
			err = c.Decode(data, &w)
		}
		return from(w), err
	}
	return carried{
		name: reflect.TypeFor[X]().Name(),
		filled: func() reflect.Value {
			v := reflect.New(reflect.TypeFor[X]()).Elem()
			n := 0
			fill(v, &n)
			return v
		},
		encode: func(c Codec, v reflect.Value) ([]byte, error) { return c.Encode(to(v.Interface().(X))) },
		cross: func(c Codec, v reflect.Value) (reflect.Value, error) {
			x, err := cross(c, v.Interface().(X))
			return reflect.ValueOf(x), err
		},
		decode: func(c Codec, data []byte) (any, any, error) {
			var w W
			if err := c.Decode(data, &w); err != nil {
				return nil, nil, err
			}
			first := from(w)
			second, err := cross(c, first)
			if err != nil {
				panic(fmt.Sprintf("%T was read from %q, and then: %v", first, data, err))
			}
			return first, second, nil
		},
	}
}

func all() []carried {
	return []carried{
		carry(NewQuoteRequest, QuoteRequest.Value), carry(NewQuote, Quote.Value), carry(NewSubmitRequest, SubmitRequest.Value),
		carry(NewJobInfo, JobInfo.Value), carry(NewLogEntry, LogEntry.Value), carry(NewExplanation, Explanation.Value), carry(NewKeys, Keys.Value),
		carry(NewChallenge, Challenge.Value), carry(NewRegistration, Registration.Value), carry(NewHeartbeat, Heartbeat.Value),
		carry(NewHeartbeatReply, HeartbeatReply.Value), carry(NewAssignment, Assignment.Value), carry(NewReport, Report.Value),
		carry(NewCompletion, Completion.Value), carry(NewFailure, Failure.Value), carry(NewRelease, Release.Value),
		carry(NewPairing, Pairing.Value), carry(NewPairingCode, PairingCode.Value),
	}
}

// possible are values of the types whose values are few.
var possible = map[reflect.Type]any{
	reflect.TypeFor[time.Time]():          time.UnixMicro(1_700_000_000_123_456).UTC(),
	reflect.TypeFor[consign.Policy]():     consign.PolicyCheap,
	reflect.TypeFor[Policy]():             Policy(consign.PolicyCheap),
	reflect.TypeFor[consign.Priority]():   consign.PriorityLow,
	reflect.TypeFor[consign.Privacy]():    consign.PrivacyPrivate,
	reflect.TypeFor[consign.State]():      consign.StateValidating,
	reflect.TypeFor[consign.EventKind]():  consign.EventReject,
	reflect.TypeFor[consign.FailKind]():   consign.FailPayload,
	reflect.TypeFor[consign.ReportKind](): consign.ReportPart,
}

// fill sets every field in v to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	if p, ok := possible[v.Type()]; ok {
		v.Set(reflect.ValueOf(p))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(fmt.Sprintf("text <%d> \"ü\"", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(-int64(*n))
		if v.Kind() == reflect.Int64 {
			v.SetInt(1<<53 + int64(*n))
		}
	case reflect.Uint8:
		v.SetUint(uint64(*n%250) + 1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n))
	case reflect.Uint64:
		v.SetUint(1<<64 - 1 - uint64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 1.0/3)
	default:
		panic("fill does not know " + v.Type().String())
	}
}

// TestEveryFieldCrosses sends each type with all fields set, with none, and
// with each one alone: one that is forgotten, or that lands in another, shows.
func TestEveryFieldCrosses(t *testing.T) {
	for _, typ := range all() {
		for _, c := range codecs {
			t.Run(typ.name+"/"+c.String(), func(t *testing.T) {
				full := typ.filled()
				check := func(what string, v reflect.Value) {
					t.Helper()
					got, err := typ.cross(c, v)
					if err != nil {
						t.Errorf("%s: %v", what, err)
					} else if !alike(got, v) {
						t.Errorf("%s: became\n%+v, was\n%+v", what, got, v)
					}
				}
				check("all fields", full)
				check("no field", reflect.New(full.Type()).Elem())
				for i := range full.NumField() {
					one := reflect.New(full.Type()).Elem()
					one.Field(i).Set(full.Field(i))
					check(full.Type().Field(i).Name+" alone", one)
				}
			})
		}
	}
}

// alike compares, where an empty list is as good as none.
func alike(a, b reflect.Value) bool {
	if t, ok := a.Interface().(time.Time); ok {
		return t.Equal(b.Interface().(time.Time))
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !alike(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if !a.IsNil() && !b.IsNil() {
			return alike(a.Elem(), b.Elem())
		}
	case reflect.Slice, reflect.Map:
		if a.Len()+b.Len() == 0 {
			return true
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// TestForgottenFieldShows plants the bug that TestEveryFieldCrosses looks for.
func TestForgottenFieldShows(t *testing.T) {
	forgetful := carry(func(r consign.Release) Release { return NewRelease(consign.Release{Claim: r.Claim}) }, Release.Value)
	full := forgetful.filled()
	if got, err := forgetful.cross(JSON, full); err != nil || alike(got, full) {
		t.Errorf("a reason that was forgotten went unseen: %v", err)
	}
}

func TestErrorsCross(t *testing.T) {
	field := &consign.FieldError{Field: "payload", Problem: "is \"empty\"", Remedy: "send at least one byte: ü"}
	transition := &consign.TransitionError{Job: consign.JobID{1, 2, 15: 3}, State: consign.StateCompleted, Event: consign.EventCancel}
	receipt := &consign.ReceiptError{Field: "record.poe", Problem: "is of other bytes", Err: consign.ErrBadResult}
	errs := []error{field, fmt.Errorf("submit: %w", field), transition, fmt.Errorf("late: %w", transition), &consign.TransitionError{},
		receipt, fmt.Errorf("so: %w", receipt), &consign.ReceiptError{Field: "record", Problem: "is none", Err: consign.ErrBadReceipt},
		fmt.Errorf("%w: %w", consign.ErrBusy, field)}
	for _, s := range sentinels() {
		errs = append(errs, s.err, fmt.Errorf("%w: what %% happened", s.err))
	}
	for _, sent := range errs {
		for _, c := range codecs {
			got := throughWire(t, c, sent)
			got = throughWire(t, c, got) // by a relay
			if got.Error() != sent.Error() {
				t.Errorf("%q became %q", sent, got)
			}
			for _, s := range sentinels() {
				if errors.Is(got, s.err) != errors.Is(sent, s.err) {
					t.Errorf("%q: errors.Is(err, %q) is %t at the far end", sent, s.err, errors.Is(got, s.err))
				}
			}
			sameTyped[*consign.FieldError](t, got, sent)
			sameTyped[*consign.TransitionError](t, got, sent)
			sameTyped[*consign.ReceiptError](t, got, sent)
		}
	}
}

func throughWire(t *testing.T, c Codec, err error) error {
	t.Helper()
	data, failed := c.Encode(NewProblem(err))
	if failed != nil {
		t.Fatal(failed)
	}
	var p Problem
	if failed := c.Decode(data, &p); failed != nil {
		t.Fatal(failed)
	}
	return p.Err()
}

func sameTyped[E error](t *testing.T, got, sent error) {
	t.Helper()
	a, isA := errors.AsType[E](got)
	b, isB := errors.AsType[E](sent)
	if isA != isB || isA && !reflect.DeepEqual(a, b) {
		t.Errorf("%q: errors.As finds %#v at the far end, and %#v here", sent, a, b)
	}
}

// TestInternalErrorsStayInside: what nobody outside can act on may hold
// anything.
func TestInternalErrorsStayInside(t *testing.T) {
	p := NewProblem(errors.New("dial tcp 10.0.0.7: password=hunter2"))
	if p.Code != CodeInternal || p.Status != 500 || strings.Contains(fmt.Sprintf("%+v", p), "hunter2") {
		t.Errorf("%+v", p)
	}
}

func TestSubmitOutcomeCrosses(t *testing.T) {
	job := consign.JobInfo{ID: consign.JobID{1}, State: consign.StateQueued}
	for _, c := range codecs {
		for _, sent := range []consign.SubmitOutcome{{Job: job}, {Err: consign.ErrIDTaken}} {
			data, err := c.Encode(NewSubmitOutcome(sent))
			if err != nil {
				t.Fatal(err)
			}
			var w SubmitOutcome
			if err := c.Decode(data, &w); err != nil {
				t.Fatal(err)
			}
			if got := w.Value(); !errors.Is(got.Err, sent.Err) || !reflect.DeepEqual(got.Job, sent.Job) {
				t.Errorf("%v: %+v became %+v", c, sent, got)
			}
		}
	}
}

// TestRefused: what cannot be read is a *FieldError that names where.
func TestRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("\x91", n) + "\xc0" }
	for _, c := range []struct {
		codec       Codec
		data, field string
	}{
		{JSON, ``, "body"}, {JSON, `{`, "body"}, {JSON, `[]`, "body"}, {JSON, `{} {}`, "body"}, {JSON, `{}x`, "body"}, {JSON, "{\"reason\":\"\xff\"}", "body"},
		{JSON, `{"reason":7}`, "reason"}, {JSON, `{"reasons":"x"}`, "reasons"}, {JSON, `{"kind":"mine"}`, "kind"}, {JSON, `{"kind":3}`, "kind"},
		{JSON, `{"job_id":"xyz"}`, "job_id"}, {JSON, strings.Repeat(`[`, 1<<20), "body"}, {JSON, `{"reason":` + strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000) + `}`, "body"},
		{Msgpack, "", "body"}, {Msgpack, "\x81", "body"}, {Msgpack, "\x80\x80", "body"}, {Msgpack, "\xc1", "body"},
		{Msgpack, deep(1 << 20), "body"}, {Msgpack, deep(maxDepth), "body"}, {Msgpack, "\xdf\xff\xff\xff\xff", "body"}, {Msgpack, "\xc6\xff\xff\xff\xff", "body"},
		{Msgpack, "\x81\xa6reason\x07", "body"}, {Msgpack, "\x81\xa7reasons\xa1x", "reasons"}, {Msgpack, "\x81\xa4kind\xa4mine", "kind"},
	} {
		var f Failure
		err := c.codec.Decode([]byte(c.data), &f)
		bad, ok := errors.AsType[*consign.FieldError](err)
		if !ok || bad.Field != c.field || bad.Problem == "" || bad.Remedy == "" {
			t.Errorf("%v %.40q: %v, want a *FieldError about %s", c.codec, c.data, err, c.field)
		}
	}
}

// TestNewerAnswersAreRead: a queue may say more than this program knows.
func TestNewerAnswersAreRead(t *testing.T) {
	for _, c := range codecs {
		data, err := c.Encode(map[string]any{"reason": "x", "mood": map[string]any{"a": []int{1, 2}}})
		if err != nil {
			t.Fatal(err)
		}
		var r Release
		if err := c.DecodeAnswer(data, &r); err != nil || r.Reason != "x" {
			t.Errorf("%v: %+v, %v", c, r, err)
		}
		if err := c.Decode(data, &r); err == nil {
			t.Errorf("%v: a request with an unknown member was read", c)
		}
	}
}

func TestWhatHasNoFormIsRefused(t *testing.T) {
	for _, c := range codecs {
		for _, v := range []any{NewQuoteRequest(consign.QuoteRequest{Policy: 9}), NewFailure(consign.Failure{Kind: 7}), NewLogEntry(consign.LogEntry{State: 99})} {
			_, err := c.Encode(v)
			if _, ok := errors.AsType[*consign.FieldError](err); !ok {
				t.Errorf("%v %+v: %v, want a *FieldError", c, v, err)
			}
		}
	}
}

func TestStatuses(t *testing.T) {
	for state, want := range map[consign.State]string{consign.StateBlocked: "pending", consign.StateQueued: "pending", consign.StateRunning: "assigned",
		consign.StateValidating: "validating", consign.StateCompleted: "completed", consign.StateFailed: "failed",
		consign.StateCancelled: "cancelled", consign.StateExpired: "expired"} {
		if got := Status(state); got != want {
			t.Errorf("%s is %q, want %q", state, got, want)
		}
	}
}

// An error that is not about a job names none, in either form.
func TestProblemWithoutAJob(t *testing.T) {
	for _, c := range codecs {
		data, err := c.Encode(NewProblem(consign.ErrBusy))
		var members map[string]any
		if err == nil {
			err = c.DecodeAnswer(data, &members)
		}
		if _, named := members["job_id"]; err != nil || named || members["code"] != "busy" {
			t.Errorf("%s: %v, %v", c, members, err)
		}
	}
}
