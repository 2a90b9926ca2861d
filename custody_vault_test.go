package consign_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
)

// A coordinator with another vault than the store's jobs have, or with none,
// leaves them alone, says so, and runs all others.
func TestOtherVaultLeavesJobsAlone(t *testing.T) {
	for name, other := range map[string]func() consign.Vault{
		"another": func() consign.Vault {
			v, err := vault.NewMemory(vault.Config{})
			check(t, err)
			return v
		},
		"none": func() consign.Vault { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { otherVault(t, other()) })
		})
	}
}

func otherVault(t *testing.T, other consign.Vault) {
	store := memdb.New()
	right, err := vault.NewMemory(vault.Config{})
	check(t, err)
	coordinator := func(v consign.Vault) (consign.SubmitterAPI, consign.Session, func()) {
		q, stop := startQueueStop(t, consign.Config{Store: store, Vault: v, Identity: seededIdentity(1)})
		sealing, err := seal.GenerateKey(seal.X25519)
		check(t, err)
		bundle, err := seal.SignBundle(seededIdentity(10), seal.Bundle{Worker: seededIdentity(10).Public().ID(), Seq: 1,
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), Keys: []seal.PublicKey{sealing.Public()}})
		check(t, err)
		caps := anyTask
		caps.Slots = 2
		reg := registration(t, q, seededIdentity(10), caps)
		reg.KeyBundle, err = bundle.MarshalJSON()
		check(t, err)
		reg.Signature, err = seededIdentity(10).Sign(consign.RegistrationMessage(q.ID(), reg.Origin, reg.Nonce, reg.KeyBundle))
		check(t, err)
		s, err := q.Register(t.Context(), reg)
		check(t, err)
		return q.Submitter("acme"), s, stop
	}
	claim := func(s consign.Session) (consign.Assignment, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return s.Claim(ctx)
	}

	sub, _, stop := coordinator(right)
	sealed, err := sub.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit})
	check(t, err)
	stop()

	sub, s, stop := coordinator(other)
	plain, err := sub.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("plain"), Custody: consign.CustodyPlain})
	check(t, err)
	if a, err := claim(s); err != nil || a.Job != plain.ID {
		t.Errorf("the worker gets job %s, %v, and not the plain one", a.Job, err)
	}
	if a, err := claim(s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a worker gets job %s, whose key is elsewhere: %v", a.Job, err)
	}
	names, err := right.Names(t.Context())
	check(t, err)
	x, err := sub.Explain(t.Context(), sealed.ID)
	if err != nil || x.State != consign.StateQueued || x.Vault != names[0] || x.Capable != 0 || x.Filtered[consign.ReasonVault] != 1 || !strings.Contains(x.Reason, names[0]) {
		t.Errorf("%+v, %v", x, err)
	}
	stop()

	sub, s, stop = coordinator(right)
	defer stop()
	if x, err := sub.Explain(t.Context(), sealed.ID); err != nil || x.Vault != "" {
		t.Errorf("%+v, %v", x, err)
	}
	if a, err := claim(s); err != nil || a.Job != sealed.ID || len(a.Wrap) == 0 {
		t.Errorf("with its vault the worker gets job %s, %v", a.Job, err)
	}
}
