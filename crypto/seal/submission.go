package seal

import (
	"crypto/sha256"
	"fmt"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// SubmissionMessage returns what the submitter of a PRIVATE job signs:
//
//	LP("consign/submit/v1") LP(SHA-256(H)) LP(SHA-256(ciphertext))
//
// Wraps alone do not say who made them: anyone can wrap to a public key.
func SubmissionMessage(header, ciphertext []byte) []byte {
	h, c := sha256.Sum256(header), sha256.Sum256(ciphertext)
	return lp.Append(nil, []byte("consign/submit/v1"), h[:], c[:])
}

// SignSubmission signs a sealed job as its submitter. It wraps ErrSubmission if
// the identity is not the ed25519 key that the header names, and ParseHeader's
// errors.
func SignSubmission(submitter *sign.Identity, header, ciphertext []byte) ([]byte, error) {
	h, err := ParseHeader(header)
	if err != nil {
		return nil, err
	}
	if public := submitter.Public(); public.Algorithm() != sign.Ed25519 || public.ID() != h.Submitter {
		return nil, fmt.Errorf("%w: the header names another submitter than this identity", ErrSubmission)
	}
	return submitter.Sign(SubmissionMessage(header, ciphertext))
}

// verifySubmission wraps ErrSubmission unless the key that the header names as
// its submitter signed header and ciphertext.
func (h *Header) verifySubmission(header, ciphertext, signature []byte) error {
	key, err := sign.ParsePublicKey(sign.Ed25519, h.Submitter[:])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSubmission, err)
	}
	if err := key.Verify(SubmissionMessage(header, ciphertext), signature); err != nil {
		return fmt.Errorf("%w: %w", ErrSubmission, err)
	}
	return nil
}
