package consign

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// SealFor gives a request what comes with a sealed payload: its header, the
// wraps of its custody (to those workers, if it is sealed) and, if it is
// PRIVATE, its submitter's signature. Nothing is encrypted. The variant makes
// headers differ.
func SealFor(c *Config, submitter *sign.Identity, r *SubmitRequest, variant byte, to ...WorkerID) {
	full := c.withDefaults()
	kind, _ := full.kind(r.Kind)
	queue := QueueIDOf(c.Identity.Public())
	var name, options, commit [32]byte
	options[0] = variant
	r.Wraps, r.Signature = []Wrap{{Wrap: []byte("the key, for the vault")}}, nil
	if r.Custody == CustodySealed {
		r.Privacy, r.Wraps = PrivacyPrivate, nil
		for _, w := range to {
			r.Wraps = append(r.Wraps, Wrap{Worker: w, Wrap: []byte("the key, for " + w.String())})
		}
	}
	if r.Privacy == PrivacyPrivate {
		name = [32]byte(submitter.Public().Bytes())
	}
	r.Header = lp.Append(nil, []byte("consign/payload/v1"), []byte("a suite"), queue[:], r.ID[:], name[:], []byte(r.Kind), []byte(r.Model),
		binary.BigEndian.AppendUint32(nil, r.Chars), binary.BigEndian.AppendUint64(nil, r.PromptBytes), []byte(r.Privacy.String()), []byte(r.Custody),
		[]byte(firstOf(r.Comparator, kind.Comparator, ComparatorNone)), options[:], r.ClientKey, commit[:])
	if r.Privacy == PrivacyPrivate {
		r.Signature, _ = submitter.Sign(submissionMessage(r))
	}
}

// What a header says of privacy and custody is what the request says (the
// other fields are in TestBadInput).
func TestHeaderPrivacyAndCustody(t *testing.T) {
	c := simConfig()
	for field, alter := range map[string]func(r *SubmitRequest){
		"":                     func(*SubmitRequest) {},
		"header.privacy_class": func(r *SubmitRequest) { r.Privacy = PrivacyPrivate },
		"header.custody": func(r *SubmitRequest) {
			private := *r
			private.Privacy = PrivacyPrivate
			SealFor(c, simSubmitter, &private, 0)
			*r = private
			r.Custody, r.Wraps = CustodySealed, []Wrap{{Worker: simFresh, Wrap: []byte("k")}}
		},
	} {
		r := SubmitRequest{ID: JobID{1}, Kind: KindTask, Payload: longPrompt[:100], Chars: 100, PromptBytes: 100, Custody: CustodyEscrow}
		SealFor(c, simSubmitter, &r, 0)
		alter(&r)
		_, _, err := c.admit("acme", &r)
		got := ""
		if f, ok := errors.AsType[*FieldError](err); ok {
			got = f.Field
		}
		if got != field || (err == nil) != (field == "") {
			t.Errorf("want %q, got %v", field, err)
		}
	}
}
