package peer

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// TestJoins: so many new workers from one address, and so many in all, within an
// hour; one that is known already, or was not let in, does not count.
func TestJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := Joins{PerAddress: 2, Total: 3}
		a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
		refuse := errors.New("no")
		try := func(what string, addr netip.Addr, w byte, answer, want error) {
			t.Helper()
			called := false
			_, err := j.Register(addr, consign.WorkerID{w}, func() (consign.Session, error) { called = true; return nil, answer })
			if !errors.Is(err, want) || called != (want != consign.ErrBusy) { //nolint:errorlint // it is that very one
				t.Errorf("%s: %v, want %v; the queue was asked: %v", what, err, want, called)
			}
		}
		for range 5 {
			try("one that is not let in", a, 1, refuse, refuse)
		}
		if len(j.this.from) != 0 || j.this.total != 0 || len(j.this.in) != 0 {
			t.Errorf("%+v is kept of workers of whom none was let in", j.this)
		}
		try("the first", a, 1, nil, nil)
		try("the second", a, 2, nil, nil)
		try("a third one", a, 3, nil, consign.ErrBusy)
		try("the first again", a, 1, nil, nil)
		try("the first again, not let in", a, 1, refuse, refuse)
		try("from elsewhere", b, 4, nil, nil)
		try("one beyond the total", c, 5, nil, consign.ErrBusy)
		try("the first from elsewhere", b, 1, nil, nil)
		time.Sleep(joinWindow)
		try("an hour later", a, 3, nil, nil)
		try("an hour later", a, 5, nil, nil)
		try("an hour later, one too many", a, 6, nil, consign.ErrBusy)
		try("one of the hour before, where strangers fill the address", a, 1, nil, nil)
		time.Sleep(joinWindow)
		for w := range byte(2) {
			try("strangers", a, 10+w, nil, nil)
		}
		try("one that came in each hour", a, 1, nil, nil)
		try("one that was away for an hour", a, 2, nil, consign.ErrBusy)
	})
}

// TestJoinsAtOnce: of tries of one worker at once the one that is let in counts,
// whatever becomes of the other, and it counts once.
func TestJoinsAtOnce(t *testing.T) {
	refuse := errors.New("no")
	addr := netip.MustParseAddr("192.0.2.1")
	for _, other := range []error{refuse, nil} {
		j := Joins{PerAddress: 3, Total: 3}
		_, outer := j.Register(addr, consign.WorkerID{1}, func() (consign.Session, error) {
			_, inner := j.Register(addr, consign.WorkerID{1}, func() (consign.Session, error) { return nil, nil })
			if inner != nil {
				t.Error(inner)
			}
			return nil, other
		})
		if !errors.Is(outer, other) {
			t.Errorf("%v, want %v", outer, other)
		}
		if j.this.from[addr] != 1 || j.this.total != 1 {
			t.Errorf("where the other gets %v, it counts %d times", other, j.this.total)
		}
	}
}

// TestJoinsKeepBounded: who comes back each hour, with new ones each hour, does
// not fill the memory.
func TestJoinsKeepBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := Joins{PerAddress: 10, Total: 10}
		next := byte(0)
		for range 10 {
			for w := range next + 10 {
				_, _ = j.Register(netip.Addr{}, consign.WorkerID{w}, func() (consign.Session, error) { return nil, nil })
			}
			next += 10
			if len(j.this.in) > 20 || j.this.total > 10 {
				t.Fatalf("%d workers are remembered, %d count", len(j.this.in), j.this.total)
			}
			time.Sleep(joinWindow)
		}
	})
}
