package longpoll

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// The requests that transport/internal/wire does not know, in both forms: any
// bytes give a *consign.FieldError, or a value that crosses unchanged.

func FuzzClaimsRequest(f *testing.F) {
	fuzz(f, claimsRequest{Requests: []string{"1", "zz"}, Abandon: []string{"0"}, Poll: 2, Pending: 1}, claimsRequest{Requests: []string{""}})
}

func FuzzCompletions(f *testing.F) {
	done := wire.Completion{Claim: wire.Claim{Job: consign.JobID{1}, Claim: consign.ClaimID{2}}, Result: []byte("x"), ExitStatus: -1, Record: []byte("{}")}
	fuzz(f, completions{[]wire.Completion{done, {}}}, completions{})
}

func FuzzCommitRequest(f *testing.F) {
	fuzz(f, commitRequest{ID: consign.JobID{1}, Kind: "TASK", Payload: []byte(`{"task":"classify"}`), AllowPlain: true, Labels: map[string]string{"k": "v"}, Deadline: 1.5},
		commitRequest{Kind: "LLM_INFER", Sealed: &sealed{Custody: "escrow", Header: []byte("H"), Ciphertext: []byte("C"), Wraps: []wire.Wrap{{Wrap: []byte("w")}}}})
}

// fuzz decodes whatever comes as a T, beginning with the given ones. What can be
// checked of it is, and gives no other errors.
func fuzz[T any](f *testing.F, seeds ...T) {
	codecs := []wire.Codec{wire.JSON, wire.Msgpack}
	for i, c := range codecs {
		for _, v := range seeds {
			data, err := c.Encode(v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), data)
			f.Add(uint8(i), data[:len(data)/2])
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		c := codecs[int(codec)%len(codecs)]
		var in, again T
		err := c.Decode(data, &in)
		if err == nil {
			if r, ok := any(&in).(interface{ check() error }); ok {
				err = r.check()
			}
			if r, ok := any(&in).(*commitRequest); ok {
				_, err = r.request(consign.PolicyFast)
			}
		}
		if err != nil {
			if bad, ok := errors.AsType[*consign.FieldError](err); !ok || bad.Problem == "" || bad.Remedy == "" {
				t.Errorf("%v, not a *FieldError with a remedy", err)
			}
			return
		}
		first, err := c.Encode(in)
		if err == nil {
			err = c.Decode(first, &again)
		}
		if err != nil {
			t.Fatalf("%q, decoded and encoded: %v", data, err)
		}
		if second, err := c.Encode(again); err != nil || c == wire.JSON && !bytes.Equal(first, second) || c == wire.Msgpack && !reflect.DeepEqual(in, again) {
			t.Errorf("%+v became %+v, %v", in, again, err)
		}
	})
}
