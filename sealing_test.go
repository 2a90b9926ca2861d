package consign_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/lp"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// The key goes into the vault before there is a job: where it cannot, nothing
// is stored and nothing held.
func TestKeyGoesInBeforeTheJob(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.vault.Faults = testkit.First(1, "Deposit", testkit.Fault{Lose: errors.New("no vault")})
		})
		defer r.stop()
		r.credit(rigPrice)
		req := r.request()
		if _, err := r.sub.Submit(context.Background(), req); err == nil || r.job(req.ID) != nil {
			t.Errorf("a submit whose key was not taken in: %v, %+v", err, r.job(req.ID))
		}
		if b := r.balance(); b.Held != 0 {
			t.Errorf("the balance is %+v", b)
		}
		r.submit(req)
		if !r.vault.Holds(req.ID) {
			t.Error("the vault has no key of a job that is there")
		}
	})
}

// Nobody looks at the signature of a PUBLIC job, so it is no place to keep
// bytes of any number.
func TestPublicJobsAreNotSigned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		req := r.request()
		req.Signature = make([]byte, 64)
		if _, err := r.sub.Submit(context.Background(), req); !isField(err, "signature") || r.vault.Holds(req.ID) {
			t.Errorf("got %v", err)
		}
	})
}

// SubmitMany takes keys in side by side, and one that cannot be taken in keeps
// the others out of nothing.
func TestKeysOfManyJobs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.vault.Faults = func(c testkit.Call) testkit.Fault {
				if c.Method == "Deposit" && c.N == 3 {
					return testkit.Fault{Lose: errors.New("no vault")}
				}
				return testkit.Fault{Delay: time.Second}
			}
		})
		defer r.stop()
		reqs := make([]consign.SubmitRequest, 64)
		for i := range reqs {
			reqs[i] = r.request()
		}
		began := time.Now()
		refused := 0
		for i, o := range r.sub.SubmitMany(context.Background(), reqs) {
			if o.Err != nil {
				refused++
			} else if o.Job.ID != reqs[i].ID || !r.vault.Holds(reqs[i].ID) {
				t.Errorf("job %d is %+v", i, o.Job)
			}
		}
		if refused != 1 {
			t.Errorf("%d were refused", refused)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("64 keys took %v, a second each", took)
		}
	})
}

// A request that comes again after its job was acknowledged brings its key
// again; it does not stay.
func TestNoKeyComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &lateStore{Store: memdb.New()}
		r := newRig(t, func(r *rig) { r.config.Prices, r.store.Store = nil, store })
		defer r.stop()
		r.hire(anyTask, nil)
		req := r.request()
		r.submit(req)
		r.wait(req.ID)
		if err := r.sub.Acknowledge(context.Background(), req.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r.vault.Holds(req.ID) {
			t.Fatal("the key of an acknowledged job is there")
		}
		for _, late := range []int64{0, 1} { // the second reads the store before there was a job
			store.late.Store(late)
			r.submit(req)
			if r.vault.Holds(req.ID) {
				t.Error("the key came back")
			}
		}
	})
}

// lateStore has not heard of any job for so many reads.
type lateStore struct {
	consign.Store
	late atomic.Int64
}

func (s *lateStore) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	if s.late.Add(-1) >= 0 {
		return make([]*consign.Job, len(ids)), nil
	}
	return s.Store.Jobs(ctx, ids)
}

// A job whose key is gone fails: no worker could ever run it. Any other trouble
// with the vault gives the job back.
func TestKeyThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.vault.Faults = testkit.First(2, "Release", testkit.Fault{Lose: errors.New("no vault")})
		})
		defer r.stop()
		gone, kept := r.request(), r.request()
		r.submit(kept)
		r.hire(anyTask, nil)
		if info := r.wait(kept.ID); info.State != consign.StateCompleted {
			t.Errorf("a job that a vault released at the third try is %s: %s", info.State, info.Reason)
		}
		r.submit(gone)
		_ = r.vault.Shred(context.Background(), gone.ID)
		if info := r.wait(gone.ID); info.State != consign.StateCompleted && info.State != consign.StateFailed {
			t.Errorf("the job is %s", info.State)
		} else if info.State == consign.StateFailed && !strings.Contains(info.Reason, "key") {
			t.Errorf("it failed: %s", info.Reason)
		}
	})
}

// A sealed job reaches a worker that it is sealed to, with that worker's wrap
// and the submitter's signature, and no other one, though that waits longer.
func TestSealedJobFindsItsWorker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		others := make([]*hand, 3)
		for i := range others {
			others[i] = r.hire(anyTask, nil)
		}
		mine, claim := r.quiet(r.q)
		id := consign.WorkerID(mine.id.Public().ID())
		for _, h := range append(others[1:], mine) { // paired, but for the first
			if err := r.q.Pair(ctx, consign.Pairing{Account: "acme", Worker: h.id.Public().ID()}); err != nil {
				t.Fatal(err)
			}
		}
		req := r.request()
		req.Custody = consign.CustodySealed
		consign.SealFor(&r.config, seededIdentity(20), &req, 0, consign.WorkerID{7}, id)
		r.submit(req)
		time.Sleep(5 * time.Second)
		if x, err := r.sub.Explain(ctx, req.ID); err != nil || x.Capable != 1 || x.Filtered[consign.ReasonKey] != 2 || x.Filtered[consign.ReasonTrust] != 1 {
			t.Errorf("explained as %+v, %v", x, err)
		}
		a := claim()
		if a.Job != req.ID || !bytes.Equal(a.Wrap, req.Wraps[1].Wrap) || !bytes.Equal(a.Signature, req.Signature) || !bytes.Equal(a.Header, req.Header) {
			t.Errorf("assigned: %+v", a)
		}
		if err := mine.complete(a); err != nil {
			t.Error(err)
		}
		for _, h := range others {
			if len(h.got) > 0 {
				t.Errorf("another worker got %+v", h.got[0])
			}
		}
	})
}

// What a worker sends beside its record has to open the record's t_commit. The
// submitter gets it, and the log does not.
func TestComparisonValue(t *testing.T) {
	good := &consign.Comparison{T: [32]byte{1}, R: [32]byte{2}, Sketch: []byte("sk")}
	commit := sha256.Sum256(lp.Append(nil, []byte("consign/t-commit/v1"), good.T[:], good.R[:]))
	for name, c := range map[string]struct {
		commit [32]byte
		sent   *consign.Comparison
		ok     bool
	}{
		"one that opens":            {commit, good, true},
		"none":                      {[32]byte{}, nil, true},
		"a commitment to nothing":   {commit, nil, false},
		"one without a commitment":  {[32]byte{}, good, false},
		"another T":                 {commit, &consign.Comparison{T: [32]byte{3}, R: good.R}, false},
		"another r":                 {commit, &consign.Comparison{T: good.T, R: [32]byte{3}}, false},
		"a sketch that is too long": {commit, &consign.Comparison{T: good.T, R: good.R, Sketch: make([]byte, 257)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.config.Prices = nil })
				defer r.stop()
				h, claim := r.quiet(r.q)
				req := r.request()
				r.submit(req)
				a := claim()
				done := h.completionWith(a, []byte("sealed"), c.commit)
				done.Comparison = c.sent
				err := h.deliver(done)
				var bad *consign.ReceiptError
				switch {
				case c.ok && err != nil:
					t.Fatal(err)
				case !c.ok && (!errors.As(err, &bad) || bad.Field != "record.t_commit" || !errors.Is(err, consign.ErrBadResult)):
					t.Errorf("the answer is %v", err)
				case c.ok:
					info := r.wait(req.ID)
					if (info.Comparison == nil) != (c.sent == nil) || c.sent != nil && (info.Comparison.T != c.sent.T || info.Comparison.R != c.sent.R || !bytes.Equal(info.Comparison.Sketch, c.sent.Sketch)) {
						t.Errorf("the submitter gets %+v", info.Comparison)
					}
				}
			})
		})
	}
}

// Keys lists the vault's key and the workers that are paired and have keys.
func TestKeys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		r := newRig(t, nil)
		defer r.stop()
		k, err := r.sub.Keys(ctx)
		if err != nil || k.Queue != r.q.ID() || len(k.Vault) == 0 || len(k.Workers) != 0 {
			t.Errorf("keys: %+v, %v", k, err)
		}
		with, without := seededIdentity(30), seededIdentity(31)
		for _, bundle := range []string{"bundle 1", "bundle 2"} { // the last one counts
			reg := registration(t, r.q, with, anyTask)
			reg.KeyBundle = []byte(bundle)
			reg.Signature, _ = with.Sign(consign.RegistrationMessage(r.q.ID(), reg.Origin, reg.Nonce, reg.KeyBundle))
			if _, err := r.q.Register(ctx, reg); err != nil {
				t.Fatal(err)
			}
		}
		openSession(t, r.q, without, anyTask)
		for _, id := range []consign.WorkerID{with.Public().ID(), without.Public().ID(), {9}} {
			if err := r.q.Pair(ctx, consign.Pairing{Account: "acme", Worker: id}); err != nil {
				t.Fatal(err)
			}
		}
		if k, err = r.sub.Keys(ctx); err != nil || len(k.Workers) != 1 || k.Workers[0].ID != consign.WorkerID(with.Public().ID()) || string(k.Workers[0].KeyBundle) != "bundle 2" {
			t.Errorf("keys: %+v, %v", k, err)
		}
		if k, err = r.q.Submitter("other").Keys(ctx); err != nil || len(k.Workers) != 0 {
			t.Errorf("another account's keys: %+v, %v", k, err)
		}
	})
}

// Where there is no credit for a job the vault is not asked to keep its key.
func TestNoKeyWithoutCredit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.stop()
		req := r.request()
		check(t, r.vault.Shred(t.Context(), req.ID)) // which the rig had put there
		if _, err := r.sub.Submit(t.Context(), req); !errors.Is(err, consign.ErrCredit) {
			t.Errorf("without credit: %v", err)
		}
		if r.vault.Holds(req.ID) {
			t.Error("the vault keeps a key of a job that was refused")
		}
		for _, amount := range []consign.Price{1e18 + 1, -1e18 - 1} {
			if err := r.q.AddCredit(t.Context(), "acme", amount, "1"); !isField(err, "credit") {
				t.Errorf("adding %s: %v", amount, err)
			}
		}
		r.credit(rigPrice)
		r.submit(req)
		if !r.vault.Holds(req.ID) {
			t.Error("the vault has no key of a job that is there")
		}
		if info, err := r.sub.Submit(t.Context(), req); err != nil || info.ID != req.ID {
			t.Errorf("once more, with what it costs held: %v", err)
		}
	})
}
