package consign_test

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/worker"
)

// A real load: the first requests of a trace of a large LLM service (Azure,
// code completion, see Splitwise, ISCA 2024), at 20 times its speed, through a
// Queue and 40 workers. Prompts have the trace's lengths and are cut from real
// text; a worker takes as long as its rate needs for the tokens that the trace
// says were generated.

var (
	traceRealTime = flag.Bool("trace.realtime", false, "run TestTraceRealTime, which takes a minute and a half")
	traceMarkdown = flag.String("trace.markdown", "", "write the tables of the trace tests to this file")
)

const (
	traceFile   = "../shared/data/traces/AzureLLMInferenceTrace_code.csv"
	promptsFile = "../shared/data/prompts/tiered_prompts.jsonl.gz"

	traceRequests = 5000
	traceSpeed    = 20
	charsPerToken = 4

	smallModel = "coder:7b"
	largeModel = "coder:34b" // every fifth request; tier 3 and 4 workers have it
)

// TestTraceVirtual replays the trace in virtual time: everything is computed,
// signatures too, and only the waiting is left out. Once on the whole fleet,
// and once on so few workers that jobs have to stand in line.
func TestTraceVirtual(t *testing.T) {
	trace, text := readTrace(t), readText(t)
	for _, f := range []fleet{wholeFleet, smallFleet} {
		t.Run(f.name, func(t *testing.T) {
			var r *traceReport
			synctest.Test(t, func(t *testing.T) { r = replay(t, f, trace, text) })
			for i := range r.jobs {
				if n := r.jobs[i].info.Attempts; n != 1 {
					t.Errorf("request %d took %d attempts, though nothing failed", i, n)
				}
			}
			r.checkIdle(t)
			r.publish(t, "virtual time")
		})
	}
}

// TestTraceRealTime replays the trace by the machine's clock.
func TestTraceRealTime(t *testing.T) {
	if !*traceRealTime {
		t.Skip("takes a minute and a half: go test -run TestTraceRealTime -trace.realtime")
	}
	trace, text := readTrace(t), readText(t)
	replay(t, wholeFleet, trace, text).publish(t, "real time")
}

// request is a line of the trace.
type request struct {
	at        time.Duration // since the first, at the replay's speed
	chars     int
	generated int
}

func readTrace(t *testing.T) []request {
	f := openShared(t, traceFile)
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:] // TIMESTAMP,ContextTokens,GeneratedTokens
	n := traceRequests
	if testing.Short() {
		n /= 10
	}
	trace := make([]request, min(len(rows), n))
	var first time.Time
	for i := range trace {
		at, err1 := time.Parse("2006-01-02 15:04:05.9999999", rows[i][0])
		context, err2 := strconv.Atoi(rows[i][1])
		generated, err3 := strconv.Atoi(rows[i][2])
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = at
		}
		trace[i] = request{at: at.Sub(first) / traceSpeed, chars: max(1, context*charsPerToken), generated: generated}
	}
	return trace
}

// prompt is a line of the prompts' file.
type prompt struct {
	Tier   consign.Tier `json:"tier"`
	Chars  uint32       `json:"chars"`
	Source string       `json:"source"`
	Prompt string       `json:"prompt"`
}

func readPrompts(t *testing.T) []prompt {
	unzipped, err := gzip.NewReader(openShared(t, promptsFile))
	if err != nil {
		t.Fatal(err)
	}
	var prompts []prompt
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var p prompt
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, p)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return prompts
}

// readText joins real prompts to one text to cut prompts from.
func readText(t *testing.T) []rune {
	var text []rune
	for _, p := range readPrompts(t) {
		text = append(text, []rune(p.Prompt)...)
		if len(text) > 1<<20 {
			break
		}
	}
	return text
}

// openShared opens a file of the data folder beside the repository.
func openShared(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there: the shared folder belongs beside the repository", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// fleet is what the trace is run on: by tier, how many workers, and how many
// slots each has.
type fleet struct {
	name  string
	tiers [consign.MaxTier]struct{ workers, slots int }
}

var (
	wholeFleet = fleet{"40 workers", [...]struct{ workers, slots int }{{16, 1}, {12, 1}, {8, 2}, {4, 2}}}
	smallFleet = fleet{"6 workers", [...]struct{ workers, slots int }{{1, 1}, {2, 1}, {2, 1}, {1, 1}}}
)

// traceWorker is a worker of the fleet and what it did. Its executor checks
// what it is given; the test's goroutine must not do more than report.
type traceWorker struct {
	tier   consign.Tier
	slots  int
	models []string
	rate   float64 // tokens per second, at the replay's speed
	key    sign.PublicKey
	trace  map[consign.JobID]int

	mu   sync.Mutex
	busy time.Duration
	jobs [consign.MaxTier]int // by the jobs' tiers
	runs []span
	errs []error
}

// span is when a worker ran a job.
type span struct{ from, to time.Time }

// traceJob is a request on its way.
type traceJob struct {
	tier    consign.Tier
	payload []byte
	info    consign.JobInfo
	err     error
}

// traceReport is what came of it.
type traceReport struct {
	fleet   fleet
	jobs    []traceJob
	workers []*traceWorker
	took    time.Duration // from the first submit to the last result
	checked int           // receipts
}

// replay runs the trace and checks what has to hold.
func replay(t *testing.T, f fleet, trace []request, text []rune) *traceReport {
	owner := seededIdentity(1)
	q, stop := startQueueStop(t, consign.Config{Identity: owner})
	run, halt := context.WithCancel(t.Context())
	report := &traceReport{fleet: f, jobs: make([]traceJob, len(trace))}
	ids := make(map[consign.JobID]int, len(trace))
	for i := range trace {
		ids[traceID(i)] = i
	}

	var workers sync.WaitGroup
	for tier := consign.Tier(1); tier <= consign.MaxTier; tier++ {
		for range f.tiers[tier-1].workers {
			n := len(report.workers)
			identity := seededIdentity(uint64(100 + n))
			w := &traceWorker{tier: tier, slots: f.tiers[tier-1].slots, models: []string{smallModel}, key: identity.Public(), trace: ids,
				rate: traceSpeed * (20 + float64(n*8%21))} // 20 to 40 tokens a second
			if tier >= 3 {
				w.models = append(w.models, largeModel)
			}
			runtime, err := worker.New(worker.Config{API: q, Identity: identity, Slots: w.slots,
				Executors:    map[string]worker.Executor{consign.KindInference: w.executor(trace)},
				Capabilities: consign.Capabilities{Models: w.models, MaxContextTier: tier, HardwareTier: uint8(tier)}})
			if err != nil {
				t.Fatal(err)
			}
			report.workers = append(report.workers, w)
			workers.Go(func() {
				if err := runtime.Run(run); err != nil {
					w.fail(err)
				}
			})
			time.Sleep(time.Millisecond + time.Duration(n)) // so that they stand in line in this order
		}
	}

	began := time.Now()
	var waits sync.WaitGroup
	for i, r := range trace {
		time.Sleep(time.Until(began.Add(r.at)))
		waits.Go(func() { report.jobs[i] = submitTraced(t.Context(), q, i, r, text) })
	}
	waits.Wait()
	report.took = time.Since(began)
	halt()
	workers.Wait()

	report.check(t, trace)
	report.verify(t, q, owner.Public())
	stop()
	return report
}

// traceID is the ID of the trace's i-th request: the same in every run.
func traceID(i int) consign.JobID {
	sum := sha256.Sum256(strconv.AppendInt([]byte("trace "), int64(i), 10))
	id := consign.JobID(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// submitTraced submits a request as one of four accounts and waits for its
// end.
func submitTraced(ctx context.Context, q *consign.Queue, i int, r request, text []rune) traceJob {
	start := i * 7919 % (len(text) - r.chars)
	j := traceJob{payload: []byte(string(text[start : start+r.chars]))}
	j.tier = consign.DefaultTierBounds.Tier(uint32(r.chars))
	model := smallModel
	if i%5 == 0 {
		model = largeModel
	}
	sub := q.Submitter("account-" + strconv.Itoa(i%4))
	if _, j.err = sub.Submit(ctx, consign.SubmitRequest{ID: traceID(i), Kind: consign.KindInference, Model: model,
		Payload: j.payload, Custody: consign.CustodyPlain}); j.err == nil {
		j.info, j.err = sub.Wait(ctx, traceID(i))
	}
	return j
}

// executor sleeps as long as the trace's tokens take, and checks that the job
// is one that this worker may have: by the payload, not by what is said of it.
func (w *traceWorker) executor(trace []request) worker.Executor {
	return worker.ExecutorFunc(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
		began := time.Now()
		i, known := w.trace[task.Job]
		chars := utf8.RuneCount(task.Payload)
		tier := consign.DefaultTierBounds.Tier(uint32(chars))
		switch {
		case !known:
			w.fail(fmt.Errorf("job %s is not of the trace", task.Job))
		case chars != trace[i].chars || task.Chars != uint32(chars):
			w.fail(fmt.Errorf("job %s has %d characters, not the trace's %d or the task's %d", task.Job, chars, trace[i].chars, task.Chars))
		case tier > w.tier:
			w.fail(fmt.Errorf("job %s of %d characters is of tier %s, the worker of %s", task.Job, chars, tier, w.tier))
		case task.Tier != tier:
			w.fail(fmt.Errorf("job %s is of tier %s, labelled %s", task.Job, tier, task.Tier))
		case !slices.Contains(w.models, task.Model):
			w.fail(fmt.Errorf("job %s asks for %s, which the worker does not have", task.Job, task.Model))
		}
		seconds := float64(trace[i].generated) / w.rate
		timer := time.NewTimer(time.Duration(seconds*float64(time.Second)) + time.Duration(i)) // each ends at its own nanosecond
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return worker.Output{}, context.Cause(ctx)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy += time.Since(began)
		w.runs = append(w.runs, span{began, time.Now()})
		w.jobs[tier-1]++
		return worker.Output{Result: traceResult(task.Payload), Model: task.Model, Engine: "sleep",
			Use: consign.ResourceUse{OutputTokens: int64(trace[i].generated)}}, nil
	})
}

// traceResult stands for what a model makes of a prompt.
func traceResult(payload []byte) []byte {
	sum := sha256.Sum256(payload)
	return hex.AppendEncode([]byte("answer to "), sum[:])
}

func (w *traceWorker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

// check reports jobs that did not end as they should.
func (r *traceReport) check(t *testing.T, trace []request) {
	t.Helper()
	for _, w := range r.workers {
		for _, err := range w.errs {
			t.Errorf("worker of tier %s: %v", w.tier, err)
		}
	}
	ran := 0
	for _, w := range r.workers {
		for _, n := range w.jobs {
			ran += n
		}
	}
	if ran < len(trace) {
		t.Errorf("%d runs for %d requests", ran, len(trace))
	}
	for i := range r.jobs {
		j := &r.jobs[i]
		switch {
		case j.err != nil:
			t.Errorf("request %d: %v", i, j.err)
		case j.info.State != consign.StateCompleted || j.info.Tier != j.tier || j.info.Verification != consign.VerificationVerified:
			t.Errorf("request %d of tier %s is %s, of tier %s, %s: %s", i, j.tier, j.info.State, j.info.Tier, j.info.Verification, j.info.Reason)
		case string(j.info.Result) != string(traceResult(j.payload)):
			t.Errorf("request %d has another one's result", i)
		}
	}
}

// checkIdle reports jobs that stood in line while a worker that could run them
// had a free slot. It holds to the microsecond in virtual time, where the queue
// itself takes none.
func (r *traceReport) checkIdle(t *testing.T) {
	t.Helper()
	idle := make([][]span, len(r.workers))
	for i, w := range r.workers {
		idle[i] = w.idle()
	}
	for i := range r.jobs {
		j := &r.jobs[i]
		waited := span{j.info.CreatedAt, j.info.ClaimedAt}
		for n, w := range r.workers {
			if w.tier < j.tier || !slices.Contains(w.models, j.info.Model) {
				continue
			}
			if at, found := overlap(idle[n], waited); found {
				t.Errorf("request %d of tier %s for %s waited %v, though worker %d of tier %s was idle %v after its submit", i, j.tier, j.info.Model,
					waited.to.Sub(waited.from), n, w.tier, at.Sub(waited.from))
				break
			}
		}
	}
}

// idle lists, in order, when the worker had a free slot.
func (w *traceWorker) idle() []span {
	type edge struct {
		at   time.Time
		busy int
	}
	var edges []edge
	for _, s := range w.runs {
		edges = append(edges, edge{s.from, 1}, edge{s.to, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.busy, b.busy)) })
	var idle []span
	busy, since := 0, time.Time{}
	for _, e := range edges {
		was := busy
		busy += e.busy
		switch {
		case busy == w.slots: // and was not
			idle = append(idle, span{since, e.at})
		case was == w.slots:
			since = e.at
		}
	}
	return append(idle, span{since, since.Add(24 * time.Hour)})
}

// overlap finds where two spans share more than the microsecond to which the
// queue cuts its times.
func overlap(sorted []span, s span) (time.Time, bool) {
	i, _ := slices.BinarySearchFunc(sorted, s.from, func(o span, at time.Time) int { return o.to.Compare(at) })
	for ; i < len(sorted) && sorted[i].from.Before(s.to); i++ {
		from, to := sorted[i].from, sorted[i].to
		if from.Before(s.from) {
			from = s.from
		}
		if s.to.Before(to) {
			to = s.to
		}
		if to.Sub(from) > 2*time.Microsecond {
			return from, true
		}
	}
	return time.Time{}, false
}

// verify checks every 25th receipt offline: from its JSON, and from what a
// submitter holds.
func (r *traceReport) verify(t *testing.T, q *consign.Queue, queue sign.PublicKey) {
	t.Helper()
	keys := map[consign.WorkerID]sign.PublicKey{}
	for _, w := range r.workers {
		keys[w.key.ID()] = w.key
	}
	for i := 0; i < len(r.jobs); i += 25 {
		j := &r.jobs[i]
		receipt, err := q.Submitter("account-"+strconv.Itoa(i%4)).Receipt(context.Background(), traceID(i))
		if err != nil {
			t.Fatal(i, err)
		}
		stored, err := json.Marshal(receipt)
		if err != nil {
			t.Fatal(i, err)
		}
		var read consign.Receipt
		if err := json.Unmarshal(stored, &read); err != nil {
			t.Fatal(i, err)
		}
		exchange := consign.Exchange{Worker: keys[j.info.Worker], Queue: queue, Job: traceID(i), Payload: j.payload, Result: j.info.Result}
		if _, _, err := read.Verify(exchange); err != nil {
			t.Errorf("receipt of request %d: %v", i, err)
		}
		exchange.Payload = append([]byte("not "), j.payload...)
		if _, _, err := read.Verify(exchange); err == nil {
			t.Errorf("receipt of request %d holds for another payload", i)
		}
		r.checked++
	}
}

// publish logs the tables, and writes them where -trace.markdown says.
func (r *traceReport) publish(t *testing.T, clock string) {
	t.Helper()
	tables := r.markdown(clock)
	t.Log("\n" + tables)
	if *traceMarkdown == "" {
		return
	}
	f, err := os.OpenFile(*traceMarkdown, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(tables + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func (r *traceReport) markdown(clock string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests on %s in %.1f s (%d times the trace's speed), %s, %d receipts checked offline.\n\n",
		len(r.jobs), r.fleet.name, r.took.Seconds(), traceSpeed, clock, r.checked)
	b.WriteString("| jobs of tier | jobs | queue wait p50 | p90 | p99 | longest | total p50 | p90 | p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for tier := consign.Tier(0); tier <= consign.MaxTier; tier++ {
		var wait, total []time.Duration
		for i := range r.jobs {
			if j := &r.jobs[i]; tier == 0 || j.tier == tier {
				wait = append(wait, j.info.ClaimedAt.Sub(j.info.CreatedAt))
				total = append(total, j.info.EndedAt.Sub(j.info.CreatedAt))
			}
		}
		if len(wait) == 0 {
			continue
		}
		slices.Sort(wait)
		slices.Sort(total)
		name := "all"
		if tier > 0 {
			name = tier.String()
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", name, len(wait), quantile(wait, .5), quantile(wait, .9), quantile(wait, .99),
			quantile(wait, 1), quantile(total, .5), quantile(total, .9), quantile(total, .99))
	}
	b.WriteString("\n| workers of tier | workers x slots | tokens/s | busy | jobs of tier 1 | 2 | 3 | 4 | above its tier |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for tier := consign.Tier(1); tier <= consign.MaxTier; tier++ {
		var jobs [consign.MaxTier]int
		var busy, had time.Duration
		above, least, most := 0, 0.0, 0.0
		for _, w := range r.workers {
			if w.tier != tier {
				continue
			}
			busy += w.busy
			had += r.took * time.Duration(w.slots)
			most = max(most, w.rate/traceSpeed)
			if least == 0 || w.rate/traceSpeed < least {
				least = w.rate / traceSpeed
			}
			for i, n := range w.jobs {
				jobs[i] += n
				if consign.Tier(i+1) > tier {
					above += n
				}
			}
		}
		fmt.Fprintf(&b, "| %s | %d x %d | %.0f-%.0f | %.1f %% | %d | %d | %d | %d | %d |\n", tier, r.fleet.tiers[tier-1].workers, r.fleet.tiers[tier-1].slots,
			least, most, 100*busy.Seconds()/had.Seconds(), jobs[0], jobs[1], jobs[2], jobs[3], above)
	}
	return b.String()
}

// quantile prints the p-th quantile of sorted durations in milliseconds.
func quantile(sorted []time.Duration, p float64) string {
	d := sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
	return strconv.FormatFloat(d.Seconds()*1e3, 'f', 2, 64) + " ms"
}

// TestPromptTiers submits every prompt of the shared set and compares the tier
// that the queue derives with the one in the file.
func TestPromptTiers(t *testing.T) {
	prompts := readPrompts(t)
	q := startQueue(t, consign.Config{})
	requests := make([]consign.SubmitRequest, len(prompts))
	for i, p := range prompts {
		requests[i] = consign.SubmitRequest{Kind: consign.KindInference, Model: smallModel, Payload: []byte(p.Prompt), Custody: consign.CustodyPlain, Chars: p.Chars}
	}
	var tiers [consign.MaxTier]int
	for i, o := range q.Submitter("acme").SubmitMany(t.Context(), requests) {
		if o.Err != nil {
			t.Fatalf("prompt %d (%s, %d characters): %v", i, prompts[i].Source, prompts[i].Chars, o.Err)
		}
		if o.Job.Tier != prompts[i].Tier {
			t.Errorf("prompt %d of %d characters is of tier %s, not %s", i, prompts[i].Chars, o.Job.Tier, prompts[i].Tier)
		}
		tiers[o.Job.Tier-1]++
	}
	if want := [...]int{1883, 285, 167, 42}; tiers != want {
		t.Errorf("prompts by tier: %v, not %v", tiers, want)
	}
	t.Logf("%d prompts, by tier %v", len(prompts), tiers)
}
