package vault_test

import (
	"slices"
	"testing"

	"github.com/consignq/consign/vault"
)

// A vault's name stays with its medium, whatever is rotated, and no other vault
// has it.
func TestNameStaysWithTheMedium(t *testing.T) {
	dir, kek := t.TempDir(), vault.NewKEK()
	name := func(v *vault.Vault) string {
		t.Helper()
		names, err := v.Names(t.Context())
		check(t, err)
		if len(names) != 1 {
			t.Fatalf("the names are %q", names)
		}
		return names[0]
	}
	v := open(t, dir, kek, vault.Config{})
	first := name(v)
	for range 3 {
		check(t, v.RotateKey(t.Context()))
	}
	check(t, v.Close())
	if again := name(open(t, dir, kek, vault.Config{})); again != first {
		t.Errorf("it was %q, and is %q once it was opened again", first, again)
	}
	seen := []string{first, name(open(t, t.TempDir(), kek, vault.Config{}))}
	for range 2 {
		m, err := vault.NewMemory(vault.Config{})
		check(t, err)
		seen = append(seen, name(m))
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 4 {
		t.Errorf("several vaults are called %q", seen)
	}
}

// Processes that share a storage have one vault, even where both named it.
func TestNamesAreShared(t *testing.T) {
	s, kek := vault.NewMemoryStorage(), vault.NewKEK()
	var all []*vault.Vault
	for range 3 {
		v, err := vault.New(t.Context(), s, kek, vault.Config{})
		check(t, err)
		all = append(all, v)
	}
	check(t, vault.GiveName(t.Context(), all[2])) // as if it had found none
	want, err := all[2].Names(t.Context())
	check(t, err)
	if len(want) != 2 {
		t.Fatalf("the names are %q", want)
	}
	for _, v := range all {
		if got, err := v.Names(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("the names are %q, %v, and %q for another", got, err, want)
		}
	}
}
