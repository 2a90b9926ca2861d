package cli

import (
	"fmt"
	"os"
	"strings"
	"unicode"
)

// IsTerminal reports whether a person watches who can be shown what moves.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

// Printable makes a stranger's text safe to show: but for line ends and tabs,
// its control characters are replaced.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Bar draws on stderr how many of several things are done, over what it drew
// before. The last one wipes it away.
func Bar(done, of int, text string) {
	const width = 40
	full := width * done / of
	fmt.Fprintf(os.Stderr, "\r\x1b[K[%s%s] %d/%d %s", strings.Repeat("#", full), strings.Repeat(".", width-full), done, of, Printable(text))
	if done == of {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
