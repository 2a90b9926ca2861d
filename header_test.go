package consign

import (
	"encoding/binary"

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
