package postgres

import (
	"encoding/binary"
	"errors"

	"github.com/consignq/consign"
)

// The entries that come with a job's own change are packed into its row: one
// row and one index entry less for each. An entry is its length and then
//
//	seq, at           varints
//	event, state, report  one byte each
//	attempt           varint
//	worker            a length, 0 or 32, and bytes
//	reason, data      a length and bytes each; that of data is one more, 0 for nil
//
// with lengths as varints.

// pack appends entries of one job to its packed log.
func pack(log []byte, entries []consign.LogEntry) []byte {
	one := make([]byte, 0, 256)
	for i := range entries {
		e := &entries[i]
		one = binary.AppendUvarint(one[:0], uint64(e.Seq))
		one = binary.AppendVarint(one, int64(e.At))
		one = append(one, byte(e.Event), byte(e.State), byte(e.Report))
		one = binary.AppendVarint(one, int64(e.Attempt))
		one = appendBytes(one, worker(&e.Worker))
		one = binary.AppendUvarint(one, uint64(len(e.Reason)))
		one = append(one, e.Reason...)
		if e.Data == nil {
			one = append(one, 0)
		} else {
			one = binary.AppendUvarint(one, uint64(len(e.Data))+1)
			one = append(one, e.Data...)
		}
		log = appendBytes(log, one)
	}
	return log
}

func appendBytes(b, x []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x)))
	return append(b, x...)
}

var errLog = errors.New("postgres: a packed log cannot be read")

// unpack reads a job's packed log.
func unpack(job consign.JobID, log []byte) ([]consign.LogEntry, error) {
	var entries []consign.LogEntry
	whole := reader{b: log}
	for len(whole.b) > 0 {
		r := reader{b: whole.bytes()}
		e := consign.LogEntry{Job: job, Seq: consign.Seq(r.uvarint()), At: consign.Instant(r.varint())}
		e.Event, e.State, e.Report = consign.EventKind(r.byte()), consign.State(r.byte()), consign.ReportKind(r.byte())
		e.Attempt = int(r.varint())
		copy(e.Worker[:], r.bytes())
		e.Reason = string(r.bytes())
		if n := r.uvarint(); n > 0 {
			e.Data = append([]byte{}, r.take(n-1)...)
		}
		if whole.bad || r.bad || len(r.b) > 0 {
			return nil, errLog
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// reader reads what pack wrote. Once it is bad it returns zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.b, r.bad = nil, true
		return
	}
	r.b = r.b[n:]
}

func (r *reader) uvarint() uint64 {
	x, n := binary.Uvarint(r.b)
	r.skip(n)
	return x
}

func (r *reader) varint() int64 {
	x, n := binary.Varint(r.b)
	r.skip(n)
	return x
}

func (r *reader) byte() byte {
	if x := r.take(1); x != nil {
		return x[0]
	}
	return 0
}

func (r *reader) bytes() []byte { return r.take(r.uvarint()) }
