package task

import (
	"bytes"
	"context"
	"encoding/json"
)

// maxEmbedded bounds the JSON values that one job returns.
const maxEmbedded = 100

// findJSON finds the outermost JSON objects and arrays in a text: whole, valid,
// without duplicate keys, as they stand. Nothing is repaired. An array of
// numbers alone is not returned, since [1] is more often a footnote.
func findJSON(ctx context.Context, text string) ([]span, error) {
	var found []span
	for i := 0; i < len(text) && len(found) < maxEmbedded; i++ {
		if i%clipLength == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if text[i] != '{' && text[i] != '[' {
			continue
		}
		end, ok := closing(text, i)
		if !ok {
			continue
		}
		raw := []byte(text[i:end])
		if !json.Valid(raw) || checkJSON("text", raw) != nil || !structured(raw) {
			continue
		}
		found = append(found, span{i, end})
		i = end - 1
	}
	return found, nil
}

// closing returns the end of the bracket that opens at i. It gives up at what
// JSON cannot be, and at maxDepth, so that a text of brackets alone costs no
// more than its length times maxDepth.
func closing(text string, i int) (int, bool) {
	var open [maxDepth]byte
	depth := 0
	for ; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			if depth == maxDepth {
				return 0, false
			}
			open[depth] = c + 2 // '}' is '{'+2, ']' is '['+2
			depth++
		case '}', ']':
			depth--
			if open[depth] != c {
				return 0, false
			}
			if depth == 0 {
				return i + 1, true
			}
		case '"':
			end, ok := endOfString(text, i)
			if !ok {
				return 0, false
			}
			i = end
		case ' ', '\t', '\n', '\r', ',', ':', '+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
			't', 'r', 'u', 'e', 'f', 'a', 'l', 's', 'n', 'E':
		default:
			return 0, false
		}
	}
	return 0, false
}

// endOfString returns the place of the quote that closes the one at i.
func endOfString(text string, i int) (int, bool) {
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i, true
		case c == '\\':
			i++
		case c < ' ':
			return 0, false
		}
	}
	return 0, false
}

// structured tells a JSON value with a name or a string in it: not {} or [1].
func structured(raw []byte) bool { return bytes.IndexByte(raw, '"') >= 0 }
