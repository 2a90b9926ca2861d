package vault_test

import (
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/vault/vaulttest"
)

func TestContractInMemory(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) consign.Vault {
		v, err := vault.NewMemory(vault.Config{})
		check(t, err)
		return v
	})
}

func TestContractInFile(t *testing.T) {
	for _, kem := range []seal.KEM{seal.MLKEM768X25519, seal.X25519} {
		t.Run(kem.String(), func(t *testing.T) {
			vaulttest.Run(t, func(t *testing.T) consign.Vault { return open(t, t.TempDir(), vault.NewKEK(), vault.Config{KEM: kem}) })
		})
	}
}

// open returns a vault in a folder, which is closed when the test ends unless it
// was before.
func open(t *testing.T, dir string, k vault.KEK, c vault.Config) *vault.Vault {
	t.Helper()
	v, err := vault.Open(filepath.Join(dir, "vault"), k, c)
	check(t, err)
	t.Cleanup(func() { _ = v.Close() })
	return v
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStorageInMemory(t *testing.T) {
	vaulttest.Storage(t, func(*testing.T) vault.Storage { return vault.NewMemoryStorage() })
}

func TestStorageInFile(t *testing.T) {
	vaulttest.Storage(t, func(t *testing.T) vault.Storage {
		s, err := vault.OpenStorage(filepath.Join(t.TempDir(), "vault"))
		check(t, err)
		t.Cleanup(func() { check(t, s.Close()) })
		return s
	})
}
