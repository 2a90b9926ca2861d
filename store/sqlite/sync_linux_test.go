package sqlite_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/sqlite"
)

// Acknowledged before fsync: acknowledged messages were lost. A kill does not
// show it, since what the kernel has survives that. So the system calls of a
// child are counted: between each answer of Apply and the one before, a sync of
// a file has come back. Without synchronous=FULL that is seen to be missing.
func TestNATS212_SyncedBeforeAnswered(t *testing.T) {
	const child, commits = "CONSIGN_SYNC_FILE", 30
	if path := os.Getenv(child); path != "" {
		s := openAt(t, sqlite.Config{Path: path, Relaxed: strings.HasSuffix(path, "relaxed")})
		for i := range commits {
			apply(t, s, []consign.Change{submitted(newJob(i))})
			if _, err := fmt.Fprintf(os.Stderr, "answer %d\n", i); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	if err := exec.Command("strace", "-f", "-o", os.DevNull, "true").Run(); err != nil {
		t.Skipf("strace cannot trace here: %v: install it, and allow ptrace", err)
	}
	for _, mode := range []string{"full", "relaxed"} {
		dir := t.TempDir()
		trace := filepath.Join(dir, "trace")
		cmd := exec.Command("strace", "-f", "-e", "trace=fsync,fdatasync,write", "-o", trace, os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // this test's binary
		cmd.Env = append(os.Environ(), child+"="+filepath.Join(dir, mode))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		answers, unsynced, syncs := readTrace(string(text))
		t.Logf("%s: %d answers, %d syncs, %d answers without one", mode, answers, syncs, unsynced)
		if answers != commits || (unsynced > 0) != (mode == "relaxed") {
			t.Errorf("%s: %d of %d answers came without a sync", mode, unsynced, answers)
		}
	}
}

// A call of strace -f is one line, or two when another thread's comes between.
var (
	syncCame = regexp.MustCompile(`(fsync|fdatasync)\(.*\) += 0$|<\.\.\. (fsync|fdatasync) resumed>.*= 0$`)
	answered = regexp.MustCompile(`write\(2, "answer [0-9]+\\n"`)
)

// readTrace counts the answers, and those before which nothing was synced.
func readTrace(text string) (answers, unsynced, syncs int) {
	since := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case syncCame.MatchString(line):
			syncs++
			since++
		case answered.MatchString(line):
			answers++
			if since == 0 {
				unsynced++
			}
			since = 0
		}
	}
	return answers, unsynced, syncs
}
