package consign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/crypto/sign"
)

func testIdentity(name string) *sign.Identity {
	return sign.FromEd25519Seed(InputHash([]byte("consign test identity "), []byte(name)))
}

// testRecord is a record of the vectors' job with every field set.
func testRecord() Record {
	x := testExchange()
	return Record{
		QueueID:        QueueIDOf(x.Queue),
		JobID:          x.Job,
		ClaimID:        vectorClaim,
		WorkerID:       x.Worker.ID(),
		Kind:           "LLM_INFER",
		ModelRequested: "llama3.1",
		HHash:          InputHash(x.Header, nil),
		InputHash:      InputHash(x.Header, x.Payload),
		ResultHash:     InputHash(x.Result, nil),
		Comparator:     "exact",
		Model:          "llama3.1:8b",
		ModelDigest:    "sha256:46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e",
		Engine:         "ollama/0.12.3",
		Class:          "llama3.1:8b q4_K_M greedy",
		TCommit:        [32]byte(bytes.Repeat([]byte{0x44}, 32)),
		Epoch:          412,
		Seq:            97,
		Log:            LogHead{Size: 123456, Root: [32]byte(bytes.Repeat([]byte{0x55}, 32))},
		ExitStatus:     0,
		StartedAt:      1767225600000000,
		FinishedAt:     1767225601250000,
		ResourceUse:    ResourceUse{CPUMicros: 310000, GPUMicros: 1180000, MemoryBytes: 734003200, OutputTokens: 64, PromptTokens: 411, VideoMemoryBytes: 5368709120},
	}
}

func testExchange() Exchange {
	return Exchange{
		Worker:  testIdentity("worker").Public(),
		Queue:   testIdentity("queue").Public(),
		Job:     vectorJob,
		Header:  []byte("in"),
		Payload: []byte("put"),
		Result:  []byte("hello"),
	}
}

// minimalRecord is the testRecord without its optional fields.
func minimalRecord() Record {
	r := testRecord()
	r.ModelRequested, r.Model, r.ModelDigest, r.Engine, r.Class = "", "", "", "", ""
	r.Comparator, r.TCommit = ComparatorNone, [32]byte{}
	r.Log, r.ResourceUse = LogHead{}, ResourceUse{}
	r.Epoch, r.Seq = 0, 1
	return r
}

func testReturned() Returned {
	r := testRecord()
	return Returned{Queue: r.QueueID, Job: r.JobID, Claim: r.ClaimID, Worker: r.WorkerID, Kind: r.Kind,
		ModelRequested: r.ModelRequested, Comparator: r.Comparator, HHash: r.HHash, InputHash: r.InputHash, ResultHash: r.ResultHash}
}

func signRecord(t testing.TB, r Record) sign.Envelope {
	t.Helper()
	e, err := SignRecord(testIdentity("worker"), r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantField fails unless err is a *ReceiptError about the field that wraps the
// sentinel.
func wantField(t *testing.T, what string, err error, field string, sentinel error) {
	t.Helper()
	var re *ReceiptError
	if !errors.As(err, &re) || !errors.Is(err, sentinel) || re.Field != field || re.Problem == "" {
		t.Errorf("%s: %v, want %s of %q", what, err, sentinel, field)
	}
}

func TestRecordComesBack(t *testing.T) {
	key := testIdentity("worker").Public()
	for name, r := range map[string]Record{"full": testRecord(), "minimal": minimalRecord()} {
		got, err := VerifyRecord(signRecord(t, r), key)
		r.PoE = r.commitment().Sum()
		if err != nil || got != r {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, r)
		}
	}
}

// Every record that can be signed comes back as it was, and its body is what
// encoding/json would write with sorted keys.
func TestRandomRecordsComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		r := randomRecord(rng)
		e := signRecord(t, r)
		got, err := VerifyRecord(e, testIdentity("worker").Public())
		r.PoE = r.commitment().Sum()
		if err != nil || got != r {
			t.Fatalf("%+v came back as %+v, %v", r, got, err)
		}
		var tree map[string]any
		dec := json.NewDecoder(bytes.NewReader(e.Payload))
		dec.UseNumber()
		if err := dec.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(tree); err != nil {
			t.Fatal(err)
		}
		if text := strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029").Replace(strings.TrimSpace(want.String())); text != string(e.Payload) {
			t.Fatalf("the body is\n%s\nwant\n%s", e.Payload, text)
		}
	}
}

func randomRecord(rng *rand.Rand) Record {
	r := testRecord()
	number := func() int64 { return rng.Int64N(maxSafeInteger+1) >> rng.IntN(53) }
	for _, s := range []*string{&r.ModelRequested, &r.Model, &r.ModelDigest, &r.Engine, &r.Class} {
		*s = randomText(rng)
	}
	r.Kind, r.Comparator = "k"+randomText(rng), "c"+randomText(rng)
	for _, n := range []*int64{&r.Epoch, &r.StartedAt, &r.ResourceUse.CPUMicros, &r.ResourceUse.GPUMicros, &r.ResourceUse.MemoryBytes,
		&r.ResourceUse.OutputTokens, &r.ResourceUse.PromptTokens, &r.ResourceUse.VideoMemoryBytes} {
		*n = number()
	}
	r.Seq = max(1, number())
	status, minus := number(), number()
	r.ExitStatus = status - minus
	r.FinishedAt = r.StartedAt + rng.Int64N(maxSafeInteger-r.StartedAt+1)
	if rng.IntN(2) == 0 {
		r.Log = LogHead{}
	}
	if rng.IntN(2) == 0 {
		r.ResourceUse = ResourceUse{}
	}
	return r
}

func randomText(rng *rand.Rand) string {
	alphabet := []rune("abc\"\\/\b\f\n\r\t\x00\x1f\x7f<>&é€\u2028\u2029\ufffd😂")
	var s []rune
	for range rng.IntN(6) {
		s = append(s, alphabet[rng.IntN(len(alphabet))])
	}
	return string(s)
}

// leaves calls visit for each field of the struct that holds no struct.
func leaves(v reflect.Value, path string, visit func(path string, v reflect.Value)) {
	for i := range v.NumField() {
		f, name := v.Field(i), path+v.Type().Field(i).Name
		if f.Kind() == reflect.Struct {
			leaves(f, name+".", visit)
		} else {
			visit(name, f)
		}
	}
}

// mutate changes a value a little.
func mutate(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Array:
		v.Index(v.Len() - 1).SetUint(v.Index(v.Len()-1).Uint() ^ 1)
	case reflect.Slice:
		v.Set(reflect.ValueOf(append(slices.Clone(v.Interface().([]string)), "zzz")))
	default:
		panic(v.Kind())
	}
}

// No field of a record can change without a change of the signed bytes.
func TestEveryFieldIsSigned(t *testing.T) {
	bodies := map[string]string{string(signRecord(t, testRecord()).Payload): "unchanged"}
	r := testRecord()
	leaves(reflect.ValueOf(&r).Elem(), "", func(path string, v reflect.Value) {
		if path == "WorkerID" || path == "PoE" {
			return // set by SignRecord
		}
		r = testRecord()
		mutate(v)
		body := string(signRecord(t, r).Payload)
		if other, ok := bodies[body]; ok {
			t.Errorf("%s: the same body as %s", path, other)
		}
		bodies[body] = path
	})
}

// A record that its worker signs about another job, or other bytes, is refused
// by the field that lies. Fields that are the worker's word are not.
func TestCheckReturn(t *testing.T) {
	key := testIdentity("worker").Public()
	good, err := VerifyRecord(signRecord(t, testRecord()), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckReturn(testReturned(), good); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{
		"QueueID": "record.queue_id", "JobID": "record.job_id", "ClaimID": "record.claim_id", "WorkerID": "record.worker_id",
		"Kind": "record.kind", "ModelRequested": "record.model_requested", "Comparator": "record.comparator",
		"HHash": "record.h_hash", "InputHash": "record.input_hash", "ResultHash": "record.result_hash",
		"Model": "record.poe", "TCommit": "record.poe", "PoE": "record.poe", // each is under the commitment
	}
	r := good
	leaves(reflect.ValueOf(&r).Elem(), "", func(path string, v reflect.Value) {
		r = good
		mutate(v)
		err := CheckReturn(testReturned(), r)
		if field, checked := fields[path]; checked {
			wantField(t, path, err, field, ErrBadResult)
			delete(fields, path)
		} else if err != nil {
			t.Errorf("%s: %v", path, err)
		}
	})
	if len(fields) != 0 {
		t.Errorf("no such fields: %v", fields)
	}
	// And from the other side: whatever the coordinator expects is compared.
	want := testReturned()
	leaves(reflect.ValueOf(&want).Elem(), "", func(path string, v reflect.Value) {
		want = testReturned()
		mutate(v)
		if err := CheckReturn(want, good); !errors.Is(err, ErrBadResult) {
			t.Errorf("the coordinator expects another %s: %v", path, err)
		}
	})
}

func TestSignRecordRefuses(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"record.finished_at": func(r *Record) { r.FinishedAt = r.StartedAt - 1 },
		"record.t_commit":    func(r *Record) { r.Comparator = ComparatorNone },
		"kind":               func(r *Record) { r.Kind = "" },
		"comparator":         func(r *Record) { r.Comparator = "" },
		"UTF-8":              func(r *Record) { r.Model = "\xff" },
		"1024":               func(r *Record) { r.Engine = strings.Repeat("x", 1025) },
		"seq":                func(r *Record) { r.Seq = 0 },
		"epoch":              func(r *Record) { r.Epoch = -1 },
		"started_at":         func(r *Record) { r.StartedAt = -1 },
		"size":               func(r *Record) { r.Log.Size = 0 },
		"cpu_us":             func(r *Record) { r.ResourceUse.CPUMicros = -1 },
		"prompt_tokens":      func(r *Record) { r.ResourceUse.PromptTokens = 1 << 53 },
		"exit_status":        func(r *Record) { r.ExitStatus = -1 << 53 },
	} {
		r := testRecord()
		change(&r)
		_, err := SignRecord(testIdentity("worker"), r)
		if !errors.Is(err, ErrBadReceipt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := SignRecord(&sign.Identity{}, testRecord()); !errors.Is(err, sign.ErrKey) {
		t.Errorf("no identity: %v", err)
	}
}

// signBody signs bytes that SignRecord would not write.
func signBody(t testing.TB, payloadType, body string) sign.Envelope {
	t.Helper()
	e, err := sign.SignEnvelope(testIdentity("worker"), payloadType, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// badBodies are changes of the body of testRecord that a reader refuses, with
// the field that it names. Each is what someone could sign.
func badBodies(body string) map[string]struct{ body, field string } {
	edit := func(old, new string) string {
		if !strings.Contains(body, old) {
			panic("no " + old)
		}
		return strings.Replace(body, old, new, 1)
	}
	type bad = struct{ body, field string }
	return map[string]bad{
		"empty":                    {"", "record"},
		"not JSON":                 {"record", "record"},
		"an array":                 {"[" + body + "]", "record"},
		"null":                     {"null", "record"},
		"cut":                      {body[:len(body)-1], "record"},
		"bytes after the end":      {body + "\n", "record"},
		"whitespace":               {edit(":", ": "), "record"},
		"byte order mark":          {"\ufeff" + body, "record"},
		"duplicate key":            {edit(`"epoch":412,`, `"epoch":412,"epoch":412,`), "record"},
		"unknown key":              {edit(`"epoch":412,`, `"epoch":412,"epochs":412,`), "record"},
		"unknown key at the end":   {body[:len(body)-1] + `,"z":1}`, "record"},
		"unknown key within":       {edit(`"size":123456}`, `"size":123456,"z":1}`), "record"},
		"missing key":              {edit(`"epoch":412,`, ``), "record"},
		"reordered keys":           {edit(`"epoch":412,"exit_status":0`, `"exit_status":0,"epoch":412`), "record"},
		"key of another case":      {edit(`"epoch"`, `"Epoch"`), "record"},
		"escaped key":              {edit(`"epoch"`, `"\u0065poch"`), "record"},
		"float":                    {edit(`"epoch":412`, `"epoch":412.0`), "record"},
		"exponent":                 {edit(`"epoch":412`, `"epoch":4.12e2`), "record"},
		"leading zero":             {edit(`"epoch":412`, `"epoch":0412`), "record"},
		"negative zero":            {edit(`"exit_status":0`, `"exit_status":-0`), "record"},
		"plus sign":                {edit(`"epoch":412`, `"epoch":+412`), "record"},
		"unsafe integer":           {edit(`"epoch":412`, `"epoch":9007199254740992`), "record"},
		"negative epoch":           {edit(`"epoch":412`, `"epoch":-1`), "record"},
		"seq zero":                 {edit(`"seq":97`, `"seq":0`), "record"},
		"number as string":         {edit(`"epoch":412`, `"epoch":"412"`), "record"},
		"null member":              {edit(`"model":"llama3.1:8b"`, `"model":null`), "record"},
		"empty optional":           {edit(`"model":"llama3.1:8b"`, `"model":""`), "record"},
		"zero optional":            {edit(`"cpu_us":310000`, `"cpu_us":0`), "record"},
		"empty object":             {edit(resourceUseOf(body), `"resource_use":{}`), "record"},
		"upper-case hexadecimal":   {edit(`"t_commit":"44`, `"t_commit":"4A`), "record"},
		"short hexadecimal":        {edit(`"t_commit":"44`, `"t_commit":"`), "record"},
		"job ID without hyphens":   {edit(`0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4051`, `0190a1b2c3d47e5f8a9b0c1d2e3f4051`), "record"},
		"job ID in upper case":     {edit(`0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4051`, `0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4051`), "record"},
		"needless escape":          {edit(`"ollama/`, `"ollama\/`), "record"},
		"escape for a letter":      {edit(`"ollama`, `"\u006fllama`), "record"},
		"lone surrogate":           {edit(`"ollama`, `"\ud800llama`), "record"},
		"bad UTF-8":                {edit(`"ollama`, "\"\xffllama"), "record"},
		"surrogate in UTF-8":       {edit(`"ollama`, "\"\xed\xa0\x80llama"), "record"},
		"raw control character":    {edit(`"ollama`, "\"\tllama"), "record"},
		"another format":           {edit(RecordFormat, "consign/record/v2"), "record"},
		"too long":                 {edit(`"ollama`, `"`+strings.Repeat("x", maxBody)), "record"},
		"deep":                     {strings.Repeat(`{"claim_id":`, 1000), "record"},
		"worker is another":        {flipHex(body, "worker_id"), "record.worker_id"},
		"finished before it began": {edit(`"finished_at":1767225601250000`, `"finished_at":1767225599999999`), "record.finished_at"},
		"t_commit with no comparator": {edit(`"comparator":"exact"`, `"comparator":"none"`),
			"record.t_commit"},
		"PoE of another claim": {edit(`"claim_id":"33`, `"claim_id":"34`), "record.poe"},
		"PoE of another model": {edit(`"model":"llama3.1:8b"`, `"model":"llama3.1:70b"`), "record.poe"},
		"PoE of another job":   {edit(`0190a1b2-`, `0190a1b3-`), "record.poe"},
		"PoE that is another":  {flipHex(body, "poe"), "record.poe"},
	}
}

func resourceUseOf(body string) string {
	i := strings.Index(body, `"resource_use":`)
	return body[i : i+strings.Index(body[i:], "}")+1]
}

// flipHex changes the first digit of a hexadecimal member.
func flipHex(body, key string) string {
	i := strings.Index(body, `"`+key+`":"`) + len(key) + 4
	digit := byte('0')
	if body[i] == '0' {
		digit = '1'
	}
	return body[:i] + string(digit) + body[i+1:]
}

func TestVerifyRecordRefusesBodies(t *testing.T) {
	key := testIdentity("worker").Public()
	body := string(signRecord(t, testRecord()).Payload)
	if _, err := VerifyRecord(signBody(t, RecordType, body), key); err != nil {
		t.Fatal(err) // or the cases below would show nothing
	}
	for name, bad := range badBodies(body) {
		_, err := VerifyRecord(signBody(t, RecordType, bad.body), key)
		wantField(t, name, err, bad.field, ErrBadReceipt)
	}
}

// Any one byte that changes is caught by the signature; with the signature made
// anew, by the reader or by the checks, or it is the worker's word.
func TestVerifyRecordFlippedBytes(t *testing.T) {
	key := testIdentity("worker").Public()
	good := signRecord(t, testRecord())
	for i := range good.Payload {
		e := good
		e.Payload = bytes.Clone(good.Payload)
		e.Payload[i] ^= 1
		_, err := VerifyRecord(e, key)
		wantField(t, fmt.Sprint("byte ", i), err, "record.signatures", ErrBadReceipt)
	}
}

func TestVerifyRecordEnvelope(t *testing.T) {
	key := testIdentity("worker").Public()
	good := signRecord(t, testRecord())
	two := good
	two.Signatures = append(slices.Clone(good.Signatures), good.Signatures[0])
	none := good
	none.Signatures = nil
	for name, tc := range map[string]struct {
		envelope sign.Envelope
		key      sign.PublicKey
		field    string
	}{
		"another type":          {signBody(t, AcceptanceType, string(good.Payload)), key, "record.payloadType"},
		"no type":               {sign.Envelope{}, key, "record.payloadType"},
		"type before signature": {sign.Envelope{PayloadType: "x"}, sign.PublicKey{}, "record.payloadType"},
		"two signatures":        {two, key, "record.signatures"},
		"no signature":          {none, key, "record.signatures"},
		"another key":           {good, testIdentity("queue").Public(), "record.signatures"},
		"no key":                {good, sign.PublicKey{}, "record.signatures"},
	} {
		_, err := VerifyRecord(tc.envelope, tc.key)
		wantField(t, name, err, tc.field, ErrBadReceipt)
	}
}

func FuzzRecord(f *testing.F) {
	body := signRecord(f, testRecord()).Payload
	f.Add(body)
	f.Add(signRecord(f, minimalRecord()).Payload)
	for _, bad := range badBodies(string(body)) {
		if len(bad.body) < 4096 {
			f.Add([]byte(bad.body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Record
		if readCanonical(body, r.members) != nil {
			return
		}
		again, err := writeCanonical(r.members)
		if err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s is written %s, %v", body, again, err)
		}
		if !json.Valid(body) {
			t.Errorf("%q is not JSON", body)
		}
	})
}

func BenchmarkRecordWrite(b *testing.B) {
	r := testRecord()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = writeCanonical(r.members)
	}
}

func BenchmarkRecordRead(b *testing.B) {
	body := signRecord(b, testRecord()).Payload
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var r Record
		_ = readCanonical(body, r.members)
	}
}

func BenchmarkSignRecord(b *testing.B) {
	id, r := testIdentity("worker"), testRecord()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = SignRecord(id, r)
	}
}

func BenchmarkVerifyRecord(b *testing.B) {
	e, key := signRecord(b, testRecord()), testIdentity("worker").Public()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = VerifyRecord(e, key)
	}
}

func BenchmarkCheckReturn(b *testing.B) {
	r, err := VerifyRecord(signRecord(b, testRecord()), testIdentity("worker").Public())
	if err != nil {
		b.Fatal(err)
	}
	want := testReturned()
	b.ReportAllocs()
	for b.Loop() {
		_ = CheckReturn(want, r)
	}
}
