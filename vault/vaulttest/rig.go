package vaulttest

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// deposit is a job as its submitter sealed it.
type deposit struct {
	id              consign.JobID
	cek             seal.CEK
	header, payload []byte
	wrap            []byte
}

// newDeposit seals a job in the custody escrow to the vault's key.
func newDeposit(t tester, v consign.Vault, id consign.JobID) deposit {
	t.Helper()
	return sealed(t, v, seal.Header{Job: id, Custody: seal.Escrow}, seal.NewCEK())
}

func sealed(t tester, v consign.Vault, h seal.Header, cek seal.CEK) deposit {
	t.Helper()
	d := deposit{id: h.Job, cek: cek}
	h.Queue, h.Kind, h.Comparator, h.Privacy = queue, consign.KindTask, consign.ComparatorNone, seal.Public
	h.ResultKey = must[*seal.PrivateKey](t)(seal.GenerateKey(seal.X25519)).Public()
	var err error
	d.header, d.payload, err = seal.SealPayload(h, cek, []byte("a secret of "+d.id.String()))
	ok(t, err)
	d.wrap = wrapped(t, v, d, cek)
	return d
}

func wrapped(t tester, v consign.Vault, d deposit, cek seal.CEK) []byte {
	t.Helper()
	to := must[seal.PublicKey](t)(seal.ParsePublicKey(must[[]byte](t)(v.Key(t.Context()))))
	return must[[]byte](t)(seal.Wrap(to, seal.VaultWrap{Job: d.id, Header: seal.HeaderHash(d.header)}, cek))
}

func (d deposit) into(t tester, v consign.Vault) error {
	t.Helper()
	return v.Deposit(t.Context(), d.id, d.header, d.wrap)
}

// worker is one that may claim jobs.
type worker struct {
	consign.WorkerKeys
	key *seal.PrivateKey
}

func newWorker(t tester) worker {
	t.Helper()
	return workerWith(t, sign.Generate(), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

func workerWith(t tester, identity *sign.Identity, from, to time.Time) worker {
	t.Helper()
	w := worker{key: must[*seal.PrivateKey](t)(seal.GenerateKey(seal.X25519))}
	second := must[*seal.PrivateKey](t)(seal.GenerateKey(seal.MLKEM768X25519))
	signer := identity.Public()
	w.ID, w.Algorithm, w.PublicKey = signer.ID(), signer.Algorithm(), signer.Bytes()
	bundle := must[sign.Envelope](t)(seal.SignBundle(identity, seal.Bundle{Worker: w.ID, Seq: 1, NotBefore: from, NotAfter: to,
		Keys: []seal.PublicKey{w.key.Public(), second.Public()}}))
	w.KeyBundle = must[[]byte](t)(json.Marshal(bundle))
	return w
}

// release asks for the key of a job, as a queue does when the worker claims it.
func release(t tester, v consign.Vault, claim consign.Claim, header []byte, w worker) ([]byte, error) {
	t.Helper()
	return v.Release(t.Context(), consign.KeyRelease{Claim: claim, Header: seal.HeaderHash(header), Worker: w.WorkerKeys})
}

// released returns the key that the worker gets.
func released(t tester, v consign.Vault, id consign.JobID, header []byte) seal.CEK {
	t.Helper()
	w, claim := newWorker(t), consign.Claim{Job: id, Claim: consign.NewClaimID()}
	wrap := must[[]byte](t)(release(t, v, claim, header, w))
	return must[seal.CEK](t)(seal.Unwrap(purpose(claim, header, w), wrap, w.key))
}

func purpose(claim consign.Claim, header []byte, w worker) seal.ClaimWrap {
	return seal.ClaimWrap{Job: claim.Job, Worker: w.ID, Claim: claim.Claim, Header: seal.HeaderHash(header)}
}

// has fails the check unless the vault gives out the deposit's key.
func has(t tester, v consign.Vault, d deposit) {
	t.Helper()
	if got := released(t, v, d.id, d.header); got != d.cek {
		t.Fatalf("the key of job %s is another than that which was deposited", d.id)
	}
}

// hasNot fails the check unless the vault says that the key is gone.
func hasNot(t tester, v consign.Vault, id consign.JobID, header []byte) {
	t.Helper()
	claim := consign.Claim{Job: id, Claim: consign.NewClaimID()}
	gone(t, second(release(t, v, claim, header, newWorker(t))))
}

// gone fails the check unless the error is ErrKeyGone.
func gone(t tester, err error) {
	t.Helper()
	if !errors.Is(err, consign.ErrKeyGone) {
		t.Fatalf("the error is %v, not ErrKeyGone", err)
	}
}

func second(_ []byte, err error) error { return err }

// refused fails the check unless the error is a *FieldError.
func refused(t tester, what string, err error) {
	t.Helper()
	if field := new(consign.FieldError); !errors.As(err, &field) {
		t.Fatalf("%s: the error is %v, not a *FieldError", what, err)
	}
}

// request is a payload that comes in plain.
func request(id consign.JobID, clientKey []byte) consign.SealRequest {
	return consign.SealRequest{Queue: queue, Job: id, Submitter: [32]byte{7}, Kind: consign.KindTask, Model: "m",
		Comparator: consign.ComparatorNone, ClientKey: clientKey, Payload: []byte("plain, and to be sealed")}
}

// opened plays the worker: it claims, opens the payload, and seals a result.
func opened(t tester, v consign.Vault, r consign.SealRequest, s consign.SealedPayload) (seal.Header, []byte, consign.SealedResult) {
	t.Helper()
	cek := released(t, v, r.Job, s.Header)
	h, payload, err := seal.OpenPayload(s.Header, s.Payload, cek, seal.Assignment{Queue: r.Queue, Job: r.Job, Kind: r.Kind,
		Model: r.Model, Chars: uint32(seal.Chars(r.Payload)), Custody: seal.Transit, Comparator: r.Comparator}) //nolint:gosec // short
	ok(t, err)
	out := consign.SealedResult{Queue: r.Queue, Claim: consign.Claim{Job: r.Job, Claim: consign.NewClaimID()}, Worker: consign.WorkerID{9}, Input: s}
	out.Result = must[[]byte](t)(seal.SealResult(h.ResultKey, resultInfo(out), []byte("the result")))
	return h, payload, out
}

func resultInfo(r consign.SealedResult) seal.ResultInfo {
	return seal.ResultInfo{Queue: r.Queue, Job: r.Claim.Job, Worker: r.Worker, Claim: r.Claim.Claim,
		Input: seal.InputHash(r.Input.Header, r.Input.Payload)}
}

var queue = consign.QueueID{1}
