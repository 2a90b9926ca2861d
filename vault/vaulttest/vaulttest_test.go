package vaulttest

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// Every sentence that a check quotes is in the contract, word for word.
func TestQuotes(t *testing.T) {
	quotes(t, "../../vault.go", contract)
	quotes(t, "../storage.go", storageContract)
}

func quotes[T any](t *testing.T, file string, checks []check[T]) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, word := range strings.Fields(string(source)) {
		if word != "//" {
			words = append(words, word)
		}
	}
	text := strings.Join(words, " ")
	for _, c := range checks {
		if !strings.Contains(text, c.sentence) {
			t.Errorf("%s quotes what is not in %s: %q", c.name, file, c.sentence)
		}
	}
}

// A suite that lets a broken vault pass is no suite. Each mutant has one fault,
// which the named check must find.
func TestMutants(t *testing.T) {
	caught(t, contract, vaultMutants, func(t *testing.T) consign.Vault {
		v, err := vault.NewMemory(vault.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	})
}

func TestStorageMutants(t *testing.T) {
	caught(t, storageContract, storageMutants, func(*testing.T) vault.Storage { return newPlain() })
}

// TestPlainStorage: it is the fault that is found, and not the storage beneath.
func TestPlainStorage(t *testing.T) {
	Storage(t, func(*testing.T) vault.Storage { return newPlain() })
}

// TestCareless: what the careless vault leaves out is found, and not that it is
// another vault.
func TestCareless(t *testing.T) {
	for _, c := range contract {
		switch c.name {
		case "Deposit", "Headers", "Refuse", "Release", "NotReleased":
			t.Run(c.name, func(t *testing.T) { c.run(t, vaultOf("nothing")(nil)) })
		}
	}
}

type mutant[T any] struct {
	fault string // "one that ..."
	by    string // the check that must find it
	wrap  func(good T) T
}

func caught[T any](t *testing.T, checks []check[T], mutants []mutant[T], open func(t *testing.T) T) {
	n := 0
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.fault, " ", "-"), func(t *testing.T) {
			for _, c := range checks {
				if c.name != m.by {
					continue
				}
				failure := failureOf(t, func(r *recorder) { c.run(r, m.wrap(open(t))) })
				if failure == "" {
					t.Fatalf("one that %s passes %s", m.fault, m.by)
				}
				n++
				return
			}
			t.Fatalf("there is no check %s", m.by)
		})
	}
	fmt.Printf("vaulttest: %d of %d caught by the check that is meant for them\n", n, len(mutants))
}

func failureOf(t *testing.T, test func(r *recorder)) string {
	r, done := &recorder{T: t}, make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	return r.failure
}

// recorder is a testing.T that notes a failure instead of failing.
type recorder struct {
	*testing.T
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Context() context.Context { return context.Background() }
