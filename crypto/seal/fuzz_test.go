package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/consignq/consign/crypto/sign"
)

// anyOf reports whether an error is one of those that a reader may return.
func anyOf(err error, allowed ...error) bool {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return true
		}
	}
	return false
}

// FuzzOpenPayload lets the submitter be the stranger: whatever header it signs,
// and whatever it seals under it, authentic or not, the worker gets a payload of
// the declared length or an error, and nothing beside the error.
func FuzzOpenPayload(f *testing.F) {
	cek := NewCEK()
	for _, privacy := range []string{Public, Private} {
		h := testHeader()
		h.Privacy = privacy
		header, ciphertext, err := SealPayload(h, cek, []byte("héllo"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(header, ciphertext, false)
		plain := append([]byte{0, 0, 0, 0, 0, 0, 0, 6}, "héllo"...)
		f.Add(header, append(plain, make([]byte, minPadded-len(plain))...), true)
	}
	f.Fuzz(func(t *testing.T, header, ciphertext []byte, authentic bool) {
		h, err := ParseHeader(header)
		if err == nil {
			h.Commit = cek.derive(h.Job, infoCommit)
			if header, err = h.Encode(); err != nil {
				t.Fatal("a header that was parsed cannot be encoded: ", err)
			}
		}
		if authentic {
			ciphertext = sealChunks(cek.derive(h.Job, infoPayload), header, ciphertext)
		}
		a := Assignment{Queue: h.Queue, Job: h.Job, Kind: h.Kind, Model: h.Model, Chars: h.Chars, Custody: h.Custody,
			Comparator: h.Comparator, Pinned: func([32]byte) bool { return true }}
		if a.Signature, err = testSubmitter.Sign(SubmissionMessage(header, ciphertext)); err != nil {
			t.Fatal(err)
		}
		got, payload, err := OpenPayload(header, ciphertext, cek, a)
		if err != nil && (payload != nil || got != Header{} ||
			!anyOf(err, ErrHeader, ErrSuite, ErrAssignment, ErrSubmission, ErrBox, ErrPadding, ErrPayloadMismatch)) {
			t.Errorf("%q with the error %v", payload, err)
		}
		if err == nil && (uint64(len(payload)) != got.PromptBytes || Chars(payload) != int(got.Chars)) {
			t.Errorf("%q under %+v", payload, got)
		}
		// Who judges a dispute reads the same, but for the signature.
		_, revealed, revealedErr := OpenRevealedPayload(header, ciphertext, cek)
		if err == nil && (revealedErr != nil || !bytes.Equal(revealed, payload)) {
			t.Errorf("revealed as %q, %v", revealed, revealedErr)
		}
	})
}

// FuzzVerifyBundle reads what another party calls an envelope: as it is, and
// signed by the worker itself.
func FuzzVerifyBundle(f *testing.F) {
	b := testBundle()
	b.Keys = b.Keys[1:2] // the short one: a long seed is slow to fuzz
	good := must(SignBundle(testWorker, b))
	f.Add(must(json.Marshal(good)), good.Payload)
	f.Add([]byte("{}"), []byte("{}"))
	f.Fuzz(func(t *testing.T, envelope, body []byte) {
		signed, err := sign.SignEnvelope(testWorker, BundleType, body)
		if err != nil {
			t.Fatal(err)
		}
		envelopes := []sign.Envelope{signed}
		var e sign.Envelope
		if json.Unmarshal(envelope, &e) == nil {
			envelopes = append(envelopes, e)
		}
		for _, e := range envelopes {
			got, err := VerifyBundle(e, testWorker.Public(), testNow, 1)
			if err != nil && !anyOf(err, ErrBundle, ErrBundleTime, ErrBundleReplayed) {
				t.Errorf("%v", err)
			}
			if err == nil && (got.Worker != testWorker.Public().ID() || !got.Valid(testNow) || len(got.Keys) == 0) {
				t.Errorf("%+v", got)
			}
		}
	})
}

// FuzzOpenRevealedResult opens what a submitter shows to a judge, with the key
// that it says is the result's.
func FuzzOpenRevealedResult(f *testing.F) {
	for _, kem := range hpkeKEMs {
		key := testKeys()[kem]
		b := must(SealResult(key.Public(), testInfo(), []byte("result")))
		revealed := must(RevealResultKey(key, testInfo(), b))
		f.Add(uint16(kem), revealed[:], b)
	}
	f.Fuzz(func(t *testing.T, kem uint16, key, b []byte) {
		if len(key) != 32 {
			return
		}
		m, err := OpenRevealedResult(KEM(kem), [32]byte(key), testInfo(), b)
		if err != nil && (m != nil || !anyOf(err, ErrKey, ErrBox, ErrPadding)) {
			t.Errorf("%q, %v", m, err)
		}
	})
}

// FuzzComparison checks values that a worker and a queue hand out.
func FuzzComparison(f *testing.F) {
	cek, h := NewCEK(), testHeader()
	h.Commit = cek.derive(h.Job, infoCommit)
	c := must(NewComparison(cek, h, []byte("result"), []byte("sketch")))
	f.Add(c.T[:], c.R[:], []byte("sketch"), []byte("result"), true)
	f.Fuzz(func(t *testing.T, value, r, sketch, canonical []byte, committed bool) {
		var c Comparison
		copy(c.T[:], value)
		copy(c.R[:], r)
		var commit [32]byte
		if committed {
			commit = c.Commit()
		}
		err := c.VerifyResult(commit, cek, h, canonical, sketch)
		if err != nil && !anyOf(err, ErrTCommit, ErrResultMismatch) || err == nil && !committed {
			t.Errorf("%v", err)
		}
		again := must(NewComparison(cek, h, canonical, sketch))
		if committed && (err == nil) != (again.T == c.T) {
			t.Errorf("%x is taken for %x: %v", c.T, again.T, err)
		}
	})
}
