package wire

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"math"
	"sync"
)

// The msgpack of the frames that every job needs, written and read without
// reflection. The bytes are those of the encoder for all types. Whatever has
// another form, or another order, is left to the decoder for all types.

// members goes through the members of a frame in the order in which Encode puts
// them, and writes each one, or reads it.
type members struct {
	reading bool
	data    []byte // written so far, or left to read
	n       int    // members of it
	odd     bool   // it is for the encoder or decoder for all types
}

var walks = sync.Pool{New: func() any { return new(members) }}

// of goes through a frame. It reports false for what is not of every job.
func (m *members) of(v any) bool {
	switch f := v.(type) {
	case *Frame:
		m.frame(f)
	case *AssignFrame:
		m.frame(&f.Frame)
		m.assignment(&f.Assignment)
	case *TakenFrame:
		m.frame(&f.Frame)
		m.claim(&f.Claim)
	case *CompleteFrame:
		m.frame(&f.Frame)
		m.completion(&f.Completion)
	default:
		return false
	}
	return true
}

func (m *members) frame(f *Frame) {
	if !m.reading {
		text(m, "type", &f.Type, false)
	} else if m.member("type", false) {
		f.Type = frameType(m.cutText())
	}
	number(m, "id", &f.ID, true)
}

func (m *members) claim(c *Claim) {
	m.marshaled("job_id", &c.Job, false)
	m.marshaled("claim_id", &c.Claim, false)
}

func (m *members) assignment(a *Assignment) {
	m.marshaled("queue_id", &a.Queue, false)
	m.marshaled("job_id", &a.Job, false)
	m.marshaled("claim_id", &a.Claim, false)
	text(m, "job_type", &a.Kind, false)
	text(m, "model", &a.Model, true)
	m.marshaled("policy", &a.Policy, a.Policy == 0)
	number(m, "tier", &a.Tier, false)
	number(m, "chars", &a.Chars, true)
	m.bytes("header", &a.Header, true)
	m.bytes("payload", &a.Payload, false)
	text(m, "custody", &a.Custody, false)
	text(m, "comparator", &a.Comparator, true)
	m.bytes("client_pubkey", &a.ClientKey, true)
	m.bytes("wrap", &a.Wrap, true)
	m.bytes("signature", &a.Signature, true)
	number(m, "lease_ns", &a.Lease, false)
	number(m, "limit_ns", &a.Limit, true)
	m.flag("receipts", &a.Receipts)
}

func (m *members) completion(c *Completion) {
	if c.Comparison != nil {
		m.leave()
		return
	}
	m.claim(&c.Claim)
	m.bytes("result", &c.Result, false)
	number(m, "exit_status", &c.ExitStatus, true)
	m.bytes("record", &c.Record, true)
}

// encodeQuick writes a frame. It reports false where the encoder for all types
// has to.
func encodeQuick(v any) (data []byte, ok bool) {
	m := walks.Get().(*members)
	*m = members{data: append(m.data[:0], 0, 0, 0)} // room for the head
	if m.of(v) && !m.odd {
		data, ok = m.data[2:], true
		if data[0] = 0x80 | byte(m.n); m.n > 15 {
			data = m.data
			data[0], data[1], data[2] = 0xde, 0, byte(m.n)
		}
	}
	if cap(m.data) > maxBuffer {
		return data, ok
	}
	data = bytes.Clone(data)
	walks.Put(m)
	return data, ok
}

// decodeQuick reads a frame. It reports false where the decoder for all types
// has to: what it has read until then that one reads once more.
func decodeQuick(data []byte, v any) bool {
	m := walks.Get().(*members)
	spare := m.data
	*m = members{reading: true, data: data}
	_, values, isMap, err := msgpackHead(&m.data)
	m.n = int(values / 2) //nolint:gosec // 32 bits
	ok := err == nil && isMap && m.of(v) && !m.odd && m.n == 0 && len(m.data) == 0
	*m = members{data: spare}
	walks.Put(m)
	return ok
}

// member begins a member: what follows is to be written, or read. It reports
// false for one that is left out.
func (m *members) member(name string, leaveOut bool) bool {
	n := len(name)
	if !m.reading {
		if leaveOut {
			return false
		}
		m.n++
		m.data = append(append(m.data, 0xa0|byte(n)), name...)
		return true
	}
	if m.n == 0 || len(m.data) <= n || m.data[0] != 0xa0|byte(n) || string(m.data[1:n+1]) != name {
		return false
	}
	m.n--
	m.data = m.data[n+1:]
	return true
}

// leave leaves the frame to the encoder or decoder for all types.
func (m *members) leave() { m.odd, m.n, m.data = true, 0, nil }

// code is what the next value begins with; 0xc1, which none does, at the end.
func (m *members) code() byte {
	if len(m.data) == 0 {
		return 0xc1
	}
	return m.data[0]
}

// cut takes the bytes or the text off that come next, if it is what comes.
func (m *members) cut(comes bool) []byte {
	if comes {
		n, _, _, err := msgpackHead(&m.data)
		if err == nil && n <= uint64(len(m.data)) {
			value := m.data[:n]
			m.data = m.data[n:]
			return value
		}
	}
	m.leave()
	return nil
}

func (m *members) cutText() []byte {
	c := m.code()
	return m.cut(c&0xe0 == 0xa0 || c >= 0xd9 && c <= 0xdb)
}

func (m *members) cutBytes() []byte {
	c := m.code()
	return m.cut(c >= 0xc4 && c <= 0xc6)
}

func (m *members) putBytes(b []byte) {
	switch n := len(b); {
	case n <= math.MaxUint8:
		m.data = append(m.data, 0xc4, byte(n))
	case n <= math.MaxUint16:
		m.data = binary.BigEndian.AppendUint16(append(m.data, 0xc5), uint16(n))
	default:
		m.data = binary.BigEndian.AppendUint32(append(m.data, 0xc6), uint32(n)) //nolint:gosec // messages are shorter
	}
	m.data = append(m.data, b...)
}

func text[S ~string](m *members, name string, s *S, omitEmpty bool) {
	if !m.member(name, omitEmpty && *s == "") {
		return
	}
	if m.reading {
		*s = S(m.cutText())
		return
	}
	switch n := len(*s); {
	case n < 32:
		m.data = append(m.data, 0xa0|byte(n))
	case n <= math.MaxUint8:
		m.data = append(m.data, 0xd9, byte(n))
	case n <= math.MaxUint16:
		m.data = binary.BigEndian.AppendUint16(append(m.data, 0xda), uint16(n))
	default:
		m.data = binary.BigEndian.AppendUint32(append(m.data, 0xdb), uint32(n)) //nolint:gosec // messages are shorter
	}
	m.data = append(m.data, *s...)
}

func (m *members) bytes(name string, b *[]byte, omitEmpty bool) {
	switch {
	case !m.member(name, omitEmpty && len(*b) == 0):
	case !m.reading && *b == nil:
		m.data = append(m.data, 0xc0)
	case !m.reading:
		m.putBytes(*b)
	case m.code() == 0xc0:
		*b, m.data = nil, m.data[1:]
	default:
		*b = bytes.Clone(m.cutBytes())
	}
}

// number is one that is not negative when it is written.
func number[N ~int32 | ~int64 | ~uint8 | ~uint32 | ~uint64](m *members, name string, v *N, omitZero bool) {
	if !m.member(name, omitZero && *v == 0) {
		return
	}
	if !m.reading {
		m.odd = m.odd || *v < 0
		m.putNumber(uint64(*v))
		return
	}
	c := m.code()
	n := uint64(c)
	switch {
	case c <= 0x7f:
		m.data = m.data[1:]
	case c >= 0xcc && c <= 0xcf: // of 1, 2, 4 and 8 bytes
		m.data = m.data[1:]
		var err error
		if n, err = cut(&m.data, 1<<(c-0xcc)); err != nil {
			m.leave()
		}
	default:
		m.leave()
	}
	*v = N(n) // what is too large loses its high bits, as in the decoder for all types
}

func (m *members) putNumber(n uint64) {
	switch {
	case n <= 0x7f:
		m.data = append(m.data, byte(n))
	case n <= math.MaxUint8:
		m.data = append(m.data, 0xcc, byte(n))
	case n <= math.MaxUint16:
		m.data = binary.BigEndian.AppendUint16(append(m.data, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		m.data = binary.BigEndian.AppendUint32(append(m.data, 0xce), uint32(n))
	default:
		m.data = binary.BigEndian.AppendUint64(append(m.data, 0xcf), n)
	}
}

func (m *members) flag(name string, v *bool) {
	if !m.member(name, false) {
		return
	}
	switch c := m.code(); {
	case !m.reading && *v:
		m.data = append(m.data, 0xc3)
	case !m.reading:
		m.data = append(m.data, 0xc2)
	case c == 0xc2 || c == 0xc3:
		*v, m.data = c == 0xc3, m.data[1:]
	default:
		m.leave()
	}
}

// marshaled is a value that has a text, which goes as bytes.
func (m *members) marshaled(name string, v interface {
	encoding.TextMarshaler
	encoding.TextUnmarshaler
}, leaveOut bool) {
	if !m.member(name, leaveOut) {
		return
	}
	if m.reading {
		if v.UnmarshalText(m.cutBytes()) != nil {
			m.leave()
		}
		return
	}
	data, err := v.MarshalText()
	m.odd = m.odd || err != nil // the other encoder says why
	m.putBytes(data)
}
