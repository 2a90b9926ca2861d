package longpoll_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/transporttest"
)

// The suite of transports with faults between the ends.

func TestFaultyWorker(t *testing.T) {
	transporttest.FaultyWorker(t, func(t testing.TB, m *transporttest.Middle, backend consign.WorkerAPI) consign.WorkerAPI {
		_, workers := dialThrough(t, m, serve(t, longpoll.Config{Workers: backend}))
		return workers
	})
}

func TestFaultySubmitter(t *testing.T) {
	transporttest.FaultySubmitter(t, func(t testing.TB, m *transporttest.Middle, backend consign.SubmitterAPI) consign.SubmitterAPI {
		submitter, _ := dialThrough(t, m, serve(t, longpoll.Config{Submitters: func(string) consign.SubmitterAPI { return backend }}))
		return submitter
	})
}

func dialThrough(t testing.TB, m *transporttest.Middle, url string) (consign.SubmitterAPI, consign.WorkerAPI) {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	submitter, workers, err := longpoll.Dial(longpoll.DialConfig{URL: "http://" + m.Addr(strings.TrimPrefix(url, "http://")), Client: &http.Client{Transport: doubling{transport, m}}})
	if err != nil {
		t.Fatal(err)
	}
	return submitter, workers
}

// doubling sends requests twice, and returns the second answer.
type doubling struct {
	http.RoundTripper
	m *transporttest.Middle
}

func (d doubling) RoundTrip(r *http.Request) (*http.Response, error) {
	if !d.m.Twice() {
		return d.RoundTripper.RoundTrip(r)
	}
	if resp, err := d.RoundTripper.RoundTrip(twin(r)); err == nil {
		_ = resp.Body.Close()
	}
	return d.RoundTripper.RoundTrip(r)
}
