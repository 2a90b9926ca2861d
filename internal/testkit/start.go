package testkit

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/consignq/consign"
)

// Start runs a queue until it is stopped, which the test's end does at the
// latest. A queue that ends otherwise fails the test.
func Start(tb testing.TB, c consign.Config) (q *consign.Queue, stop func()) {
	tb.Helper()
	q, err := consign.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := q.Run(ctx); !errors.Is(err, context.Canceled) {
			tb.Errorf("the queue ended: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	tb.Cleanup(stop)
	return q, stop
}
