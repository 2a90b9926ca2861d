package webhook

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign/store/memdb"
)

// A day's backlog of one account whose servers hang costs little to wait with,
// and delays nobody: neither while its tries hang nor as they end.
func TestBacklogIsCheap(t *testing.T) {
	const minutes, each = 1440, 20
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		began := time.Now()
		for i := range minutes * each {
			s.put(t, "big", "https://big.test/", began.Add(-time.Duration(i%minutes)*time.Minute))
		}
		var big, small atomic.Int64
		sending(t, s, nil, func(r *http.Request) (int, error) {
			if r.URL.Host == "small.test" {
				small.Add(1)
				return http.StatusOK, nil
			}
			big.Add(1)
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, func() {
			for i := range int64(10) {
				rest(4 * time.Second)
				s.put(t, fmt.Sprintf("small-%d", i), "https://small.test/", time.Now())
				rest(time.Second)
				if got := small.Load(); got != i+1 {
					t.Fatalf("%d of %d messages of others went out within a second", got, i+1)
				}
			}
			if got := big.Load(); got != 4*perAccount { // at 0, 15, 30 and 45 s
				t.Errorf("%d tries of the big account were made, not %d", got, 4*perAccount)
			}
			if read := s.read.Load(); read > 20_000 {
				t.Errorf("%d documents were read in 50 s", read)
			} else {
				t.Logf("%d documents were read in 50 s", read)
			}
		})
	})
}

// Sixteen and more accounts whose servers hang hold not all tries.
func TestManyHangingAccounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		for i := range 60 {
			for range 2 * perAccount {
				s.put(t, fmt.Sprintf("big-%d", i), "https://big.test/", time.Now())
			}
		}
		var small atomic.Int64
		sending(t, s, nil, func(r *http.Request) (int, error) {
			if r.URL.Host == "small.test" {
				small.Add(1)
				return http.StatusOK, nil
			}
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, func() {
			rest(time.Second)
			s.put(t, "small", "https://small.test/", time.Now())
			rest(time.Second)
			if small.Load() != 1 {
				t.Error("a message waits for other accounts' servers")
			}
		})
	})
}

// Several accounts that are behind at once each go on from minute to minute, past
// what the others have there, without a sweep of all the outbox: also past what
// stays there, since its servers hang.
func TestAccountsBehindPassEachOther(t *testing.T) {
	const accounts, minutes, each = 3, 6, 2 * perAccount
	for hangs := range accounts {
		synctest.Test(t, func(t *testing.T) {
			s := &outbox{Store: memdb.New()}
			began := time.Now()
			for i := range accounts * minutes * each {
				account := fmt.Sprintf("big-%d", i%accounts)
				s.put(t, account, "https://"+account+".test/", began.Add(-time.Duration(i/accounts%minutes)*time.Minute))
			}
			var sent atomic.Int64
			sending(t, s, nil, func(r *http.Request) (int, error) {
				if r.URL.Host == fmt.Sprintf("big-%d.test", hangs) {
					<-r.Context().Done()
					return 0, r.Context().Err()
				}
				sent.Add(1)
				return http.StatusOK, nil
			}, func() {
				rest(whole / 2)
				if n := sent.Load(); n != (accounts-1)*minutes*each {
					t.Errorf("%d of %d messages were sent while big-%d hangs", n, (accounts-1)*minutes*each, hangs)
				}
			})
		})
	}
}

// That a URL answered 410 is known for three days, and no longer: it takes
// no room for ever.
func TestGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		for i := range 2 * pageSize {
			s.put(t, "acme", fmt.Sprintf("https://gone.test/%d", i), time.Now())
		}
		left := func() int {
			docs, err := s.Store.Docs(t.Context(), docGone, "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			return len(docs)
		}
		sending(t, s, nil, func(*http.Request) (int, error) { return http.StatusGone, nil }, func() {
			rest(goneFor - time.Minute)
			if n := left(); n != 2*pageSize {
				t.Errorf("%d of %d are known before their time is over", n, 2*pageSize)
			}
			rest(goneLook + 2*time.Minute)
			if n := left(); n != 0 {
				t.Errorf("%d are kept after it", n)
			}
		})
	})
}
