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
// of an answer (maxEntries those of a request), so that one of nothing but empty values is refused before it fills the
// memory. A batch of 1,000 jobs, the largest message, has some ten thousand.
const (
	maxValues = 1 << 20
	maxList   = 1 << 17
)

var errShort = errors.New("it ends early")

// checkMsgpack reports why data is not one well-formed msgpack value, and, of a
// request, counts the entries of each list and map.
func checkMsgpack(data []byte, request bool) error {
	rest, err := skipMsgpack(data, request)
	if err == nil && len(rest) != 0 {
		err = errors.New("it goes on after its value")
	}
	return err
}

// skipMsgpack returns what follows the well-formed msgpack value that data
// begins with, checked as by checkMsgpack. The decoder recurses with the nesting
// and believes lengths, so neither may be what a stranger wishes.
func skipMsgpack(data []byte, request bool) (rest []byte, err error) {
	var levels [maxDepth + 1]struct {
		left uint64 // values that it still has to hold
		keys bool   // every other one is a name
		name []byte // the latest
	}
	levels[0].left = 1
	total := uint64(1)
	for depth := 0; ; {
		l := &levels[depth]
		if l.left == 0 {
			if depth == 0 {
				return data, nil
			}
			depth--
			continue
		}
		l.left--
		isName := l.keys && l.left%2 == 1
		bytes, values, isMap, err := msgpackHead(&data)
		most := uint64(maxList)
		if request {
			most = maxEntries(l.name)
		}
		entries := values
		if isMap {
			entries /= 2
		}
		switch {
		case err != nil:
			return nil, err
		case bytes > uint64(len(data)), values > uint64(len(data)):
			return nil, errShort
		case total+values > maxValues:
			return nil, fmt.Errorf("it holds more than %d values", maxValues)
		case entries > most:
			return nil, tooManyEntries(l.name, most)
		case values > 0 && depth == maxDepth:
			return nil, fmt.Errorf("it nests deeper than %d levels", maxDepth)
		}
		if isName {
			l.name = data[:bytes]
		}
		data = data[bytes:]
		total += values
		if values > 0 {
			depth++
			levels[depth].left, levels[depth].keys, levels[depth].name = values, isMap, nil
		}
	}
}

// msgpackHead cuts the head off a value and returns how many bytes or how many
// values follow it, two for each entry of a map.
func msgpackHead(data *[]byte) (bytes, values uint64, isMap bool, err error) {
	if len(*data) == 0 {
		return 0, 0, false, errShort
	}
	c := (*data)[0]
	*data = (*data)[1:]
	switch {
	case c <= 0x7f, c >= 0xe0: // small integers
		return 0, 0, false, nil
	case c <= 0x8f: // maps of up to 15
		return 0, 2 * uint64(c&0x0f), true, nil
	case c <= 0x9f: // arrays of up to 15
		return 0, uint64(c & 0x0f), false, nil
	case c <= 0xbf: // strings of up to 31
		return uint64(c & 0x1f), 0, false, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return 0, 0, false, nil
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
		values, isMap = 2*values, true
	case 0xdf:
		values, err = cut(data, 4)
		values, isMap = 2*values, true
	default:
		err = fmt.Errorf("it holds a value of a kind that no message has: 0x%02x", c)
	}
	return bytes, values, isMap, err
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
