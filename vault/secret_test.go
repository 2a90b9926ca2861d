package vault

import (
	"bytes"
	"slices"
	"testing"

	"github.com/consignq/consign"
)

// Secrets stay with the medium, whatever is rotated, and are of one purpose and
// one vault; the medium does not show them.
func TestSecrets(t *testing.T) {
	s, old := &memory{jobs: make(map[consign.JobID][]Record)}, NewKEK()
	v, err := New(t.Context(), s, old, Config{})
	check(t, err)
	first := v.Secret("webhook")
	if len(first) != 32 || bytes.Equal(first, v.Secret("other")) {
		t.Errorf("the secret has %d bytes, or is that of another purpose", len(first))
	}
	other, err := NewMemory(Config{})
	check(t, err)
	if bytes.Equal(first, other.Secret("webhook")) {
		t.Error("another vault has the same secret")
	}
	check(t, v.RotateKey(t.Context()))
	kek := NewKEK()
	check(t, v.Rekey(t.Context(), kek))
	again, err := New(t.Context(), s, kek, Config{})
	check(t, err)
	for _, v := range []*Vault{v, again} {
		if !bytes.Equal(v.Secret("webhook"), first) {
			t.Error("keys that were rotated change the secret")
		}
	}
	for _, r := range s.jobs[consign.JobID{}] {
		if bytes.Contains(r.Sealed, v.root) {
			t.Error("the medium shows what secrets follow from")
		}
	}
}

// Processes that have made a vault at once agree on its secrets; a vault of
// before there were any gets one, and keeps its name.
func TestSecretsAreShared(t *testing.T) {
	s, kek := &memory{jobs: make(map[consign.JobID][]Record)}, NewKEK()
	named := Record{At: 1}
	copy(named.Header[:], nameLabel+"sixteen bytes...")
	named, err := kek.seal(named, secret{})
	check(t, err)
	check(t, s.Put(t.Context(), named))
	one, err := New(t.Context(), s, kek, Config{})
	check(t, err)
	two, err := New(t.Context(), s, kek, Config{})
	check(t, err)
	check(t, two.giveName(t.Context())) // as if it had found none
	if len(one.root) != 32 || bytes.Equal(one.root, make([]byte, 32)) {
		t.Errorf("secrets follow from %x", one.root)
	}
	for range 2 {
		names, err := one.Names(t.Context())
		check(t, err)
		if names[0] != named.name() {
			t.Errorf("the vault is called %q, and was called %q", names, named.name())
		}
		if !bytes.Equal(one.Secret("webhook"), two.Secret("webhook")) {
			t.Error("two processes have two secrets")
		}
	}
}

// A vault whose medium has lost what secrets follow from keeps those that it has.
func TestSecretsFollowFromSomething(t *testing.T) {
	s := &memory{jobs: make(map[consign.JobID][]Record)}
	v, err := New(t.Context(), s, NewKEK(), Config{})
	check(t, err)
	first := v.Secret("webhook")
	for _, r := range slices.Clone(s.jobs[consign.JobID{}]) {
		if r.name() != "" {
			check(t, s.Delete(t.Context(), []Record{r}))
		}
	}
	names, err := v.Names(t.Context())
	check(t, err)
	if len(names) != 0 {
		t.Fatalf("it is still called %q", names)
	}
	if !bytes.Equal(v.Secret("webhook"), first) {
		t.Error("its secrets follow from something else")
	}
}
