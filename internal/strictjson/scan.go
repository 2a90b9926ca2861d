package strictjson

// The grammar of RFC 8259, without allocations. Each function takes the position
// where something starts and returns the one after its end, or -1 where it is
// not there.

// maxDepth is how deep encoding/json lets values nest, too.
const maxDepth = 10_000

// value scans any value.
func value(data []byte, at, depth int) int {
	if at == len(data) {
		return -1
	}
	switch c := data[at]; {
	case c == '"':
		end, _ := text(data, at)
		return end
	case c == '{' || c == '[':
		if depth == maxDepth {
			return -1
		}
		end, _ := items(data, at, depth+1, nil)
		return end
	case c == '-' || digit(c):
		return number(data, at)
	case c == 't':
		return literal(data, at, "true")
	case c == 'f':
		return literal(data, at, "false")
	case c == 'n':
		return literal(data, at, "null")
	}
	return -1
}

// items scans an object or an array, and gives what is directly in it to found,
// unless that is nil. It ends with found's error.
func items(data []byte, at, depth int, found func(key, value []byte) error) (int, error) {
	object, closing := data[at] == '{', data[at]+2 // } and ] are two after { and [
	at = space(data, at+1)
	if at < len(data) && data[at] == closing {
		return at + 1, nil
	}
	for {
		var key []byte
		if object {
			if key, at = name(data, at); at < 0 {
				return -1, nil
			}
		}
		end := value(data, at, depth)
		if end < 0 {
			return -1, nil
		}
		if found != nil {
			if err := found(key, data[at:end:end]); err != nil {
				return -1, err
			}
		}
		if at = space(data, end); at == len(data) {
			return -1, nil
		}
		switch data[at] {
		case closing:
			return at + 1, nil
		case ',':
			at = space(data, at+1)
		default:
			return -1, nil
		}
	}
}

// name scans a member's key and what stands before its value.
func name(data []byte, at int) (key []byte, end int) {
	if at == len(data) || data[at] != '"' {
		return nil, -1
	}
	if end, _ = text(data, at); end < 0 {
		return nil, -1
	}
	key = data[at:end:end]
	if at = space(data, end); at == len(data) || data[at] != ':' {
		return nil, -1
	}
	return key, space(data, at+1)
}

// text scans a string, and reports whether it stands for itself, without
// escapes. That it is UTF-8 is checked elsewhere.
func text(data []byte, at int) (end int, plain bool) {
	plain = true
	for i := at + 1; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return i + 1, plain
		case c < ' ':
			return -1, false
		case c == '\\':
			plain = false
			if i++; i == len(data) {
				return -1, false
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; i == len(data) || !hex(data[i]) {
						return -1, false
					}
				}
			default:
				return -1, false
			}
		}
	}
	return -1, false
}

func number(data []byte, at int) int {
	if data[at] == '-' {
		at++
	}
	switch {
	case at < len(data) && data[at] == '0':
		at++
	default:
		if at = digits(data, at); at < 0 {
			return -1
		}
	}
	if at < len(data) && data[at] == '.' {
		if at = digits(data, at+1); at < 0 {
			return -1
		}
	}
	if at < len(data) && (data[at] == 'e' || data[at] == 'E') {
		if at++; at < len(data) && (data[at] == '+' || data[at] == '-') {
			at++
		}
		at = digits(data, at)
	}
	return at
}

// digits scans one digit or more.
func digits(data []byte, at int) int {
	end := at
	for end < len(data) && digit(data[end]) {
		end++
	}
	if end == at {
		return -1
	}
	return end
}

func literal(data []byte, at int, word string) int {
	if end := at + len(word); end <= len(data) && string(data[at:end]) == word {
		return end
	}
	return -1
}

// space scans white space, of which there may be none.
func space(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\n' || data[at] == '\r' || data[at] == '\t') {
		at++
	}
	return at
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func hex(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
