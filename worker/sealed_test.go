package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

var (
	alice     = sign.FromEd25519Seed([32]byte{'a'})
	workerKey = generated(seal.X25519)
	oldKey    = generated(seal.MLKEM768X25519)
)

func generated(kem seal.KEM) *seal.PrivateKey {
	key, err := seal.GenerateKey(kem)
	if err != nil {
		panic(err)
	}
	return key
}

func fromAlice(key [32]byte) bool { return key == alice.Public().ID() }

// sealedJob is a job as its submitter seals it, one field after the other, so
// that a test can spoil any of them.
type sealedJob struct {
	header    seal.Header
	payload   string
	cek       seal.CEK
	resultKey *seal.PrivateKey
	req       consign.SubmitRequest
}

func newSealedJob(q *testkit.FakeQueue, custody consign.Custody, payload string) *sealedJob {
	j := &sealedJob{payload: payload, cek: seal.NewCEK(), resultKey: generated(seal.X25519)}
	j.header = seal.Header{
		Queue: consign.QueueIDOf(q.Identity.Public()), Job: consign.NewJobID(), Submitter: alice.Public().ID(),
		Kind: "TASK", Model: "m", Privacy: seal.Public, Custody: string(custody), Comparator: "exact", ResultKey: j.resultKey.Public(),
	}
	return j
}

// seal makes the request.
func (j *sealedJob) seal(t rapid.TB, q *testkit.FakeQueue) {
	t.Helper()
	header, ciphertext, err := seal.SealPayload(j.header, j.cek, []byte(j.payload))
	if err != nil {
		t.Fatal(err)
	}
	j.req = consign.SubmitRequest{
		ID: j.header.Job, Kind: j.header.Kind, Model: j.header.Model, Payload: ciphertext, Custody: consign.Custody(j.header.Custody),
		Header: header, Chars: uint32(seal.Chars([]byte(j.payload))), PromptBytes: uint64(len(j.payload)),
		Comparator: j.header.Comparator, ClientKey: j.header.ResultKey.Bytes(),
	}
	if j.header.Privacy == seal.Private {
		if j.req.Signature, err = seal.SignSubmission(alice, header, ciphertext); err != nil {
			t.Fatal(err)
		}
	}
	j.wrap(t, q, workerKey.Public())
}

func (j *sealedJob) wrap(t rapid.TB, q *testkit.FakeQueue, to seal.PublicKey) {
	t.Helper()
	h := seal.HeaderHash(j.req.Header)
	w := consign.Wrap{Worker: identity.Public().ID()}
	var purpose seal.Purpose = seal.DirectWrap{Job: j.header.Job, Worker: w.Worker, Header: h}
	if j.req.Custody == consign.CustodyEscrow {
		w.Worker, purpose, to = consign.WorkerID{}, seal.VaultWrap{Job: j.header.Job, Header: h}, q.Vault.Public()
	}
	var err error
	if w.Wrap, err = seal.Wrap(to, purpose, j.cek); err != nil {
		t.Fatal(err)
	}
	j.req.Wraps = []consign.Wrap{w}
}

func (j *sealedJob) submit(t rapid.TB, q *testkit.FakeQueue) {
	t.Helper()
	if _, err := q.Submit(context.Background(), j.req); err != nil {
		t.Fatal(err)
	}
}

func (j *sealedJob) info(claim consign.ClaimID) seal.ResultInfo {
	return seal.ResultInfo{Queue: j.header.Queue, Job: j.header.Job, Worker: identity.Public().ID(), Claim: claim,
		Input: seal.InputHash(j.req.Header, j.req.Payload)}
}

// Whatever the sizes and the custody, the executor sees the plaintext, the
// submitter can open the result and check its comparison value, and nobody in
// between sees either.
func TestSealedJobs(t *testing.T) {
	sizes := []int{0, 1, 255, 256, 64 << 10, 1<<20 + 1}
	for n := range 4 * len(sizes) {
		custody := []consign.Custody{consign.CustodySealed, consign.CustodyEscrow}[n/len(sizes)%2]
		privacy := []string{seal.Public, seal.Private}[n/len(sizes)/2]
		comparator := []string{"exact", "none", "unheard-of"}[n%3]
		payload := strings.Repeat("sécret payload ", 1+sizes[n%len(sizes)]/16)
		result := strings.Repeat("secret result! ", 1+(1<<20)/15)[:sizes[len(sizes)-1-n%len(sizes)]]
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			j := newSealedJob(q, custody, payload)
			j.header.Privacy, j.header.Comparator = privacy, comparator
			j.seal(t, q)
			j.submit(t, q)
			w := start(t, worker.Config{API: q, EncryptionKeys: []*seal.PrivateKey{workerKey}, Pinned: fromAlice,
				Executors: executors(func(_ context.Context, task *worker.Task) (worker.Output, error) {
					if string(task.Payload) != payload || task.Chars != j.req.Chars {
						t.Error("the executor got another payload")
					}
					return worker.Output{Result: []byte(result), ExitStatus: 3}, nil
				})})
			synctest.Wait()
			w.endClean()
			wantState(t, q, j.header.Job, consign.StateCompleted)
			checkReturns(t, q)
			job := q.Job(j.header.Job)
			got, err := seal.OpenResult(j.resultKey, j.info(job.Claim), job.Result)
			if err != nil || string(got) != result {
				t.Fatalf("the result of %d bytes comes to %d: %v", len(result), len(got), err)
			}
			r := record(t, q.Returns()[0].Complete.Record)
			switch {
			case comparator == "exact":
				c := seal.Comparison{T: job.Comparison.T, R: job.Comparison.R}
				h, _ := seal.ParseHeader(j.req.Header)
				if err := c.VerifyResult(r.TCommit, j.cek, h, []byte(result), nil); err != nil {
					t.Error(err)
				}
			case job.Comparison != nil || r.TCommit != [32]byte{}:
				t.Errorf("a comparison value for comparator %q", comparator)
			}
			wantSecret(t, "the queue", q.Stored())
			wantSecret(t, "the log", []byte(w.log.String()))
		})
	}
}

func wantSecret(t *testing.T, where string, b []byte) {
	t.Helper()
	for _, secret := range []string{"cret payl", "secret res", "secret word"} {
		if i := bytes.Index(b, []byte(secret)); i >= 0 {
			t.Errorf("%s holds plaintext: %.40q", where, b[i:])
		}
	}
}

// What must not reach an executor: each with what is said of it, and whose
// fault that is.
func TestWhatDoesNotOpenIsRefused(t *testing.T) {
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		kind  consign.FailKind
		words string
		keys  []*seal.PrivateKey
		spoil func(t *testing.T, q *testkit.FakeQueue, j *sealedJob)
	}{
		"a key that is gone": {kind: consign.FailRefused, words: "does not have any more", keys: []*seal.PrivateKey{oldKey}},
		"no wrap": {kind: consign.FailRefused, words: "did not come in a wrap", spoil: func(_ *testing.T, _ *testkit.FakeQueue, j *sealedJob) {
			j.req.Wraps[0].Wrap = nil
		}},
		"a wrap for another job": {kind: consign.FailRefused, words: "wrapped for another job", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			other := newSealedJob(q, consign.CustodySealed, "x")
			other.seal(t, q)
			j.req.Wraps = other.req.Wraps
		}},
		"an altered wrap": {kind: consign.FailRefused, words: "wrapped for another job", spoil: func(_ *testing.T, _ *testkit.FakeQueue, j *sealedJob) {
			j.req.Wraps[0].Wrap = flip(j.req.Wraps[0].Wrap, len(j.req.Wraps[0].Wrap)-1)
		}},
		"a header of another model": {kind: consign.FailRefused, words: "of another job than the assignment", spoil: func(_ *testing.T, _ *testkit.FakeQueue, j *sealedJob) {
			j.req.Model = "bigger"
		}},
		"another length than declared to the queue": {kind: consign.FailRefused, words: "of another job than the assignment", spoil: func(_ *testing.T, _ *testkit.FakeQueue, j *sealedJob) {
			j.req.Chars--
		}},
		"a header that is none": {kind: consign.FailPayload, words: "header cannot be read", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.req.Header = append(j.req.Header, 0)
			j.wrap(t, q, workerKey.Public())
		}},
		"an unknown suite": {kind: consign.FailRefused, words: "suite", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.req.Header = bytes.Replace(j.req.Header, []byte("XChaCha20"), []byte("XChaCha99"), 1)
			j.wrap(t, q, workerKey.Public())
		}},
		"another key than committed to": {kind: consign.FailPayload, words: "commits to", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.cek = seal.NewCEK()
			j.wrap(t, q, workerKey.Public())
		}},
		"an altered payload": {kind: consign.FailPayload, words: "altered or cut", spoil: func(_ *testing.T, _ *testkit.FakeQueue, j *sealedJob) {
			j.req.Payload = flip(j.req.Payload, len(j.req.Payload)-1)
		}},
		"a payload without its last chunk": {kind: consign.FailPayload, words: "altered or cut", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.payload = strings.Repeat("secret payload", 10_000)
			j.seal(t, q)
			j.req.Payload = j.req.Payload[:19+65552]
		}},
		"a PRIVATE job of a stranger": {kind: consign.FailRefused, words: "not paired", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.header.Privacy, j.header.Submitter = seal.Private, sign.FromEd25519Seed([32]byte{'m'}).Public().ID()
			j.header.Privacy = seal.Public
			j.seal(t, q)
			j.header.Privacy = seal.Private
			header, ciphertext, err := seal.SealPayload(j.header, j.cek, []byte(j.payload))
			if err != nil {
				t.Fatal(err)
			}
			j.req.Header, j.req.Payload = header, ciphertext
			j.wrap(t, q, workerKey.Public())
		}},
		"a PRIVATE job that the queue forged": {kind: consign.FailRefused, words: "not signed", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.header.Privacy = seal.Private
			j.seal(t, q)
			j.req.Signature = nil
		}},
		"a PRIVATE job with another's signature": {kind: consign.FailRefused, words: "not signed", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.header.Privacy = seal.Private
			j.seal(t, q)
			other := newSealedJob(q, consign.CustodySealed, "y")
			other.header.Privacy = seal.Private
			other.seal(t, q)
			j.req.Signature = other.req.Signature
		}},
		"no executor": {kind: consign.FailRefused, words: "no executor", spoil: func(t *testing.T, q *testkit.FakeQueue, j *sealedJob) {
			j.header.Kind = "OTHER"
			j.seal(t, q)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				j := newSealedJob(q, consign.CustodySealed, "secret payload")
				j.seal(t, q)
				if c.spoil != nil {
					c.spoil(t, q, j)
				}
				j.submit(t, q)
				if c.keys == nil {
					c.keys = []*seal.PrivateKey{workerKey}
				}
				w := start(t, worker.Config{API: q, EncryptionKeys: c.keys, Pinned: fromAlice,
					Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
						t.Error("the executor was called")
						return echo(ctx, task)
					})})
				synctest.Wait()
				w.endClean()
				rs := q.Returns()
				if len(rs) != 1 || rs[0].Fail == nil || rs[0].Fail.Kind != c.kind || !strings.Contains(rs[0].Fail.Reason, c.words) {
					t.Fatalf("returns: %+v", rs)
				}
				wantSecret(t, "the queue", q.Stored())
			})
		})
	}
}

// A worker with no Pinned runs no PRIVATE job at all.
func TestPinsNobodyByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		j := newSealedJob(q, consign.CustodyEscrow, "secret payload")
		j.header.Privacy = seal.Private
		j.seal(t, q)
		j.submit(t, q)
		w := start(t, worker.Config{API: q, Executors: executors(echo)})
		synctest.Wait()
		w.endClean()
		if f := q.Returns()[0].Fail; f == nil || f.Kind != consign.FailRefused {
			t.Errorf("return: %+v", q.Returns()[0])
		}
	})
}

// The words of an executor are for the submitter alone.
func TestFailuresOfSealedJobsAreSealed(t *testing.T) {
	for name, c := range map[string]struct {
		run  worker.ExecutorFunc
		kind consign.FailKind
	}{
		"payload": {func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, fmt.Errorf("%w: secret words", worker.ErrPayload)
		}, consign.FailPayload},
		"refused": {func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, fmt.Errorf("%w: secret words", worker.ErrRefused)
		}, consign.FailRefused},
		"transient": {func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, errors.New("secret words")
		}, consign.FailTransient},
		"panic": {func(context.Context, *worker.Task) (worker.Output, error) { panic("secret words") }, consign.FailTransient},
		"unsignable": {func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{Engine: strings.Repeat("secret words", 200)}, nil
		}, consign.FailTransient},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				j := newSealedJob(q, consign.CustodyEscrow, "secret payload")
				j.seal(t, q)
				j.submit(t, q)
				w := start(t, worker.Config{API: q, EncryptionKeys: []*seal.PrivateKey{workerKey}, Executors: executors(c.run)})
				synctest.Wait()
				w.endClean()
				rs := q.Returns()
				if len(rs) != 1 || rs[0].Fail == nil || rs[0].Fail.Kind != c.kind || rs[0].Fail.Reason == "" {
					t.Fatalf("returns: %+v", rs)
				}
				wantSecret(t, "the queue", q.Stored())
				wantSecret(t, "the log", []byte(w.log.String()))
				if name == "unsignable" {
					return
				}
				items := openReports(t, q, j)
				if last := items[len(items)-1]; last.Kind != consign.ReportLog || !strings.Contains(string(last.Data), "secret words") {
					t.Errorf("the last line is %q", last.Data)
				}
			})
		})
	}
}

// openReports opens what a job's last claim streamed, as a submitter does.
func openReports(t *testing.T, q *testkit.FakeQueue, j *sealedJob) (items []consign.ReportItem) {
	t.Helper()
	opener, err := seal.NewPartOpener(j.resultKey, j.info(q.Job(j.header.Job).Claim))
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	for _, e := range q.Log(j.header.Job) {
		if e.Event != consign.EventReport {
			continue
		}
		data, last, err := opener.Open(e.Data)
		if errors.Is(err, seal.ErrPartReplayed) {
			continue
		}
		if err != nil || ended {
			t.Fatalf("a report does not open (after the last one: %t): %v", ended, err)
		}
		ended = last
		items = append(items, consign.ReportItem{Kind: e.Report, Data: data})
	}
	return items
}

// Parts are sealed once, in order, and sent until they are there: whatever gets
// lost on the way, none is missing, and no two differ under one number.
func TestSealedPartsStandFaults(t *testing.T) {
	reset := errors.New("connection reset")
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		j := newSealedJob(q, consign.CustodySealed, "secret payload")
		j.seal(t, q)
		j.submit(t, q)
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method != "Report" {
				return testkit.Fault{}
			}
			return []testkit.Fault{{}, {Lose: reset}, {Drop: reset}, {Twice: true}}[c.N%4]
		})
		long := strings.Repeat("secret words ", 100_000) // more than one part
		w := start(t, worker.Config{API: api, EncryptionKeys: []*seal.PrivateKey{workerKey},
			Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
				task.Log(long)
				time.Sleep(100 * time.Millisecond) // it leaves no room for more
				return stream(500, 7*time.Millisecond)(ctx, task)
			})})
		time.Sleep(time.Minute)
		wantState(t, q, j.header.Job, consign.StateCompleted)
		var text, lines strings.Builder
		items := openReports(t, q, j)
		for _, item := range items {
			switch item.Kind {
			case consign.ReportPart:
				text.Write(item.Data)
			case consign.ReportLog:
				lines.Write(item.Data)
			}
		}
		if text.String() != parts(500) || !strings.HasPrefix(lines.String(), long+"line 0") {
			t.Errorf("parts: %.200q", text.String())
		}
		if len(items) > 300 {
			t.Errorf("%d parts in 3.5 s: they were not gathered", len(items))
		}
		seen := make(map[string][]byte)
		n := 0
		for _, e := range q.Log(j.header.Job) {
			if e.Event != consign.EventReport {
				continue
			}
			n++
			if len(e.Data) > 1<<20 {
				t.Errorf("a part of %d bytes, more than a queue takes", len(e.Data))
			}
			if first, ok := seen[string(e.Data[:8])]; ok && !bytes.Equal(first, e.Data) {
				t.Errorf("part %x was sealed twice", e.Data[:8])
			}
			seen[string(e.Data[:8])] = e.Data
		}
		if n <= len(seen) {
			t.Error("no part was resent, so this shows nothing")
		}
		w.endClean()
		wantSecret(t, "the queue", q.Stored())
		wantSecret(t, "the log", []byte(w.log.String()))
	})
}

// The last part is marked, where there is one to mark.
func TestTheLastPartIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		j := newSealedJob(q, consign.CustodySealed, "secret payload")
		j.seal(t, q)
		j.submit(t, q)
		w := start(t, worker.Config{API: q, EncryptionKeys: []*seal.PrivateKey{workerKey}, Executors: executors(stream(20, 20*time.Millisecond))})
		time.Sleep(time.Minute)
		w.endClean()
		log := slices.DeleteFunc(q.Log(j.header.Job), func(e consign.LogEntry) bool { return e.Event != consign.EventReport })
		for i, e := range log {
			if last := e.Data[8] == 1; last != (i == len(log)-1) {
				t.Errorf("part %d of %d: last is %t", i, len(log), last)
			}
		}
	})
}

// A refused batch ends the reports of a claim, and nothing else.
func TestARefusedReportDoesNotHoldTheResultUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		j := newSealedJob(q, consign.CustodySealed, "secret payload")
		j.seal(t, q)
		j.submit(t, q)
		var calls atomic.Int32
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Report" && calls.Add(1) > 3 {
				return testkit.Fault{Lose: &consign.FieldError{Field: "report", Problem: "is too much", Remedy: "send less"}}
			}
			return testkit.Fault{}
		})
		w := start(t, worker.Config{API: api, EncryptionKeys: []*seal.PrivateKey{workerKey}, Executors: executors(stream(100, 10*time.Millisecond))})
		time.Sleep(2 * time.Second)
		wantState(t, q, j.header.Job, consign.StateCompleted)
		w.endClean()
		if calls.Load() != 4 {
			t.Errorf("%d calls, of which the fourth was refused", calls.Load())
		}
		openReports(t, q, j)
	})
}

func bundleOf(t *testing.T, q *testkit.FakeQueue, highest int64) seal.Bundle {
	t.Helper()
	keys, err := q.Keys(context.Background())
	if err != nil || len(keys.Workers) != 1 {
		t.Fatalf("%d workers: %v", len(keys.Workers), err)
	}
	var e sign.Envelope
	if err := json.Unmarshal(keys.Workers[0].KeyBundle, &e); err != nil {
		t.Fatal(err)
	}
	b, err := seal.VerifyBundle(e, identity.Public(), time.Now(), highest)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// At any time there is a valid bundle of the current key, also after a restart
// and over months.
func TestBundlesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		q.Interval = time.Hour
		cfg := worker.Config{API: q, EncryptionKeys: []*seal.PrivateKey{workerKey, oldKey}, Executors: executors(echo)}
		w := start(t, cfg)
		synctest.Wait()
		first := bundleOf(t, q, 0)
		if len(first.Keys) != 1 || !first.Keys[0].Equal(workerKey.Public()) {
			t.Errorf("keys: %v", first.Keys)
		}
		highest := first.Seq
		for range 100 {
			time.Sleep(24 * time.Hour)
			b := bundleOf(t, q, highest)
			highest = b.Seq
			if left := time.Until(b.NotAfter); left < 10*24*time.Hour {
				t.Errorf("the bundle ends in %v", left)
			}
		}
		if n := q.Sessions(); n < 6 || n > 8 {
			t.Errorf("%d sessions in 100 days", n)
		}
		// It claims in the new session: that of its start has a bundle that ended.
		j := newSealedJob(q, consign.CustodyEscrow, "secret payload")
		j.seal(t, q)
		j.submit(t, q)
		synctest.Wait()
		wantState(t, q, j.header.Job, consign.StateCompleted)
		w.endClean()
		time.Sleep(time.Second)
		w = start(t, cfg)
		synctest.Wait()
		if b := bundleOf(t, q, highest); b.Seq <= highest {
			t.Errorf("seq %d after a restart, %d before", b.Seq, highest)
		}
		// What was sealed to the key before opens.
		j = newSealedJob(q, consign.CustodySealed, "secret payload")
		j.seal(t, q)
		j.wrap(t, q, oldKey.Public())
		j.submit(t, q)
		synctest.Wait()
		wantState(t, q, j.header.Job, consign.StateCompleted)
		w.endClean()
	})
}

func TestEncryptionKeysAreChecked(t *testing.T) {
	for name, keys := range map[string][]*seal.PrivateKey{"nil": {nil}, "zero": {workerKey, {}}} {
		_, err := worker.New(worker.Config{API: testkit.NewFakeQueue(), Identity: identity, Executors: executors(echo), EncryptionKeys: keys})
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "worker.Config.EncryptionKeys" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
