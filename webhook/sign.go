package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

// seedSize is the least number of bytes that accounts' secrets follow from.
const seedSize = 32

// Keys returns what an account checks its webhooks with, in the text forms of
// Standard Webhooks. The secret, of v1, is "whsec_" and the base64 of
// HMAC-SHA256(Seed(), "consign/webhook/v1" || account): it is for that account
// alone. The public key, of v1a, is "whpk_" and the base64 of the queue's, or "" for
// a queue whose key is not ed25519.
func (s *Sender) Keys(account string) (secretKey, publicKey string) {
	secretKey = "whsec_" + base64.StdEncoding.EncodeToString(secret(s.cfg.Seed(), account))
	if queue := s.cfg.Identity.Public(); queue.Algorithm() == sign.Ed25519 {
		publicKey = "whpk_" + base64.StdEncoding.EncodeToString(queue.Bytes())
	}
	return secretKey, publicKey
}

func secret(seed []byte, account string) []byte {
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte("consign/webhook/v1" + account))
	return mac.Sum(nil)
}

// signed returns the headers of Standard Webhooks 1.0 for a message: its ID,
// which stays over all tries, and the time and signatures of this one.
func (c *Config) signed(account, id string, body []byte, now time.Time) (http.Header, error) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	message := []byte(id + "." + timestamp + "." + string(body))
	mac := hmac.New(sha256.New, secret(c.Seed(), account))
	mac.Write(message)
	signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if c.Identity.Public().Algorithm() == sign.Ed25519 {
		sig, err := c.Identity.Sign(message)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		signature += " v1a," + base64.StdEncoding.EncodeToString(sig)
	}
	return http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"consign-webhook/1"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {signature},
	}, nil
}
