package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// fact is a line about the machine or the run.
type fact struct{ name, value string }

// libraries are those whose versions matter to the figures.
var libraries = []string{"github.com/riverqueue/river", "github.com/hibiken/asynq", "github.com/mikestefanello/backlite", "github.com/jackc/pgx/v5", "modernc.org/sqlite"}

// describe says what machine this is and what runs on it.
func (p *place) describe(ctx context.Context) ([]fact, error) {
	facts := []fact{
		{"processor", fmt.Sprintf("%s; %d cores", procField("/proc/cpuinfo", "model name"), runtime.NumCPU())},
		{"memory", memory()},
		{"system", fmt.Sprintf("%s/%s, kernel %s", runtime.GOOS, runtime.GOARCH, firstLine("/proc/sys/kernel/osrelease"))},
		{"load average when it began", firstLine("/proc/loadavg")},
		{"commit", commit(ctx)},
		{"Go", strings.TrimPrefix(runtime.Version(), "go")},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(libraries, m.Path) {
				facts = append(facts, fact{m.Path, m.Version})
			}
		}
	}
	if p.pg != nil {
		var version string
		if err := p.pool.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
			return nil, err
		}
		sync, err := p.syncTime()
		if err != nil {
			return nil, err
		}
		facts = append(facts, fact{"PostgreSQL, default settings", version}, fact{"one fdatasync of 8 kB before, by pg_test_fsync", sync})
	}
	for _, r := range p.redis {
		facts = append(facts, fact{"Redis", r.version()})
		break
	}
	return facts, nil
}

// commit names the source that is measured.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func memory() string {
	var kib float64
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemTotal"), "%f kB", &kib); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f GiB", kib/(1<<20))
}

// procField is the value of the first line of a file that begins with a name;
// "unknown" where there is no such file.
func procField(path, name string) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "unknown"
	}
	defer f.Close() //nolint:errcheck // it was read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(field) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func firstLine(path string) string {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// markdown writes the page: docs/compare.md, where the run was asked for it.
func markdown(w io.Writer, o options, about []fact, r *results) error {
	b := bufio.NewWriter(w)
	p := func(format string, a ...any) { fmt.Fprintf(b, format+"\n", a...) }
	p("# Consign beside other queues\n")
	p("Written by `%s` in `bench/`; change nothing by hand. What is", o.command)
	p("measured, and how, is in that command's source. All systems run on one machine in one program, and share its cores with")
	p("their database. In each of %d rounds every system does every workload once, in turns, on storage that is empty at first;", o.rounds)
	p("a round before those counts for nothing. Rates are medians, with the least and the most in brackets; a ratio is of two")
	p("systems in the same round, and above 1 where the system of the row is the faster one. Every job is counted: none was")
	p("lost, none ran twice.\n")
	p("| | |\n|---|---|")
	for _, f := range about {
		p("| %s | %s |", f.name, f.value)
	}
	if o.svg != "" {
		p("\n![What each system does](%s)", filepath.Base(o.svg))
	}
	for _, f := range r.figures {
		p("\n## %s\n\n%s\n", f.title, f.about)
		table(p, f, r.rows(f))
	}
	p("\nProcessor time is of this program, with queue, workers and submitters in it, and of the database's processes. WAL and")
	p("round trips are PostgreSQL's. \"Kept through\" is what a job survives once its submitter or worker has been told.")
	return b.Flush()
}

func table(p func(string, ...any), f figure, rows []row) {
	if f.latency {
		p("| system | p50, ms | p99, ms | of jobs | p50 beside | kept through |\n|---|--:|--:|--:|---|---|")
	} else {
		p("| system | jobs/s | beside | jobs a round | processor, us/job: program + database | WAL, B/job | round trips/job | kept through |\n|---|--:|---|--:|--:|--:|--:|---|")
	}
	for _, r := range rows {
		beside := "-"
		if r.against != "" {
			beside = fmt.Sprintf("%s: %.2f (%.2f-%.2f)", r.against, r.ratio.median, r.ratio.least, r.ratio.most)
		}
		if f.latency {
			p("| %s | %s | %s | %d | %s | %s |", r.system.title, millis(r.p50), millis(r.p99), r.samples, beside, r.system.keeps)
			continue
		}
		wal, trips := "-", "-"
		if r.system.on == onPostgres {
			wal, trips = fmt.Sprintf("%.0f", r.wal), fmt.Sprintf("%.3f", r.trips)
		}
		p("| %s | %s (%s-%s) | %s | %d | %d + %d | %s | %s | %s |", r.system.title, thousands(r.rate.median), thousands(r.rate.least), thousands(r.rate.most),
			beside, r.jobs/r.rounds, r.ours.Microseconds(), r.server.Microseconds(), wal, trips, r.system.keeps)
	}
}

func millis(d time.Duration) string {
	if d >= 100*time.Millisecond {
		return fmt.Sprintf("%.0f", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.3g", d.Seconds()*1e3)
}

// thousands is a rate with the digits that mean something.
func thousands(rate float64) string {
	switch {
	case rate >= 10_000:
		return fmt.Sprintf("%.0fk", rate/1e3)
	case rate >= 1_000:
		return fmt.Sprintf("%.1fk", rate/1e3)
	default:
		return fmt.Sprintf("%.0f", rate)
	}
}
