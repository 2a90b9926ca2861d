package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// maxDepth bounds how deep msgpack values nest; the deepest message has five
// levels. encoding/json has a bound of its own.
const maxDepth = 32

// maxValues bounds how many values a message holds, and maxList one list or map
// of it, so that one of nothing but empty values is refused before it fills the
// memory. A batch of 1,000 jobs, the largest message, has some ten thousand.
const (
	maxValues = 1 << 20
	maxList   = 1 << 17
)

var errShort = errors.New("it ends early")

// checkMsgpack reports why data is not one well-formed msgpack value.
func checkMsgpack(data []byte) error {
	rest, err := skipMsgpack(data)
	if err == nil && len(rest) != 0 {
		err = errors.New("it goes on after its value")
	}
	return err
}

// skipMsgpack returns what follows the well-formed msgpack value that data
// begins with. The decoder recurses with the nesting and believes lengths, so
// neither may be what a stranger wishes.
func skipMsgpack(data []byte) (rest []byte, err error) {
	var left [maxDepth + 1]uint64 // values that each level still has to hold
	left[0] = 1
	total := uint64(1)
	for depth := 0; ; {
		for left[depth] == 0 {
			if depth == 0 {
				return data, nil
			}
			depth--
		}
		left[depth]--
		bytes, values, err := msgpackHead(&data)
		switch {
		case err != nil:
			return nil, err
		case bytes > uint64(len(data)), values > uint64(len(data)):
			return nil, errShort
		case total+values > maxValues, values > maxList:
			return nil, fmt.Errorf("it holds more than %d values, or %d in one list", maxValues, maxList)
		case values > 0 && depth == maxDepth:
			return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
		}
		data = data[bytes:]
		total += values
		if values > 0 {
			depth++
			left[depth] = values
		}
	}
}

// msgpackHead cuts the head off a value and returns how many bytes or how many
// values follow it.
func msgpackHead(data *[]byte) (bytes, values uint64, err error) {
	if len(*data) == 0 {
		return 0, 0, errShort
	}
	c := (*data)[0]
	*data = (*data)[1:]
	switch {
	case c <= 0x7f, c >= 0xe0: // small integers
		return 0, 0, nil
	case c <= 0x8f: // maps of up to 15
		return 0, 2 * uint64(c&0x0f), nil
	case c <= 0x9f: // arrays of up to 15
		return 0, uint64(c & 0x0f), nil
	case c <= 0xbf: // strings of up to 31
		return uint64(c & 0x1f), 0, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return 0, 0, nil
	case 0xc4, 0xd9: // bin 8, str 8
		bytes, err = cut(data, 1)
	case 0xc5, 0xda:
		bytes, err = cut(data, 2)
	case 0xc6, 0xdb:
		bytes, err = cut(data, 4)
	case 0xcc, 0xd0:
		bytes = 1
	case 0xcd, 0xd1:
		bytes = 2
	case 0xca, 0xce, 0xd2:
		bytes = 4
	case 0xcb, 0xcf, 0xd3:
		bytes = 8
	case 0xd6: // times: an extension with its type
		bytes = 5
	case 0xd7:
		bytes = 9
	case 0xc7:
		bytes, err = cut(data, 1)
		bytes++
	case 0xdc:
		values, err = cut(data, 2)
	case 0xdd:
		values, err = cut(data, 4)
	case 0xde:
		values, err = cut(data, 2)
		values *= 2
	case 0xdf:
		values, err = cut(data, 4)
		values *= 2
	default:
		err = fmt.Errorf("it holds a value of a kind that no message has: 0x%02x", c)
	}
	return bytes, values, err
}

// cut takes a big-endian number of n bytes off data.
func cut(data *[]byte, n int) (uint64, error) {
	if len(*data) < n {
		return 0, errShort
	}
	var b [8]byte
	copy(b[8-n:], *data)
	*data = (*data)[n:]
	return binary.BigEndian.Uint64(b[:]), nil
}
