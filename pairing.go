package consign

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/consignq/consign/crypto/sign"
)

// Trust pairing: how a worker comes to run an account's PRIVATE jobs. A code
// finds the other side, no more: the worker that claims it makes a pairing that
// is pending, and PRIVATE jobs flow once a person has compared the fingerprint
// that the worker itself shows, and confirmed it.

// Pairing is between an account and a worker.
type Pairing struct {
	Account string   `json:"account"`
	Worker  WorkerID `json:"worker_id"`
	// Pending says that the account has not confirmed it yet.
	Pending bool `json:"pending,omitempty"`
	// Submitter is the ed25519 key that the account signs PRIVATE jobs with,
	// for the worker to pin; nil where the owner paired them.
	Submitter []byte `json:"submitter,omitempty"`
	// The fingerprints of both keys, as people compare them: see
	// sign.Fingerprint.
	WorkerFingerprint    string `json:"worker_fingerprint,omitempty"`
	SubmitterFingerprint string `json:"submitter_fingerprint,omitempty"`
}

// PairingCode is what a submitter passes on to the owner of a worker.
type PairingCode struct {
	Code      string // ten consonants, in two groups
	ExpiresAt time.Time
}

const (
	codeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	codeLength  = 10 // 43 bits
	codeLife    = 10 * time.Minute
	maxCodes    = 5 // open at once, of one account
)

// newCode draws a code, each letter with equal probability.
func newCode() string {
	code := make([]byte, 0, codeLength)
	var b [1]byte
	for len(code) < codeLength {
		_, _ = rand.Read(b[:])
		if n := int(b[0]); n < 256/len(codeLetters)*len(codeLetters) {
			code = append(code, codeLetters[n%len(codeLetters)])
		}
	}
	return string(code)
}

// readCode forgives what people do to a code that they type.
func readCode(text string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1
		}
		return r
	}, strings.ToUpper(text[:min(len(text), 64)]))
}

// openCode is a code that nobody has claimed, as the body of a document whose
// key is codeKey of the code: the store never has the code itself.
type openCode struct {
	Account   string  `json:"account"`
	Submitter []byte  `json:"submitter"`
	Expires   Instant `json:"expires_at"`
}

// accountCodes is the body of the document that lists an account's codes.
type accountCodes struct {
	Open []codeRef `json:"open"`
}

type codeRef struct {
	Key     string  `json:"key"`
	Expires Instant `json:"expires_at"`
}

// codeKey is the HMAC under which a code is kept.
func (q *Queue) codeKey(code string) (string, error) {
	key, err := q.config.Identity.Derive("pairing-code")
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(code))
	return hex.EncodeToString(mac.Sum(nil)), nil
}

func (s *submitter) NewPairing(ctx context.Context, submitterKey []byte) (PairingCode, error) {
	if _, err := sign.ParsePublicKey(sign.Ed25519, submitterKey); err != nil {
		return PairingCode{}, fieldError("submitter", "is not an ed25519 key", "send the public key that signs this account's PRIVATE jobs")
	}
	code := newCode()
	key, err := s.q.codeKey(code)
	if err != nil {
		return PairingCode{}, err
	}
	for {
		doc, err := s.q.config.Store.Doc(ctx, DocPairingCodes, s.account)
		if err != nil {
			return PairingCode{}, err
		}
		now := s.q.now()
		expires := now.Add(codeLife)
		codes, stale, err := readCodes(doc, now)
		if err != nil {
			return PairingCode{}, err
		}
		if len(codes.Open) >= maxCodes {
			return PairingCode{}, fmt.Errorf("%w: account %q has %d pairing codes that nobody has claimed: use one of them, or wait until one expires", ErrBusy, s.account, maxCodes)
		}
		codes.Open = append(codes.Open, codeRef{key, expires})
		c := Change{Docs: []Doc{
			jsonDoc(DocPairingCodes, s.account, doc.Version+1, codes),
			jsonDoc(DocPairingCode, key, 1, openCode{Account: s.account, Submitter: submitterKey, Expires: expires}),
		}}
		for _, ref := range stale {
			c.Docs = append(c.Docs, Doc{Kind: DocPairingCode, Key: ref.Key, Version: 2})
		}
		if err := s.q.write(ctx, c); !errors.Is(err, ErrVersion) {
			return PairingCode{Code: code[:codeLength/2] + "-" + code[codeLength/2:], ExpiresAt: expires.Time()}, err
		}
	}
}

// readCodes returns an account's codes that are still good, and those that are
// not.
func readCodes(doc Doc, now Instant) (open accountCodes, stale []codeRef, err error) {
	if doc.Version == 0 {
		return open, nil, nil
	}
	if err := json.Unmarshal(doc.Body, &open); err != nil {
		return open, nil, fmt.Errorf("document %s %q: %w", doc.Kind, doc.Key, err)
	}
	for _, ref := range open.Open {
		if ref.Expires <= now {
			stale = append(stale, ref)
		}
	}
	open.Open = slices.DeleteFunc(open.Open, func(ref codeRef) bool { return ref.Expires <= now })
	return open, stale, nil
}

func jsonDoc(kind, key string, version uint64, body any) Doc {
	b, err := json.Marshal(body)
	if err != nil {
		panic("consign: " + err.Error()) // never: the bodies are plain structs
	}
	return Doc{Kind: kind, Key: key, Version: version, Body: b}
}

func (s *session) ClaimPairing(ctx context.Context, code string) (Pairing, error) {
	q := s.q
	now := q.now()
	if err := q.guesses.begin(ctx, s.id, now); err != nil {
		return Pairing{}, err
	}
	p, err := s.claimPairing(ctx, code)
	if _, wrong := errors.AsType[*FieldError](err); !wrong {
		q.guesses.undo(s.id, now)
	}
	return p, err
}

func (s *session) claimPairing(ctx context.Context, code string) (Pairing, error) {
	q := s.q
	key, err := q.codeKey(readCode(code))
	if err != nil {
		return Pairing{}, err
	}
	for {
		p, c, err := q.claimCode(ctx, key, s.keys)
		if err != nil {
			return Pairing{}, err
		}
		_, doc, err := q.pairing(ctx, p.Account, p.Worker)
		if err != nil {
			return Pairing{}, err
		}
		if err := q.writePairing(ctx, p, doc.Version+1, c); !errors.Is(err, ErrVersion) {
			p.Account = "" // its name is not the worker's business
			return p, err
		}
	}
}

// claimCode returns the pairing that the code makes with the worker, and the
// change that uses the code up.
func (q *Queue) claimCode(ctx context.Context, key string, w WorkerKeys) (Pairing, Change, error) {
	doc, err := q.config.Store.Doc(ctx, DocPairingCode, key)
	if err != nil {
		return Pairing{}, Change{}, err
	}
	var code openCode
	if doc.Version > 0 {
		if err := json.Unmarshal(doc.Body, &code); err != nil {
			return Pairing{}, Change{}, fmt.Errorf("document %s: %w", doc.Kind, err)
		}
	}
	now := q.now()
	if code.Expires <= now {
		return Pairing{}, Change{}, fieldError("code", "is not one that is open", "ask for a new one: a code is good once, for ten minutes")
	}
	list, err := q.config.Store.Doc(ctx, DocPairingCodes, code.Account)
	if err != nil {
		return Pairing{}, Change{}, err
	}
	codes, stale, err := readCodes(list, now)
	if err != nil {
		return Pairing{}, Change{}, err
	}
	codes.Open = slices.DeleteFunc(codes.Open, func(ref codeRef) bool { return ref.Key == key })
	c := Change{Docs: []Doc{
		{Kind: DocPairingCode, Key: key, Version: doc.Version + 1},
		jsonDoc(DocPairingCodes, code.Account, list.Version+1, codes),
	}}
	for _, ref := range stale {
		c.Docs = append(c.Docs, Doc{Kind: DocPairingCode, Key: ref.Key, Version: 2})
	}
	p := Pairing{Account: code.Account, Worker: w.ID, Pending: true, Submitter: code.Submitter,
		WorkerFingerprint: sign.Fingerprint(w.Algorithm, w.PublicKey), SubmitterFingerprint: sign.Fingerprint(sign.Ed25519, code.Submitter)}
	return p, c, nil
}

func (s *submitter) Pairings(ctx context.Context) ([]Pairing, error) {
	return s.q.pairings(ctx, s.account)
}

func (s *submitter) ConfirmPairing(ctx context.Context, w WorkerID, fingerprint string) (Pairing, error) {
	for {
		p, doc, err := s.q.pairing(ctx, s.account, w)
		if err != nil {
			return Pairing{}, err
		}
		if doc.Version == 0 {
			return Pairing{}, fmt.Errorf("%w: no pairing with worker %s", ErrNotFound, w)
		}
		if p.WorkerFingerprint != strings.ToUpper(strings.TrimSpace(fingerprint)) {
			return Pairing{}, fieldError("fingerprint", "is not that of the worker that claimed the code",
				"compare it with what the worker shows itself; if that differs, somebody is in between: revoke the pairing")
		}
		if !p.Pending {
			return p, nil
		}
		p.Pending = false
		if err := s.q.writePairing(ctx, p, doc.Version+1, Change{}); !errors.Is(err, ErrVersion) {
			return p, err
		}
	}
}

func (s *submitter) RevokePairing(ctx context.Context, w WorkerID) error {
	return s.q.Unpair(ctx, Pairing{Account: s.account, Worker: w})
}

// Pair records that the account trusts the worker with its PRIVATE jobs, at
// once. The caller vouches that the account has confirmed the worker's
// fingerprint.
func (q *Queue) Pair(ctx context.Context, p Pairing) error {
	p.Pending = false
	for {
		doc, err := q.config.Store.Doc(ctx, DocPairing, p.key()) // one that cannot be read is written over
		if err != nil {
			return err
		}
		if err := q.writePairing(ctx, p, doc.Version+1, Change{}); !errors.Is(err, ErrVersion) {
			return err
		}
	}
}

// Unpair ends a pairing. Jobs that the worker is running go on.
func (q *Queue) Unpair(ctx context.Context, p Pairing) error {
	q.admin.Lock()
	defer q.admin.Unlock()
	if err := q.setDoc(ctx, DocPairing, p.key(), nil, false); err != nil {
		return err
	}
	return q.inbox.call(inPair{p.Account, p.Worker, false})
}

// writePairing adds the pairing's next version to a change, writes it, and
// tells the engine.
func (q *Queue) writePairing(ctx context.Context, p Pairing, version uint64, c Change) error {
	q.admin.Lock() // the store and the engine hear of changes in one order
	defer q.admin.Unlock()
	c.Docs = append(c.Docs, jsonDoc(DocPairing, p.key(), version, p))
	c.Counters = []Delta{adminChanged}
	if err := q.write(ctx, c); err != nil {
		return err
	}
	return q.inbox.call(inPair{p.Account, p.Worker, !p.Pending})
}

func (p Pairing) key() string { return url.QueryEscape(p.Account) + "/" + p.Worker.String() }

func (q *Queue) pairing(ctx context.Context, account string, w WorkerID) (p Pairing, doc Doc, err error) {
	doc, err = q.config.Store.Doc(ctx, DocPairing, Pairing{Account: account, Worker: w}.key())
	if err == nil && doc.Version > 0 {
		p, err = readPairing(doc)
	}
	return p, doc, err
}

// pairings lists an account's pairings, by worker.
func (q *Queue) pairings(ctx context.Context, account string) (out []Pairing, err error) {
	prefix := url.QueryEscape(account) + "/"
	after := prefix
	for {
		page, err := q.config.Store.Docs(ctx, DocPairing, after, 1000)
		if err != nil || len(page) == 0 {
			return out, err
		}
		for _, d := range page {
			if !strings.HasPrefix(d.Key, prefix) {
				return out, nil
			}
			if p, err := readPairing(d); err == nil { // else it is logged where it is not trusted
				out = append(out, p)
			}
			after = d.Key
		}
	}
}

func readPairing(d Doc) (Pairing, error) {
	var p Pairing
	err := json.Unmarshal(d.Body, &p)
	if err == nil && p.key() != d.Key {
		err = fmt.Errorf("it is of account %q and worker %s", p.Account, p.Worker)
	}
	if err != nil {
		return Pairing{}, fmt.Errorf("document %s %q cannot be read: %w: pair the two again, or unpair them", d.Kind, d.Key, err)
	}
	return p, nil
}
