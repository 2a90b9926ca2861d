package vault

import "context"

import "github.com/consignq/consign"

// What the suites of package vaulttest are run against.

func NewMemoryStorage() Storage { return &memory{jobs: make(map[consign.JobID][]Record)} }

func OpenStorage(dir string) (Storage, error) {
	s, _, err := openSlots(dir)
	return s, err
}

// GiveName has a vault name its storage once more.
func GiveName(ctx context.Context, v *Vault) error { return v.giveName(ctx) }
