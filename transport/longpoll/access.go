package longpoll

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/consignq/consign"
)

// Authenticator says whose a submitter's request is.
type Authenticator interface {
	// Account returns the account, or an error for a request that is nobody's;
	// that is answered with 401, and the error's text goes to the log, not to
	// the caller. It may be called from many goroutines.
	Account(r *http.Request) (string, error)
}

// everybody is one account.
type everybody struct{}

func (everybody) Account(*http.Request) (string, error) { return DefaultAccount, nil }

// Tokens are the bearer tokens of accounts, of which only hashes are kept.
type Tokens struct {
	accounts map[[tokenPrefix]byte][]token // by the hash's first bytes
}

const tokenPrefix = 4

type token struct {
	hash    [32]byte
	account string
}

// HashToken returns the form in which a token stands in a file: the SHA-256 in
// hexadecimal. Tokens have to be long and random, 32 bytes say: their hashes
// have no salt.
func HashToken(token string) string {
	hash := sha256.Sum256([]byte(token))
	return hex.EncodeToString(hash[:])
}

// LoadTokens reads a file with ReadTokens.
func LoadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return ReadTokens(f)
}

// ReadTokens reads lines of an account, a space, and the HashToken of one of
// its tokens. Empty lines and those that start with # are comments. It returns
// a *consign.FieldError for another line.
func ReadTokens(r io.Reader) (*Tokens, error) {
	t := &Tokens{accounts: map[[tokenPrefix]byte][]token{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		var hash []byte
		if len(fields) == 2 {
			hash, _ = hex.DecodeString(fields[1]) // a bad one has another length
		}
		if len(hash) != 32 {
			return nil, fieldError(fmt.Sprintf("tokens.line_%d", n), "is not an account and a hash", "write the account, a space, and 64 hexadecimal digits: the SHA-256 of its token")
		}
		prefix := [tokenPrefix]byte(hash)
		t.accounts[prefix] = append(t.accounts[prefix], token{[32]byte(hash), fields[0]})
	}
	return t, lines.Err()
}

// Account implements Authenticator. It compares hashes in constant time.
func (t *Tokens) Account(r *http.Request) (string, error) {
	bearer, err := bearer(r)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(bearer))
	for _, known := range t.accounts[[tokenPrefix]byte(hash[:])] {
		if subtle.ConstantTimeCompare(known.hash[:], hash[:]) == 1 {
			return known.account, nil
		}
	}
	return "", fieldError("authorization", "is a token that nobody has", "use a token that the queue's owner gave you")
}

// bearer returns the token of the Authorization header. A token in a URL would
// end up in logs, so none is looked for there.
func bearer(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fieldError("authorization", "is missing", `send the header "Authorization: Bearer TOKEN"`)
	}
	return token, nil
}

// submitter finds out whose the call is and whether it is within its rate.
func (h *handler) submitter(c *call) error {
	account, err := h.Authenticator.Account(c.r)
	if err != nil {
		return c.unauthorized(err)
	}
	if !h.limits.allow(account) {
		return fmt.Errorf("%w: more than %v requests per second", consign.ErrBusy, h.Rate)
	}
	c.account, c.api = account, h.Submitters(account)
	return nil
}

// unauthorized is what a caller hears whom the Authenticator does not let in.
// Its words may be about what is behind it, so they are for the log alone.
func (c *call) unauthorized(err error) error {
	level := slog.LevelWarn
	if _, ok := errors.AsType[*consign.FieldError](err); ok { // as of Tokens: it is the caller's fault
		level = slog.LevelDebug
	}
	c.h.Logger.Log(c.r.Context(), level, "consign: longpoll: unauthorized", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	return &refusal{http.StatusUnauthorized, "unauthorized", consign.FieldError{Field: "authorization", Problem: "is missing, or lets nobody in", Remedy: `send the header "Authorization: Bearer TOKEN" with a token that the queue's owner gave you`}}
}

// limits bounds the rate of each account.
type limits struct {
	rate  rate.Limit
	burst int

	mu       sync.Mutex
	accounts map[string]*rate.Limiter
	swept    time.Time
}

func (l *limits) init(perSecond float64, burst int) {
	l.rate, l.burst, l.accounts = rate.Limit(perSecond), burst, map[string]*rate.Limiter{}
}

func (l *limits) allow(account string) bool {
	if l.rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.swept) > time.Minute {
		l.swept = now
		for name, limiter := range l.accounts {
			if limiter.TokensAt(now) >= float64(l.burst) { // as good as new
				delete(l.accounts, name)
			}
		}
	}
	limiter := l.accounts[account]
	if limiter == nil {
		limiter = rate.NewLimiter(l.rate, l.burst)
		l.accounts[account] = limiter
	}
	return limiter.AllowN(now, 1)
}
