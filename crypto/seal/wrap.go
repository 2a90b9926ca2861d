package seal

import (
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/consignq/consign/internal/lp"
)

// Purpose says what a wrap is for: a VaultWrap, ClaimWrap or DirectWrap. A wrap
// made for one opens for no other.
type Purpose interface {
	// info returns what HPKE binds the wrap to, or OAEP's label.
	info(keyID [16]byte) []byte
}

// VaultWrap takes a key from the submitter to the queue's vault.
type VaultWrap struct {
	Job    [16]byte
	Header [32]byte // HeaderHash
}

// ClaimWrap takes a key from the vault to the worker that holds a claim.
type ClaimWrap struct {
	Job    [16]byte
	Worker [32]byte
	Claim  [16]byte
	Header [32]byte // HeaderHash
}

// DirectWrap takes a key from the submitter to a worker that it pinned, before
// there is any claim: to release it with the claim alone is then whoever holds
// the wrap's promise, not the cipher's.
type DirectWrap struct {
	Job    [16]byte
	Worker [32]byte
	Header [32]byte // HeaderHash
}

func (p VaultWrap) info(keyID [16]byte) []byte {
	return lp.Append(nil, []byte("consign/wrap/vault/v1"), keyID[:], p.Job[:], p.Header[:])
}

func (p ClaimWrap) info(keyID [16]byte) []byte {
	return lp.Append(nil, []byte("consign/wrap/claim/v1"), keyID[:], p.Job[:], p.Worker[:], p.Claim[:], p.Header[:])
}

func (p DirectWrap) info(keyID [16]byte) []byte {
	return lp.Append(nil, []byte("consign/wrap/direct/v1"), keyID[:], p.Job[:], p.Worker[:], p.Header[:])
}

const wrapLabel = "consign/wrap/v1"

// Wrap encrypts a job's content key to a public key:
//
//	LP("consign/wrap/v1") LP(uint16_be(kem_id)) LP(key_id) LP(enc) LP(ct)
//
// It wraps ErrKey for the zero PublicKey and the zero CEK.
func Wrap(to PublicKey, purpose Purpose, cek CEK) ([]byte, error) {
	if cek == (CEK{}) {
		return nil, keyError("the content key is empty")
	}
	enc, ct, err := to.encrypt(purpose.info(to.ID()), cek.b[:])
	if err != nil {
		return nil, err
	}
	return encodeWrap(to, enc, ct), nil
}

func encodeWrap(to PublicKey, enc, ct []byte) []byte {
	kem, keyID := binary.BigEndian.AppendUint16(nil, uint16(to.KEM())), to.ID()
	return lp.Append(nil, []byte(wrapLabel), kem, keyID[:], enc, ct)
}

// encrypt is HPKE's single-shot encryption, or OAEP with an empty enc.
func (k PublicKey) encrypt(info, secret []byte) (enc, ct []byte, err error) {
	switch {
	case k.hpke != nil:
		var sender *hpke.Sender
		if enc, sender, err = hpke.NewSender(k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info); err == nil {
			ct, err = sender.Seal(nil, secret)
		}
	case k.rsa != nil:
		ct, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, k.rsa, secret, info)
	default:
		return nil, nil, keyError("there is no key to wrap to")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return enc, ct, nil
}

// Unwrap returns the content key in a wrap. It wraps ErrWrap if the bytes are
// not a wrap, ErrKeyUnknown if it is to none of the keys, and ErrUnwrap if it
// does not open with its key for this purpose. The key may still be another
// than the header commits to: OpenPayload checks that.
func Unwrap(purpose Purpose, wrap []byte, keys ...*PrivateKey) (CEK, error) {
	var kem [2]byte
	var keyID [16]byte
	r := fields{rest: wrap}
	label := r.next()
	r.fixed(kem[:])
	r.fixed(keyID[:])
	enc := r.next()
	ct := r.next()
	if !r.done() || string(label) != wrapLabel {
		return CEK{}, fmt.Errorf("%w: it is not five fields, the first %q", ErrWrap, wrapLabel)
	}
	for _, key := range keys {
		if key == nil || key.public.bytes == "" {
			continue // an empty key has an ID too, and is not at hand
		}
		if key.public.KEM() == KEM(binary.BigEndian.Uint16(kem[:])) && key.public.ID() == keyID {
			return key.unwrap(purpose.info(keyID), enc, ct)
		}
	}
	return CEK{}, fmt.Errorf("%w: the wrap is to %x of %v", ErrKeyUnknown, keyID, KEM(binary.BigEndian.Uint16(kem[:])))
}

// unwrap undoes encrypt.
func (k *PrivateKey) unwrap(info, enc, ct []byte) (CEK, error) {
	var b []byte
	var err error
	switch {
	case k.hpke != nil:
		var recipient *hpke.Recipient
		if recipient, err = hpke.NewRecipient(enc, k.hpke, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info); err == nil {
			b, err = recipient.Open(nil, ct)
		}
	case len(enc) != 0:
		return CEK{}, fmt.Errorf("%w: an RSA wrap encapsulates nothing", ErrWrap)
	default:
		b, err = rsa.DecryptOAEP(sha256.New(), nil, k.rsa, ct, info)
	}
	if err != nil {
		return CEK{}, fmt.Errorf("%w: %w", ErrUnwrap, err)
	}
	cek, err := ParseCEK(b)
	if err != nil {
		return CEK{}, fmt.Errorf("%w: %w", ErrUnwrap, err)
	}
	return cek, nil
}
