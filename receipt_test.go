package consign

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/crypto/sign"
)

func testAcceptance(record sign.Envelope) Acceptance {
	return Acceptance{
		Record:     record.Name(),
		AcceptedAt: 1767225601300000,
		Custody:    CustodyEscrow,
		Checks:     []string{"claim", "poe", "signature"},
		Class:      "llama3.1:8b q4_K_M greedy",
		N:          37,
		P:          math.MaxUint64 / 37,
		Evidence:   1042,
		Drawn:      true,
	}
}

func signAcceptance(t testing.TB, a Acceptance) sign.Envelope {
	t.Helper()
	e, err := SignAcceptance(testIdentity("queue"), a)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testReceipt(t testing.TB) Receipt {
	t.Helper()
	record := signRecord(t, testRecord())
	return Receipt{Record: record, Acceptance: signAcceptance(t, testAcceptance(record))}
}

func TestAcceptanceComesBack(t *testing.T) {
	key := testIdentity("queue").Public()
	for name, a := range map[string]Acceptance{
		"full":    testAcceptance(sign.Envelope{}),
		"minimal": {Custody: CustodyPlain},
		"extreme": {Custody: CustodySealed, P: math.MaxUint64, N: maxSafeInteger, Evidence: maxSafeInteger, AcceptedAt: maxSafeInteger},
	} {
		e := signAcceptance(t, a)
		got, err := VerifyAcceptance(e, key)
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, a)
		}
		if leaf, err := a.Name(); err != nil || leaf != e.Name() {
			t.Errorf("%s: Name = %x, %v, the envelope's is %x", name, leaf, err, e.Name())
		}
	}
}

// No field of an acceptance can change without a change of its name.
func TestEveryFieldIsNamed(t *testing.T) {
	original := testAcceptance(sign.Envelope{})
	first, err := original.Name()
	if err != nil {
		t.Fatal(err)
	}
	names := map[[32]byte]string{first: "unchanged"}
	a := original
	leaves(reflect.ValueOf(&a).Elem(), "", func(path string, v reflect.Value) {
		a = original
		if path == "Custody" {
			a.Custody = CustodySealed
		} else {
			mutate(v)
		}
		name, err := a.Name()
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if other, ok := names[name]; ok {
			t.Errorf("%s: the same name as %s", path, other)
		}
		names[name] = path
	})
}

func TestSignAcceptanceRefuses(t *testing.T) {
	for name, change := range map[string]func(*Acceptance){
		"custody":     func(a *Acceptance) { a.Custody = "elsewhere" },
		"accepted_at": func(a *Acceptance) { a.AcceptedAt = -1 },
		"checks":      func(a *Acceptance) { a.Checks = []string{"poe", "poe"} },
		"sorted":      func(a *Acceptance) { a.Checks = []string{"signature", "poe"} },
		`"n"`:         func(a *Acceptance) { a.N = -1 },
		"evidence":    func(a *Acceptance) { a.Evidence = 1 << 53 },
	} {
		a := testAcceptance(sign.Envelope{})
		change(&a)
		if _, err := SignAcceptance(testIdentity("queue"), a); !errors.Is(err, ErrBadReceipt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := a.Name(); !errors.Is(err, ErrBadReceipt) {
			t.Errorf("%s: Name: %v", name, err)
		}
	}
}

// A well-formed record about something else, signed by the right worker and
// accepted by the right queue, fails by the field that lies; so does a right
// one that the submitter holds against something else.
func TestReceiptVerify(t *testing.T) {
	good := testReceipt(t)
	record, acceptance, err := good.Verify(testExchange())
	if err != nil {
		t.Fatal(err)
	}
	if want := testRecord(); record.Seq != want.Seq || record.Engine != want.Engine || acceptance.N != 37 {
		t.Errorf("Verify = %+v, %+v", record, acceptance)
	}

	reissue := func(change func(*Record)) Receipt {
		r := testRecord()
		change(&r)
		e := signRecord(t, r)
		return Receipt{Record: e, Acceptance: signAcceptance(t, testAcceptance(e))}
	}
	for field, receipt := range map[string]Receipt{
		"record.queue_id":    reissue(func(r *Record) { r.QueueID[0] ^= 1 }),
		"record.job_id":      reissue(func(r *Record) { r.JobID[0] ^= 1 }),
		"record.h_hash":      reissue(func(r *Record) { r.HHash[0] ^= 1 }),
		"record.input_hash":  reissue(func(r *Record) { r.InputHash[0] ^= 1 }),
		"record.result_hash": reissue(func(r *Record) { r.ResultHash[0] ^= 1 }),
		// The acceptance of another record of the same worker, job and result.
		"acceptance.record": {Record: good.Record, Acceptance: reissue(func(r *Record) { r.Seq++ }).Acceptance},
		// An acceptance that the worker wrote for itself.
		"acceptance.signatures":  {Record: good.Record, Acceptance: signBody(t, AcceptanceType, string(good.Acceptance.Payload))},
		"acceptance.payloadType": {Record: good.Record, Acceptance: good.Record},
		"record.payloadType":     {Record: good.Acceptance, Acceptance: good.Acceptance},
		"record.signatures":      {Record: resign(t, "queue", good.Record), Acceptance: good.Acceptance},
	} {
		_, _, err := receipt.Verify(testExchange())
		wantField(t, field, err, field, ErrBadReceipt)
	}

	held := map[string]struct {
		change func(*Exchange)
		field  string
	}{
		"another worker":     {func(x *Exchange) { x.Worker = testIdentity("stranger").Public() }, "record.signatures"},
		"no worker":          {func(x *Exchange) { x.Worker = sign.PublicKey{} }, "record.signatures"},
		"another queue":      {func(x *Exchange) { x.Queue = testIdentity("stranger").Public() }, "record.queue_id"},
		"no queue":           {func(x *Exchange) { x.Queue = sign.PublicKey{} }, "record.queue_id"},
		"another job":        {func(x *Exchange) { x.Job[3]++ }, "record.job_id"},
		"another header":     {func(x *Exchange) { x.Header = []byte("on") }, "record.h_hash"},
		"no header":          {func(x *Exchange) { x.Header = nil }, "record.h_hash"},
		"a moved boundary":   {func(x *Exchange) { x.Header, x.Payload = []byte("inp"), []byte("ut") }, "record.h_hash"},
		"another payload":    {func(x *Exchange) { x.Payload = []byte("pot") }, "record.input_hash"},
		"no payload":         {func(x *Exchange) { x.Payload = nil }, "record.input_hash"},
		"another input":      {func(x *Exchange) { x.Input = [32]byte{1} }, "record.input_hash"},
		"another result":     {func(x *Exchange) { x.Result = []byte("hallo") }, "record.result_hash"},
		"no result":          {func(x *Exchange) { x.Result = nil }, "record.result_hash"},
		"nothing whatsoever": {func(x *Exchange) { *x = Exchange{} }, "record.signatures"},
	}
	for name, tc := range held {
		x := testExchange()
		tc.change(&x)
		_, _, err := good.Verify(x)
		wantField(t, name, err, tc.field, ErrBadReceipt)
	}
	// A hash of the input stands in for the payload.
	x := testExchange()
	x.Input, x.Payload = InputHash(x.Header, x.Payload), nil
	if _, _, err := good.Verify(x); err != nil {
		t.Error(err)
	}
	_, _, err = Receipt{}.Verify(testExchange())
	wantField(t, "an empty receipt", err, "record.payloadType", ErrBadReceipt)
}

// resign signs the payload with another identity.
func resign(t *testing.T, name string, e sign.Envelope) sign.Envelope {
	t.Helper()
	e, err := sign.SignEnvelope(testIdentity(name), e.PayloadType, e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A flipped bit of either payload is caught, and of either signature.
func TestReceiptFlippedBytes(t *testing.T) {
	good := testReceipt(t)
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 0x80
		return b
	}
	for i := range good.Acceptance.Payload {
		r := good
		r.Acceptance.Payload = flip(good.Acceptance.Payload, i)
		_, _, err := r.Verify(testExchange())
		wantField(t, "acceptance payload", err, "acceptance.signatures", ErrBadReceipt)
	}
	for i := range 64 {
		r := good
		r.Acceptance.Signatures = slices.Clone(good.Acceptance.Signatures)
		r.Acceptance.Signatures[0].Sig = flip(good.Acceptance.Signatures[0].Sig, i)
		_, _, err := r.Verify(testExchange())
		wantField(t, "acceptance signature", err, "acceptance.signatures", ErrBadReceipt)
	}
}

func TestReceiptJSON(t *testing.T) {
	good := testReceipt(t)
	data, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	var back Receipt
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, good) {
		t.Fatalf("%s came back as %+v, %v", data, back, err)
	}
	record, err := json.Marshal(good.Record)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"null":         `null`,
		"an array":     `[]`,
		"empty":        `{}`,
		"half":         `{"record":` + string(record) + `}`,
		"null half":    `{"record":` + string(record) + `,"acceptance":null}`,
		"duplicate":    `{"record":` + string(record) + `,` + string(data[1:]),
		"another case": strings.Replace(string(data), `"record"`, `"Record"`, 1),
		"unknown":      `{"more":1,` + string(data[1:]),
	} {
		kept := good
		err := kept.UnmarshalJSON([]byte(text))
		wantField(t, name, err, "receipt", ErrBadReceipt)
		if !reflect.DeepEqual(kept, good) {
			t.Errorf("%s: the receipt was changed", name)
		}
	}
}

func FuzzAcceptance(f *testing.F) {
	f.Add(testReceipt(f).Acceptance.Payload)
	f.Add(signAcceptance(f, Acceptance{Custody: CustodyPlain}).Payload)
	f.Fuzz(func(t *testing.T, body []byte) {
		var a Acceptance
		if readCanonical(body, a.members) != nil {
			return
		}
		if again, err := writeCanonical(a.members); err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s is written %s, %v", body, again, err)
		}
	})
}

func FuzzReceipt(f *testing.F) {
	data, err := json.Marshal(testReceipt(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	x := testExchange()
	x.Worker = testIdentity("stranger").Public()
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Receipt
		if r.UnmarshalJSON(data) != nil {
			return
		}
		if _, _, err := r.Verify(x); !errors.Is(err, ErrBadReceipt) {
			t.Errorf("verified with a key that never signed: %v", err)
		}
	})
}

func BenchmarkReceiptVerify(b *testing.B) {
	r, x := testReceipt(b), testExchange()
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = r.Verify(x)
	}
}
