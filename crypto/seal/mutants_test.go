package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// edit replaces the one place in a file of this package that reads old.
type edit struct{ file, old, new string }

// mutant is this package with one of its checks taken out.
type mutant struct {
	name  string
	edits []edit
}

func without(name, file, old, new string) mutant { return mutant{name, []edit{{file, old, new}}} }

// TestSealMutants takes each check out of the package's source, one at a time, and
// sees to it that the package's own tests notice. A mutant that survives is a
// check that could be lost without anybody knowing.
func TestSealMutants(t *testing.T) {
	if os.Getenv("CONSIGN_MUTANTS") == "" {
		t.Skip("CONSIGN_MUTANTS is not set: it builds the package's tests a hundred times; make mutants does")
	}
	all := allMutants()
	if err := (mutant{name: "none"}).run(t.Context(), t.TempDir()); err != nil {
		t.Fatal("without a mutation: ", err)
	}
	caught := 0
	var mu sync.Mutex
	t.Run("each", func(t *testing.T) {
		for _, m := range all {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				err := m.run(t.Context(), t.TempDir())
				if failed, ok := err.(failure); !ok {
					t.Errorf("survives, or is no mutant: %v", err)
				} else {
					t.Logf("caught by %s", failed)
					mu.Lock()
					caught++
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d of %d mutants caught", caught, len(all))
}

// failure names the tests that failed.
type failure string

func (f failure) Error() string { return string(f) }

// run builds the mutated package's tests and runs them. It returns a failure if
// one of them fails, nil if all pass, and another error if the mutant cannot be
// made.
func (m mutant) run(ctx context.Context, dir string) error {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	sources := map[string]string{}
	for _, e := range m.edits {
		if sources[e.file] == "" {
			data, err := os.ReadFile(e.file)
			if err != nil {
				return err
			}
			sources[e.file] = string(data)
		}
		if n := strings.Count(sources[e.file], e.old); n != 1 {
			return fmt.Errorf("%s holds %q %d times, not once", e.file, e.old, n)
		}
		sources[e.file] = strings.Replace(sources[e.file], e.old, e.new, 1)
	}
	for file, source := range sources {
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		overlay.Replace[path] = filepath.Join(dir, file)
		if err := os.WriteFile(overlay.Replace[path], []byte(source), 0o600); err != nil {
			return err
		}
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "seal.test")
	if err := os.WriteFile(list, data, 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", list, "-o", binary, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("does not compile: %w\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, binary, "-test.failfast")
	run.Env = append(os.Environ(), "CONSIGN_MUTANTS=")
	out, err := run.CombinedOutput()
	if err == nil {
		return nil
	}
	failed := "a panic"
	for line := range bytes.Lines(out) {
		if name, ok := bytes.CutPrefix(line, []byte("--- FAIL: ")); ok {
			failed = string(bytes.TrimSpace(name))
			break
		}
	}
	return failure(failed)
}
