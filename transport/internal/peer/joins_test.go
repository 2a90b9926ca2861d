package peer

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// TestJoins: so many workers from one address, and so many in all, within an
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
		if len(j.seen) != 0 || j.total != 0 {
			t.Errorf("%d addresses and %d workers are kept of whom nobody was let in", len(j.seen), j.total)
		}
		try("the first", a, 1, nil, nil)
		try("the second", a, 2, nil, nil)
		try("a third one", a, 3, nil, consign.ErrBusy)
		try("the first again", a, 1, nil, nil)
		try("the first again, not let in", a, 1, refuse, refuse)
		try("from elsewhere", b, 4, nil, nil)
		try("one beyond the total", c, 5, nil, consign.ErrBusy)
		time.Sleep(joinWindow)
		try("an hour later", a, 3, nil, nil)
	})
}
