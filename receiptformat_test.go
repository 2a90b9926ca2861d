package consign

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/consignq/consign/internal/lp"
)

// The page that others implement from names every key, and its example is the
// first vector of receipt.json.
func TestReceiptFormatPage(t *testing.T) {
	data, err := os.ReadFile("docs/receipt-format.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	receipt := testReceipt(t)
	record := testRecord()
	record.PoE = record.commitment().Sum()
	preimage := lp.Append(nil, []byte("consign/poe/v2"), record.JobID[:], record.ClaimID[:], record.WorkerID[:],
		[]byte(record.Model), record.InputHash[:], record.ResultHash[:], record.TCommit[:])
	x := testExchange()
	example := []string{
		x.Worker.String(), x.Queue.String(), string(receipt.Record.Payload), string(receipt.Acceptance.Payload),
		hex.EncodeToString(preimage), RecordType, AcceptanceType, RecordFormat, AcceptanceFormat,
	}
	for _, e := range []struct {
		name [32]byte
		sig  []byte
	}{{receipt.Record.Name(), receipt.Record.Signatures[0].Sig}, {receipt.Acceptance.Name(), receipt.Acceptance.Signatures[0].Sig}} {
		example = append(example, hex.EncodeToString(e.name[:])+"\n"+base64.StdEncoding.EncodeToString(e.sig)+"\n")
	}
	for _, s := range example {
		if !strings.Contains(page, s) {
			t.Errorf("the page lacks %s", s)
		}
	}
	if n := fmt.Sprintf("%d,%03d bytes on one line", len(receipt.Record.Payload)/1000, len(receipt.Record.Payload)%1000); !strings.Contains(page, n) {
		t.Errorf("the page lacks %q", n)
	}
	for _, body := range [][]byte{receipt.Record.Payload, receipt.Acceptance.Payload} {
		for _, key := range keysOf(t, body, "") {
			if !strings.Contains(page, "| `"+key+"` |") {
				t.Errorf("the page lacks a row for %s", key)
			}
		}
	}
}

// The page's foreign receipt verifies, and has the names that the page says.
func TestForeignReceiptOfThePage(t *testing.T) {
	data, err := os.ReadFile("docs/receipt-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "this text and signature verify:\n\n```\n")
	lines := strings.SplitN(rest, "\n", 3)
	job, err := ParseJobID("0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051")
	if err != nil || len(lines) < 3 {
		t.Fatal("the page has no foreign receipt", err)
	}
	r := ForeignReceipt{JSON: lines[0], Signature: lines[1]}
	worker := ForeignWorkerID(testIdentity("worker").Public().Bytes())
	if err := r.Verify(worker, job, []byte("hello")); err != nil {
		t.Error(err)
	}
	name := r.Name()
	for _, s := range []string{worker.String(), hex.EncodeToString(name[:]), ForeignType} {
		if !strings.Contains(string(data), s) {
			t.Errorf("the page lacks %s", s)
		}
	}
}

// keysOf returns the paths of all members of the JSON object.
func keysOf(t *testing.T, body []byte, prefix string) (keys []string) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		t.Fatal(err)
	}
	for key, value := range object {
		keys = append(keys, prefix+key)
		if value[0] == '{' {
			keys = append(keys, keysOf(t, value, prefix+key+".")...)
		}
	}
	return keys
}
