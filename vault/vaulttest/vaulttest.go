// Package vaulttest is the executable form of two contracts: that of
// consign.Vault, and that of vault.Storage.
//
// Each check is named after what it is about and quotes, when it fails, the
// sentence of the contract that is broken. The test of a vault, and of what one
// may be built on, is one line each:
//
//	func TestContract(t *testing.T) { vaulttest.Run(t, open) }
//	func TestStorage(t *testing.T)  { vaulttest.Storage(t, openStorage) }
package vaulttest

import (
	"context"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// Run holds a vault against the contract. The function open returns an empty
// one, for one check, whose clock is time.Now; it cleans up after itself with
// t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) consign.Vault) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Storage does so with a storage.
func Storage(t *testing.T, open func(t *testing.T) vault.Storage) {
	for _, c := range storageContract {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// check is one part of a contract.
type check[T any] struct {
	name     string
	sentence string // of the interface's comment, verbatim
	test     func(t tester, v T)
}

func (c check[T]) run(t tester, v T) { c.test(quoting{t, c.sentence}, v) }

// tester is what a check needs of a testing.T. The suite's own test stands in
// for it.
type tester interface {
	Helper()
	Context() context.Context
	Fatalf(format string, args ...any)
}

// quoting is a tester that says which sentence was broken.
type quoting struct {
	tester
	sentence string
}

func (q quoting) Fatalf(format string, args ...any) {
	q.Helper()
	q.tester.Fatalf("the contract says: %q\n"+format, append([]any{q.sentence}, args...)...)
}

// must ends the check if a call failed.
func must[T any](t tester) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

func ok(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the call failed: %v", err)
	}
}
