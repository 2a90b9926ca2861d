package consign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"

	"github.com/consignq/consign/internal/lp"
)

// What the queue reads of H, the header of a sealed payload
// (docs/sealed-format.md, section 4): enough to refuse one that says something
// else than the request. The rest is between the two ends and the vault.

// headerFormat is the first field of H.
const headerFormat = "consign/payload/v1"

// The fields of H, in order.
const (
	headerFormatField = iota
	headerSuite
	headerQueue
	headerJob
	headerSubmitter
	headerKind
	headerModel
	headerChars
	headerPromptBytes
	headerPrivacy
	headerCustody
	headerComparator
	headerClassOptions
	headerResultKey
	headerCommit
	headerFields
)

// parseHeader splits H into its fields.
func parseHeader(h []byte) (fields [headerFields][]byte, ok bool) {
	for i := range fields {
		if fields[i], h, ok = lp.Next(h); !ok {
			return fields, false
		}
	}
	return fields, len(h) == 0 && string(fields[headerFormatField]) == headerFormat
}

// checkHeader compares H with the request that it came with.
func (c *Config) checkHeader(r *SubmitRequest, comparator string) error {
	const remedy = "seal the payload for this request, and send both as they are"
	h, ok := parseHeader(r.Header)
	if !ok {
		return fieldError("header", "is not the header of a sealed payload", "send H of the sealed payload")
	}
	queue := QueueIDOf(c.Identity.Public())
	for _, f := range [...]struct {
		name  string
		field int
		want  []byte
	}{
		{"queue_id", headerQueue, queue[:]},
		{"job_id", headerJob, r.ID[:]},
		{"kind", headerKind, []byte(r.Kind)},
		{"model", headerModel, []byte(r.Model)},
		{"chars", headerChars, binary.BigEndian.AppendUint32(nil, r.Chars)},
		{"prompt_bytes", headerPromptBytes, binary.BigEndian.AppendUint64(nil, r.PromptBytes)},
		{"privacy_class", headerPrivacy, []byte(r.Privacy.String())},
		{"custody", headerCustody, []byte(r.Custody)},
		{"comparator", headerComparator, []byte(comparator)},
		{"client_pubkey", headerResultKey, firstBytes(r.ClientKey, h[headerResultKey])},
	} {
		if !bytes.Equal(h[f.field], f.want) {
			return fieldError("header."+f.name, "differs from the request's", remedy)
		}
	}
	if r.Privacy == PrivacyPrivate {
		return checkSignature(r, h[headerSubmitter])
	}
	return nil
}

func firstBytes(a, b []byte) []byte {
	if len(a) > 0 {
		return a
	}
	return b
}

// checkSignature verifies the submitter's signature over a PRIVATE job, with
// the key that its header names. That the key is who it should be is for the
// workers to judge, who pinned it.
func checkSignature(r *SubmitRequest, submitter []byte) error {
	if len(submitter) != ed25519.PublicKeySize || !ed25519.Verify(submitter, submissionMessage(r), r.Signature) {
		return fieldError("signature", "is not by the submitter that the header names", "sign the sealed job with seal.SignSubmission: workers take no other PRIVATE ones")
	}
	return nil
}

// submissionMessage is what seal.SubmissionMessage makes of the request.
func submissionMessage(r *SubmitRequest) []byte {
	header, payload := sha256.Sum256(r.Header), sha256.Sum256(r.Payload)
	return lp.Append(nil, []byte("consign/submit/v1"), header[:], payload[:])
}

// maxWraps bounds to how many workers one job may be sealed.
const maxWraps = 16

// maxWrap bounds a wrap: those of today have 1,251 bytes at most.
const maxWrap = 4096

// checkWraps checks who gets the key of a sealed payload.
func checkWraps(r *SubmitRequest) error {
	seen := map[WorkerID]bool{}
	for _, w := range r.Wraps {
		switch {
		case len(w.Wrap) == 0 || len(w.Wrap) > maxWrap:
			return fieldError("wraps", "hold one that is empty or too long", "send what seal.Wrap returned")
		case seen[w.Worker]:
			return fieldError("wraps", "name a worker twice", "wrap the key once to each worker")
		}
		seen[w.Worker] = true
	}
	switch r.Custody {
	case CustodySealed:
		if len(r.Wraps) == 0 || seen[WorkerID{}] || len(r.Wraps) > maxWraps {
			return fieldError("wraps", "are not to 1 to 16 workers", "wrap the job's key to workers that you pinned, or submit it in escrow")
		}
	case CustodyEscrow:
		if len(r.Wraps) != 1 || !seen[WorkerID{}] {
			return fieldError("wraps", "are not one to the vault", "wrap the job's key to Keys.Vault")
		}
	case CustodyTransit, CustodyPlain:
		if len(r.Wraps) > 0 {
			return fieldError("wraps", "are there, and the payload is not sealed", "leave them out")
		}
	}
	return nil
}

// checkComparison compares what a worker sent beside its record with the
// record's t_commit: SHA-256(LP("consign/t-commit/v1") LP(T) LP(r)), or zero
// where there is nothing to compare.
func checkComparison(tCommit [32]byte, c *Comparison) error {
	var want [32]byte
	if c != nil {
		want = sha256.Sum256(lp.Append(nil, []byte("consign/t-commit/v1"), c.T[:], c.R[:]))
	}
	if tCommit != want || c != nil && len(c.Sketch) > maxSketch {
		return &ReceiptError{Field: "record.t_commit", Problem: "is not the commitment to the comparison value that came with it", Err: ErrBadResult}
	}
	return nil
}

// maxSketch bounds a sketch, which has 128 slots of two bytes.
const maxSketch = 256
