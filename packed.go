package consign

import (
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/consignq/consign/crypto/sign"
)

// A queue keeps a record that it has verified packed: the fields in the order
// of the body and without their keys, hashes as bytes, numbers as varints, and
// then the signature. That is a third of the envelope's JSON, which would be
// most of what a store writes for a small job. A record has one body, so that
// the bytes that were signed come back.

// packedFormat is the first byte of a packed record.
const packedFormat = 1

// packRecord packs what VerifyRecord has returned for an envelope. The keyid,
// which is a hint and not signed, is not kept.
func packRecord(r Record, e sign.Envelope) ([]byte, error) {
	c := &canonical{out: append(make([]byte, 0, 512), packedFormat), packed: true}
	c.object(r.members)
	return append(c.out, e.Signatures[0].Sig...), c.err
}

// SignedRecord returns the record's envelope with what its worker signed, and
// as keyid the worker's ID. The error says that Record is not a record: nil, of
// a foreign worker, or damaged. It verifies nothing.
func (d *Done) SignedRecord() (sign.Envelope, error) {
	if len(d.Record) > 0 && d.Record[0] == '{' { // as queues kept it before they packed any
		var e sign.Envelope
		err := e.UnmarshalJSON(d.Record)
		return e, err
	}
	if len(d.Record) == 0 || d.Record[0] != packedFormat {
		return sign.Envelope{}, errors.New("consign: the job's end holds no signed record")
	}
	c := &canonical{in: string(d.Record[1:]), reading: true, packed: true}
	var r Record
	c.object(r.members)
	if c.err != nil {
		return sign.Envelope{}, badReceipt("record", c.err.Error())
	}
	body, err := writeCanonical(r.members)
	if err != nil {
		return sign.Envelope{}, badReceipt("record", err.Error())
	}
	return sign.Envelope{PayloadType: RecordType, Payload: body,
		Signatures: []sign.Signature{{KeyID: hex.EncodeToString(r.WorkerID[:]), Sig: []byte(c.in)}}}, nil
}

// The packed form of what a record's body has. Arrays and booleans it has not.

// cut takes n bytes from what is to be read, nil where there are fewer.
func (c *canonical) cut(n uint64) (b string) {
	if c.err != nil || n > uint64(len(c.in)) {
		c.fail("is cut short")
		return ""
	}
	b, c.in = c.in[:n], c.in[n:]
	return b
}

func (c *canonical) packBytes(b []byte) {
	if c.reading {
		copy(b, c.cut(uint64(len(b))))
	} else {
		c.out = append(c.out, b...)
	}
}

// packAbsent is a byte, 1 for a member that follows.
func (c *canonical) packAbsent(zero bool) bool {
	if c.reading {
		return c.cut(1) != "\x01"
	}
	if zero {
		c.out = append(c.out, 0)
	} else {
		c.out = append(c.out, 1)
	}
	return zero
}

func (c *canonical) packInteger(n *int64) {
	if !c.reading {
		c.out = binary.AppendVarint(c.out, *n)
		return
	}
	var size int
	*n, size = binary.Varint([]byte(c.in[:min(len(c.in), binary.MaxVarintLen64)]))
	if size <= 0 {
		c.fail("is cut short")
		return
	}
	c.cut(uint64(size))
}

func (c *canonical) packString(s *string) {
	n := int64(len(*s))
	c.packInteger(&n)
	if c.reading {
		*s = c.cut(uint64(n)) //nolint:gosec // what is negative is more than there is
	} else {
		c.out = append(c.out, *s...)
	}
}
