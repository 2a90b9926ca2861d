package seal

import (
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/consignq/consign/internal/lp"
)

// ResultInfo is what a sealed result, and each sealed part, is bound to.
type ResultInfo struct {
	Queue  [32]byte
	Job    [16]byte
	Worker [32]byte
	Claim  [16]byte
	Input  [32]byte // InputHash
}

// InputHash returns the SHA-256 of an encoded header followed by its
// ciphertext, as in a receipt.
func InputHash(header, ciphertext []byte) [32]byte {
	h := sha256.New()
	h.Write(header)
	h.Write(ciphertext)
	return [32]byte(h.Sum(nil))
}

func (i ResultInfo) bytes() []byte {
	return lp.Append(nil, []byte("consign/result/v1"), i.Queue[:], i.Job[:], i.Worker[:], i.Claim[:], i.Input[:])
}

// What an export-only HPKE context is asked for.
const (
	exportResult = "consign/result-key/v1"
	exportPart   = "consign/part-key/v1"
)

// SealResult encrypts a result to the submitter's key, the ResultKey of the
// header: HPKE's enc, and a Box under the exported key. It wraps ErrKey if that
// key is not HPKE's.
func SealResult(to PublicKey, info ResultInfo, result []byte) ([]byte, error) {
	context := info.bytes()
	enc, key, err := to.export(context, exportResult)
	if err != nil {
		return nil, err
	}
	return append(enc, Box(key, context, result)...), nil
}

// OpenResult returns the result in what SealResult returned for the same info.
// It wraps ErrBox or ErrPadding, and ErrKey if the key is not HPKE's.
func OpenResult(key *PrivateKey, info ResultInfo, sealed []byte) ([]byte, error) {
	resultKey, err := RevealResultKey(key, info, sealed)
	if err != nil {
		return nil, err
	}
	return OpenRevealedResult(key.public.KEM(), resultKey, info, sealed)
}

// RevealResultKey returns the key of one sealed result, so that a submitter can
// show that result to a judge without its private key, which opens all of the
// session's. It wraps ErrBox if no key is encapsulated in front, and ErrKey if
// the private key is not HPKE's.
func RevealResultKey(key *PrivateKey, info ResultInfo, sealed []byte) ([32]byte, error) {
	enc, _, err := cutEnc(key.public.KEM(), sealed)
	if err != nil {
		return [32]byte{}, err
	}
	return key.export(enc, info.bytes(), exportResult)
}

// OpenRevealedResult opens a result with a key that RevealResultKey returned;
// kem is that of the header's ResultKey. The worker's record signs the sealed
// bytes, and to find a second key under which they open is out of reach, so
// what opens is what the worker sealed. It wraps ErrBox, ErrPadding or ErrKey.
func OpenRevealedResult(kem KEM, resultKey [32]byte, info ResultInfo, sealed []byte) ([]byte, error) {
	_, b, err := cutEnc(kem, sealed)
	if err != nil {
		return nil, err
	}
	return OpenBox(resultKey, info.bytes(), b)
}

// encSizes are the lengths of HPKE's enc.
var encSizes = map[KEM]int{MLKEM768X25519: 1120, X25519: 32}

// cutEnc splits what starts with an encapsulated key.
func cutEnc(kem KEM, sealed []byte) (enc, rest []byte, err error) {
	n, ok := encSizes[kem]
	switch {
	case !ok:
		return nil, nil, keyError("results are not sealed to a key of %v", kem)
	case len(sealed) < n:
		return nil, nil, fmt.Errorf("%w: it has only %d bytes", ErrBox, len(sealed))
	}
	return sealed[:n:n], sealed[n:], nil
}

// export starts an export-only HPKE context to the key.
func (k PublicKey) export(info []byte, label string) (enc []byte, key [32]byte, err error) {
	if k.hpke == nil {
		return nil, key, keyError("results are sealed to an HPKE key, not one of %v", k.KEM())
	}
	enc, sender, err := hpke.NewSender(k.hpke, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, key, fmt.Errorf("%w: %w", ErrKey, err)
	}
	b, err := sender.Export(label, len(key))
	if err != nil {
		return nil, key, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return enc, [32]byte(b), nil
}

// export takes up the context of enc.
func (k *PrivateKey) export(enc, info []byte, label string) (key [32]byte, err error) {
	recipient, err := hpke.NewRecipient(enc, k.hpke, hpke.HKDFSHA256(), hpke.ExportOnly(), info)
	if err != nil {
		return key, fmt.Errorf("%w: %w", ErrBox, err)
	}
	b, err := recipient.Export(label, len(key))
	if err != nil {
		return key, fmt.Errorf("%w: %w", ErrBox, err)
	}
	return [32]byte(b), nil
}
