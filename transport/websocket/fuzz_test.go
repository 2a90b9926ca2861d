package websocket

import (
	"errors"
	"reflect"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// FuzzForeignFrame: whatever a worker of the first protocol sends is a frame
// that says the same when it is written again, or a *consign.FieldError.
func FuzzForeignFrame(f *testing.F) {
	for _, text := range []string{
		`{"type":"register","provider_pubkey":"AA==","capabilities":["TASK"],"models":["m"],"max_context_tier":2,"more":[1]}`,
		`{"type":"heartbeat","capabilities":[],"max_context_tier":9}`,
		`{"type":"job_heartbeat","job_id":"0190a1b2c3d44e5f8a9b0c1d2e3f4051","lines":["a","\ud800"]}`,
		`{"type":"job_complete","job_id":"0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051","output":{"a":[1, "é"]},"receipt":{"receipt_json":"{}","signature":"AA=="}}`,
		`{"type":"job_fail","job_id":"0190a1b2c3d44e5f8a9b0c1d2e3f4051","reason":"no"}`,
		`{"type":1}`, `{"job_id":"x"}`, `[]`, `{`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var in, again foreignFrame
		if err := wire.JSON.DecodeLoose(data, &in); err != nil {
			if bad, ok := errors.AsType[*consign.FieldError](err); !ok || bad.Problem == "" || bad.Remedy == "" {
				t.Errorf("%v, not a *FieldError with a remedy", err)
			}
			return
		}
		first, err := wire.JSON.Encode(in)
		if err == nil {
			err = wire.JSON.DecodeLoose(first, &again)
		}
		var second []byte
		if err == nil {
			second, err = wire.JSON.Encode(again)
		}
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%q became %q, then %q, %v", data, first, second, err)
		}
	})
}
