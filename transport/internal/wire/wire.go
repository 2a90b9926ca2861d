// Package wire is what crosses a network between a queue and those who use it:
// each type of consign.SubmitterAPI and consign.WorkerAPI in JSON and in
// msgpack, and errors that are told apart at the far end as they were at the
// near one (docs/wire-protocol.md).
//
// Both forms have the members that the json tags name. Bytes are base64 in
// JSON, identifiers and hashes hexadecimal text, durations whole nanoseconds,
// times RFC 3339, and what can be one of a few is a word. A member that is zero
// may be left out.
//
// Decoders are total: any bytes give a value or a *consign.FieldError. They
// bound nesting and, of a request, the entries of its lists and maps; whoever
// reads from a network bounds the size.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/consignq/consign"
)

// Codec is one of the two forms.
type Codec uint8

// The codecs.
const (
	JSON    Codec = iota // for people, and for programs in any language
	Msgpack              // compact, between our own ends
)

// String names the codec as in the WebSocket subprotocol consign.v1.<codec>.
func (c Codec) String() string {
	if c == Msgpack {
		return "msgpack"
	}
	return "json"
}

// Encode writes a value of this package, or one that holds some. It returns a
// *consign.FieldError for what has no form on the wire, such as a policy that
// does not exist or a rate that is not a number.
func (c Codec) Encode(v any) ([]byte, error) {
	if c == Msgpack {
		if data, ok := encodeQuick(v); ok {
			return data, nil
		}
	}
	return c.encode(v)
}

// encode writes a value of any type.
func (c Codec) encode(v any) ([]byte, error) {
	buf := buffers.Get().(*bytes.Buffer)
	var err error
	if c == Msgpack {
		enc := msgpack.GetEncoder()
		enc.Reset(buf)
		enc.SetCustomStructTag("json")
		enc.UseCompactInts(true)
		err = enc.Encode(v)
		msgpack.PutEncoder(enc)
	} else {
		enc := json.NewEncoder(buf)
		enc.SetEscapeHTML(false)
		err = enc.Encode(v)
	}
	if err != nil {
		if field, ok := errors.AsType[*consign.FieldError](err); ok {
			return nil, field
		}
		return nil, &consign.FieldError{Field: "message", Problem: "cannot be written: " + err.Error(), Remedy: "correct the value that it names"}
	}
	if buf.Cap() > maxBuffer {
		return buf.Bytes(), nil
	}
	data := bytes.Clone(buf.Bytes())
	buf.Reset()
	buffers.Put(buf)
	return data, nil
}

// maxBuffer is the largest buffer that is kept, in bytes.
const maxBuffer = 64 << 10

// buffers are kept, since one has grown to its size by several steps; what is
// returned is a copy at the size that it takes.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Decode reads a request into the value that v points to. It refuses members
// that it does not know: what a queue cannot honour it must not ignore. It
// returns a *consign.FieldError, and then v is of no use.
func (c Codec) Decode(data []byte, v any) error { return c.decode(data, v, true, true) }

// DecodeLoose is Decode for who may say more than this program knows.
func (c Codec) DecodeLoose(data []byte, v any) error { return c.decode(data, v, true, false) }

// DecodeAnswer reads an answer, in which a newer queue may say more than this
// program knows.
func (c Codec) DecodeAnswer(data []byte, v any) error { return c.decode(data, v, false, false) }

// decode counts the entries of a request's lists and maps before it makes any.
func (c Codec) decode(data []byte, v any, request, strict bool) error {
	if c == Msgpack {
		if decodeQuick(data, v) {
			return nil
		}
		return decodeMsgpack(data, v, request, strict)
	}
	if !utf8.Valid(data) {
		return unreadable("is not UTF-8", "send JSON, which is UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if request {
		if err := checkJSON(data); err != nil {
			return err
		}
	}
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(v); err != nil {
		return jsonError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return unreadable("goes on after its JSON value", "send one value")
	}
	return nil
}

func decodeMsgpack(data []byte, v any, request, strict bool) error {
	if err := checkMsgpack(data, request); err != nil {
		if field, ok := errors.AsType[*consign.FieldError](err); ok {
			return field
		}
		return unreadable("is not msgpack: "+err.Error(), "send one msgpack value")
	}
	r := readers.Get().(*reader)
	defer func() {
		r.in.Reset(nil)
		readers.Put(r)
	}()
	r.in.Reset(data)
	dec := r.dec
	dec.Reset(&r.in)
	dec.SetCustomStructTag("json")
	dec.DisallowUnknownFields(strict)
	if err := dec.Decode(v); err != nil {
		if field, ok := errors.AsType[*consign.FieldError](err); ok {
			return field
		}
		if _, name, ok := strings.Cut(err.Error(), "unknown field "); ok {
			return unknown(name)
		}
		return unreadable("has another shape: "+strings.TrimPrefix(err.Error(), "msgpack: "), "send what docs/wire-protocol.md describes")
	}
	return nil
}

// reader is a decoder and what it reads.
type reader struct {
	dec *msgpack.Decoder
	in  bytes.Reader
}

// readers are kept: a decoder has buffers of its own.
var readers = sync.Pool{New: func() any { return &reader{dec: msgpack.NewDecoder(nil)} }}

// jsonError says what encoding/json could not read, and where.
func jsonError(err error) error {
	if field, ok := errors.AsType[*consign.FieldError](err); ok {
		return field
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := wrong.Field
		if field == "" {
			field = body
		}
		return &consign.FieldError{Field: field, Problem: "is a JSON " + wrong.Value, Remedy: "send " + jsonName(wrong)}
	}
	text := strings.TrimPrefix(err.Error(), "json: ")
	if name, ok := strings.CutPrefix(text, "unknown field "); ok {
		return unknown(name)
	}
	return unreadable("is not JSON: "+text, "send one JSON value in UTF-8")
}

// jsonName says what would have been right.
func jsonName(e *json.UnmarshalTypeError) string {
	switch kind := e.Type.Kind().String(); {
	case kind == "struct" || kind == "map":
		return "an object"
	case kind == "slice" && e.Type.Elem().Kind().String() == "uint8":
		return "base64 in a string"
	case kind == "slice":
		return "a list"
	case kind == "bool":
		return "true or false"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number that fits an " + kind
	case strings.HasPrefix(kind, "float"):
		return "a number"
	}
	return "a string"
}

// body is the field of an error about a message as a whole.
const body = "body"

func unreadable(problem, remedy string) error {
	return &consign.FieldError{Field: body, Problem: problem, Remedy: remedy}
}

func unknown(name string) error {
	return &consign.FieldError{Field: strings.Trim(fmt.Sprintf("%.80s", strings.ToValidUTF8(name, "\uFFFD")), `"`), Problem: "is not known here",
		Remedy: "leave it out, or correct its name: docs/wire-protocol.md has them all"}
}
