package vault

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// bundles remembers the workers' key bundles that were verified: a worker shows
// the same one with every claim, and to verify it takes as long as to wrap to it.
type bundles struct {
	mu       sync.Mutex
	verified map[[32]byte]seal.Bundle // by SHA-256 of all that was verified
}

// maxBundles bounds how many are remembered, at a kilobyte or two each.
const maxBundles = 4096

// key returns the first key of a worker's bundle, which is its first choice.
func (b *bundles) key(w consign.WorkerKeys, now time.Time) (seal.PublicKey, error) {
	name := sha256.Sum256(lp.Append(nil, w.ID[:], []byte(w.Algorithm), w.PublicKey, w.KeyBundle))
	b.mu.Lock()
	bundle, ok := b.verified[name]
	b.mu.Unlock()
	if ok && bundle.Valid(now) {
		return bundle.Keys[0], nil
	}
	bundle, err := verifyBundle(w, now)
	if err != nil {
		return seal.PublicKey{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verified == nil || len(b.verified) >= maxBundles {
		b.verified = make(map[[32]byte]seal.Bundle)
	}
	b.verified[name] = bundle
	return bundle.Keys[0], nil
}

func verifyBundle(w consign.WorkerKeys, now time.Time) (seal.Bundle, error) {
	if len(w.KeyBundle) == 0 {
		return seal.Bundle{}, errors.New("it registered without a key bundle")
	}
	signer, err := sign.ParsePublicKey(w.Algorithm, w.PublicKey)
	if err != nil {
		return seal.Bundle{}, err
	}
	if consign.WorkerID(signer.ID()) != w.ID {
		return seal.Bundle{}, errors.New("the signing key is another worker's")
	}
	var e sign.Envelope
	if err := json.Unmarshal(w.KeyBundle, &e); err != nil {
		return seal.Bundle{}, err
	}
	return seal.VerifyBundle(e, signer, now, 0)
}
