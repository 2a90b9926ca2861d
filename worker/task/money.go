package task

import (
	"regexp"
	"strings"
)

// currencies maps signs and words to ISO 4217. A bare sign is read as CLDR's
// English data has it: $ is USD, £ is GBP, ¥ is JPY.
var currencies = map[string]string{
	"$": "USD", "us$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "￥": "JPY", "₹": "INR", "₩": "KRW", "₽": "RUB",
	"₺": "TRY", "₴": "UAH", "₪": "ILS", "฿": "THB", "₫": "VND", "₱": "PHP", "ca$": "CAD", "a$": "AUD", "r$": "BRL",
	"円": "JPY", "元": "CNY", "원": "KRW", "euro": "EUR", "euros": "EUR", "dollar": "USD", "dollars": "USD",
	"usd": "USD", "eur": "EUR", "gbp": "GBP", "jpy": "JPY", "cny": "CNY", "chf": "CHF", "cad": "CAD", "aud": "AUD",
	"nzd": "NZD", "sek": "SEK", "nok": "NOK", "dkk": "DKK", "pln": "PLN", "czk": "CZK", "huf": "HUF", "inr": "INR",
	"krw": "KRW", "brl": "BRL", "mxn": "MXN", "zar": "ZAR", "sgd": "SGD", "hkd": "HKD", "aed": "AED", "sar": "SAR",
}

// magnitudes maps the words for large numbers to their zeros.
var magnitudes = map[string]int{
	"thousand": 3, "k": 3, "tausend": 3, "mille": 3, "mil": 3, "million": 6, "millions": 6, "millionen": 6, "mio": 6,
	"millones": 6, "millón": 6, "m": 6, "billion": 9, "billions": 9, "bn": 9, "milliarde": 9, "milliarden": 9, "mrd": 9,
	"milliard": 9, "milliards": 9, "万": 4, "萬": 4, "億": 8, "亿": 8,
}

const (
	numeral      = `[+-]?(?:\d{1,3}(?:[ \x{00a0}\x{202f}'’]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)*)`
	currencySign = `(?:US\$|CA\$|A\$|R\$|[$€£¥￥₹₩₽₺₴₪฿₫₱])`
	currencyCode = `(?:USD|EUR|GBP|JPY|CNY|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|INR|KRW|BRL|MXN|ZAR|SGD|HKD|AED|SAR)`
	largeWords   = `(?i:thousand|tausend|millions?|millionen|millones|millón|billions?|milliarden?|milliards?|mio|mrd)\b\.?`
	// k and m mean thousand and million beside a currency only.
	magnitude = `(?:[ \x{00a0}]?(?:` + largeWords + `|(?i:bn|k|m)\b|[万萬億亿]))?`
)

var (
	moneyBefore = regexp.MustCompile(`(` + currencySign + `|\b` + currencyCode + `\b)[ \x{00a0}\x{202f}]?(` + numeral + `)(` + magnitude + `)`)
	moneyAfter  = regexp.MustCompile(`(` + numeral + `)(` + magnitude + `)[ \x{00a0}\x{202f}]?(` + currencySign + `|` + currencyCode + `\b|(?i:euros?|dollars?)\b|[円元원])`)
	bareNumber  = regexp.MustCompile(`(` + numeral + `)((?:[ \x{00a0}]?(?:` + largeWords + `|[万萬億亿]))?)`)
)

// findAmounts finds sums of money.
func (s *entityScanner) findAmounts() {
	s.each(moneyBefore, func(m []int) (entity, bool) {
		return s.amount(m[0], m[2:4], m[4:6], m[6:8])
	})
	s.each(moneyAfter, func(m []int) (entity, bool) {
		return s.amount(m[0], m[6:8], m[2:4], m[4:6])
	})
}

func (s *entityScanner) amount(start int, currency, number, scale []int) (entity, bool) {
	part := func(at []int) string { return s.text[at[0]:at[1]] }
	value, ok := decimal(part(number), s.language)
	if !ok || insideWord(s.text, start) {
		return entity{}, false
	}
	if word := strings.ToLower(strings.Trim(part(scale), " .\u00a0")); word != "" {
		value = shift(value, magnitudes[word])
	}
	return entity{Type: kindAmount, Value: value, Currency: currencies[strings.ToLower(part(currency))]}, true
}

// findNumbers finds what is left: numbers that belong to no date, sum or phone.
func (s *entityScanner) findNumbers() {
	s.each(bareNumber, func(m []int) (entity, bool) {
		number, scale := s.text[m[2]:m[3]], strings.Trim(s.text[m[4]:m[5]], " .\u00a0")
		value, ok := decimal(number, s.language)
		if !ok || insideWord(s.text, m[0]) || wordGoesOn(s.text, m[1]) {
			return entity{}, false
		}
		if strings.Contains(number, ",") && strings.Contains(value, ".") && !decimalComma[s.language] &&
			!strings.Contains(number, ".") {
			return entity{}, false // 1,2 in English is two numbers
		}
		return entity{Type: kindNumber, Value: shift(value, magnitudes[strings.ToLower(scale)])}, true
	})
}
