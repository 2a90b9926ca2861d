package longpoll_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/worker"
)

// twice is a network that now and then delivers a request twice, and the
// second answer.
type twice struct {
	http.RoundTripper
	mu     sync.Mutex
	random *rand.Rand
	times  int
}

func (d *twice) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	again := d.random.Float64() < 0.2
	if again {
		d.times++
	}
	d.mu.Unlock()
	if !again {
		return d.RoundTripper.RoundTrip(r)
	}
	if resp, err := d.RoundTripper.RoundTrip(twin(r)); err == nil {
		resp.Body.Close()
	}
	return d.RoundTripper.RoundTrip(r)
}

// twin is a request like this one, which stays what it is.
func twin(r *http.Request) *http.Request {
	other := r.Clone(r.Context())
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body) // of a buffer
		r.Body.Close()
		r.Body, other.Body = io.NopCloser(bytes.NewReader(body)), io.NopCloser(bytes.NewReader(body))
	}
	return other
}

// TestFaults runs jobs over a bad network between both ends: each ends
// completed, with its own result, and was accepted once.
func TestFaults(t *testing.T) {
	for name, f := range map[string]testkit.NetFaults{
		"delay":     {Delay: 0.3, MaxDelay: 20 * time.Millisecond},
		"reset":     {Reset: 0.03},
		"half-open": {HalfOpen: 0.02, Dead: 300 * time.Millisecond},
		"slice":     {Slice: 0.5},
		"duplicate": {},
		"all":       {Delay: 0.1, MaxDelay: 10 * time.Millisecond, Reset: 0.02, HalfOpen: 0.01, Dead: 200 * time.Millisecond, Slice: 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFaults(t, f, name == "duplicate" || name == "all")
		})
	}
}

func testFaults(t *testing.T, f testkit.NetFaults, duplicates bool) {
	identity := sign.Generate()
	q := startQueue(t, consign.Config{Identity: identity, Lease: 5 * time.Second, MaxAttempts: 100})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	proxy, err := testkit.StartProxy(strings.TrimPrefix(url, "http://"), 1, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	dup := &twice{RoundTripper: &http.Transport{MaxIdleConnsPerHost: 100}, random: rand.New(rand.NewPCG(1, 2))}
	dialFaulty := func() (consign.SubmitterAPI, consign.WorkerAPI) {
		c := longpoll.DialConfig{URL: "http://" + proxy.Addr()}
		if duplicates {
			c.Client = &http.Client{Transport: dup}
		}
		submitter, workers, err := longpoll.Dial(c)
		if err != nil {
			t.Fatal(err)
		}
		return submitter, workers
	}
	submitter, _ := dialFaulty()
	for range 3 {
		_, workers := dialFaulty()
		startWorker(t, workers)
	}
	c, err := client.New(client.Config{API: submitter, QueueKey: identity.Public(), Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	const n = 60
	ids := make([]consign.JobID, n)
	var group sync.WaitGroup
	for i := range n {
		ids[i] = consign.NewJobID()
		group.Go(func() {
			r := consign.SubmitRequest{ID: ids[i], Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain}
			res, err := c.Run(t.Context(), r)
			if err != nil || !bytes.Equal(res.Result, bytes.ToUpper(r.Payload)) {
				t.Errorf("job %d: %q, %v", i, res.Result, err)
			}
		})
	}
	group.Wait()
	for i, id := range ids {
		accepted, claimed, reported := 0, 0, 0
		for e, err := range q.Submitter(longpoll.DefaultAccount).Events(t.Context(), id, 0) {
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case e.Event == consign.EventComplete:
				accepted++
			case e.Event == consign.EventClaim:
				claimed++
			case e.Event == consign.EventReport && e.Report == consign.ReportPart:
				reported++
			}
		}
		if accepted != 1 || reported > claimed || reported == 0 {
			t.Errorf("job %d was accepted %d times, and its part reported %d times in %d attempts", i, accepted, reported, claimed)
		}
	}
	if faulty := f.Reset + f.HalfOpen; faulty > 0 && proxy.Broken() == 0 || duplicates && dup.times == 0 {
		t.Error("the network was good")
	}
	proxy.Mend() // so that the workers end without waiting for what is lost
}

// startWorker runs a worker that answers tasks in upper case.
func startWorker(t *testing.T, api consign.WorkerAPI) {
	t.Helper()
	w, err := worker.New(worker.Config{API: api, Identity: sign.Generate(), Slots: 4, CallTimeout: 2 * time.Second, Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
			task.Part(task.Payload)
			return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// lossy loses the answers of claims, after they were carried out.
type lossy struct {
	http.RoundTripper
	mu   sync.Mutex
	lose int
}

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && strings.HasSuffix(r.URL.Path, "/claims") && l.lose > 0 {
		l.lose--
		resp.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	return resp, err
}

// TestLostClaimAnswer: whoever asks again gets the job that it had got, long
// before its lease ends.
func TestLostClaimAnswer(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	l := &lossy{RoundTripper: http.DefaultTransport, lose: 2}
	submitter, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Client: &http.Client{Transport: l}})
	if err != nil {
		t.Fatal(err)
	}
	session := register(t, workers, sign.Generate(), 1)
	job, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a, err := session.Claim(t.Context()); err == nil {
			t.Fatalf("%+v, although the answer was lost", a)
		}
	}
	a, err := session.Claim(t.Context())
	if err != nil || a.Job != job.ID {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := session.Complete(t.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("r")}); err != nil {
		t.Fatal(err)
	}
	if job, err = submitter.Get(t.Context(), job.ID); err != nil || job.Attempts != 1 || job.State != consign.StateCompleted {
		t.Errorf("%+v, %v", job, err)
	}
}

// TestLostClaimAnswerGivenUp: a worker that does not want the job any more says
// so, and another one gets it, long before its lease ends.
func TestLostClaimAnswerGivenUp(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	ctx, giveUp := context.WithCancel(t.Context())
	_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Client: &http.Client{Transport: losing(giveUp)}})
	if err != nil {
		t.Fatal(err)
	}
	submitter, others := dial(t, url, "")
	session := register(t, workers, sign.Generate(), 1)
	if _, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Claim(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	other := register(t, others, sign.Generate(), 1)
	a, err := other.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Complete(t.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
		t.Error(err)
	}
}

// losing loses the answer of a claim just when its caller gives up.
type losing func()

func (l losing) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/claims") {
		resp.Body.Close()
		l()
		return nil, errors.New("the answer was lost")
	}
	return resp, err
}
