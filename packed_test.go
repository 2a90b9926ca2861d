package consign

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/consignq/consign/crypto/sign"
)

// keptRecord is a record as a queue keeps it.
func keptRecord(t testing.TB, e sign.Envelope, worker sign.PublicKey) *Done {
	t.Helper()
	r, err := VerifyRecord(e, worker)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := packRecord(r, e)
	if err != nil {
		t.Fatal(err)
	}
	return &Done{Record: packed}
}

// What was signed comes back from what is kept: the bytes, and so the name and
// the signature.
func TestPackedRecordsComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // reproducible
	records := []Record{testRecord(), minimalRecord()}
	for range 300 {
		records = append(records, randomRecord(rng))
	}
	for _, r := range records {
		e := signRecord(t, r)
		got, err := keptRecord(t, e, testIdentity("worker").Public()).SignedRecord()
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v, %v, want %+v", got, err, e)
		}
	}
}

// The keyid is a hint that is not signed: what a worker puts there is not kept.
func TestPackedRecordDropsTheKeyID(t *testing.T) {
	e := signRecord(t, testRecord())
	want := e.Signatures[0].KeyID
	other := e
	other.Signatures = []sign.Signature{{KeyID: "anything", Sig: e.Signatures[0].Sig}}
	got, err := keptRecord(t, other, testIdentity("worker").Public()).SignedRecord()
	if err != nil {
		t.Fatal(err)
	}
	if id := got.Signatures[0].KeyID; id != want {
		t.Errorf("keyid %q, want %q", id, want)
	}
}

// A store of before has envelopes as they came.
func TestRecordsOfBefore(t *testing.T) {
	e := signRecord(t, testRecord())
	kept, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (&Done{Record: kept}).SignedRecord(); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("%+v, %v, want %+v", got, err, e)
	}
}

func TestPackedRecordIsShort(t *testing.T) {
	e := signRecord(t, testRecord())
	json, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(keptRecord(t, e, testIdentity("worker").Public()).Record); 3*n > len(json) {
		t.Errorf("%d bytes are kept of an envelope of %d", n, len(json))
	}
}

// What is cut, or is no packed record, is refused; what was altered is refused
// or does not verify.
func TestDamagedPackedRecords(t *testing.T) {
	worker := testIdentity("worker").Public()
	kept := keptRecord(t, signRecord(t, testRecord()), worker)
	for _, b := range [][]byte{nil, {}, {0}, append([]byte{packedFormat + 1}, kept.Record[1:]...), []byte(`{"payload":""}`)} {
		if e, err := (&Done{Record: b}).SignedRecord(); err == nil {
			t.Errorf("%q was read as %+v", b, e)
		}
	}
	for n := range kept.Record {
		cut := &Done{Record: kept.Record[:n]}
		e, err := cut.SignedRecord()
		if whole := n >= len(kept.Record)-64; (err == nil) != whole {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(kept.Record), err)
		}
		if err == nil {
			if _, err := VerifyRecord(e, worker); !errors.Is(err, ErrBadReceipt) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			}
		}
		altered := &Done{Record: bytes.Clone(kept.Record)}
		altered.Record[n] ^= 1 << (n % 8)
		if e, err = altered.SignedRecord(); err == nil {
			if _, err := VerifyRecord(e, worker); !errors.Is(err, ErrBadReceipt) {
				t.Fatalf("byte %d altered: %v", n, err)
			}
		}
	}
}

func FuzzPackedRecord(f *testing.F) {
	worker := testIdentity("worker").Public()
	f.Add(keptRecord(f, signRecord(f, testRecord()), worker).Record)
	f.Add(keptRecord(f, signRecord(f, minimalRecord()), worker).Record)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &Done{Record: b}
		e, err := d.SignedRecord()
		if err != nil || b[0] == '{' { // that one keeps the keyid
			return
		}
		if len(e.Payload) > maxBody {
			t.Errorf("a body of %d bytes", len(e.Payload))
		}
		if r, err := VerifyRecord(e, worker); err == nil {
			again, err := keptRecord(t, e, worker).SignedRecord()
			if err != nil || !reflect.DeepEqual(again, e) {
				t.Errorf("%+v of %+v comes back as %+v, %v", e, r, again, err)
			}
		}
	})
}
