package worker

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

const (
	// bundleLead is how long before it is signed a key bundle is valid, for
	// readers whose clocks are behind.
	bundleLead = time.Hour
	// bundleRenewal is when the next bundle is made: half of the time that this
	// one is valid is left then, for outages.
	bundleRenewal = seal.MaxBundleAge / 2
)

// keychain is a worker's encryption keys.
type keychain struct {
	identity *sign.Identity
	keys     []*seal.PrivateKey // the current one first

	mu  sync.Mutex
	seq int64 // of the last bundle
}

// bundle signs the current key, and says when to sign it anew. The keys before
// it open what was wrapped to them, and are not offered any more. The number
// is the time in microseconds, so it grows over restarts without a memory.
func (k *keychain) bundle(now time.Time) (bundle []byte, renew time.Time, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	seq := max(k.seq+1, now.UnixMicro())
	from := now.Add(-bundleLead)
	envelope, err := seal.SignBundle(k.identity, seal.Bundle{
		Worker: k.identity.Public().ID(), Seq: seq,
		NotBefore: from, NotAfter: from.Add(seal.MaxBundleAge),
		Keys: []seal.PublicKey{k.keys[0].Public()},
	})
	if err == nil {
		bundle, err = json.Marshal(envelope)
	}
	if err != nil {
		return nil, time.Time{}, fieldError("EncryptionKeys", "cannot be offered: "+err.Error(), "check the keys, and the clock of this machine")
	}
	k.seq = seq
	return bundle, now.Add(bundleRenewal), nil
}

// newKeychain checks the keys, or makes one.
func newKeychain(identity *sign.Identity, keys []*seal.PrivateKey) (*keychain, error) {
	for i, key := range keys {
		if key == nil || key.Public().KEM() == 0 {
			return nil, fieldError("EncryptionKeys", fmt.Sprintf("has no key at %d", i), "load keys with seal.Load, or leave them out")
		}
	}
	if len(keys) == 0 {
		key, err := seal.GenerateKey(seal.MLKEM768X25519)
		if err != nil {
			return nil, fieldError("EncryptionKeys", "cannot be made: "+err.Error(), "give one of your own")
		}
		keys = []*seal.PrivateKey{key}
	}
	k := &keychain{identity: identity, keys: keys}
	_, _, err := k.bundle(time.Now())
	return k, err
}
