package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// The vault of a FakeQueue, and what else it does for sealed jobs.

// deposit takes the content key of a job in escrow out of its wrap.
func (q *FakeQueue) deposit(r *consign.SubmitRequest) error {
	if r.Custody != consign.CustodyEscrow {
		return nil
	}
	if len(r.Wraps) != 1 || r.Wraps[0].Worker != (consign.WorkerID{}) {
		return &consign.FieldError{Field: "wraps", Problem: "are not one to the vault", Remedy: "wrap the key to Keys.Vault"}
	}
	cek, err := seal.Unwrap(seal.VaultWrap{Job: r.ID, Header: seal.HeaderHash(r.Header)}, r.Wraps[0].Wrap, q.Vault)
	if err != nil {
		return &consign.FieldError{Field: "wraps", Problem: "do not open: " + err.Error(), Remedy: "wrap the key to Keys.Vault"}
	}
	q.ceks[r.ID] = cek
	return nil
}

// mayRun reports whether the worker can get the job's key.
func (s *fakeSession) mayRun(j *fakeJob) bool {
	return j.req.Custody != consign.CustodySealed || slices.ContainsFunc(j.req.Wraps, s.mine)
}

func (s *fakeSession) mine(w consign.Wrap) bool { return w.Worker == s.key.ID() }

// wrapFor returns the job's key, wrapped to the worker that has just claimed it.
func (s *fakeSession) wrapFor(j *fakeJob) ([]byte, error) {
	switch j.req.Custody {
	case consign.CustodySealed:
		return j.req.Wraps[slices.IndexFunc(j.req.Wraps, s.mine)].Wrap, nil
	case consign.CustodyEscrow:
	default:
		return nil, nil
	}
	var e sign.Envelope
	if err := json.Unmarshal(s.keys.KeyBundle, &e); err != nil {
		return nil, err
	}
	bundle, err := seal.VerifyBundle(e, s.key, time.Now(), 0)
	if err != nil {
		return nil, err
	}
	to := seal.ClaimWrap{Job: j.info.ID, Worker: s.key.ID(), Claim: j.info.Claim, Header: seal.HeaderHash(j.req.Header)}
	return seal.Wrap(bundle.Keys[0], to, s.q.ceks[j.info.ID])
}

func (j *fakeJob) chars() uint32 {
	if j.req.Custody == consign.CustodyPlain {
		return uint32(len(j.req.Payload))
	}
	return j.req.Chars
}

// checkComparison checks what came beside a record against it.
func checkComparison(c *consign.Comparison, tCommit [32]byte) error {
	var none [32]byte
	switch {
	case (c == nil) != (tCommit == none):
		return fmt.Errorf("%w: t_commit and the comparison value do not come together", consign.ErrBadResult)
	case c == nil:
		return nil
	}
	if err := (seal.Comparison{T: c.T, R: c.R, Sketch: c.Sketch}).Verify(tCommit); err != nil {
		return fmt.Errorf("%w: %w", consign.ErrBadResult, err)
	}
	return nil
}

// Keys implements consign.SubmitterAPI: every worker is paired with the
// account.
func (q *FakeQueue) Keys(ctx context.Context) (consign.Keys, error) {
	if err := q.enter(ctx); err != nil {
		return consign.Keys{}, err
	}
	defer q.mu.Unlock()
	keys := consign.Keys{Queue: consign.QueueIDOf(q.Identity.Public()), Vault: q.Vault.Public().Bytes()}
	for _, w := range q.workers {
		keys.Workers = append(keys.Workers, w)
	}
	slices.SortFunc(keys.Workers, func(a, b consign.WorkerKeys) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return keys, nil
}

// Stored returns every byte that the queue has of jobs, their keys aside: what
// a leak of its store, logs and failure texts would give away.
func (q *FakeQueue) Stored() []byte {
	var b bytes.Buffer
	q.alter(func() {
		for _, j := range q.jobs {
			r := j.req
			r.Payload, r.Header, r.ClientKey, r.Signature, r.Wraps = nil, nil, nil, nil, nil
			fmt.Fprintf(&b, "%+v\n", r)
			for _, raw := range [][]byte{j.req.Payload, j.req.Header, j.info.Result, j.record} {
				b.Write(raw)
			}
			var record sign.Envelope
			if json.Unmarshal(j.record, &record) == nil {
				b.Write(record.Payload)
			}
			fmt.Fprintf(&b, "%s\n", j.info.Reason)
			for _, e := range j.log {
				fmt.Fprintf(&b, "%s %s\n", e.Reason, e.Data)
			}
		}
		for _, r := range q.returns {
			switch {
			case r.Complete != nil:
				fmt.Fprintf(&b, "%s\n%v\n", r.Complete.Result, r.Complete.Comparison)
			case r.Fail != nil:
				fmt.Fprintf(&b, "%s\n", r.Fail.Reason)
			case r.Release != nil:
				fmt.Fprintf(&b, "%s\n", r.Release.Reason)
			}
		}
	})
	return b.Bytes()
}
