package task

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each testdata/golden/NAME.json is a payload, NAME.want its result. A changed
// result is a changed class: raise Engine, then run with -update.
func TestGolden(t *testing.T) {
	for name, payload := range goldenPayloads(t) {
		t.Run(name, func(t *testing.T) {
			got, err := Run(context.Background(), payload)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name+".want", indent(t, got))
		})
	}
}

// The engine's name and what it answers change together.
func TestClass(t *testing.T) {
	portable := strings.Replace(Class(), " unicode/"+unicode.Version, "", 1)
	compare(t, "class.want", portable+"\n")
	if !strings.HasPrefix(Class(), Engine) {
		t.Errorf("class %q does not name the engine", Class())
	}
}

func compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// goldenPayloads reads testdata/golden/*.json.
func goldenPayloads(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/golden/*.json")
	if err != nil || len(paths) < 30 {
		t.Fatalf("only %d golden payloads: %v", len(paths), err)
	}
	payloads := map[string][]byte{}
	for _, path := range paths {
		payload, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		payloads[strings.TrimSuffix(filepath.Base(path), ".json")] = payload
	}
	return payloads
}

func indent(t *testing.T, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", " "); err != nil {
		t.Fatal(err)
	}
	return b.String() + "\n"
}
