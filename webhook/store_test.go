package webhook

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// failing is a store that cannot say where webhooks go, or nothing at all, for a
// while.
type failing struct {
	consign.Store
	kind  string // "": of every kind
	fails atomic.Bool
}

var errFails = errors.New("the store fails")

func (f *failing) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	if f.fails.Load() && (f.kind == "" || f.kind == kind) {
		return consign.Doc{}, errFails
	}
	return f.Store.Doc(ctx, kind, key)
}

func (f *failing) Docs(ctx context.Context, kind, after string, n int) ([]consign.Doc, error) {
	if f.fails.Load() && f.kind == "" {
		return nil, errFails
	}
	return f.Store.Docs(ctx, kind, after, n)
}

// A message whose last try falls into a failure of the store is tried once more:
// nobody was told, nor has refused to be.
func TestStoreFailsAtTheLastTry(t *testing.T) {
	for _, kind := range []string{consign.DocHook, docGone} {
		synctest.Test(t, func(t *testing.T) {
			store := &failing{Store: memdb.New(), kind: kind}
			s := &outbox{Store: store}
			last := len(defaultSchedule) - 1
			s.putTried(t, "acme", "https://x.test/", time.Now(), last)
			var calls atomic.Int64
			store.fails.Store(true)
			sending(t, s, slog.New(slog.DiscardHandler), func(*http.Request) (int, error) {
				calls.Add(1)
				return http.StatusOK, nil
			}, func() {
				rest(10 * time.Minute)
				if n := tries(t, s); n != last {
					t.Errorf("%s: after ten minutes of failures %d tries are counted, not %d", kind, n, last)
				}
				store.fails.Store(false)
				rest(time.Minute)
				if n := calls.Load(); n != 1 || s.left(t) != 0 {
					t.Errorf("%s: %d calls, and %d messages are left", kind, n, s.left(t))
				}
			})
		})
	}
}

// tries is how many are counted of the only message.
func tries(t *testing.T, s *outbox) int {
	t.Helper()
	docs, err := s.Store.Docs(context.Background(), consign.DocWebhook, "", 2)
	if err != nil || len(docs) != 1 {
		t.Fatal(docs, err)
	}
	d, _ := read(docs[0])
	return d.Tries
}

// A store that fails is told of once, and once it works again.
func TestStoreFailsIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Store: memdb.New()}
		s := &outbox{Store: store}
		var log bytes.Buffer
		sending(t, s, slog.New(slog.NewTextHandler(&log, nil)), nil, func() {
			for range 2 {
				store.fails.Store(true)
				rest(time.Minute)
				store.fails.Store(false)
				rest(time.Minute)
			}
		})
		if lost, again := strings.Count(log.String(), "trying on"), strings.Count(log.String(), "written again"); lost != 2 || again != 2 {
			t.Errorf("it is logged %d times that the store fails twice, and %d times that it works again:\n%s", lost, again, log.String())
		}
	})
}
