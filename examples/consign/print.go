package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// rower is what a table shows in a row.
type rower interface{ row() []string }

// show writes a table, or the values as a JSON array.
func show[T rower](t *tool, head []string, values []T) error {
	if t.json {
		return t.writeJSON(append([]T{}, values...)) // never null
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, v := range values {
		cells := v.row()
		for i := range cells {
			cells[i] = plain(cells[i])
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func (t *tool) writeJSON(v any) error {
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plain takes out what a terminal would obey: reasons and models come from
// workers and submitters.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text
}

func (v jobView) row() []string {
	state := v.State
	if v.Purged {
		state += ", purged"
	}
	return []string{v.ID.String(), v.Account, state, v.Kind, v.Model, fmt.Sprint(v.Attempts), moment(v.CreatedAt), v.Reason}
}

func (v entryView) row() []string {
	worker := ""
	if !v.Worker.IsZero() {
		worker = v.Worker.String()[:12]
	}
	what := v.Event
	if v.Report != "" {
		what += ", " + v.Report
	}
	return []string{moment(v.At), what, v.State, fmt.Sprint(v.Attempt), worker, v.Reason}
}

func (o outcome) row() []string {
	if o.New.IsZero() {
		return []string{o.Job.String(), o.State}
	}
	return []string{o.Job.String(), o.State, o.New.String()}
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateTime)
}

// say prints one sentence, or it as JSON.
func (t *tool) say(sentence string) error {
	if t.json {
		return t.writeJSON(map[string]string{"message": sentence})
	}
	_, err := fmt.Fprintln(t.out, strings.ToUpper(sentence[:1])+sentence[1:]+".")
	return err
}

func (t *tool) printExplanation(x explanation) error {
	if t.json {
		return t.writeJSON(x)
	}
	n := x.Needs
	needs := []string{"kind " + n.Kind, fmt.Sprint("tier ", n.Tier)}
	for _, need := range []struct {
		there bool
		text  string
	}{
		{n.Model != "", "model " + n.Model}, {n.HardwareTier > 0, fmt.Sprint("hardware tier ", n.HardwareTier)},
		{n.VRAM > 0, fmt.Sprint("VRAM of ", n.VRAM, " MiB")}, {n.Docker, "containers"}, {n.Encryption, "sealed payloads"},
		{n.Private, "to be paired with the account"}, {n.Recipients != "", "to be one of " + n.Recipients}, {n.Labels != "", "labels " + n.Labels},
	} {
		if need.there {
			needs = append(needs, need.text)
		}
	}
	fmt.Fprintf(t.out, "Job %s of %s is %s: %s.\nA worker for it needs: %s.\n\n",
		x.Job.ID, plain(x.Job.Account), x.Job.State, plain(x.Why), plain(strings.Join(needs, ", ")))
	return show(t, []string{"AT (UTC)", "EVENT", "STATE", "TRY", "WORKER", "REASON"}, x.Log)
}
