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

// Secret returns the secret of an account's webhooks, in the text form of
// Standard Webhooks ("whsec_" and base64). It follows from the queue's key, so
// that it is stored nowhere.
func Secret(queue *sign.Identity, account string) (string, error) {
	key, err := queue.Derive("webhook/" + account)
	if err != nil {
		return "", err
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(key[:]), nil
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
func signed(queue *sign.Identity, account, id string, body []byte, now time.Time) (http.Header, error) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	message := []byte(id + "." + timestamp + "." + string(body))
	key, err := queue.Derive("webhook/" + account)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write(message)
	signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if queue.Public().Algorithm() == sign.Ed25519 {
		sig, err := queue.Sign(message)
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
