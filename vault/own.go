package vault

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
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

// Secret returns 32 bytes for a purpose of the queue, such as to sign its
// webhooks: HKDF-Expand of 32 random bytes that the vault keeps, with SHA-256 and
// the info "consign/vault/secret/v1" || purpose. It is the same wherever the
// vault's medium is opened, whatever is rotated. Where several processes made the
// vault at once they agree after their next Names, so ask when it is needed.
func (v *Vault) Secret(purpose string) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	secret, err := hkdf.Expand(sha256.New, v.root, "consign/vault/secret/v1"+purpose, 32)
	if err != nil {
		panic(err) // for a length that is too long alone
	}
	return secret
}

// nameLabel begins the header of a record that names the vault; 16 random bytes
// follow, which are the name. The record keeps what Secret's follow from, in the
// place of a content key; in vaults of before there were any, zeros.
const nameLabel = "consign/vault/v1"

// giveName gives a vault that has no name one, for as long as its medium lasts.
// Where two processes do so at once it has two, and both open all of it.
func (v *Vault) giveName(ctx context.Context) error {
	r := Record{At: v.now()}
	_, _ = rand.Read(r.Header[copy(r.Header[:], nameLabel):])
	if err := v.keep(ctx, r, secret{cek: seal.NewCEK()}); err != nil {
		return err
	}
	return v.loadOwn(ctx)
}

// name is what a record names the vault; "" for one that is a key.
func (r Record) name() string {
	label, id := r.Header[:len(nameLabel)], r.Header[len(nameLabel):]
	if string(label) != nameLabel {
		return ""
	}
	return hex.EncodeToString(id)
}

// Names implements consign.Vault. The first is the oldest.
func (v *Vault) Names(ctx context.Context) ([]string, error) {
	if err := v.loadOwn(ctx); err != nil {
		return nil, err
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.names, nil
}

// loadOwn reads the vault's keys, of which another process may have made some. A
// queue asks with every tick, and to read a key takes far longer than to see that
// it is the one of before.
func (v *Vault) loadOwn(ctx context.Context) error {
	records, all, err := v.readOwn(ctx)
	if err != nil || records == nil {
		return err
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(cmp.Compare(a.At, b.At), bytes.Compare(a.Header[:], b.Header[:]))
	})
	var own []ownKey
	var names []string
	var root []byte
	for _, k := range all {
		switch {
		case k.key != nil:
			own = append(own, ownKey{k.key, k.Record})
		case k.name() != "":
			names = append(names, k.name())
			if root == nil && k.cek != (seal.CEK{}) {
				root = k.cek.Bytes()
			}
		default:
			return errors.New("vault: a record of the vault itself holds no key")
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if root == nil { // never secrets that follow from nothing
		root = v.root
	}
	v.own, v.names, v.root, v.read = own, names, root, records
	return nil
}

// readOwn returns the records of the vault itself and what they hold; none where
// they are those that were read before.
func (v *Vault) readOwn(ctx context.Context) ([]Record, []kept, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	records, err := v.storage.Get(ctx, consign.JobID{})
	if err != nil || slices.EqualFunc(records, v.read, Record.equal) {
		return nil, nil, err
	}
	all, err := v.open(records)
	return records, all, err
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
