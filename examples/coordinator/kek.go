package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/consignq/consign/vault"
)

// retryKEK is after how long a rotation that failed is tried again.
const retryKEK = time.Minute

// kekFile is the file of the vault's key-encryption key.
func kekFile(dir string) string { return filepath.Join(dir, "vault.kek") }

// tendKEK rotates the key-encryption key as -rotate-kek says, at once and then
// at intervals, and reads its file again when it is told to,
// until ctx is done. What fails leaves all keys where they are, here and in the
// file.
func (o *options) tendKEK(ctx context.Context, reread <-chan struct{}, keys *vault.Vault) {
	path := kekFile(o.dir)
	var due <-chan time.Time // nil: never
	if o.rotateKEK > 0 {
		due = time.After(0)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-reread:
			if err := keys.RekeyFromFile(ctx, path); err != nil {
				o.log.Error("vault.kek was read again, and is not used: the keys of before are", "error", err)
			} else {
				o.log.Info("vault.kek was read again, and everything is under its last key")
			}
		case <-due:
			next := o.rotateKEK
			if err := keys.RotateKEK(ctx, path); err == nil {
				o.log.Info("vault.kek was rotated: what the vault has shredded is gone from logs and backups, too")
			} else if ctx.Err() == nil {
				o.log.Error("vault.kek was not rotated, and will be tried again", "error", err)
				next = min(next, retryKEK)
			}
			due = time.After(next)
		}
	}
}
