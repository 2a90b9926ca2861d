package consign

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Admission: from a request to a job and its spec, or to the field that is
// wrong with it. No clock, no store.

// admit checks a submit request. The draft it returns has no times yet.
func (c *Config) admit(account string, r *SubmitRequest) (draft *Job, spec *Spec, err error) {
	kind, ok := c.kind(r.Kind)
	if !ok {
		return nil, nil, fieldError("kind", fmt.Sprintf("is unknown: %.80q", r.Kind), "use one of "+c.kindNames())
	}
	comparator := firstOf(r.Comparator, kind.Comparator, ComparatorNone)
	chars, err := c.admitPayload(r)
	if err != nil {
		return nil, nil, err
	}
	if err := c.admitWishes(&kind, r); err != nil {
		return nil, nil, err
	}
	if err := c.admitSealing(r, comparator); err != nil {
		return nil, nil, err
	}
	if !text(account) {
		return nil, nil, fieldError("account", fmt.Sprintf("is not a name: %.80q", account), "use UTF-8 of at most 1,024 bytes, without zero bytes")
	}
	id := r.ID
	if id.IsZero() {
		id = NewJobID()
	}
	policy := kind.resolve(r.Policy)
	tier := c.Tiers.Tier(chars)
	lane := Lane{
		Account: account,
		Offset:  keyOffset(r.Priority, policy),
		Needs: Needs{Kind: r.Kind, Model: r.Model, Tier: tier, HardwareTier: r.HardwareTier, VRAM: r.VRAM, Docker: kind.Docker,
			Encryption: r.Custody != CustodyPlain, Private: r.Privacy == PrivacyPrivate, Recipients: recipients(r), Labels: joinLabels(r.Labels)},
	}
	// Copies: the caller may use its buffers again.
	spec = &Spec{ID: id, Kind: r.Kind, Model: r.Model, Header: bytes.Clone(r.Header), Payload: bytes.Clone(r.Payload), Custody: r.Custody,
		Comparator: comparator, ClientKey: bytes.Clone(r.ClientKey), Signature: bytes.Clone(r.Signature), Privacy: r.Privacy, Policy: policy,
		Priority: r.Priority, HardwareTier: r.HardwareTier, VRAM: r.VRAM, Labels: lane.Needs.Labels, Chars: chars, Tier: tier, Webhook: r.Webhook}
	if r.Custody == CustodySealed {
		spec.Wraps = cloneWraps(r.Wraps)
	}
	draft = &Job{ID: id, Account: account, Lane: lane.String(), Offset: lane.Offset, Custody: r.Custody,
		InputHash: InputHash(r.Header, r.Payload), Price: c.Prices.Price(r.Kind, policy, tier), Chars: chars, Notify: r.Webhook != "",
		QueueTime: firstOf(r.QueueTime, c.QueueTime), MaxAttempts: firstOf(r.MaxAttempts, c.MaxAttempts)}
	return draft, spec, nil
}

// admitPayload checks the bytes and their declared length, and returns the
// prompt's length in characters.
func (c *Config) admitPayload(r *SubmitRequest) (chars uint32, err error) {
	switch {
	case len(r.Payload) == 0:
		return 0, fieldError("payload", "is empty", "send at least one byte")
	case len(r.Payload) > c.MaxPayload:
		return 0, fieldError("payload", fmt.Sprintf("has %d bytes", len(r.Payload)), fmt.Sprintf("send at most %d bytes", c.MaxPayload))
	case len(r.Header) > 64<<10:
		return 0, fieldError("header", fmt.Sprintf("has %d bytes", len(r.Header)), "send the sealed payload's header, which is far shorter")
	}
	if r.PayloadHash != ([32]byte{}) && r.PayloadHash != InputHash(r.Header, r.Payload) {
		return 0, fieldError("payload_hash", "is not the SHA-256 of header and payload", "hash the bytes that are sent, header first")
	}
	if !r.Custody.valid() {
		return 0, fieldError("custody", fmt.Sprintf("is %.80q", r.Custody), "say sealed, escrow, transit or plain: storing plaintext is never the default")
	}
	if r.Custody.vaulted() && c.Vault == nil {
		return 0, fieldError("custody", fmt.Sprintf("is %q, and this queue has no vault", r.Custody), "submit it as sealed, or as plain if anybody may read it")
	}
	if !r.Custody.sealedBySubmitter() {
		return plainChars(r)
	}
	chars, size := r.Chars, uint64(len(r.Payload))
	switch {
	case r.PromptBytes > size:
		return 0, fieldError("prompt_bytes", fmt.Sprintf("is %d, more than the %d bytes of ciphertext", r.PromptBytes, size), "declare the prompt's length in bytes before sealing")
	case chars == 0:
		return 0, fieldError("chars", "is missing", "declare the prompt's length in Unicode code points: it cannot be counted in a sealed payload")
	case uint64(chars) > r.PromptBytes || 4*uint64(chars) < r.PromptBytes:
		return 0, fieldError("chars", fmt.Sprintf("is %d for a prompt of %d bytes", chars, r.PromptBytes), "declare the prompt's length in Unicode code points: each takes one to four bytes")
	}
	return chars, nil
}

// admitSealing checks who is to have the key of the payload, and that its
// header says what the request says.
func (c *Config) admitSealing(r *SubmitRequest, comparator string) error {
	if err := checkWraps(r); err != nil {
		return err
	}
	if r.Custody.sealedBySubmitter() {
		switch {
		case r.Custody == CustodySealed && r.Privacy != PrivacyPrivate:
			return fieldError("custody", "is sealed for a PUBLIC job", "submit it as PRIVATE, to the workers that it is sealed to, or in escrow")
		case len(r.Signature) > 0 && r.Privacy != PrivacyPrivate:
			return fieldError("signature", "is there for a PUBLIC job", "leave it out: only PRIVATE ones are signed")
		}
		return c.checkHeader(r, comparator)
	}
	switch {
	case len(r.Header) > 0:
		return fieldError("header", fmt.Sprintf("is there, in the custody %s", r.Custody), "leave it out, or submit the sealed payload in escrow")
	case len(r.Signature) > 0:
		return fieldError("signature", fmt.Sprintf("is there, in the custody %s", r.Custody), "leave it out: it is over a sealed payload")
	case r.Custody == CustodyTransit && r.Privacy == PrivacyPrivate:
		return fieldError("privacy_class", "is PRIVATE for a payload that the queue is to seal", "seal and sign it yourself: workers take no PRIVATE job that its submitter has not signed")
	}
	return nil
}

// recipients lists the workers that hold the key of a sealed job, as
// Needs.Recipients has them.
func recipients(r *SubmitRequest) string {
	if r.Custody != CustodySealed {
		return ""
	}
	ids := make([]string, len(r.Wraps))
	for i, w := range r.Wraps {
		ids[i] = w.Worker.String()
	}
	slices.Sort(ids)
	return strings.Join(ids, ".")
}

func cloneWraps(ws []Wrap) []Wrap {
	out := slices.Clone(ws)
	for i, w := range out {
		out[i].Wrap = bytes.Clone(w.Wrap)
	}
	return out
}

// plainChars counts the characters of a payload that can be read.
func plainChars(r *SubmitRequest) (uint32, error) {
	if !utf8.Valid(r.Payload) {
		return 0, fieldError("payload", "is not UTF-8", "send text, or seal the payload")
	}
	chars := uint32(utf8.RuneCount(r.Payload)) //nolint:gosec // bounded by MaxPayload
	if r.Chars != 0 && r.Chars != chars {
		return 0, fieldError("chars", fmt.Sprintf("is %d, and the payload has %d characters", r.Chars, chars), "count Unicode code points, or leave it out")
	}
	if r.PromptBytes != 0 && r.PromptBytes != uint64(len(r.Payload)) {
		return 0, fieldError("prompt_bytes", fmt.Sprintf("is %d, and the payload has %d bytes", r.PromptBytes, len(r.Payload)), "leave it out")
	}
	return chars, nil
}

// admitWishes checks what the job asks for.
func (c *Config) admitWishes(kind *Kind, r *SubmitRequest) error {
	switch {
	case kind.NeedsModel && r.Model == "":
		return fieldError("model", "is empty", "name the model that the job is for")
	case kind.Models != nil && r.Model != "" && !slices.Contains(kind.Models, r.Model):
		return fieldError("model", fmt.Sprintf("is unknown: %.80q", r.Model), "use one of "+strings.Join(kind.Models, ", "))
	case !text(r.Model):
		return fieldError("model", "is not a name", "use UTF-8 of at most 1,024 bytes, without zero bytes")
	case !text(r.Comparator):
		return fieldError("comparator", "is not a name", "use UTF-8 of at most 1,024 bytes, without zero bytes")
	case r.Policy > PolicyCheap:
		return fieldError("policy", fmt.Sprintf("is %d", uint8(r.Policy)), "use PolicyAuto, PolicyFast or PolicyCheap")
	case r.Priority > PriorityLow:
		return fieldError("priority", fmt.Sprintf("is %d", uint8(r.Priority)), "use PriorityStandard, PriorityHigh or PriorityLow")
	case r.Privacy > PrivacyPrivate:
		return fieldError("privacy_class", fmt.Sprintf("is %d", uint8(r.Privacy)), "use PrivacyPublic or PrivacyPrivate")
	case r.MaxAttempts < 0:
		return fieldError("max_attempts", "is negative", "give one or more, or zero for the queue's default")
	case len(r.ClientKey) > 8<<10:
		return fieldError("client_pubkey", "is too long", "send the public key that results are sealed to")
	}
	for name, d := range map[string]time.Duration{"delay": r.Delay, "queue_time": r.QueueTime, "deadline_seconds": r.Deadline} {
		if d < 0 {
			return fieldError(name, "is negative", "give a duration above zero, or leave it out")
		}
	}
	if r.Deadline > 0 && r.Deadline <= r.Delay {
		return fieldError("deadline_seconds", "passes before the delay is over", "give a deadline after the delay")
	}
	if err := c.checkWebhook(r.Webhook); err != nil {
		return err
	}
	return checkLabels("labels", r.Labels)
}

// maxURL bounds a webhook's URL.
const maxURL = 2048

func (c *Config) checkWebhook(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case !c.Webhooks:
		return fieldError("webhook", "is there, and this queue sends none", "leave it out, and wait for the job instead")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(text) > maxURL || strings.Contains(text, "\x00"):
		return fieldError("webhook", fmt.Sprintf("is not a URL that can be called: %.80q", text), "give an absolute http or https URL, without a user, of at most 2,048 bytes")
	}
	return nil
}

// resolve returns the policy that PolicyAuto stands for.
func (k *Kind) resolve(p Policy) Policy {
	if p == PolicyAuto {
		p = k.Auto
	}
	if p == PolicyAuto {
		p = PolicyCheap
	}
	return p
}

func (c *Config) kindNames() string {
	names := make([]string, len(c.Kinds))
	for i, k := range c.Kinds {
		names[i] = k.Name
	}
	return strings.Join(names, ", ")
}

// text reports whether s can stand in a record, and in any store.
func text(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// firstOf returns the first of the values that is not zero.
func firstOf[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// quote prices a request.
func (c *Config) quote(r *QuoteRequest) (Quote, error) {
	kind, ok := c.kind(r.Kind)
	if !ok {
		return Quote{}, fieldError("kind", fmt.Sprintf("is unknown: %.80q", r.Kind), "use one of "+c.kindNames())
	}
	if r.Policy > PolicyCheap {
		return Quote{}, fieldError("policy", fmt.Sprintf("is %d", uint8(r.Policy)), "use PolicyAuto, PolicyFast or PolicyCheap")
	}
	q := Quote{Policy: kind.resolve(r.Policy), Tier: c.Tiers.Tier(r.Chars)}
	q.Price = c.Prices.Price(r.Kind, q.Policy, q.Tier)
	return q, nil
}
