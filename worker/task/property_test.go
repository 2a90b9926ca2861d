package task

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// invoiceSchema asks for a little of everything.
const invoiceSchema = `{"type":"object","required":["name","date"],"properties":{
	"name":{"type":"string"},"date":{"type":"string","format":"date"},"total":{"type":"number","minimum":1},
	"count":{"type":"integer"},"email":{"type":"string","format":"email"},"url":{"type":"string","format":"uri"},
	"done":{"type":"boolean"},"level":{"enum":["low","high"]},"tags":{"type":"array","items":{"type":"string"},"maxItems":3},
	"owner":{"type":"object","required":["name"],"properties":{"name":{"type":"string","pattern":"^[A-Z]"}}}}}`

func mustRun(t testing.TB, payload string) []byte {
	t.Helper()
	result, err := Run(context.Background(), []byte(payload))
	if err != nil {
		t.Fatalf("%.200s: %v", payload, err)
	}
	return result
}

func payloadOf(task, text, options string) string {
	quoted, err := encode(text)
	if err != nil {
		panic(err)
	}
	return `{"task":"` + task + `","text":` + string(quoted) + options + `}`
}

// checkResult holds a result against the promises of doc.go.
func checkResult(t testing.TB, task, text, schema string, result []byte) {
	t.Helper()
	if !json.Valid(result) || !utf8.Valid(result) {
		t.Fatalf("not JSON: %.200s", result)
	}
	switch task {
	case "summarize":
		checkSummary(t, text, result)
	case "extract":
		checkExtraction(t, text, schema, result)
	}
}

// Sentences are quoted: in order, without overlap, and word for word what the
// text has between start and end.
func checkSummary(t testing.TB, text string, result []byte) {
	t.Helper()
	var s summary
	if err := json.Unmarshal(result, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Sentences) == 0 && s.Reason == "" {
		t.Errorf("no sentences and no reason: %s", result)
	}
	end := 0
	for _, q := range s.Sentences {
		if q.Start < end || q.End > len(text) || q.Start >= q.End {
			t.Fatalf("sentence %q at %d-%d is out of order", q.Text, q.Start, q.End)
		}
		end = q.End
		if raw := text[q.Start:q.End]; !quotes(raw, q.Text) {
			t.Errorf("%q is not a quotation of %q", q.Text, raw)
		}
		if !strings.Contains(s.Summary, q.Text) {
			t.Errorf("the summary lacks %q", q.Text)
		}
	}
}

// quotes tells that text is raw with nothing left out but white space and the
// markers of quotes, lists and comments.
func quotes(raw, text string) bool {
	words := strings.Fields(text)
	for _, word := range strings.Fields(raw) {
		if len(words) > 0 && word == words[0] {
			words = words[1:]
		} else if strings.Trim(word, `>/*#-+"'•;!<0123456789.)|–`) != "" && !strings.HasSuffix(word, first(words)) {
			return false
		} else if len(words) > 0 && strings.HasSuffix(word, words[0]) {
			words = words[1:]
		}
	}
	return len(words) == 0
}

func first(words []string) string {
	if len(words) == 0 {
		return "\x00"
	}
	return words[0]
}

// Data is valid exactly when the result says so; evidence lies in the text.
func checkExtraction(t testing.TB, text, schema string, result []byte) {
	t.Helper()
	var e struct {
		Valid    bool            `json:"valid"`
		Data     json.RawMessage `json:"data"`
		Missing  []string        `json:"missing"`
		Problems []problem       `json:"problems"`
		Evidence []evidence      `json:"evidence"`
		Entities []entity        `json:"entities"`
	}
	if err := json.Unmarshal(result, &e); err != nil {
		t.Fatal(err)
	}
	end := 0
	for _, found := range e.Entities {
		if found.Start < end || found.End > len(text) || (found.Value == "") == (found.Either == nil) {
			t.Errorf("bad entity %+v", found)
		}
		end = found.End
	}
	if schema == "" {
		return
	}
	for _, v := range e.Evidence {
		if v.Start < 0 || v.End > len(text) || v.Start >= v.End {
			t.Errorf("evidence %+v is not in the text", v)
		}
	}
	if err := independentlyValid(t, schema, e.Data); (err == nil) != e.Valid {
		t.Errorf("valid:%v, but validation says %v: %s", e.Valid, err, result)
	}
	if !e.Valid && len(e.Missing)+len(e.Problems) == 0 {
		t.Errorf("invalid without a reason: %s", result)
	}
}

func independentlyValid(t testing.TB, schema string, data []byte) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return c.MustCompile("schema.json").Validate(value)
}

var jobs = []struct{ task, options, schema string }{
	{"summarize", "", ""},
	{"summarize", `,"max_chars":300`, ""},
	{"classify", "", ""},
	{"classify", `,"by":"language"`, ""},
	{"classify", `,"labels":{"code":["function","file","return"],"story":["king","love","lord"]}`, ""},
	{"extract", "", ""},
	{"extract", `,"schema":` + invoiceSchema, invoiceSchema},
}

func TestPropertiesOnGoldenTexts(t *testing.T) {
	for name, raw := range goldenPayloads(t) {
		var p struct{ Text string }
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { checkJobs(t, p.Text) })
	}
}

func checkJobs(t *testing.T, text string) {
	t.Helper()
	for _, job := range jobs {
		checkResult(t, job.task, text, job.schema, mustRun(t, payloadOf(job.task, text, job.options)))
	}
}

// Real prompts, read from beside the repository where they are.
func TestPropertiesOnRealPrompts(t *testing.T) {
	n := 0
	for prompt := range realPrompts(t) {
		if n++; (n%7 == 0 || len(prompt) > 20_000) && strings.TrimSpace(prompt) != "" {
			checkJobs(t, prompt)
		}
	}
	t.Logf("%d prompts", n)
}

func realPrompts(t testing.TB) func(yield func(string) bool) {
	f, err := os.Open("../../../shared/data/prompts/tiered_prompts.jsonl.gz")
	if err != nil {
		t.Skipf("no real prompts beside the repository: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 4<<20)
	return func(yield func(string) bool) {
		for lines.Scan() {
			var row struct{ Prompt string }
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil || !yield(row.Prompt) {
				break
			}
		}
		if err := lines.Err(); err != nil {
			t.Error(err)
		}
	}
}

// The same payload gives the same bytes: a hundred times, on one processor and
// on several, alone and beside others.
func TestDeterminism(t *testing.T) {
	payloads := goldenPayloads(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	want := map[string]string{}
	for name, payload := range payloads {
		want[name] = string(mustRun(t, string(payload)))
	}
	for round := range 100 {
		runtime.GOMAXPROCS(1 + round%4)
		var wg sync.WaitGroup
		for name, payload := range payloads {
			wg.Go(func() {
				got, err := Run(context.Background(), payload)
				if err != nil || string(got) != want[name] {
					t.Errorf("round %d, %s: %s, %v; want %s", round, name, got, err, want[name])
				}
			})
		}
		wg.Wait()
	}
}

// Jobs that run at once share nothing: each round brings words that no job has
// seen before.
func TestConcurrentJobsAreApart(t *testing.T) {
	for round := range 5 {
		fresh := strings.NewReplacer("lease", fmt.Sprintf("leasing%c%c", 'a'+round, 'a'+round))
		text := fresh.Replace(longText(4 << 10))
		for _, job := range jobs {
			payload := []byte(payloadOf(job.task, text, job.options))
			results := make([]string, 4)
			var wg sync.WaitGroup
			for i := range results {
				wg.Go(func() {
					result, err := Run(context.Background(), payload)
					results[i] = fmt.Sprint(string(result), err)
				})
			}
			wg.Wait()
			if len(slices.Compact(results)) != 1 {
				t.Errorf("%s%s: results differ: %.200q", job.task, job.options, results)
			}
		}
	}
}

// countdown is a context that ends after it was asked n times.
type countdown struct {
	context.Context
	n int
}

func (c *countdown) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// Wherever a context ends, Run returns its error and no result.
func TestCancelAnywhere(t *testing.T) {
	text := longText(24 << 10)
	for _, job := range jobs {
		payload := []byte(payloadOf(job.task, text, job.options))
		asked := 0
		for ; ; asked += 1 + asked/3 {
			result, err := Run(&countdown{context.Background(), asked}, payload)
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) || result != nil {
				t.Fatalf("%s%s, asked %d times: %s, %v", job.task, job.options, asked, result, err)
			}
		}
		if asked < 1 || asked < 5 && job.options != `,"by":"language"` {
			t.Errorf("%s%s looked at its context %d times only", job.task, job.options, asked)
		}
	}
}

// A deadline during the largest text is kept within a second, race detector
// and a busy machine included.
func TestDeadlineDuringLongText(t *testing.T) {
	text := longText(MaxText - 100)
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprint("level ", i))
	}
	enum := struct{ task, options, schema string }{"extract", `,"schema":{"properties":{"a":{"enum":[` + strings.Join(many, ",") + `]}}}`, ""}
	for _, job := range append(slices.Clone(jobs), enum) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		start := time.Now()
		_, err := Run(ctx, []byte(payloadOf(job.task, text, job.options)))
		took := time.Since(start)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s%s: %v", job.task, job.options, err)
		}
		t.Logf("%s%.40s: %v", job.task, job.options, took)
		if took > time.Second {
			t.Errorf("%s%.40s took %v", job.task, job.options, took)
		}
	}
}

// longText is n bytes of varied sentences, the same at each call.
func longText(n int) string {
	subjects := strings.Fields("lease worker queue ticket receipt coordinator heartbeat payload vault signature claim lane")
	verbs := strings.Fields("holds renews loses signs verifies returns orders closes opens counts")
	var b strings.Builder
	for i, state := 0, uint32(1); b.Len() < n; i++ {
		word := func(list []string) string {
			state = state*1664525 + 1013904223
			return list[state>>16%uint32(len(list))]
		}
		b.WriteString("The " + word(subjects) + " of the " + word(subjects) + " " + word(verbs) + " a " + word(subjects) + " number " + word(verbs) + ". ")
		if i%5 == 4 {
			b.WriteString("Total: 12.50 EUR on 3 March 2026, mail ada@example.org.\n\n")
		}
	}
	return b.String()[:n]
}

func FuzzRun(f *testing.F) {
	for _, payload := range goldenPayloads(f) {
		f.Add(payload)
	}
	for _, job := range jobs {
		f.Add([]byte(payloadOf(job.task, "Dr. A. said: \"no\"\n> b: {\"a\":[1]}\x00 \u2028 ½ 3.000,5 €", job.options)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		result, err := Run(context.Background(), payload)
		var p *PayloadError
		switch {
		case err != nil && (!errors.As(err, &p) || p.Field == "" || p.Problem == "" || p.Remedy == ""):
			t.Fatalf("an error that is not the payload's: %v", err)
		case err == nil && !json.Valid(result):
			t.Fatalf("not JSON: %s", result)
		}
	})
}

// FuzzText feeds any text to every job and holds the results to the promises.
func FuzzText(f *testing.F) {
	for _, seed := range []string{"a. B. c", "* x\n\n> y: z\n", "{\"a\":1}", "1.000,00 € am 3. 3. 2026", "```\nx", "東京。は", "// a b c d.\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.TrimSpace(text) == "" || len(text) > MaxText {
			t.Skip()
		}
		for _, job := range jobs {
			checkResult(t, job.task, text, job.schema, mustRun(t, payloadOf(job.task, text, job.options)))
		}
	})
}

func TestClassIsStable(t *testing.T) {
	if a, b := Class(), Class(); a != b || slices.Contains(strings.Fields(a), "") {
		t.Errorf("%q, %q", a, b)
	}
}
