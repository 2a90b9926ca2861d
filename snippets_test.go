package consign_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The documents' Go snippets compile, and the README's program runs.

// pages are the documents that may hold snippets.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if !slices.Contains(all, "README.md") {
		t.Fatalf("README.md is not among the pages: %v", all)
	}
	return all
}

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// snippets returns the Go blocks of a page.
func snippets(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range goBlock.FindAllSubmatch(text, -1) {
		all = append(all, string(m[1]))
	}
	if n := bytes.Count(text, []byte("```go")); n != len(all) {
		t.Fatalf("%s: %d blocks of Go, %d of them closed", page, n, len(all))
	}
	return all
}

// TestSnippetsCompile builds every snippet, as a package of this module.
func TestSnippetsCompile(t *testing.T) {
	var sources []string
	for _, page := range pages(t) {
		for i, snippet := range snippets(t, page) {
			source, err := wholeFile(snippet)
			if err != nil {
				t.Errorf("%s, snippet %d: %v", page, i+1, err)
				continue
			}
			// What the compiler says then names the page.
			sources = append(sources, fmt.Sprintf("//line %s-snippet-%d.go:1\n%s", page, i+1, source))
		}
	}
	if len(sources) < 2 {
		t.Fatalf("only %d snippets found", len(sources))
	}
	if out, err := goTool(t, sources, "build", "."); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSnippetsCanFail shows that a snippet which is out of date is found.
func TestSnippetsCanFail(t *testing.T) {
	source, err := wholeFile("return queue.Gone()\n")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := goTool(t, []string{source}, "build", "."); err == nil || !strings.Contains(out, "Gone") {
		t.Errorf("a call of a method that does not exist passes: %v\n%s", err, out)
	}
}

// TestReadmeProgram runs the README's program, which doc.go repeats.
func TestReadmeProgram(t *testing.T) {
	program := snippets(t, "README.md")[0]
	out, err := goTool(t, []string{program}, "run")
	if want := "HELLO, signed by its worker: true\n"; err != nil || out != want {
		t.Errorf("it prints %q, %v, want %q", out, err, want)
	}

	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var comment strings.Builder
	for line := range strings.Lines(program) {
		if line = "//\t" + line; line == "//\t\n" {
			line = "//\n"
		}
		comment.WriteString(line)
	}
	if !strings.Contains(string(doc), comment.String()) {
		t.Error("doc.go does not hold the README's program: copy it there")
	}
}

// TestMap: ARCHITECTURE.md says what each file of the root and each package of
// this module is for, and names none that is gone.
func TestMap(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## The map")
	text, _, _ = strings.Cut(text, "## A job's way")
	var there []string
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			there = append(there, file)
		}
	}
	for _, p := range list(t, "./...") {
		if name := inModule(p.ImportPath); name != "." {
			there = append(there, name)
		}
	}
	if len(there) < 60 {
		t.Fatalf("only %d files and packages found", len(there))
	}
	for _, name := range there {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the map does not say what %s is for", name)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+\\.go)`").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(there, m[1]) {
			t.Errorf("the map names %s, which is not there", m[1])
		}
	}
}

// The packages that a fragment may use without importing them, and the
// variables that it may use without declaring them. Statements are the body of
// a function that returns an error.
var known = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "log": "log", "strings": "strings", "testing": "testing", "time": "time",
	"consign": "github.com/consignq/consign", "client": "github.com/consignq/consign/client", "worker": "github.com/consignq/consign/worker",
	"sign": "github.com/consignq/consign/crypto/sign", "memdb": "github.com/consignq/consign/store/memdb",
	"storetest": "github.com/consignq/consign/store/storetest", "transporttest": "github.com/consignq/consign/transport/transporttest",
}

const scope = "func _(ctx context.Context, queue *consign.Queue, jobs consign.SubmitterAPI, id consign.JobID) error {\n%s}\n"

var qualifier = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)

// wholeFile makes a file of a snippet that may be declarations or statements.
func wholeFile(snippet string) (string, error) {
	parses := func(source string) bool {
		_, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
		return err == nil
	}
	if parses(snippet) {
		return snippet, nil
	}
	body := snippet
	if !parses("package p\n" + body) {
		body = fmt.Sprintf(scope, body)
	}
	var head strings.Builder
	head.WriteString("package snippet\n")
	var imported []string
	for _, m := range qualifier.FindAllStringSubmatch(body, -1) {
		if path := known[m[1]]; path != "" && !slices.Contains(imported, path) {
			imported = append(imported, path)
			fmt.Fprintf(&head, "import %q\n", path)
		}
	}
	source := head.String() + body
	if _, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution); err != nil {
		return "", err
	}
	return source, nil
}

// goTool runs the go command on packages and on sources, each a package of its
// own in this module that only this command sees. Beside another package a
// program is built and not kept.
func goTool(t *testing.T, sources []string, command string, packages ...string) (out string, err error) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command, so the documents' snippets were not compiled")
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, source := range sources {
		file := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("snippet%d", i)
		overlay.Replace[filepath.Join(root, "internal", name, "main.go")] = file
		packages = append(packages, "./internal/"+name)
	}
	file := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{command, "-overlay", file}, packages...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	return string(stdout) + stderr.String(), err
}
