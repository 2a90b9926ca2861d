package longpoll

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// challenger is a queue that has only challenges.
type challenger struct{ consign.WorkerAPI }

func (challenger) Challenge(context.Context) (consign.Challenge, error) {
	return consign.Challenge{Nonce: []byte("nonce")}, nil
}

// nobody lets no submitter in.
type nobody struct{}

func (nobody) Account(*http.Request) (string, error) { return "", errors.New("who are you?") }

// TestBodiesThatDoNotCome: a connection ends whose body is not there in time,
// whether the endpoint wants it or not.
func TestBodiesThatDoNotCome(t *testing.T) {
	for name, head := range map[string]string{
		"of an endpoint without one": "POST /v1/workers/challenge HTTP/1.1\r\nHost: q\r\nContent-Length: 10\r\n\r\n",
		"of a stranger":              "POST /v1/jobs HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n",
		"of no endpoint":             "POST /nowhere HTTP/1.1\r\nHost: q\r\nContent-Length: 10\r\n\r\n",
		"half of it":                 "POST /v1/workers/register HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{",
		"in chunks":                  "POST /v1/workers/register HTTP/1.1\r\nHost: q\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, err := NewHandler(Config{Workers: challenger{}, Submitters: func(string) consign.SubmitterAPI { return nil }, Authenticator: nobody{}})
				if err != nil {
					t.Fatal(err)
				}
				server := &http.Server{Handler: h} //nolint:gosec // the handler's bounds are what is tested
				listener := make(testkit.Pipes)
				go func() { _ = server.Serve(listener) }()
				defer server.Close()
				here := listener.Dial()
				defer here.Close()
				_ = here.SetDeadline(time.Now().Add(bodyTime + answerTime))
				if _, err := io.WriteString(here, head); err != nil {
					t.Fatal(err)
				}
				if answer, err := io.ReadAll(here); err != nil {
					t.Errorf("after %q the connection goes on: %v", answer, err)
				}
			})
		})
	}
}
