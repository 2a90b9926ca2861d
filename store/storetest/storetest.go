// Package storetest is the executable form of the contract of consign.Store.
//
// Each check is named after what it is about and quotes, when it fails, the
// sentence of store.go that the store breaks. A store's test is one line:
//
//	func TestContract(t *testing.T) { storetest.Run(t, open) }
//
// and a second one holds it against a reference model in random sequences of
// changes:
//
//	func TestModel(t *testing.T) { storetest.Model(t, open) }
package storetest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// Run holds a store against the contract. The function open returns an empty
// one, for one check; it cleans up after itself with t.Cleanup.
//
// The checks run in real time, with leases of milliseconds.
func Run(t *testing.T, open func(t *testing.T) consign.Store) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// RunSync is Run with each check in a bubble of testing/synctest: for stores
// that do no I/O and whose clock is time.Now.
func RunSync(t *testing.T, open func(t *testing.T) consign.Store) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(t, open(t)) })
		})
	}
}

// check is one part of the contract.
type check struct {
	name     string
	sentence string // of store.go, verbatim
	test     func(s *subject)
}

var contract = slices.Concat(writes, leases, reads, races)

func (c check) run(t tester, store consign.Store) {
	c.test(&subject{Store: store, tester: t, sentence: c.sentence})
}

// tester is what a check needs of a testing.T. The suite's own test stands in
// for it.
type tester interface {
	Helper()
	Context() context.Context
	Fatalf(format string, args ...any)
}

// subject is the store under test, with the sentence that it is tested for.
type subject struct {
	consign.Store
	tester
	sentence string
}

// failf ends the check: the store breaks the sentence.
func (s *subject) failf(format string, args ...any) {
	s.Helper()
	s.Fatalf("the contract says: %q\n"+format, append([]any{s.sentence}, args...)...)
}

// equal fails the check unless the store gave what it should. Nil and empty
// slices are the same answer.
func equal[T any](s *subject, what string, got, want T) {
	s.Helper()
	if g, w := reflect.ValueOf(&got).Elem(), reflect.ValueOf(&want).Elem(); g.Kind() == reflect.Slice && g.Len() == 0 && w.Len() == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		s.failf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
}

// ok returns a call's result, if the call gave no error.
func ok[T any](s *subject) func(T, error) T {
	return func(v T, err error) T {
		s.Helper()
		if err != nil {
			s.failf("the call failed: %v", err)
		}
		return v
	}
}

// apply commits the changes and returns their outcomes.
func (s *subject) apply(changes ...consign.Change) []error {
	s.Helper()
	outcomes := ok[[]error](s)(s.Apply(s.Context(), changes))
	if len(outcomes) != len(changes) {
		s.failf("Apply gave %d outcomes for %d changes", len(outcomes), len(changes))
	}
	return outcomes
}

// must commits changes that cannot fail.
func (s *subject) must(changes ...consign.Change) {
	s.Helper()
	for i, err := range s.apply(changes...) {
		if err != nil {
			s.failf("change %d of %d was refused: %v", i+1, len(changes), err)
		}
	}
}

// refused tries a change that must fail with the error.
func (s *subject) refused(what string, want error, c consign.Change) {
	s.Helper()
	if err := s.apply(c)[0]; !errors.Is(err, want) {
		s.failf("%s: the outcome is %v, want %v", what, err, want)
	}
}

// outcomes checks a batch's outcomes one by one.
func (s *subject) outcomes(got []error, want ...error) {
	s.Helper()
	if len(got) != len(want) {
		s.failf("there are %d outcomes, want %d", len(got), len(want))
	}
	for i := range got {
		if !errors.Is(got[i], want[i]) {
			s.failf("outcome %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func (s *subject) renew(renewals ...consign.Renewal) []error {
	s.Helper()
	return ok[[]error](s)(s.Renew(s.Context(), renewals))
}

// job returns the job, which must be there.
func (s *subject) job(id consign.JobID) *consign.Job {
	s.Helper()
	jobs := ok[[]*consign.Job](s)(s.Jobs(s.Context(), []consign.JobID{id}))
	if len(jobs) != 1 || jobs[0] == nil {
		s.failf("job %s is not there", id)
	}
	return jobs[0]
}

// eventually polls until the condition holds.
func (s *subject) eventually(what string, holds func() bool) {
	s.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(short / 4) {
		if time.Now().After(deadline) {
			s.failf("waited in vain until %s", what)
		}
	}
}

// The leases of the checks: one that a check waits for, one that outlasts it.
const (
	short = 8 * time.Millisecond
	long  = time.Hour
)
