package seal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/sealed-format.md names every label, text form and refusal of this
// package, and no label that is not in it.
func TestFormatPage(t *testing.T) {
	data, err := os.ReadFile("../../docs/sealed-format.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(source)
	}
	label := regexp.MustCompile(`"consign/[a-z0-9/-]+"`)
	labels := label.FindAllString(code.String(), -1)
	if len(labels) < 15 {
		t.Errorf("%d labels in the code", len(labels))
	}
	for _, l := range labels {
		if !strings.Contains(page, strings.Trim(l, `"`)) {
			t.Errorf("the page lacks %s", l)
		}
	}
	for _, l := range label.FindAllString(page, -1) {
		if !strings.Contains(code.String(), l) {
			t.Errorf("the code lacks %s", l)
		}
	}
	for name := range outcomes {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page lacks the refusal %s", name)
		}
	}
	for _, name := range kemNames {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page lacks %s", name)
		}
	}
	for _, text := range []string{Suite, BundleType, Public, Private, Sealed, Escrow, Transit} {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %s", text)
		}
	}
}
