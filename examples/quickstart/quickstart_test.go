package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/consignq/consign"
)

// try runs the quickstart, where no language model is, and returns what it
// printed.
func try(t *testing.T, terminal bool, args ...string) (string, error) {
	t.Helper()
	return tryAt(t, place{}, terminal, args...)
}

func tryAt(t *testing.T, llm place, terminal bool, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out strings.Builder
	err := run(ctx, args, &out, terminal, llm)
	return out.String(), err
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var row = regexp.MustCompile(`(?m)^(summarize|classify|extract|poison)\b(.*?)  +([0-4])  +(phone|laptop|desktop|server) +1  +\S+s +(verified|none, for a reason: .*)$`)

// takes says which tiers the workers of the fleet take.
var takes = map[string]string{"phone": "1", "laptop": "12", "desktop": "123", "server": "1234"}

// checkTable checks the table against the promises of the program, and returns
// the tiers in it.
func checkTable(t *testing.T, out string) (tiers, names map[string]bool) {
	t.Helper()
	tiers, names = map[string]bool{}, map[string]bool{}
	rows := row.FindAllStringSubmatch(out, -1)
	total := regexp.MustCompile(`(?m)^(\d+) jobs on`).FindStringSubmatch(out)
	if total == nil || len(rows) == 0 || total[1] != regexp.MustCompile(`of (\d+) jobs have`).FindStringSubmatch(out)[1] {
		t.Fatalf("no table of all jobs:\n%s", out)
	}
	for _, r := range rows {
		tiers[r[3]], names[strings.TrimSpace(r[2])] = true, true
		if !strings.Contains(takes[r[4]], r[3]) {
			t.Errorf("a %s does not take tier %s: %s", r[4], r[3], r[0])
		}
	}
	for _, want := range []string{
		"Custody is escrow",
		"The result of summarize ",
		"\n  as " + regexp.MustCompile(`as (\w+), ed25519:`).FindStringSubmatch(out)[1] + ", ed25519:",
		`"format": "consign/record/v1"`, `"format": "consign/acceptance/v1"`, `"custody": "escrow"`, `"kind": "TASK"`,
		"of the result changed:\n  consign: bad receipt: record.result_hash is not",
		"of the record changed:\n  consign: bad receipt: record.signatures does not verify",
		"with another key:\n  seal: box does not open",
		`"type":"email","value":"anna@example.org"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing: %q in\n%s", want, out)
		}
	}
	return tiers, names
}

func TestDocuments(t *testing.T) {
	out, err := try(t, false)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tiers, names := checkTable(t, out)
	if len(tiers) != 4 {
		t.Errorf("the default documents make tiers %v, not all four", tiers)
	}
	if !names["receipt-format.md"] {
		t.Errorf("the project's documents were not found: %v", names)
	}
	if regexp.MustCompile(`\x1b|\r`).MatchString(out) {
		t.Error("control characters where no terminal is")
	}
	n := len(row.FindAllString(out, -1))
	if lines := len(regexp.MustCompile(`(?m)^ *\d+/\d+ .*: verified$`).FindAllString(out, -1)); lines != n {
		t.Errorf("%d lines of progress for %d jobs", lines, n)
	}
}

// Newton is there where the documents are not, and makes every tier.
func TestElsewhere(t *testing.T) {
	jobs := makeJobs([]text{{"opticks.txt", opticks}}, false)
	tiers := map[consign.Tier]bool{}
	for _, j := range jobs {
		tiers[j.tier()] = true
	}
	if len(tiers) != 4 || len(jobs) != 12 {
		t.Errorf("%d jobs of tiers %v", len(jobs), tiers)
	}
}

func TestTerminal(t *testing.T) {
	out, err := try(t, true, file(t, "a.txt", "A lease ends. A worker renews its lease. Tea is at five."))
	if err != nil {
		t.Fatal(err)
	}
	checkTable(t, out)
	if !strings.Contains(out, "\r\x1b[K[########################################] 3/3 ") {
		t.Errorf("no bar that fills:\n%q", out)
	}
	bar := strings.LastIndex(out, "\x1b[K")
	if !strings.HasPrefix(out[bar:], "\x1b[K\nJOB") {
		t.Errorf("the bar is not wiped away before the table:\n%q", out[bar:bar+40])
	}
	if regexp.MustCompile(`(?m)^ *\d+/\d+ `).MatchString(out) {
		t.Error("lines and a bar")
	}
}

func TestFiles(t *testing.T) {
	for name, text := range map[string]string{
		"german.txt":   "Die Häuser der Stadt sind alt. Viele alte Häuser der Stadt wurden 2019 erneuert. Der Fluss ist breit.",
		"japanese.txt": strings.Repeat("東京は日本の首都です。首都には古い寺が多くあります。天気は寒いです。", 60),
		"emoji.txt":    "👩‍🚀🚀 \"quotes\" & <tags> \\ \u2028 é",
		"bom.txt":      "\uFEFFOne sentence, after a byte order mark.",
		"crlf.txt":     "One line.\r\nAnother line.\r\n",
		"code.go":      "package main\n\nfunc main() {}\n",
	} {
		t.Run(name, func(t *testing.T) {
			out, err := try(t, false, file(t, name, text))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if _, names := checkTable(t, out); !names[name] {
				t.Errorf("the file itself is not in the table: %v", names)
			}
			if !utf8.ValidString(out) {
				t.Error("printed what is not UTF-8")
			}
		})
	}
}

// What files and workers say reaches the terminal as text, whatever is in it.
func TestControlCharacters(t *testing.T) {
	out, err := try(t, false, file(t, "red\x1b[31m.txt", "A lease\x1b[2J ends.\x07 A worker\u009b renews its lease. Tea is at five."))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if i := strings.IndexFunc(out, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
		t.Errorf("a control character: %q", out[max(0, i-40):i+10])
	}
}

// Tiers go by characters: 1,400 of three bytes each are still tier 1.
func TestTierOfCharacters(t *testing.T) {
	for n, want := range map[int]consign.Tier{1_400: 1, 1_500: 2, 5_900: 2, 6_000: 3, 23_900: 3, 24_000: 4} {
		if got := makeJobs([]text{{"x", strings.Repeat("東", n)}}, false)[0].tier(); got != want {
			t.Errorf("%d characters: tier %d, not %d", n, got, want)
		}
		if got := makeJobs([]text{{"x", strings.Repeat("<", n)}}, false)[0].tier(); got != want {
			t.Errorf("%d characters that JSON could escape: tier %d, not %d", n, got, want)
		}
	}
}

// A file that cannot be used is named, and so is what to do.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(dir, "none.txt"), "no such file or directory: check the path"},
		"directory": {dir, "is a directory: name the files in it, such as " + filepath.Join(dir, "*.md")},
		"empty":     {file(t, "empty.txt", ""), "is empty: name a file with"},
		"blank":     {file(t, "blank.txt", " \n\t\n"), "is empty: name a file with"},
		"binary":    {file(t, "a.out", "\x7fELF\x02\x01\x01\x00\x00"), "is not text in UTF-8: convert it"},
		"latin1":    {file(t, "latin1.txt", "H\xe4user"), "is not text in UTF-8: convert it"},
		"huge":      {file(t, "huge.txt", strings.Repeat("x", 1<<20+1)), "has more than 1048576 bytes: split it"},
		"flag":      {"-nonsense", "flag provided but not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := try(t, false, c.path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
			if strings.Contains(out, "JOB") {
				t.Errorf("it went on:\n%s", out)
			}
		})
	}
}

func TestPoison(t *testing.T) {
	out, err := try(t, false, "-poison", file(t, "a.txt", "A lease ends. A worker renews its lease. Tea is at five."))
	if err != nil {
		t.Fatal(err)
	}
	checkTable(t, out)
	if !strings.Contains(out, "\n3 of 4 jobs have a verified receipt") || !strings.Contains(out, `"sumarize": send summarize, classify or extract`) {
		t.Errorf("the failure is not told:\n%s", out)
	}
}

// A job that does not end as it should makes the program fail, and says why.
func TestNotOK(t *testing.T) {
	for _, j := range []*job{
		{name: "no error, no verification"},
		{name: "an error", err: errors.New("boom")},
		{name: "poison that passed", poison: true},
		{name: "poison that was lost", poison: true, err: errors.New("boom")},
	} {
		if j.ok() {
			t.Errorf("%s is ok", j.name)
		}
	}
}

// An interrupt lets workers finish, ends everything, and is not a success.
func TestInterrupt(t *testing.T) {
	for name, after := range map[string]string{"at once": "", "amid the work": " a.txt: verified"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &cutter{after: after, cut: cancel}
			if after == "" {
				cancel()
			}
			long := file(t, "a.txt", strings.Repeat(opticks, 10)) // the server is busy with it all the time
			err := run(ctx, []string{long, long, long}, out, false, place{})
			if err == nil || !strings.Contains(err.Error(), "interrupted") || !strings.Contains(err.Error(), "run it again") {
				t.Errorf("got %v", err)
			}
			if strings.Contains(out.String(), "Its receipt") || strings.Contains(out.String(), "A PRIVATE job") || !strings.Contains(out.String(), "NONE: not finished") {
				t.Errorf("as if nothing had happened:\n%s", out.String())
			}
		})
	}
}

// cutter calls cut once it has been told something.
type cutter struct {
	strings.Builder
	after string
	cut   func()
}

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.Builder.Write(b)
	if c.after != "" && strings.Contains(c.String(), c.after) {
		c.cut()
	}
	return n, err
}
