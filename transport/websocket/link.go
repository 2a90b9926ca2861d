package websocket

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// subprotocol names a codec in the handshake.
func subprotocol(c wire.Codec) string { return "consign.v1." + c.String() }

// writeTime is how long a message may take to go. A peer that reads more slowly
// is cut off.
const writeTime = time.Minute

// link is one end of a connection: messages in, frames out.
//
// Whether the other end is still there shows in what comes from it, byte by
// byte: an answer to a ping may have to wait behind a long message, on a slow
// line for longer than anyone waits for a pong.
type link struct {
	conn    *ws.Conn
	codec   wire.Codec
	silence time.Duration
	silent  *time.Timer // runs while we read; cuts the connection
	in      *message    // that was read last; nil while the next one is awaited
}

// message is one that has been read, and room for its frames.
type message struct {
	data   []byte
	frames [][]byte
}

// maxMessageKept is the largest message whose memory is used again, in bytes.
const maxMessageKept = 64 << 10

// messages are kept by all connections together: one from which nothing comes
// holds none.
var messages = sync.Pool{New: func() any { return &message{data: make([]byte, 0, 512)} }}

func newLink(conn *ws.Conn, codec wire.Codec, silence time.Duration) link {
	silent := time.AfterFunc(silence, func() { _ = conn.CloseNow() })
	return link{conn: conn, codec: codec, silence: silence, silent: silent}
}

func (l *link) kind() ws.MessageType {
	if l.codec == wire.Msgpack {
		return ws.MessageBinary
	}
	return ws.MessageText
}

// send sends a frame. It may be called from many goroutines. It returns a
// *consign.FieldError for what has no form on the wire; any other error means
// that the connection is over.
func (l *link) send(frame any) error {
	data, err := l.codec.Encode(frame)
	if err != nil {
		return err
	}
	return l.write(data)
}

func (l *link) write(data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	return l.conn.Write(ctx, l.kind(), data)
}

// errKind ends a connection whose peer sends the other kind of message.
var errKind = errors.New("websocket: text where the subprotocol has binary messages, or the reverse")

// read returns the next message, whose bytes are good until the one after it is
// asked for. An error ends the connection.
func (l *link) read() ([]byte, error) {
	l.letGo()
	l.silent.Reset(l.silence)
	defer l.silent.Stop()
	kind, r, err := l.conn.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if kind != l.kind() {
		_ = l.conn.Close(ws.StatusUnsupportedData, "json goes in text messages, msgpack in binary ones")
		return nil, errKind
	}
	l.in = messages.Get().(*message)
	data := l.in.data[:0]
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		l.in.data = data
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		l.silent.Reset(l.silence)
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// split cuts the message that was read last into its frames.
func (l *link) split(data []byte) (frames [][]byte, err error) {
	l.in.frames, err = l.codec.Split(l.in.frames[:0], data)
	return l.in.frames, err
}

// letGo gives the memory of the last message back.
func (l *link) letGo() {
	if l.in != nil && cap(l.in.data) <= maxMessageKept {
		messages.Put(l.in)
	}
	l.in = nil
}

func fieldError(field, problem, remedy string) error {
	return &consign.FieldError{Field: field, Problem: problem, Remedy: remedy}
}
