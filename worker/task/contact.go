package task

import (
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"mvdan.cc/xurls/v2"
)

// urlPattern is xurls' idea of where a URL ends, for the schemes of the web.
var urlPattern = sync.OnceValue(func() *regexp.Regexp {
	re, err := xurls.StrictMatchingScheme(`https?://|ftp://`)
	if err != nil {
		panic(err) // a constant pattern
	}
	return re
})

var (
	emailPattern = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9\-]{0,62}\.)+[A-Za-z]{2,24}`)
	// E.164 numbers as people write them; national ones only in shapes that
	// nothing else has: (030) 123-4567, 555-123-4567, 030/1234567, 06 12 34 56 78.
	phonePattern    = regexp.MustCompile(`(?:\+|\b00)[1-9](?:[ ().\-/]{0,2}\d){6,17}`)
	nationalPattern = regexp.MustCompile(`\(0?\d{2,4}\)[ \-]?\d{2,4}(?:[ \-]?\d{2,4}){1,3}|\b\d{3}-\d{3}-\d{4}\b|\b0\d{1,4}[/\-]\d{3,9}\b|\b0\d(?: \d\d){4}\b`)
)

func (s *entityScanner) findURLs() {
	s.each(urlPattern(), func(m []int) (entity, bool) {
		text := s.text[m[0]:m[1]]
		u, err := url.Parse(text)
		return entity{Type: kindURL, Value: text}, err == nil && u.Host != ""
	})
}

func (s *entityScanner) findEmails() {
	s.each(emailPattern, func(m []int) (entity, bool) {
		text := s.text[m[0]:m[1]]
		a, err := mail.ParseAddress(text)
		return entity{Type: kindEmail, Value: text}, err == nil && a.Address == text && !wordGoesOn(s.text, m[1])
	})
}

// findPhones gives international numbers in E.164 (+49301234567) and national
// ones as their digits: without a country they have no other form.
func (s *entityScanner) findPhones() {
	s.each(phonePattern, func(m []int) (entity, bool) {
		text := strings.Replace(s.text[m[0]:m[1]], "(0)", "", 1)
		digits := strings.TrimPrefix(digitsOf(text), "00")
		return entity{Type: kindPhone, Value: "+" + digits},
			len(digits) >= 8 && len(digits) <= 15 && !insideWord(s.text, m[0]) && !wordGoesOn(s.text, m[1])
	})
	s.each(nationalPattern, func(m []int) (entity, bool) {
		digits := digitsOf(s.text[m[0]:m[1]])
		return entity{Type: kindPhone, Value: digits},
			len(digits) >= 7 && len(digits) <= 15 && !insideWord(s.text, m[0]) && !wordGoesOn(s.text, m[1])
	})
}

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}
