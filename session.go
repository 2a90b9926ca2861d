package consign

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// RegistrationMessage is what a worker signs to register:
// LP("consign/register/v1") LP(queue_id) LP(origin) LP(nonce)
// LP(SHA-256(key bundle)).
func RegistrationMessage(queue QueueID, origin string, nonce, keyBundle []byte) []byte {
	bundle := sha256.Sum256(keyBundle)
	return lp.Append(nil, []byte("consign/register/v1"), queue[:], []byte(origin), nonce, bundle[:])
}

// nonces makes challenges that are good for a minute, and once at each queue.
// Queues that share an identity take each other's, since a worker's two calls
// may reach two of them.
type nonces struct {
	secret [32]byte
	mu     sync.Mutex
	used   map[[16]byte]bool // since began, and
	before map[[16]byte]bool // in the time before that
	began  Instant
}

const nonceLife = time.Minute

// make returns a nonce: the time, 16 random bytes, and a MAC over both.
func (n *nonces) make(now Instant) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(now)) //nolint:gosec // after 1970
	var random [16]byte
	_, _ = rand.Read(random[:])
	b = append(b, random[:]...)
	return append(b, n.mac(b)...)
}

func (n *nonces) mac(b []byte) []byte {
	h := hmac.New(sha256.New, n.secret[:])
	h.Write(b)
	return h.Sum(nil)
}

// take reports whether the nonce is ours, fresh, and new.
func (n *nonces) take(nonce []byte, now Instant) bool {
	if len(nonce) != 8+16+32 || subtle.ConstantTimeCompare(n.mac(nonce[:24]), nonce[24:]) != 1 {
		return false
	}
	made := Instant(binary.BigEndian.Uint64(nonce)) //nolint:gosec // the MAC is ours
	if now.Sub(made) > nonceLife {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.used == nil || now.Sub(n.began) > nonceLife { // what was used before that is stale by now
		n.used, n.before, n.began = map[[16]byte]bool{}, n.used, now
	}
	id := [16]byte(nonce[8:24])
	if n.used[id] || n.before[id] {
		return false
	}
	n.used[id] = true
	return true
}

// maxKeyBundle bounds a worker's key bundle: eight hybrid keys fill 16 KiB.
const maxKeyBundle = 32 << 10

// Challenge implements WorkerAPI.
func (q *Queue) Challenge(context.Context) (Challenge, error) {
	return Challenge{Queue: q.id, Nonce: q.nonces.make(q.now())}, nil
}

// Register implements WorkerAPI.
func (q *Queue) Register(ctx context.Context, r Registration) (Session, error) {
	key, err := sign.ParsePublicKey(r.Algorithm, r.PublicKey)
	if err != nil {
		return nil, fieldError("worker.public_key", "cannot be used: "+err.Error(), "send an ed25519 key, or an RSA one of 3,072 bits or more")
	}
	if err := r.Capabilities.validate(); err != nil {
		return nil, err
	}
	if len(r.KeyBundle) > maxKeyBundle {
		return nil, fieldError("key_bundle", fmt.Sprintf("has %d bytes", len(r.KeyBundle)), fmt.Sprintf("send at most %d bytes", maxKeyBundle))
	}
	if !q.nonces.take(r.Nonce, q.now()) {
		return nil, fieldError("nonce", "is not a fresh challenge of this queue", "ask for a challenge and register within a minute")
	}
	if key.Verify(RegistrationMessage(q.id, r.Origin, r.Nonce, r.KeyBundle), r.Signature) != nil {
		return nil, fieldError("signature", "is not by the public key over this registration", "sign RegistrationMessage with the worker's key")
	}
	return q.open(ctx, &session{id: key.ID(), key: key}, bytes.Clone(r.KeyBundle), r.Capabilities.clone())
}

// open enrols the worker of a session and lets the engine know of it.
func (q *Queue) open(ctx context.Context, s *session, bundle []byte, c Capabilities) (Session, error) {
	if err := q.serves(ctx); err != nil {
		return nil, err
	}
	record, version, err := q.enrol(ctx, s.id, s.key, bundle)
	if err != nil {
		return nil, err
	}
	if record.Standing.State() == StandingRemoved {
		return nil, fmt.Errorf("%w: %s", ErrRemoved, firstOf(record.Reason, "by the queue's owner"))
	}
	if err := q.inbox.call(inRegister{record, version, c}); err != nil {
		return nil, err
	}
	// A review in between was told to the engine before it knew the worker.
	doc, err := q.config.Store.Doc(ctx, DocWorker, s.id.String())
	if err != nil {
		return nil, err
	}
	if doc.Version != version {
		q.inbox.push(inStanding{doc})
	}
	s.q, s.keys, s.claims = q, record.keys(), map[ClaimID]*Returned{}
	return s, nil
}

// enrol returns the worker's record and its version, writing it the first time
// and when the worker has another key bundle.
func (q *Queue) enrol(ctx context.Context, id WorkerID, key sign.PublicKey, bundle []byte) (_ WorkerRecord, version uint64, _ error) {
	for {
		doc, err := q.config.Store.Doc(ctx, DocWorker, id.String())
		if err != nil {
			return WorkerRecord{}, 0, err
		}
		r := WorkerRecord{ID: id, Algorithm: key.Algorithm(), PublicKey: key.Bytes(), FirstSeen: q.now(),
			Standing: Standing{Subject: Subject{Worker: id}}}
		if doc.Version > 0 {
			if err := json.Unmarshal(doc.Body, &r); err != nil {
				return WorkerRecord{}, 0, err
			}
			if bytes.Equal(r.KeyBundle, bundle) {
				return r, doc.Version, nil
			}
		}
		r.KeyBundle = bundle
		body, err := json.Marshal(&r)
		if err != nil {
			return WorkerRecord{}, 0, err
		}
		err = q.write(ctx, Change{Docs: []Doc{{Kind: DocWorker, Key: id.String(), Version: doc.Version + 1, Body: body}}})
		if err == nil {
			return r, doc.Version + 1, nil
		}
		if !errors.Is(err, ErrVersion) {
			return WorkerRecord{}, 0, err
		}
	}
}

// write applies one change that no job is part of.
func (q *Queue) write(ctx context.Context, c Change) error {
	c.ID = ChangeID(random16())
	errs, err := q.config.Store.Apply(ctx, []Change{c})
	if err != nil {
		return err
	}
	return errs[0]
}

// session is a worker's Session.
type session struct {
	q    *Queue
	id   WorkerID
	key  sign.PublicKey
	keys WorkerKeys
	// foreign: it has not proved that it holds the key, and its results come
	// with a ForeignReceipt.
	foreign bool

	mu     sync.Mutex
	claims map[ClaimID]*Returned // what was assigned, to check what comes back
}

func (s *session) Heartbeat(ctx context.Context, h Heartbeat) (HeartbeatReply, error) {
	if err := h.validate(); err != nil {
		return HeartbeatReply{}, err
	}
	h.Capabilities, h.Rates = h.Capabilities.clone(), maps.Clone(h.Rates)
	h.Capabilities.Encryption = h.Capabilities.Encryption && !s.foreign
	h.Warm, h.Claims = slices.Clone(h.Warm), slices.Clone(h.Claims)
	r, err := s.q.ask(ctx, func(c *call) input { return inHeartbeat{c, s.id, h} })
	if err != nil {
		return HeartbeatReply{}, err
	}
	beat := r.info.(HeartbeatReply)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range beat.Lost {
		delete(s.claims, c.Claim)
	}
	return beat, nil
}

func (s *session) Claim(ctx context.Context) (Assignment, error) {
	for {
		a, err := s.claimOnce(ctx)
		if !errors.Is(err, errNoSpec) {
			return a, err
		}
	}
}

// claimOnce claims under one claim ID. errNoSpec: it came to nothing, and that
// job is in nobody's way any more.
func (s *session) claimOnce(ctx context.Context) (Assignment, error) {
	c := s.q.newCall()
	if err := s.q.inbox.call(inClaim{c, s.id, NewClaimID()}); err != nil {
		return Assignment{}, err
	}
	r, err := s.q.await(ctx, c)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// A job may be on its way: the engine knows. If there is one the
		// caller gets it all the same, rather than nobody.
		s.q.inbox.push(inAbandon{c})
		if r, err = s.q.await(context.WithoutCancel(ctx), c); errors.Is(err, errAbandoned) {
			err = ctx.Err()
		}
	}
	if err != nil {
		return Assignment{}, err
	}
	return s.assignment(ctx, r.job, r.spec)
}

func (s *session) assignment(ctx context.Context, j *Job, spec *Spec) (Assignment, error) {
	a := Assignment{Queue: s.q.id, Job: j.ID, Claim: j.Claim, Kind: spec.Kind, Model: spec.Model, Policy: spec.Policy, Tier: spec.Tier, Chars: spec.Chars,
		Header: bytes.Clone(spec.Header), Payload: bytes.Clone(spec.Payload), // an executor may work in place
		Custody: spec.Custody, Comparator: spec.Comparator, ClientKey: spec.ClientKey, Signature: bytes.Clone(spec.Signature),
		Lease: s.q.config.Lease, Receipts: !s.q.config.NoReceipts}
	if j.LimitAt != 0 { // not the deadline: what is left of it tells a retry from a first run
		a.Limit = max(time.Millisecond, j.LimitAt.Sub(j.ClaimedAt))
	}
	var err error
	if a.Wrap, err = s.wrap(ctx, j, spec); err != nil {
		return Assignment{}, err
	}
	if !s.q.config.NoReceipts {
		s.mu.Lock()
		s.claims[j.Claim] = s.q.expected(j, spec)
		s.mu.Unlock()
	}
	return a, nil
}

// wrap returns the key of a sealed job for this worker. Where it cannot, the
// claim is over.
func (s *session) wrap(ctx context.Context, j *Job, spec *Spec) ([]byte, error) {
	if s.foreign && spec.Custody != CustodyPlain { // a Scheduler may think otherwise
		why := "a foreign worker gets only what anybody may read"
		return nil, errors.Join(errors.New("consign: "+why), s.Release(context.WithoutCancel(ctx), Release{Claim: Claim{j.ID, j.Claim}, Reason: why}))
	}
	if spec.Custody == CustodySealed {
		for _, w := range spec.Wraps {
			if w.Worker == s.id {
				return bytes.Clone(w.Wrap), nil
			}
		}
	}
	if !spec.Custody.vaulted() {
		return nil, nil
	}
	claim := Claim{j.ID, j.Claim}
	wrap, err := s.q.config.Vault.Release(ctx, KeyRelease{Claim: claim, Header: sha256.Sum256(spec.Header), Worker: s.keys})
	if err == nil {
		return wrap, nil
	}
	why := reason("the vault did not release the key: " + err.Error())
	err = fmt.Errorf("consign: job %s: vault: %w", j.ID, err)
	ctx = context.WithoutCancel(ctx)
	if errors.Is(err, ErrKeyGone) {
		return nil, errors.Join(err, s.Fail(ctx, Failure{Claim: claim, Kind: FailPayload, Reason: why}))
	}
	return nil, errors.Join(err, s.Release(ctx, Release{Claim: claim, Reason: why}))
}

// expected is what the record of an attempt has to say, but for the result.
func (q *Queue) expected(j *Job, spec *Spec) *Returned {
	return &Returned{Queue: q.id, Job: j.ID, Claim: j.Claim, Worker: j.Worker, Kind: spec.Kind, ModelRequested: spec.Model,
		Comparator: spec.Comparator, HHash: sha256.Sum256(spec.Header), InputHash: j.InputHash}
}

func (s *session) Report(ctx context.Context, r Report) error {
	items := slices.Clone(r.Items)
	for i, item := range items {
		items[i].Data = bytes.Clone(item.Data)
		if len(item.Data) > 1<<20 || item.Kind > ReportPart {
			return fieldError("report", "has an item of an unknown kind, or of more than 1 MiB", "send smaller parts")
		}
	}
	return s.about(ctx, r.Claim, &op{kind: opReport, items: items})
}

func (s *session) Fail(ctx context.Context, f Failure) error {
	if f.Kind > FailPayload {
		return fieldError("failure.kind", fmt.Sprintf("is %d", uint8(f.Kind)), "use FailTransient, FailRefused or FailPayload")
	}
	return s.about(ctx, f.Claim, &op{kind: opEvent, ev: Event{Kind: EventFail, Fail: f.Kind, Reason: reason(f.Reason)}})
}

func (s *session) Release(ctx context.Context, r Release) error {
	return s.about(ctx, r.Claim, &op{kind: opEvent, ev: Event{Kind: EventRelease, Reason: reason(r.Reason)}})
}

// reason makes what a worker says fit to keep: short, UTF-8, without NUL.
func reason(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4096)], "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// about sends an operation on a claim of this worker.
func (s *session) about(ctx context.Context, c Claim, o *op) error {
	o.id, o.claim, o.worker = c.Job, c.Claim, s.id
	_, err := s.q.ask(ctx, func(c *call) input {
		o.call = c
		return inOp{o}
	})
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: there is no job %s", ErrLeaseLost, c.Job)
	}
	if err == nil && o.kind == opEvent || errors.Is(err, ErrLeaseLost) {
		s.mu.Lock()
		delete(s.claims, c.Claim)
		s.mu.Unlock()
	}
	return err
}

func (s *session) Complete(ctx context.Context, c Completion) error {
	if len(c.Result) > s.q.config.MaxResult {
		return fieldError("result", fmt.Sprintf("has %d bytes", len(c.Result)), fmt.Sprintf("send at most %d bytes", s.q.config.MaxResult))
	}
	if s.q.config.NoReceipts && c.Record != nil {
		return fieldError("record", "is there, and this queue takes results without one", "leave it out, as Assignment.Receipts says")
	}
	c.Result, c.Record = bytes.Clone(c.Result), bytes.Clone(c.Record) // the caller may use its buffers again
	done := &Done{ID: c.Job, Claim: c.Claim.Claim, Worker: s.id, Result: c.Result, ExitStatus: c.ExitStatus, Verification: VerificationUnverified}
	hash := sha256.Sum256(c.Result)
	var sketch []byte
	if c.Comparison != nil { // T and R are bound by the record
		comparison := *c.Comparison
		comparison.Sketch = bytes.Clone(comparison.Sketch)
		done.Comparison, sketch = &comparison, comparison.Sketch
	}
	done.Digest = sha256.Sum256(lp.Append(make([]byte, 0, 256), hash[:], c.Record, binary.BigEndian.AppendUint32(nil, uint32(c.ExitStatus)), sketch)) //nolint:gosec // the bits
	o := &op{kind: opEvent, done: done, ev: Event{Kind: EventComplete}}
	if s.q.config.NoReceipts {
		return s.about(ctx, c.Claim, o)
	}
	bad := s.verify(ctx, &c, hash, done)
	if bad != nil && !errors.Is(bad, ErrBadResult) {
		return bad
	}
	if bad != nil {
		// Only the holder of the claim gets here with an effect: the engine
		// fences it like any other word of a worker's. After the job's
		// completion it is compared with that one, as any other.
		o.ev = Event{Kind: EventReject, Reason: reason(bad.Error())}
	}
	if err := s.about(ctx, c.Claim, o); err != nil {
		return err
	}
	return bad
}

// verify checks a returned record against what was assigned, and fills in what
// done keeps of it (seed 003, step 7, check 1).
func (s *session) verify(ctx context.Context, c *Completion, result [32]byte, done *Done) error {
	if s.foreign {
		return s.verifyForeign(c, done)
	}
	s.mu.Lock()
	want := s.claims[c.Claim.Claim]
	s.mu.Unlock()
	if want == nil || want.Job != c.Job {
		var err error
		if want, err = s.lookUp(ctx, c.Claim); err != nil {
			return err
		}
	}
	expect := *want
	expect.ResultHash = result
	var envelope sign.Envelope
	if err := envelope.UnmarshalJSON(c.Record); err != nil {
		return fmt.Errorf("%w: record: %w", ErrBadResult, err)
	}
	record, err := VerifyRecord(envelope, s.key)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadResult, err)
	}
	if err := CheckReturn(expect, record); err != nil {
		return err
	}
	if err := checkComparison(record.TCommit, done.Comparison); err != nil {
		return err
	}
	if record.ExitStatus != int64(c.ExitStatus) {
		return &ReceiptError{Field: "record.exit_status", Problem: fmt.Sprintf("is %d, and the completion says %d", record.ExitStatus, c.ExitStatus), Err: ErrBadResult}
	}
	if done.Record, err = packRecord(record, envelope); err != nil {
		return err
	}
	done.Verification = VerificationVerified
	done.Acceptance = &Acceptance{Record: envelope.Name(), Checks: []string{"claim", "poe", "signature"}, Class: record.Class}
	return nil
}

// lookUp finds what was assigned with a claim that this session did not hand
// out: claims outlive sessions.
func (s *session) lookUp(ctx context.Context, c Claim) (*Returned, error) {
	ids := []JobID{c.Job}
	jobs, err := s.q.config.Store.Jobs(ctx, ids)
	if err != nil {
		return nil, err
	}
	j := jobs[0]
	if j == nil || j.Claim != c.Claim || j.Worker != s.id || j.Purged {
		return nil, fmt.Errorf("%w: claim %s is not current", ErrLeaseLost, c.Claim)
	}
	specs, err := s.q.config.Store.Specs(ctx, ids)
	if err != nil {
		return nil, err
	}
	if specs[0] == nil {
		return nil, fmt.Errorf("%w: job %s was forgotten", ErrLeaseLost, c.Job)
	}
	return s.q.expected(j, specs[0]), nil
}
