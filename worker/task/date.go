package task

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// months maps the names of months, lower case, in the languages that we read.
var months = monthNames(
	`january february march april may june july august september october november december`,
	`jan feb mar apr may jun jul aug sep oct nov dec`,
	`januar februar märz april mai juni juli august september oktober november dezember`,
	`jänner feber mär apr mai jun jul aug sept okt nov dez`,
	`janvier février mars avril mai juin juillet août septembre octobre novembre décembre`,
	`janv févr mars avr mai juin juil août sept oct nov déc`,
	`enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre`,
	`gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre`,
	`janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro`,
	`januari februari maart april mei juni juli augustus september oktober november december`,
)

func monthNames(lists ...string) map[string]int {
	names := map[string]int{}
	for _, list := range lists {
		for i, name := range strings.Fields(list) {
			names[name] = i + 1
		}
	}
	return names
}

// datePattern is a way to write a date; y, m and d are its groups.
type datePattern struct {
	re      *regexp.Regexp
	y, m, d int
	unsure  bool // day and month could be the other way round
}

var datePatterns = []datePattern{
	{regexp.MustCompile(`\b(\d{4})-(\d{1,2})-(\d{1,2})\b`), 1, 2, 3, false},
	{regexp.MustCompile(`\b(\d{4})[/.](\d{1,2})[/.](\d{1,2})\b`), 1, 2, 3, false},
	{regexp.MustCompile(`(\d{4})\s?[年년]\s?(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日일]`), 1, 2, 3, false},
	{regexp.MustCompile(`\b(\d{1,2})\.\s?(\d{1,2})\.\s?(\d{4})\b`), 3, 2, 1, false},
	{regexp.MustCompile(`\b(\d{1,2})(?:st|nd|rd|th|er|º|\.)?\s+(?:de\s+|of\s+)?(\p{L}{3,10})\.?,?\s+(?:del?\s+)?(\d{4})\b`), 3, 2, 1, false},
	{regexp.MustCompile(`\b([A-Z][a-z]{2,8})\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})\b`), 3, 1, 2, false},
	{regexp.MustCompile(`\b(\d{1,2})[/-](\d{1,2})[/-](\d{4})\b`), 3, 2, 1, true},
}

var dateTimePattern = regexp.MustCompile(`\b\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)`)

// findDates finds dates and times. A date that could be two, such as 03/04/2026
// in English, keeps both readings instead of a value.
func (s *entityScanner) findDates() {
	s.each(dateTimePattern, func(m []int) (entity, bool) {
		text := s.text[m[0]:m[1]]
		_, err := time.Parse(time.RFC3339, strings.ToUpper(text))
		return entity{Type: kindDateTime, Value: strings.ToUpper(text)}, err == nil
	})
	for _, p := range datePatterns {
		s.each(p.re, func(m []int) (entity, bool) { return s.date(p, m) })
	}
}

func (s *entityScanner) date(p datePattern, m []int) (entity, bool) {
	part := func(i int) string { return s.text[m[2*i]:m[2*i+1]] }
	first, ok := isoDate(part(p.y), part(p.m), part(p.d))
	if !p.unsure {
		return entity{Type: kindDate, Value: first}, ok
	}
	second, also := isoDate(part(p.y), part(p.d), part(p.m))
	switch {
	case ok && also && first != second && !dayFirst(s.language):
		either := []string{first, second}
		slices.Sort(either)
		return entity{Type: kindDate, Either: either}, true
	case ok:
		return entity{Type: kindDate, Value: first}, true
	}
	return entity{Type: kindDate, Value: second}, also
}

// dayFirst tells the languages that write 03/04 for the third of April. English
// does in Britain and does not in America, so it is not among them.
func dayFirst(language string) bool { return decimalComma[language] && language != "hu" }

// isoDate returns YYYY-MM-DD if there is such a day.
func isoDate(year, month, day string) (string, bool) {
	y, _ := strconv.Atoi(year)
	d, _ := strconv.Atoi(day)
	m, ok := months[strings.ToLower(month)]
	if !ok {
		m, _ = strconv.Atoi(month)
	}
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	if y == 0 || int(t.Month()) != m { // 31 April would be a day in May
		return "", false
	}
	return fmt.Sprintf("%04d-%02d-%02d", y, m, d), true
}
