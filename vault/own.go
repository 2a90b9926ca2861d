package vault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
)

// ownKey is a key pair of the vault itself. It is kept as the record of no job.
type ownKey struct {
	*seal.PrivateKey
	record Record
}

// Key implements consign.Vault.
func (v *Vault) Key(context.Context) ([]byte, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.own[len(v.own)-1].Public().Bytes(), nil
}

// RotateKey gives the vault a new key for submitters to wrap to. Wraps to the one
// before open for KeyOverlap longer; then Sweep destroys it. It wraps ErrFull
// where MaxHeaders keys wait for that.
func (v *Vault) RotateKey(ctx context.Context) error {
	key, err := seal.GenerateKey(v.config.KEM)
	if err != nil {
		return err
	}
	r := Record{At: v.now()}
	v.mu.RLock()
	if n := len(v.own); n > 0 {
		r.At = max(r.At, v.own[n-1].record.At+1) // the last is the present one, whatever the clock does
	}
	v.mu.RUnlock()
	id := key.Public().ID()
	copy(r.Header[:], id[:])
	if err := v.keep(ctx, r, secret{key: key}); err != nil {
		return err
	}
	return v.loadOwn(ctx)
}

// loadOwn reads the vault's keys, of which another process may have made some.
func (v *Vault) loadOwn(ctx context.Context) error {
	all, err := v.kept(ctx, consign.JobID{})
	if err != nil {
		return err
	}
	var own []ownKey
	for _, k := range all {
		if k.key == nil {
			return errors.New("vault: a record of the vault itself holds no key")
		}
		own = append(own, ownKey{k.key, k.Record})
	}
	slices.SortFunc(own, func(a, b ownKey) int {
		return cmp.Or(cmp.Compare(a.record.At, b.record.At), bytes.Compare(a.record.Header[:], b.record.Header[:]))
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	v.own = own
	return nil
}

// expired returns the records of the keys that no wrap opens with any more: those
// that were followed by another longer than KeyOverlap ago.
func (v *Vault) expired() (rs []Record) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for i := range v.own[:len(v.own)-1] {
		if v.now() >= v.own[i+1].record.At.Add(v.config.KeyOverlap) {
			rs = append(rs, v.own[i].record)
		}
	}
	return rs
}

// privateKeys returns those that wraps open with.
func (v *Vault) privateKeys() (keys []*seal.PrivateKey) {
	expired := v.expired()
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, k := range v.own {
		if !slices.ContainsFunc(expired, k.record.same) {
			keys = append(keys, k.PrivateKey)
		}
	}
	return keys
}

// unwrap opens a submitter's wrap. It returns a *FieldError, "wraps".
func (v *Vault) unwrap(ctx context.Context, p seal.VaultWrap, wrap []byte) (seal.CEK, error) {
	cek, err := seal.Unwrap(p, wrap, v.privateKeys()...)
	if errors.Is(err, seal.ErrKeyUnknown) { // of another process, perhaps
		if err := v.loadOwn(ctx); err != nil {
			return seal.CEK{}, err
		}
		cek, err = seal.Unwrap(p, wrap, v.privateKeys()...)
	}
	if err != nil {
		return seal.CEK{}, wrapsError("do not open: %v", err)
	}
	return cek, nil
}

// dropOwn destroys the keys that have expired, and returns how many.
func (v *Vault) dropOwn(ctx context.Context) (int, error) {
	if err := v.loadOwn(ctx); err != nil {
		return 0, err
	}
	expired := v.expired()
	if len(expired) == 0 {
		return 0, nil
	}
	if err := v.storage.Delete(ctx, expired); err != nil {
		return 0, fmt.Errorf("vault: keys of the vault that are out of use: %w", err)
	}
	return len(expired), v.loadOwn(ctx)
}
