package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// TestDeployment runs a coordinator, workers and submitters as processes, kills
// some of them, and misses no result.
func TestDeployment(t *testing.T) {
	for _, store := range []string{"memdb", "sqlite"} {
		t.Run(store, func(t *testing.T) {
			d := newDeployment(t, store)
			coordinator := d.coordinator()
			victim := d.worker("worker-1", "-slots", "2")
			steady := d.worker("worker-2", "-transport", "http")

			// Real texts, sealed; a worker dies amid them.
			d.batch("first.jsonl", func() { _ = victim.stop(syscall.SIGKILL) })
			d.seeds()
			third := d.pair()
			d.private(third)

			if store == "sqlite" {
				d.batch("second.jsonl", func() {
					_ = coordinator.stop(syscall.SIGKILL)
					coordinator = d.coordinator()
				})
				d.private(third) // pairings and pins are where they were
				if n := d.metric(`consign_job_events_total{event="complete"}`); n == "" {
					t.Error("no metric of completed jobs")
				}
			}
			d.imposter()
			for _, p := range []*process{steady, coordinator} {
				if err := p.stop(syscall.SIGTERM); err != nil {
					t.Errorf("%s, told to end: %v", p.name, err)
				}
			}
		})
	}
}

// texts are the project's own documents.
func texts(t *testing.T) (all []string) {
	for _, pattern := range []string{"../*.md", "../docs/*.md", "quickstart/*.txt"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(text))
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d documents", len(all))
	}
	return all
}

// A batch that is sent again does what is left of it, and keeps the results that
// it has: nobody else has them.
func TestBatchAgain(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "memdb")
	d.coordinator()
	d.worker("worker-1", "-slots", "2")
	file, results := filepath.Join(d.dir, "again.jsonl"), filepath.Join(d.dir, "results.jsonl")
	var lines []string
	type ended struct {
		ID     consign.JobID `json:"job_id"`
		Result string        `json:"result"`
		Before bool          `json:"acknowledged_before"`
	}
	for _, more := range []int{3, 2} {
		for range more {
			lines = append(lines, fmt.Sprintf(`{"id":"%s","task":"classify","text":"The goal came late."}`, consign.NewJobID()))
		}
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		p := d.submit("-batch", file, "-result", results)
		if _, err := p.wait(); err != nil {
			t.Fatalf("%v\n%s", err, p.stderr.tail())
		}
	}
	got, before := map[consign.JobID]int{}, 0
	for _, text := range strings.Split(strings.TrimSpace(string(read(t, results))), "\n") {
		var e ended
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if e.Before {
			before++
		}
		if e.Result != "" {
			got[e.ID]++
		}
	}
	if len(got) != 5 || before != 0 {
		t.Errorf("results of %d of 5 jobs, and %d were sent again:\n%s", len(got), before, read(t, results))
	}
}

// batch runs three tasks on each text, calls amid when a few have ended, and
// checks that each has its result and its receipt.
func (d *deployment) batch(name string, amid func()) {
	d.t.Helper()
	var lines bytes.Buffer
	n := 0
	for _, text := range texts(d.t) {
		for _, task := range []string{"summarize", "classify", "extract"} {
			n++
			_ = json.NewEncoder(&lines).Encode(map[string]string{"task": task, "text": text})
		}
	}
	file, receipts := filepath.Join(d.dir, name), filepath.Join(d.dir, name+".receipts")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		d.t.Fatal(err)
	}
	p := d.submit("-batch", file, "-receipt", receipts)
	first := p.line("{")
	amid()
	rest, err := p.wait()
	if err != nil {
		d.t.Fatalf("submit -batch: %v\n%s", err, p.stderr.tail())
	}
	ids := map[consign.JobID]bool{}
	for line := range strings.Lines("{" + first + "\n" + rest) {
		var e struct {
			ID       consign.JobID `json:"job_id"`
			Verified bool          `json:"verified"`
			Result   string        `json:"result"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || !e.Verified || !strings.HasPrefix(e.Result, `{"task":`) {
			d.t.Errorf("a bad line (%v): %.300s", err, line)
		}
		ids[e.ID] = true
	}
	if len(ids) != n {
		d.t.Errorf("%d results of %d jobs", len(ids), n)
	}
	d.checkReceipts(receipts, ids)
}

// checkReceipts verifies receipts without the program that wrote them.
func (d *deployment) checkReceipts(file string, ids map[consign.JobID]bool) {
	d.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	seen := map[consign.JobID]bool{}
	for line := range bytes.Lines(data) {
		var e struct {
			Receipt consign.Receipt `json:"receipt"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			d.t.Fatalf("a bad receipt: %v: %.200s", err, line)
		}
		seen[d.checkReceipt(e.Receipt).JobID] = true
	}
	for id := range ids {
		if !seen[id] {
			d.t.Errorf("no receipt of job %s", id)
		}
	}
}

// checkReceipt verifies one with the key of whom the record names, and the
// queue's.
func (d *deployment) checkReceipt(r consign.Receipt) consign.Record {
	d.t.Helper()
	var claimed struct {
		Worker consign.WorkerID `json:"worker_id"`
	}
	if err := json.Unmarshal(r.Record.Payload, &claimed); err != nil {
		d.t.Fatal(err)
	}
	key, err := sign.ParsePublicKey(sign.Ed25519, claimed.Worker[:])
	if err != nil {
		d.t.Fatal(err)
	}
	record, err := consign.VerifyRecord(r.Record, key)
	if err != nil {
		d.t.Error(err)
	}
	acceptance, err := consign.VerifyAcceptance(r.Acceptance, d.key)
	if err != nil || acceptance.Record != r.Record.Name() {
		d.t.Errorf("the acceptance does not hold: %v", err)
	}
	return record
}

// seeds is a client that knows the endpoints of the first protocol alone. What
// it sends in plain the coordinator seals.
func (d *deployment) seeds() {
	d.t.Helper()
	var quote struct {
		Endpoint string `json:"endpoint"`
		Quote    string `json:"quote_id"`
		Policy   string `json:"policy_resolved"`
	}
	d.call(http.MethodGet, "/v1/quote?job_type=TASK&policy=AUTO", nil, http.StatusOK, &quote)
	if quote.Policy != "CHEAP" {
		d.t.Errorf("a TASK resolves to %q", quote.Policy)
	}
	var job struct {
		ID      string          `json:"id"`
		Job     string          `json:"job_id"`
		Status  string          `json:"status"`
		Result  json.RawMessage `json:"result"`
		Receipt consign.Receipt `json:"receipt"`
	}
	d.call(http.MethodPost, quote.Endpoint, map[string]any{"job_type": "TASK", "quote_id": quote.Quote,
		"payload": map[string]string{"task": "summarize", "text": texts(d.t)[0]}}, http.StatusCreated, &job)
	d.call(http.MethodGet, "/v1/jobs/"+job.Job+"?wait=60s", nil, http.StatusOK, &job)
	if job.Status != "completed" || !bytes.HasPrefix(job.Result, []byte(`{"task":"summarize"`)) {
		d.t.Errorf("job %s is %s: %.200s", job.Job, job.Status, job.Result)
	}
	d.checkReceipt(job.Receipt)

	// The same with the program, and one in plain.
	for _, custody := range []string{"transit", "plain", "escrow"} {
		p := d.submit("-custody", custody, "-task", "classify", "../README.md")
		if out, err := p.wait(); err != nil || !strings.HasPrefix(out, `{"task":"classify"`) {
			d.t.Errorf("custody %s: %v: %.200s\n%s", custody, err, out, p.stderr.tail())
		}
	}
}

// call makes a request as any program can.
func (d *deployment) call(method, path string, in any, want int, out any) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			d.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, d.url()+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("status %d, not %d", resp.StatusCode, want)
	}
	if err == nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		d.t.Fatalf("%s %s: %v: %.300s", method, path, err, answer)
	}
}

// pair pairs a third worker with the submitter, each told the other's
// fingerprint by the test, and returns its key. Before that a submitter and a
// worker who were told wrong ones refuse.
func (d *deployment) pair() sign.PublicKey {
	d.t.Helper()
	right, wrong := d.identity("worker-3"), d.identity("another").Fingerprint()

	p := d.submit("-private", "-task", "summarize", "../README.md")
	if out, err := p.wait(); err == nil || out != "" {
		d.t.Errorf("a PRIVATE job without a paired worker: %v: %s", err, out)
	}
	p = d.submit("-pair", "-confirm", wrong)
	w := d.worker("worker-3", "-pair", p.line("code "), "-pin", wrong)
	if _, err := w.wait(); err == nil {
		d.t.Error("a worker pinned a submitter that is not the one it was told of")
	}
	if _, err := p.wait(); err == nil {
		d.t.Error("a submitter confirmed a worker that is not the one it was told of")
	}
	if pins, _ := os.ReadDir(filepath.Join(d.dir, "submit", "pins")); len(pins) != 0 {
		d.t.Errorf("pinned: %v", pins)
	}

	p = d.submit("-pair", "-confirm", right.Fingerprint())
	d.worker("worker-3", "-pair", p.line("code "), "-pin", p.line("fingerprint "))
	if _, err := p.wait(); err != nil {
		d.t.Fatalf("submit -pair: %v\n%s", err, p.stderr.tail())
	}
	return right
}

// private runs a PRIVATE job, which only the paired worker can have run.
func (d *deployment) private(by sign.PublicKey) {
	d.t.Helper()
	file := filepath.Join(d.dir, "receipt.json")
	p := d.submit("-private", "-task", "summarize", "-receipt", file, "../ARCHITECTURE.md")
	out, err := p.wait()
	if err != nil || !strings.HasPrefix(out, `{"task":"summarize"`) {
		d.t.Fatalf("a PRIVATE job: %v: %.200s\n%s", err, out, p.stderr.tail())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		d.t.Fatal(err)
	}
	var receipt consign.Receipt
	if err := json.Unmarshal(data, &receipt); err != nil {
		d.t.Fatal(err)
	}
	if record := d.checkReceipt(receipt); record.WorkerID != consign.WorkerID(by.ID()) {
		d.t.Errorf("the PRIVATE job was run by %s", record.WorkerID)
	}
}

// imposter is another coordinator at the same address: its jobs are refused.
func (d *deployment) imposter() {
	d.t.Helper()
	other := newDeployment(d.t, "memdb")
	other.coordinator()
	was := d.gate.target.Swap(other.gate.target.Load())
	defer d.gate.target.Store(was)
	p := d.submit("-task", "summarize", "../README.md")
	if out, err := p.wait(); err == nil || out != "" || !strings.Contains(p.stderr.tail(), "ask the queue's owner") {
		d.t.Errorf("another queue was believed: %v: %.200s\n%s", err, out, p.stderr.tail())
	}
}

// metric returns a metric's value, "" where there is none.
func (d *deployment) metric(name string) string {
	d.t.Helper()
	resp, err := http.Get(d.metrics)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
