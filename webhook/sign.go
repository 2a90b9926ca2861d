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

// Seed returns what the accounts' secrets follow from where Config.Seed is not
// set: 32 bytes that follow from the queue's key, so that they are stored
// nowhere. It returns what Identity.Derive does.
func Seed(queue *sign.Identity) ([]byte, error) {
	seed, err := queue.Derive("webhook")
	return seed[:], err
}

// Secret returns the secret of an account's webhooks, in the text form of
// Standard Webhooks: "whsec_" and the base64 of
// HMAC-SHA256(seed, "consign/webhook/v1" || account).
func Secret(seed []byte, account string) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(secret(seed, account))
}

func secret(seed []byte, account string) []byte {
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte("consign/webhook/v1" + account))
	return mac.Sum(nil)
}

// PublicKey returns the queue's key in the text form of Standard Webhooks
// ("whpk_" and base64), with which anybody can check a v1a signature. It is ""
// for a queue whose key is not ed25519.
func PublicKey(queue sign.PublicKey) string {
	if queue.Algorithm() != sign.Ed25519 {
		return ""
	}
	return "whpk_" + base64.StdEncoding.EncodeToString(queue.Bytes())
}

// signed returns the headers of Standard Webhooks 1.0 for a message: its ID,
// which stays over all tries, and the time and signatures of this one.
func (c *Config) signed(account, id string, body []byte, now time.Time) (http.Header, error) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	message := []byte(id + "." + timestamp + "." + string(body))
	mac := hmac.New(sha256.New, secret(c.Seed, account))
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
