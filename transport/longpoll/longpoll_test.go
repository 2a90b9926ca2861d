package longpoll_test

import (
	"net/http/httptest"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/transporttest"
)

func TestSubmitter(t *testing.T) {
	transporttest.Submitter(t, func(t testing.TB, backend consign.SubmitterAPI) consign.SubmitterAPI {
		submitter, _ := dial(t, serve(t, longpoll.Config{Submitters: func(string) consign.SubmitterAPI { return backend }}), "")
		return submitter
	})
}

func TestWorker(t *testing.T) {
	transporttest.Worker(t, func(t testing.TB, backend consign.WorkerAPI) consign.WorkerAPI {
		_, workers := dial(t, serve(t, longpoll.Config{Workers: backend}), "")
		return workers
	})
}

// serve serves a handler and returns its URL.
func serve(t testing.TB, c longpoll.Config) string {
	t.Helper()
	h, err := longpoll.NewHandler(c)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.CloseClientConnections) // before Close, which waits for those that poll
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return srv.URL
}

func dial(t testing.TB, url, token string) (consign.SubmitterAPI, consign.WorkerAPI) {
	t.Helper()
	submitter, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return submitter, workers
}
