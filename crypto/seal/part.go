package seal

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// PartSealer seals the parts and log lines that a worker streams while it runs
// a job: previews, which the sealed result supersedes. Each claim has its own.
// It is not safe for concurrent use.
//
// What it returns is to be kept and resent byte for byte: a part is sealed
// once.
type PartSealer struct {
	enc     []byte // goes with part 0
	key     [32]byte
	context []byte
	next    uint64
	ended   bool
}

// NewPartSealer returns a PartSealer to the ResultKey of the header. It wraps
// ErrKey if that key is not HPKE's.
func NewPartSealer(to PublicKey, info ResultInfo) (*PartSealer, error) {
	context := info.bytes()
	enc, key, err := to.export(context, exportPart)
	if err != nil {
		return nil, err
	}
	return &PartSealer{enc: enc, key: key, context: context}, nil
}

// Seal returns the next part:
//
//	mark = uint64_be(index) || last
//	part = mark || enc || Box(part key, info || mark, m)
//
// where enc is HPKE's in part 0, and empty in all others. It wraps ErrPartEnded
// after the last one.
//
// A part's length tells that of its message to within the box's padding, so
// gather what comes within 50 ms or so, rather than seal each token.
func (s *PartSealer) Seal(m []byte, last bool) ([]byte, error) {
	if s.ended {
		return nil, ErrPartEnded
	}
	mark := partMark(s.next, last)
	part := slices.Concat(mark, s.enc, Box(s.key, partAAD(s.context, mark), m))
	s.enc, s.ended = nil, last
	s.next++
	return part, nil
}

// PartOpener opens the parts of one claim, in order. It is not safe for
// concurrent use.
type PartOpener struct {
	private *PrivateKey
	key     [32]byte
	context []byte
	next    uint64
	ended   bool
}

// NewPartOpener returns a PartOpener for the parts of the claim that info
// names. It wraps ErrKey if the key is not HPKE's.
func NewPartOpener(key *PrivateKey, info ResultInfo) (*PartOpener, error) {
	if key.hpke == nil {
		return nil, keyError("parts are not sealed to a key of %v", key.public.KEM())
	}
	return &PartOpener{private: key, context: info.bytes()}, nil
}

// markSize is the length of uint64_be(index) || last.
const markSize = 9

// Open returns the message of the next part, and whether it is the last. It
// wraps ErrPartReplayed for an index that was opened before, ErrPartGap for one
// further on, ErrPartEnded for one after the last, and ErrBox or ErrPadding.
// After an error it waits for the same part as before.
func (o *PartOpener) Open(part []byte) (m []byte, last bool, err error) {
	if len(part) < markSize || part[markSize-1] > 1 {
		return nil, false, fmt.Errorf("%w: it does not start with an index and a flag", ErrBox)
	}
	mark, sealed := part[:markSize], part[markSize:]
	index := binary.BigEndian.Uint64(mark)
	switch {
	case index < o.next:
		return nil, false, fmt.Errorf("%w: %d, waiting for %d", ErrPartReplayed, index, o.next)
	case o.ended:
		return nil, false, ErrPartEnded
	case index > o.next:
		return nil, false, fmt.Errorf("%w: %d, waiting for %d", ErrPartGap, index, o.next)
	}
	key := o.key
	if index == 0 {
		var enc []byte
		if enc, sealed, err = cutEnc(o.private.public.KEM(), sealed); err != nil {
			return nil, false, err
		}
		if key, err = o.private.export(enc, o.context, exportPart); err != nil {
			return nil, false, err
		}
	}
	if m, err = OpenBox(key, partAAD(o.context, mark), sealed); err != nil {
		return nil, false, err
	}
	o.key, o.ended = key, mark[markSize-1] == 1
	o.next++
	return m, o.ended, nil
}

func partMark(index uint64, last bool) []byte {
	return append(binary.BigEndian.AppendUint64(nil, index), lastByte(last))
}

func partAAD(context, mark []byte) []byte {
	return append(context[:len(context):len(context)], mark...)
}
