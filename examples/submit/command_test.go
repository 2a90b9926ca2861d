package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/consignq/consign"
)

// How long a job has follows from its kind, unless it was said; in a batch,
// where jobs wait for each other, only if it was said.
func TestDeadline(t *testing.T) {
	file := filepath.Join(t.TempDir(), "text")
	batch := filepath.Join(t.TempDir(), "batch")
	if err := os.WriteFile(file, []byte("a text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(batch, []byte(`{"text":"a"}`+"\n"+`{"kind":"LLM_INFER","text":"b","webhook":"https://x.example/h"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want time.Duration
	}{
		{[]string{"-task", "classify"}, 30 * time.Second},
		{[]string{"-kind", consign.KindInference, "-model", "m"}, time.Minute},
		{[]string{"-kind", "RENDER"}, 0},
		{[]string{"-task", "classify", "-deadline", "0"}, 0},
		{[]string{"-task", "classify", "-deadline", "2h"}, 2 * time.Hour},
		{[]string{"-kind", consign.KindInference, "-deadline", "1s"}, time.Second},
	} {
		o, err := parse(append(c.args, file))
		if err != nil {
			t.Fatal(err)
		}
		r, err := o.line([]byte("a text")).request()
		if err != nil {
			t.Fatal(err)
		}
		if got := o.deadline.of(r.Kind); got != c.want {
			t.Errorf("%v: %v, not %v", c.args, got, c.want)
		}
	}
	for want, args := range map[time.Duration][]string{0: {"-batch", batch}, time.Hour: {"-batch", batch, "-deadline", "1h"}} {
		o, err := parse(append(args, "-task", "classify", "-webhook", "https://y.example"))
		if err != nil {
			t.Fatal(err)
		}
		rs, err := o.readBatch()
		if err != nil || len(rs) != 2 {
			t.Fatalf("%v: %v", rs, err)
		}
		for i, hook := range []string{"https://y.example", "https://x.example/h"} {
			if rs[i].Deadline != want || rs[i].Webhook != hook {
				text, _ := json.Marshal(rs[i])
				t.Errorf("%v: line %d is %s", args, i+1, text)
			}
		}
	}
}
