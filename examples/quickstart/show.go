package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/consignq/consign/crypto/sign"
)

// progress is a bar on a terminal, and lines elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	done, of int
}

func (p *progress) add(j *job) {
	p.done++
	if !p.terminal {
		fmt.Fprintf(p.out, "%2d/%d %s: %s\n", p.done, p.of, j.name, j.verdict())
		return
	}
	const width = 40
	full := width * p.done / p.of
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %d/%d %s", strings.Repeat("#", full), strings.Repeat(".", width-full), p.done, p.of, j.name)
	if p.done == p.of {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// isTerminal reports whether a person watches who can be shown a bar.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

// table lists every job: who ran it, how often it was tried, whether its
// receipt holds.
func table(out io.Writer, jobs []*job, fleet fleet) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nJOB\tTIER\tWORKER\tATTEMPTS\tTIME\tRECEIPT")
	verified := 0
	for _, j := range jobs {
		name, took := "-", "-"
		if m := fleet.by(j.result.Worker); m != nil {
			name = m.name
		}
		if !j.result.EndedAt.IsZero() && !j.result.ClaimedAt.IsZero() {
			took = j.result.EndedAt.Sub(j.result.ClaimedAt).Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", j.name, j.result.Tier, name, j.result.Attempts, took, j.verdict())
		if j.err == nil {
			verified++
		}
	}
	_ = w.Flush() // a reader that has gone is no concern, here and everywhere
	fmt.Fprintf(out, "\n%d of %d jobs have a verified receipt.\n", verified, len(jobs))
}

// summary prints what a summarize job came to.
func summary(out io.Writer, j *job) {
	var r struct {
		Sentences []struct{ Text string }
		Reason    string // why there are none
	}
	_ = json.Unmarshal(j.result.Output, &r) // it is verified: what the executor wrote
	fmt.Fprintf(out, "\nThe result of %s:\n", j.name)
	if r.Reason != "" {
		fmt.Fprintln(out, "  none:", r.Reason)
	}
	for _, s := range r.Sentences {
		fmt.Fprintln(out, "  -", printable(s.Text))
	}
}

// printable makes a text one line that a terminal takes for text: a result is
// a stranger's words, and so are the files.
func printable(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// receipt prints what was signed, and by whom.
func receipt(out io.Writer, j *job, fleet fleet, queue sign.PublicKey) {
	var record, acceptance bytes.Buffer
	_ = json.Indent(&record, j.result.Receipt.Record.Payload, "  ", "  ") // likewise
	_ = json.Indent(&acceptance, j.result.Receipt.Acceptance.Payload, "  ", "  ")
	m := fleet.by(j.result.Worker)
	fmt.Fprintf(out, "\nIts receipt. The worker signed this record\n  as %s, %s:\n  %s\n", m.name, m.identity.Public(), &record)
	fmt.Fprintf(out, "and the queue signed this acceptance of it\n  as %s:\n  %s\n", queue, &acceptance)
}
