package longpoll_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/longpoll"
)

// onReports is a network that does something to each request with reports.
type onReports func(r *http.Request, pass func() (*http.Response, error)) (*http.Response, error)

func (f onReports) RoundTrip(r *http.Request) (*http.Response, error) {
	var mu sync.Mutex // it may pass twice at once
	pass := func() (*http.Response, error) {
		mu.Lock()
		again := twin(r)
		mu.Unlock()
		return http.DefaultTransport.RoundTrip(again)
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/jobs/") || !strings.HasSuffix(r.URL.Path, "/heartbeat") {
		return pass()
	}
	return f(r, pass)
}

// TestReportsOnce: each report is in the log once and in order, whatever becomes
// of the requests and the answers.
func TestReportsOnce(t *testing.T) {
	lost := errors.New("the network lost it")
	calls := 0
	for name, network := range map[string]onReports{
		"a request comes twice": func(_ *http.Request, pass func() (*http.Response, error)) (*http.Response, error) {
			if resp, err := pass(); err == nil {
				resp.Body.Close()
			}
			return pass()
		},
		"a request comes twice at once": func(_ *http.Request, pass func() (*http.Response, error)) (*http.Response, error) {
			var group sync.WaitGroup
			group.Go(func() {
				if resp, err := pass(); err == nil {
					resp.Body.Close()
				}
			})
			defer group.Wait()
			return pass()
		},
		"an answer is lost": func(_ *http.Request, pass func() (*http.Response, error)) (*http.Response, error) {
			resp, err := pass()
			if calls++; err == nil && calls%2 == 1 {
				resp.Body.Close()
				return nil, lost
			}
			return resp, err
		},
		"a request is lost": func(_ *http.Request, pass func() (*http.Response, error)) (*http.Response, error) {
			if calls++; calls%2 == 1 {
				return nil, lost
			}
			return pass()
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
			url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
			submitter, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Client: &http.Client{Transport: network}})
			if err != nil {
				t.Fatal(err)
			}
			session := register(t, workers, sign.Generate(), 1)
			job, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
			if err != nil {
				t.Fatal(err)
			}
			a, err := session.Claim(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			claim := consign.Claim{Job: a.Job, Claim: a.Claim}
			var want []string
			for i := range 20 {
				line := "the same line, again" // the same words are not the same report
				if i%2 == 0 {
					line = fmt.Sprint("line ", i)
				}
				want = append(want, line)
				if err := session.Report(t.Context(), consign.Report{Claim: claim, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte(line)}}}); err != nil {
					t.Error(err)
				}
			}
			if err := session.Complete(t.Context(), consign.Completion{Claim: claim}); err != nil {
				t.Fatal(err)
			}
			if got := lines(t, submitter, job.ID); !slices.Equal(got, want) {
				t.Errorf("the log has %q, not %q", got, want)
			}
		})
	}
}

// lines are the log lines of a job that has ended.
func lines(t *testing.T, api consign.SubmitterAPI, id consign.JobID) (lines []string) {
	t.Helper()
	for e, err := range api.Events(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event == consign.EventReport {
			lines = append(lines, string(e.Data))
		}
	}
	return lines
}

// TestReportKeys: a program that names its reports may send each again, and no
// other under the same name; the names of one claim are not those of another.
func TestReportKeys(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	submitter, workers := dial(t, url, "")
	identity := sign.Generate()
	token, _ := registerJSON(t, url, workers, identity)
	for range 2 {
		job, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
		if err != nil {
			t.Fatal(err)
		}
		_, a := ask(t, url, "POST", "/v1/workers/"+consign.WorkerID(identity.Public().ID()).String()+"/claim?wait=10s", token, object{})
		claim, path := a["claim_id"].(string), "/v1/jobs/"+job.ID.String()
		for _, r := range []struct {
			key, body string
			status    int
			code      string
		}{
			{"1", `"lines":["a"]`, 204, ""},
			{"1", `"lines":["a"]`, 204, ""},
			{"1", `"lines":["b"]`, 409, "conflict"},
			{"1", `"lines":["a",""]`, 409, "conflict"},
			{"1", `"items":[{"kind":"part","data":"YQ=="}]`, 409, "conflict"},
			{"2", `"lines":["a"]`, 204, ""},
			{"", `"lines":["c"]`, 204, ""}, // without a key each is another
			{"", `"lines":["c"]`, 204, ""},
			{strings.Repeat("x", 65), `"lines":["d"]`, 400, "invalid_field"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", url+path+"/heartbeat", strings.NewReader(`{"claim_id":"`+claim+`",`+r.body+`}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "Idempotency-Key": {r.key}}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != r.status || !strings.Contains(string(body), r.code) {
				t.Errorf("%q, %s: %d %s", r.key, r.body, resp.StatusCode, body)
			}
		}
		ask(t, url, "POST", path+"/complete", token, object{"claim_id": claim})
		if got := lines(t, submitter, job.ID); !slices.Equal(got, []string{"a", "a", "c", "c"}) {
			t.Errorf("the log has %q", got)
		}
	}
}
