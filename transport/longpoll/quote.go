package longpoll

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/lp"
	"github.com/consignq/consign/transport/internal/wire"
)

// quoted answers a quote.
type quoted struct {
	wire.Quote
	Endpoint string    `json:"endpoint"`
	ID       string    `json:"quote_id"`
	Expires  time.Time `json:"expires_at"`
}

func (h *handler) quote(c *call) error {
	query := c.r.URL.Query()
	r := wire.QuoteRequest{Kind: query.Get("job_type")}
	if policy := query.Get("policy"); policy != "" {
		if err := r.Policy.UnmarshalText([]byte(policy)); err != nil {
			return err
		}
	}
	if chars := query.Get("chars"); chars != "" {
		n, err := strconv.ParseUint(chars, 10, 32)
		if err != nil {
			return fieldError("chars", fmt.Sprintf("is %.80q", chars), "give the prompt's length in Unicode code points")
		}
		r.Chars = uint32(n)
	}
	q, err := c.api.Quote(c.r.Context(), r.Value())
	if err != nil {
		return err
	}
	expires := time.Now().Add(h.QuoteLife).Truncate(time.Second).UTC()
	p := promise{kind: r.Kind, policy: q.Policy, price: q.Price, expires: expires.Unix()}
	return c.answer(http.StatusOK, quoted{wire.NewQuote(q), "/v1/jobs/commit/" + endpointOf(q.Policy), p.sign(h.QuoteKey, c.account), expires})
}

func endpointOf(p consign.Policy) string {
	if p == consign.PolicyFast {
		return "fast"
	}
	return "cheap"
}

// promise is a price that was quoted. Its signed form is the quote's ID, so
// that no coordinator has to remember any.
type promise struct {
	kind    string
	policy  consign.Policy
	price   consign.Price
	expires int64 // seconds since the Unix epoch
}

func (p *promise) sign(key []byte, account string) string {
	var b []byte
	b = append(b, byte(p.policy))
	b = binary.BigEndian.AppendUint64(b, uint64(p.price))   //nolint:gosec // the bits
	b = binary.BigEndian.AppendUint64(b, uint64(p.expires)) //nolint:gosec // after 1970
	b = append(b, p.kind...)
	return base64.RawURLEncoding.EncodeToString(append(quoteMAC(key, account, b), b...))
}

func quoteMAC(key []byte, account string, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(lp.Append(nil, []byte("consign/quote/v1"), []byte(account), b))
	return h.Sum(nil)
}

// readPromise reads a quote's ID, or says why it is none of this account's.
func readPromise(key []byte, account, id string) (promise, error) {
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) < sha256.Size+17 || !hmac.Equal(b[:sha256.Size], quoteMAC(key, account, b[sha256.Size:])) {
		return promise{}, quoteError("is not a quote of this queue for this account")
	}
	b = b[sha256.Size:]
	return promise{kind: string(b[17:]), policy: consign.Policy(b[0]), price: consign.Price(binary.BigEndian.Uint64(b[1:])), //nolint:gosec // the bits
		expires: int64(binary.BigEndian.Uint64(b[9:]))}, nil //nolint:gosec // the bits
}

// holds says why a job is not what was quoted.
func (p *promise) holds(kind string, policy consign.Policy, price consign.Price, now time.Time) error {
	switch {
	case now.Unix() > p.expires:
		return quoteError("expired at " + time.Unix(p.expires, 0).UTC().Format(time.RFC3339))
	case p.kind != kind || p.policy != policy:
		return quoteError(fmt.Sprintf("is for %s at %s", p.kind, endpointOf(p.policy)))
	case p.price != price:
		return quoteError(fmt.Sprintf("is for %s, and this job costs %s", p.price, price))
	}
	return nil
}

func quoteError(problem string) error {
	return &refusal{http.StatusConflict, "quote", consign.FieldError{Field: "quote_id", Problem: problem, Remedy: "ask for a new quote"}}
}
