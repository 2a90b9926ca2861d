package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker/task"
)

// text is something to work on.
type text struct{ name, text string }

//go:embed opticks.txt
var opticks string

// load reads the files; the project's own documents where none is named; and
// Newton where there is no project around.
func load(files []string) ([]text, error) {
	if len(files) == 0 {
		files = documents()
	}
	if len(files) == 0 {
		return []text{{"opticks.txt", opticks}}, nil
	}
	var texts []text
	for _, file := range files {
		t, err := read(file)
		if err != nil {
			return nil, err
		}
		texts = append(texts, t)
	}
	return texts, nil
}

// documents finds the project by where this file was compiled, or else by the
// working directory.
func documents() (files []string) {
	_, source, _, _ := runtime.Caller(0)
	for _, root := range []string{filepath.Join(filepath.Dir(source), "..", ".."), "."} {
		module, err := os.ReadFile(filepath.Join(root, "go.mod"))
		if err != nil || !strings.HasPrefix(string(module), "module github.com/consignq/consign\n") {
			continue
		}
		for _, pattern := range []string{"README.md", "ARCHITECTURE.md", "docs/*.md"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are good
			files = append(files, found...)
		}
		return files
	}
	return nil
}

// read reads a file of text, or says what to give instead.
func read(file string) (text, error) {
	bad := func(problem, remedy string) (text, error) {
		return text{}, fmt.Errorf("%s %s: %s", file, problem, remedy)
	}
	f, err := os.Open(file)
	if err != nil {
		return text{}, fmt.Errorf("%w: check the path, or name no file to use the project's documents", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return bad("is a directory", "name the files in it, such as "+filepath.Join(file, "*.md"))
	}
	b, err := io.ReadAll(io.LimitReader(f, task.MaxText+1))
	s := strings.TrimPrefix(string(b), "\uFEFF")
	switch {
	case err != nil:
		return text{}, fmt.Errorf("%w: give a file that can be read", err)
	case len(b) > task.MaxText:
		return bad(fmt.Sprintf("has more than %d bytes", task.MaxText), "split it, and name the parts")
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return bad("is not text in UTF-8", "convert it (iconv -t UTF-8), or name another file")
	case strings.TrimSpace(s) == "":
		return bad("is empty", "name a file with a few sentences in it")
	}
	return text{printable(filepath.Base(file)), s}, nil
}

func names(texts []text) string {
	var names []string
	for _, t := range texts {
		names = append(names, t.name)
	}
	return strings.Join(names, ", ")
}

func join(texts []text) text {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString(t.text + "\n\n")
	}
	return text{"all texts", b.String()}
}

// cuts says how much of a text makes a job of each tier, in characters: at
// least, and at most. There is room for what JSON adds to it.
var cuts = [consign.MaxTier][2]int{{1, 800}, {2_000, 4_000}, {8_000, 16_000}, {24_000, 30_000}}

// cut returns the beginning of the text, or all of it, as fits the tier; false
// where the text is too short for it.
func (t text) cut(tier consign.Tier) (text, bool) {
	least, most := cuts[tier-1][0], cuts[tier-1][1]
	runes := []rune(t.text)
	if len(runes) < least {
		return text{}, false
	}
	if len(runes) <= most {
		return t, true
	}
	s := string(runes[:most])
	for _, end := range []string{"\n\n", "\n", " "} { // not amid a paragraph, if it can be helped
		if i := strings.LastIndex(s, end); i > len(s)*9/10 {
			s = s[:i]
			break
		}
	}
	return text{fmt.Sprintf("%s, %d characters", t.name, utf8.RuneCountInString(s)), s}, true
}
