package websocket

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// DialConfig says where a queue is.
type DialConfig struct {
	// URL is where the coordinator is, as for longpoll: "https://queue.example.com",
	// with the path below which it is, if there is one.
	URL string
	// JSON makes the frames readable. Defaults to msgpack, which is shorter.
	JSON bool
	// Client makes the handshake, with a Timeout of zero. Defaults to
	// http.DefaultClient.
	Client *http.Client
	// Ping is how often a connection shows that the worker is there. Three
	// times as long without a byte from the coordinator, and it is given up.
	// Defaults to 15 s.
	Ping time.Duration
}

// Dial returns the queue at a URL. It connects when it is used: a connection
// for each session. It returns a *consign.FieldError for a URL that is none.
//
// A session is over when its connection is: its methods return ErrSession then,
// and what was under way an error that says that nobody knows. Workers register
// again. Sessions are io.Closers.
func Dial(c DialConfig) (consign.WorkerAPI, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, urlError(c.URL)
	}
	switch u.Scheme {
	case "http", "https":
	case "ws", "wss":
		u.Scheme = "http" + strings.TrimPrefix(u.Scheme, "ws")
	default:
		return nil, urlError(c.URL)
	}
	d := &dialer{url: strings.TrimSuffix(u.String(), "/") + Path, origin: strings.ToLower(u.Scheme + "://" + u.Host),
		codec: wire.Msgpack, client: c.Client, ping: c.Ping, greeted: map[string]*remote{}}
	if c.JSON {
		d.codec = wire.JSON
	}
	if d.ping <= 0 {
		d.ping = 15 * time.Second
	}
	return d, nil
}

func urlError(text string) error {
	return fieldError("url", fmt.Sprintf("is %.200q", text), `give a URL like "https://queue.example.com", without a query or a password`)
}

// dialer is the consign.WorkerAPI at a URL.
type dialer struct {
	url    string
	origin string
	codec  wire.Codec
	client *http.Client
	ping   time.Duration
	last   atomic.Uint64 // the number of the last request

	mu      sync.Mutex
	greeted map[string]*remote // connections that have a challenge, by its nonce
}

var _ consign.WorkerAPI = (*dialer)(nil)

// Origin is the address that was dialled, for the worker to sign: the same as
// over HTTP.
func (d *dialer) Origin() string { return d.origin }

// maxAnswer bounds what a coordinator sends, in bytes: a payload and the rest of
// its job.
const maxAnswer = 64 << 20

// dial opens a connection. It lasts until it is closed or breaks.
func (d *dialer) dial(ctx context.Context) (*remote, error) {
	conn, resp, err := ws.Dial(ctx, d.url, &ws.DialOptions{HTTPClient: d.client, Subprotocols: []string{subprotocol(d.codec)}})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("websocket: %s answers %s: is the URL right, and does the proxy before it let WebSockets through? (%w)", d.url, resp.Status, err)
		}
		return nil, fmt.Errorf("websocket: %w", err)
	}
	if conn.Subprotocol() != subprotocol(d.codec) {
		_ = conn.CloseNow()
		return nil, fmt.Errorf("websocket: %s does not speak %s", d.url, subprotocol(d.codec))
	}
	conn.SetReadLimit(maxAnswer)
	l := newLink(conn, d.codec, 3*d.ping)
	r := &remote{link: l, out: newOutbox(l), last: &d.last, waits: map[uint64]*call{}}
	go r.out.write()
	go r.read()
	go r.keepAlive(d.ping)
	return r, nil
}

func (d *dialer) Challenge(ctx context.Context) (consign.Challenge, error) {
	r, err := d.dial(ctx)
	if err != nil {
		return consign.Challenge{}, err
	}
	var out wire.ChallengeFrame
	in := wire.Frame{Type: wire.FrameChallenge}
	if err := r.call(ctx, &in, &in, &out); err != nil {
		r.close()
		return consign.Challenge{}, err
	}
	challenge := out.Challenge.Value()
	d.keep(string(challenge.Nonce), r)
	return challenge, nil
}

// keep keeps a connection for the registration that answers its challenge. If
// none comes the coordinator closes it.
func (d *dialer) keep(nonce string, r *remote) {
	d.mu.Lock()
	if old := d.greeted[nonce]; old != nil {
		go old.close()
	}
	d.greeted[nonce] = r
	d.mu.Unlock()
	go func() {
		<-r.out.ended
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.greeted[nonce] == r {
			delete(d.greeted, nonce)
		}
	}()
}

// greeting returns the connection of a challenge, or a new one.
func (d *dialer) greeting(ctx context.Context, nonce string) (*remote, error) {
	d.mu.Lock()
	r := d.greeted[nonce]
	delete(d.greeted, nonce)
	d.mu.Unlock()
	if r == nil {
		return d.dial(ctx)
	}
	return r, nil
}

func (d *dialer) Register(ctx context.Context, reg consign.Registration) (consign.Session, error) {
	r, err := d.greeting(ctx, string(reg.Nonce))
	if err != nil {
		return nil, err
	}
	in := wire.RegisterFrame{Frame: wire.Frame{Type: wire.FrameRegister}, Registration: wire.NewRegistration(reg)}
	var out wire.RegisteredFrame
	if err := r.call(ctx, &in.Frame, &in, &out); err != nil {
		r.close()
		return nil, err
	}
	return &remoteSession{r}, nil
}
