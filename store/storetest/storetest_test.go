package storetest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/consignq/consign/store/memdb"
)

// Every sentence that a check quotes is in store.go, word for word.
func TestQuotes(t *testing.T) {
	source, err := os.ReadFile("../../store.go")
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
	for _, c := range contract {
		if !strings.Contains(text, c.sentence) {
			t.Errorf("%s quotes what is not in store.go: %q", c.name, c.sentence)
		}
	}
}

// A suite that lets a broken store pass is no suite. Each mutant is memdb with
// one fault, which the named check must find.
func TestMutants(t *testing.T) {
	var caught int
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.fault, " ", "-"), func(t *testing.T) {
			failures := make(map[string]string)
			for _, c := range contract {
				synctest.Test(t, func(t *testing.T) {
					if failure := failureOf(t, func(r *recorder) { c.run(r, m.wrap(memdb.New())) }); failure != "" {
						failures[c.name] = failure
					}
				})
			}
			if failures[m.by] == "" {
				t.Errorf("a store that %s passes %s; it is found by %d others: %v", m.fault, m.by, len(failures), reflect.ValueOf(failures).MapKeys())
				return
			}
			caught++
			t.Logf("%s: %s", m.by, failures[m.by])
		})
	}
	fmt.Printf("storetest: %d of %d broken stores caught by the check that is meant for them\n", caught, len(mutants))
}

// The model finds them too, but for those that need a race, a clock, a
// cancelled context or a rare value to show.
func TestModelMutants(t *testing.T) {
	for name, value := range map[string]string{"rapid.shrinktime": "0s", "rapid.nofailfile": "true", "rapid.checks": "2000"} {
		old := flag.Lookup(name).Value.String()
		defer flag.Set(name, old) //nolint:errcheck
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	var caught, tried int
	for _, m := range mutants {
		if m.subtle {
			continue
		}
		tried++
		t.Run(strings.ReplaceAll(m.fault, " ", "-"), func(t *testing.T) {
			failure := failureOf(t, func(r *recorder) {
				rapid.Check(r, func(r *rapid.T) { explore(r, m.wrap(memdb.New())) })
			})
			if failure == "" {
				t.Errorf("a store that %s passes the model", m.fault)
				return
			}
			caught++
		})
	}
	fmt.Printf("storetest: %d of %d broken stores caught by the model\n", caught, tried)
}

// failureOf runs a test against a recorder and returns how it failed, "" if it
// passed. A panic is a fault of the suite.
func failureOf(t *testing.T, test func(r *recorder)) string {
	r := &recorder{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("the suite panicked: %v\n%s", p, debug.Stack())
			}
		}()
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

func (r *recorder) Errorf(format string, args ...any) { r.failure = fmt.Sprintf(format, args...) }
func (r *recorder) FailNow()                          { r.Fatalf("failed") }
func (r *recorder) Fail()                             { r.failure = "failed" }
func (r *recorder) Failed() bool                      { return r.failure != "" }
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Log(...any)                        {}
func (r *recorder) Context() context.Context          { return context.Background() }
