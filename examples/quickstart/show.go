package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

func intro(out io.Writer, texts []text, jobs []*job, fleet fleet) {
	fmt.Fprintf(out, "%d jobs about %d texts. Workers, all in this process:", len(jobs), len(texts))
	for _, m := range fleet {
		fmt.Fprintf(out, " %s (tier %d)", m.name, m.maxTier)
	}
	fmt.Fprint(out, ".\nCustody is plain: the queue and its workers can read these texts. Sealed payloads come next.\n\n")
}

// progress is a bar on a terminal, and lines elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	done, of int
}

func newProgress(out io.Writer, terminal bool, of int) *progress {
	return &progress{out: out, terminal: terminal, of: of}
}

func (p *progress) add(j *job, fleet fleet) {
	p.done++
	if !p.terminal {
		fmt.Fprintf(p.out, "%2d/%d %s: %s\n", p.done, p.of, j.name, verdict(j))
		return
	}
	const width = 40
	full := width * p.done / p.of
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %d/%d %s", strings.Repeat("#", full), strings.Repeat(".", width-full), p.done, p.of, j.name)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
		return
	}
	fmt.Fprintln(p.out)
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
	fmt.Fprintln(w, "JOB\tTIER\tWORKER\tATTEMPTS\tTIME\tRECEIPT")
	verified := 0
	for _, j := range jobs {
		worker, took := "-", "-"
		if m := fleet.by(j.result.Worker); m != nil {
			worker = m.name
		}
		if !j.result.EndedAt.IsZero() && !j.result.ClaimedAt.IsZero() {
			took = j.result.EndedAt.Sub(j.result.ClaimedAt).Round(100 * time.Microsecond).String()
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", j.name, j.tier(), worker, j.result.Attempts, took, verdict(j))
		if j.err == nil {
			verified++
		}
	}
	_ = w.Flush() // as for every other line, a reader that has gone is no concern
	fmt.Fprintf(out, "\n%d of %d receipts verified.\n", verified, len(jobs))
}

func verdict(j *job) string {
	switch {
	case j.poison && j.ok():
		return "none, failed as it should: " + j.result.Reason
	case j.err != nil:
		return "NONE: " + j.err.Error()
	}
	return string(j.result.Verification)
}

// showSummary prints a result.
func showSummary(out io.Writer, j *job) error {
	var r struct{ Summary, Reason string }
	if err := json.Unmarshal(j.result.Result, &r); err != nil {
		return fmt.Errorf("the result of %s cannot be read: %w", j.name, err)
	}
	if r.Summary == "" {
		r.Summary = "(no summary: " + r.Reason + ")"
	}
	fmt.Fprintf(out, "\nThe result of %s:\n\n", j.name)
	line := "   "
	for _, word := range strings.Fields(r.Summary) {
		if len(line)+len(word) > 78 {
			fmt.Fprintln(out, line)
			line = "   "
		}
		line += " " + word
	}
	fmt.Fprintln(out, line)
	return nil
}

// showReceipt prints what was signed, and by whom.
func showReceipt(out io.Writer, j *job, fleet fleet, queue sign.PublicKey) error {
	m := fleet.by(j.result.Worker)
	fmt.Fprintf(out, "\nIts receipt. The worker signed this record\n  as %s, %s:\n", m.name, m.identity.Public())
	if err := indent(out, j.result.Receipt.Record.Payload); err != nil {
		return err
	}
	fmt.Fprintf(out, "and the queue signed this acceptance of it\n  as %s:\n", queue)
	return indent(out, j.result.Receipt.Acceptance.Payload)
}

func indent(out io.Writer, body []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, body, "  ", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "  %s\n", &b)
	return err
}

// forge changes a byte of the result, and one of the record, and shows that
// neither passes.
func forge(out io.Writer, j *job, fleet fleet, queue sign.PublicKey) error {
	key, err := fleet.key(j.result.Worker)
	if err != nil {
		return err
	}
	exchange := consign.Exchange{Worker: key, Queue: queue, Job: j.result.ID, Payload: j.request.Payload, Result: j.result.Result}
	otherResult := exchange
	otherResult.Result = flip(exchange.Result)
	otherRecord := j.result.Receipt
	otherRecord.Record.Payload = flip(otherRecord.Record.Payload)

	_, _, err1 := j.result.Receipt.Verify(otherResult)
	_, _, err2 := otherRecord.Verify(exchange)
	if !errors.Is(err1, consign.ErrBadReceipt) || !errors.Is(err2, consign.ErrBadReceipt) {
		return fmt.Errorf("a forged receipt passed (%v, %v): please report this", err1, err2)
	}
	fmt.Fprintf(out, "\nWith one byte of the result changed:\n  %v\nWith one byte of the record changed:\n  %v\n", err1, err2)
	return nil
}

// flip returns a copy with a byte in the middle changed.
func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}
