package consign

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// The files under testdata/vectors are for readers in any language. Byte
// strings are in hexadecimal, keys in the text form of sign.PublicKey. "expect"
// is "success", or the field that a reader has to name when it refuses.
//
// testdata/vectors/verify.mjs is such a reader.

type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

type paeVector struct {
	PayloadType string   `json:"payload_type"`
	Payload     hexBytes `json:"payload"`
	PAE         hexBytes `json:"pae"`
	SHA256      hexBytes `json:"sha256"`
}

type poeVectors struct {
	V1 []poeV1Vector `json:"v1"`
	V2 []poeV2Vector `json:"v2"`
}

type poeV1Vector struct {
	TaskID hexBytes `json:"task_id"`
	Result hexBytes `json:"result"`
	NodeID hexBytes `json:"node_id"`
	PoE    hexBytes `json:"poe"`
}

type poeV2Vector struct {
	JobID    hexBytes `json:"job_id"`
	ClaimID  hexBytes `json:"claim_id"`
	WorkerID hexBytes `json:"worker_id"`
	Model    string   `json:"model"`
	Input    hexBytes `json:"input"`
	Result   hexBytes `json:"result"`
	TCommit  hexBytes `json:"t_commit"`
	Preimage hexBytes `json:"preimage"`
	PoE      hexBytes `json:"poe"`
}

// envelopeVector is JSON text that is an envelope, or is not.
type envelopeVector struct {
	Name   string `json:"name"`
	Expect string `json:"expect"` // "success" or "envelope"
	Text   string `json:"text"`
}

// bodyVector is the signed envelope of a record or an acceptance.
type bodyVector struct {
	Name     string         `json:"name"`
	Expect   string         `json:"expect"`
	Key      sign.PublicKey `json:"key"`
	Envelope sign.Envelope  `json:"envelope"`
	Body     string         `json:"body,omitempty"`   // of a success: the payload as text
	SHA256   hexBytes       `json:"sha256,omitempty"` // of a success: the envelope's name
}

type receiptVector struct {
	Name    string         `json:"name"`
	Expect  string         `json:"expect"`
	Worker  sign.PublicKey `json:"worker"`
	Queue   sign.PublicKey `json:"queue"`
	JobID   JobID          `json:"job_id"`
	Header  hexBytes       `json:"header"`
	Payload hexBytes       `json:"payload"`
	Result  hexBytes       `json:"result"`
	Receipt Receipt        `json:"receipt"`
}

// golden compares what the vectors are now with what is in the file, or writes
// the file with -update.
func golden[T any](t *testing.T, name string, vectors T) {
	t.Helper()
	got, err := json.MarshalIndent(vectors, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", "vectors", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what this code makes; a released format never changes: give the new one a new label", path)
	}
	var back T
	if err := json.Unmarshal(want, &back); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

// outcome is "success", or the field of the error.
func outcome(err error) string {
	var re *ReceiptError
	switch {
	case err == nil:
		return "success"
	case errors.As(err, &re):
		return re.Field
	default:
		return err.Error()
	}
}

func TestVectorsPAE(t *testing.T) {
	var vectors []paeVector
	for _, v := range []struct{ payloadType, payload string }{
		{RecordType, `{"a":1}`},
		{"http://example.com/HelloWorld", "hello world"},
		{"", ""},
		{"é", "\x00\xff"},
		{"a 1", "2 b"},
	} {
		pae := sign.PAE(v.payloadType, []byte(v.payload))
		sum := sha256.Sum256(pae)
		vectors = append(vectors, paeVector{v.payloadType, hexBytes(v.payload), pae, sum[:]})
	}
	golden(t, "pae.json", vectors)
}

func TestVectorsPoE(t *testing.T) {
	var vectors poeVectors
	for _, v := range []struct{ task, result, node string }{
		{string(vectorJob[:]), "hello", string(vectorWorker[:])},
		{string(vectorJob[:]), "", string(vectorWorker[:])},
		{"req1", "0result", "node"}, // these two collide,
		{"req10", "result", "node"}, // which is why there is a version 2
	} {
		poe := PoEv1([]byte(v.task), []byte(v.result), []byte(v.node))
		vectors.V1 = append(vectors.V1, poeV1Vector{hexBytes(v.task), hexBytes(v.result), hexBytes(v.node), poe[:]})
	}
	for _, v := range []struct{ model, input, result, commit string }{
		{"llama3.1:8b", "input", "hello", strings.Repeat("\x00", 32)},
		{"", "", "", strings.Repeat("\x00", 32)},
		{"modèle", "input", "hello", strings.Repeat("\x44", 32)},
	} {
		input, result := InputHash([]byte(v.input), nil), sha256.Sum256([]byte(v.result))
		p := PoEv2{vectorJob, vectorClaim, vectorWorker, v.model, input, result, [32]byte([]byte(v.commit))}
		poe := p.Sum()
		preimage := lp.Append(nil, []byte("consign/poe/v2"), vectorJob[:], vectorClaim[:], vectorWorker[:],
			[]byte(v.model), input[:], result[:], []byte(v.commit))
		if sha256.Sum256(preimage) != poe {
			t.Errorf("%q: the preimage is not what Sum hashes", v.model)
		}
		vectors.V2 = append(vectors.V2, poeV2Vector{vectorJob[:], vectorClaim[:], vectorWorker[:], v.model,
			hexBytes(v.input), hexBytes(v.result), hexBytes(v.commit), preimage, poe[:]})
	}
	golden(t, "poe.json", vectors)
}

func TestVectorsEnvelope(t *testing.T) {
	const rest = `"payloadType":"t","signatures":[{"keyid":"k","sig":"AA=="}]`
	vectors := []envelopeVector{
		{"compact", "success", `{"payload":"eA==",` + rest + `}`},
		{"whitespace and another order", "success", " {\n" + rest + `, "payload" : "eA==" } `},
		{"no keyid", "success", `{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA=="}]}`},
		{"empty payload", "success", `{"payload":"",` + rest + `}`},
		{"not JSON", "envelope", `{`},
		{"an array", "envelope", `[]`},
		{"bytes after the end", "envelope", `{"payload":"eA==",` + rest + `}{}`},
		{"duplicate key", "envelope", `{"payload":"eA==",` + rest + `,"payload":"eA=="}`},
		{"unknown key", "envelope", `{"payload":"eA==",` + rest + `,"more":1}`},
		{"key of another case", "envelope", `{"Payload":"eA==",` + rest + `}`},
		{"no payload", "envelope", `{` + rest + `}`},
		{"null payload", "envelope", `{"payload":null,` + rest + `}`},
		{"base64 without padding", "envelope", `{"payload":"eA",` + rest + `}`},
		{"base64 with bits left over", "envelope", `{"payload":"eB==",` + rest + `}`},
		{"base64 with a line break", "envelope", `{"payload":"eA\n==",` + rest + `}`},
		{"base64 of URLs", "envelope", `{"payload":"-_-_",` + rest + `}`},
		{"no signature", "envelope", `{"payload":"eA==","payloadType":"t","signatures":[]}`},
		{"empty signature", "envelope", `{"payload":"eA==","payloadType":"t","signatures":[{"sig":""}]}`},
		{"unknown key in a signature", "envelope", `{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA==","cert":""}]}`},
		{"duplicate key in a signature", "envelope", `{"payload":"eA==","payloadType":"t","signatures":[{"sig":"AA==","sig":"AA=="}]}`},
		{"17 signatures", "envelope", `{"payload":"eA==","payloadType":"t","signatures":[` + strings.Repeat(`{"sig":"AA=="},`, 16) + `{"sig":"AA=="}]}`},
	}
	for _, v := range vectors {
		var e sign.Envelope
		err := e.UnmarshalJSON([]byte(v.Text))
		if (err == nil) != (v.Expect == "success") {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Expect)
		}
	}
	golden(t, "envelope.json", vectors)
}

func TestVectorsRecord(t *testing.T) {
	key := testIdentity("worker").Public()
	good := signRecord(t, testRecord())
	text := testRecord()
	text.Model, text.Engine = "\"\\/\b\f\n\r\t\x00\x1f\x7f<>&é€\u2028\ufffd😂", "x"
	extreme := testRecord()
	extreme.Epoch, extreme.Seq, extreme.ExitStatus, extreme.FinishedAt = maxSafeInteger, maxSafeInteger, -maxSafeInteger, maxSafeInteger
	two := good
	two.Signatures = append(slices.Clone(good.Signatures), good.Signatures[0])
	hint := good
	hint.Signatures = []sign.Signature{{KeyID: "a hint, and a wrong one", Sig: good.Signatures[0].Sig}}
	flipped := good
	flipped.Payload = bytes.Replace(good.Payload, []byte(`"seq":97`), []byte(`"seq":98`), 1)

	vectors := []bodyVector{
		{Name: "every field", Expect: "success", Key: key, Envelope: good},
		{Name: "no optional field", Expect: "success", Key: key, Envelope: signRecord(t, minimalRecord())},
		{Name: "all escapes", Expect: "success", Key: key, Envelope: signRecord(t, text)},
		{Name: "extreme numbers", Expect: "success", Key: key, Envelope: signRecord(t, extreme)},
		{Name: "keyid is a hint", Expect: "success", Key: key, Envelope: hint},
		{Name: "another type, signed", Expect: "record.payloadType", Key: key, Envelope: signBody(t, AcceptanceType, string(good.Payload))},
		{Name: "another key", Expect: "record.signatures", Key: testIdentity("stranger").Public(), Envelope: good},
		{Name: "two signatures", Expect: "record.signatures", Key: key, Envelope: two},
		{Name: "tampered", Expect: "record.signatures", Key: key, Envelope: flipped},
	}
	bodies := badBodies(string(good.Payload))
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		if bad := bodies[name]; len(bad.body) < 4096 {
			vectors = append(vectors, bodyVector{Name: name, Expect: bad.field, Key: key, Envelope: signBody(t, RecordType, bad.body)})
		}
	}
	for i := range vectors {
		v := &vectors[i]
		_, err := VerifyRecord(v.Envelope, v.Key)
		v.check(t, err)
	}
	golden(t, "record.json", vectors)
}

func TestVectorsAcceptance(t *testing.T) {
	key := testIdentity("queue").Public()
	good := signAcceptance(t, testAcceptance(signRecord(t, testRecord())))
	body := string(good.Payload)
	edit := func(old, new string) sign.Envelope {
		if !strings.Contains(body, old) {
			t.Fatal("no ", old)
		}
		return resign(t, "queue", sign.Envelope{PayloadType: AcceptanceType, Payload: []byte(strings.Replace(body, old, new, 1))})
	}
	vectors := []bodyVector{
		{Name: "every field", Expect: "success", Envelope: good},
		{Name: "no optional field", Expect: "success", Envelope: signAcceptance(t, Acceptance{Custody: CustodyPlain})},
		{Name: "another type, signed", Expect: "acceptance.payloadType", Envelope: resign(t, "queue", sign.Envelope{PayloadType: RecordType, Payload: good.Payload})},
		{Name: "signed by a worker", Expect: "acceptance.signatures", Envelope: resign(t, "worker", good)},
		{Name: "unsorted checks", Expect: "acceptance", Envelope: edit(`["claim","poe"`, `["poe","claim"`)},
		{Name: "a check twice", Expect: "acceptance", Envelope: edit(`["claim","poe"`, `["claim","claim"`)},
		{Name: "unknown custody", Expect: "acceptance", Envelope: edit(`"escrow"`, `"elsewhere"`)},
		{Name: "p as a number", Expect: "acceptance", Envelope: edit(`"p":"06eb3e45306eb3e4"`, `"p":498560650640798692`)},
		{Name: "drawn as a number", Expect: "acceptance", Envelope: edit(`"drawn":true`, `"drawn":1`)},
		{Name: "duplicate key", Expect: "acceptance", Envelope: edit(`"drawn":true`, `"drawn":true,"drawn":true`)},
		{Name: "unknown key", Expect: "acceptance", Envelope: edit(`"drawn":true`, `"drawn":true,"drowned":true`)},
		{Name: "missing key", Expect: "acceptance", Envelope: edit(`"drawn":true,`, ``)},
		{Name: "another format", Expect: "acceptance", Envelope: edit(AcceptanceFormat, RecordFormat)},
		{Name: "float", Expect: "acceptance", Envelope: edit(`"n":37`, `"n":37.0`)},
	}
	for i := range vectors {
		v := &vectors[i]
		v.Key = key
		_, err := VerifyAcceptance(v.Envelope, v.Key)
		v.check(t, err)
	}
	golden(t, "acceptance.json", vectors)
}

// check compares the outcome and fills what a success shows.
func (v *bodyVector) check(t *testing.T, err error) {
	t.Helper()
	if got := outcome(err); got != v.Expect {
		t.Errorf("%s: %s, want %s (%v)", v.Name, got, v.Expect, err)
	}
	if v.Expect == "success" {
		name := v.Envelope.Name()
		v.Body, v.SHA256 = string(v.Envelope.Payload), name[:]
	}
}

// receiptVectors are receipts by one worker and one queue, good and bad ones.
func receiptVectors(t *testing.T, worker, queue *sign.Identity) []receiptVector {
	t.Helper()
	x := testExchange()
	x.Worker, x.Queue = worker.Public(), queue.Public()
	issue := func(change func(*Record)) Receipt {
		r := testRecord()
		r.QueueID = QueueIDOf(x.Queue)
		change(&r)
		record, err := SignRecord(worker, r)
		if err != nil {
			t.Fatal(err)
		}
		acceptance, err := SignAcceptance(queue, testAcceptance(record))
		if err != nil {
			t.Fatal(err)
		}
		return Receipt{Record: record, Acceptance: acceptance}
	}
	good := issue(func(*Record) {})
	byWorker, err := sign.SignEnvelope(worker, AcceptanceType, good.Acceptance.Payload)
	if err != nil {
		t.Fatal(err)
	}
	held := func(name, expect string, receipt Receipt, change func(*Exchange)) receiptVector {
		held := x
		change(&held)
		return receiptVector{name, expect, held.Worker, held.Queue, held.Job, held.Header, held.Payload, held.Result, receipt}
	}
	same := func(*Exchange) {}
	return []receiptVector{
		held("good", "success", good, same),
		held("another worker's key", "record.signatures", good, func(x *Exchange) { x.Worker = testIdentity("stranger").Public() }),
		held("another queue's key", "record.queue_id", good, func(x *Exchange) { x.Queue = testIdentity("stranger").Public() }),
		held("another job", "record.job_id", good, func(x *Exchange) { x.Job[15] ^= 1 }),
		held("another header", "record.h_hash", good, func(x *Exchange) { x.Header = []byte("on") }),
		held("a byte moved from the payload to the header", "record.h_hash", good, func(x *Exchange) { x.Header, x.Payload = []byte("inp"), []byte("ut") }),
		held("another payload", "record.input_hash", good, func(x *Exchange) { x.Payload = []byte("pot") }),
		held("another result", "record.result_hash", good, func(x *Exchange) { x.Result = []byte("hallo") }),
		held("an acceptance by the worker", "acceptance.signatures", Receipt{Record: good.Record, Acceptance: byWorker}, same),
		held("an acceptance of another record", "acceptance.record",
			Receipt{Record: good.Record, Acceptance: issue(func(r *Record) { r.Seq++ }).Acceptance}, same),
		held("a record in the acceptance's place", "acceptance.payloadType", Receipt{Record: good.Record, Acceptance: good.Record}, same),
		held("an acceptance in the record's place", "record.payloadType", Receipt{Record: good.Acceptance, Acceptance: good.Acceptance}, same),
	}
}

func verifyReceiptVectors(t *testing.T, vectors []receiptVector) {
	t.Helper()
	for _, v := range vectors {
		_, _, err := v.Receipt.Verify(Exchange{Worker: v.Worker, Queue: v.Queue, Job: v.JobID, Header: v.Header, Payload: v.Payload, Result: v.Result})
		if got := outcome(err); got != v.Expect {
			t.Errorf("%s: %s, want %s (%v)", v.Name, got, v.Expect, err)
		}
	}
}

func TestVectorsReceipt(t *testing.T) {
	vectors := receiptVectors(t, testIdentity("worker"), testIdentity("queue"))
	verifyReceiptVectors(t, vectors)
	golden(t, "receipt.json", vectors)
}

// RSA-PSS signs the same bytes differently each time, so these are verified,
// not compared, and -update makes them anew from fresh keys. No private key is
// kept.
func TestVectorsReceiptRSA(t *testing.T) {
	path := filepath.Join("testdata", "vectors", "receipt-rsa.json")
	if *update {
		worker, err := sign.GenerateRSA(3072)
		if err != nil {
			t.Fatal(err)
		}
		queue, err := sign.GenerateRSA(4096)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "receipt-rsa.json", receiptVectors(t, worker, queue))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []receiptVector
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	want := receiptVectors(t, testIdentity("worker"), testIdentity("queue"))
	if len(vectors) != len(want) {
		t.Fatalf("%d vectors, want %d", len(vectors), len(want))
	}
	for i, v := range vectors {
		if v.Name != want[i].Name || v.Expect != want[i].Expect || v.Queue.Algorithm() == sign.Ed25519 && i == 0 {
			t.Errorf("vector %d is %q, expects %q", i, v.Name, v.Expect)
		}
	}
	verifyReceiptVectors(t, vectors)
}
