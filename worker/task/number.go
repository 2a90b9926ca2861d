package task

import "strings"

// decimalComma are the languages that write 1.234,5 for what English writes
// 1,234.5 (CLDR, symbols-numberSystem-latn/decimal).
var decimalComma = wordSet(`bg cs da de es fi fr hu id it nb nl pl pt ro ru sv tr uk`)

var groupSpaces = strings.NewReplacer(" ", "", "\u00a0", "", "\u202f", "", "'", "", "’", "")

// decimal reads a number as people write it and returns it as JSON writes it:
// "1.234,50" gives "1234.50". Of two kinds of separator the last is the decimal
// one; a kind that repeats groups digits; a single one before exactly three
// digits is read as the language has it. It reports false for what is no
// number, such as 007 or 1.2.3.
func decimal(s, language string) (string, bool) {
	sign := ""
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		sign, s = strings.TrimPrefix(s[:1], "+"), s[1:]
	}
	s = groupSpaces.Replace(s)
	whole, fraction, ok := s, "", true
	if last := strings.LastIndexAny(s, ".,"); last >= 0 {
		whole, fraction, ok = splitDecimal(s, last, language)
	}
	if !ok || !isDigits(whole) || len(whole) > 1 && whole[0] == '0' {
		return "", false
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return sign + whole, true
}

// splitDecimal takes apart a number whose last separator is at i.
func splitDecimal(s string, i int, language string) (whole, fraction string, ok bool) {
	last, other := s[i:i+1], ","
	if last == other {
		other = "."
	}
	repeats, mixed := strings.Count(s, last) > 1, strings.Contains(s, other)
	switch {
	case repeats && mixed:
		return "", "", false
	case repeats, !mixed && groupsThousands(s, i, language):
		whole, ok = ungroup(s, last)
		return whole, "", ok
	}
	whole, ok = ungroup(s[:i], other)
	return whole, s[i+1:], ok && isDigits(s[i+1:])
}

// groupsThousands tells that the only separator of s, at i, groups digits.
func groupsThousands(s string, i int, language string) bool {
	if len(s)-i-1 != 3 || i == 0 || i > 3 || s[0] == '0' {
		return false
	}
	return (s[i] == ',') != decimalComma[language]
}

// ungroup removes separators that stand before every three digits.
func ungroup(s, separator string) (string, bool) {
	groups := strings.Split(s, separator)
	for i, g := range groups {
		if i > 0 && len(g) != 3 || i == 0 && len(groups) > 1 && (g == "" || len(g) > 3) {
			return "", false
		}
	}
	return strings.Join(groups, ""), true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// shift moves the decimal point of a JSON number n places to the right.
func shift(number string, n int) string {
	sign := ""
	if number[0] == '-' {
		sign, number = "-", number[1:]
	}
	whole, fraction, _ := strings.Cut(number, ".")
	fraction += strings.Repeat("0", max(0, n-len(fraction)))
	whole = strings.TrimLeft(whole+fraction[:n], "0")
	if whole == "" {
		whole = "0"
	}
	if fraction = fraction[n:]; fraction != "" {
		whole += "." + fraction
	}
	return sign + whole
}
