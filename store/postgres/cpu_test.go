package postgres_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/consignq/consign/internal/testkit/pgtest"
)

// cpu is the processor time that this process and the server have used. It
// tells more than the clock where others use the machine.
func cpu(tb testing.TB, s *pgtest.Server) (ours, theirs time.Duration) {
	tb.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		tb.Fatal(err)
	}
	ours = time.Duration(use.Utime.Nano() + use.Stime.Nano())

	pidFile, err := os.ReadFile(filepath.Join(s.Dir(), "data", "postmaster.pid"))
	if err != nil {
		tb.Fatal(err)
	}
	postmaster, _, _ := strings.Cut(string(pidFile), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		tb.Fatal(err)
	}
	var ticks int64
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from the state on
		if pid := filepath.Base(filepath.Dir(path)); pid != postmaster && f[1] != postmaster {
			continue
		}
		for _, field := range f[11:15] { // its own and its ended children's
			n, _ := strconv.ParseInt(field, 10, 64)
			ticks += n
		}
	}
	const perSecond = 100 // USER_HZ
	return ours, time.Duration(ticks) * time.Second / perSecond
}
