package vault

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
)

// clock is set by hand.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func testConfig() Config {
	return Config{KEM: seal.X25519, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
}

// onDisk opens the vault on a disk.
func onDisk(t testing.TB, d *disk, k KEK, c Config) *Vault {
	t.Helper()
	v, err := New(t.Context(), slotsOn(t, d), k, c)
	check(t, err)
	return v
}

func slotsOn(t testing.TB, d *disk) *slots {
	t.Helper()
	s, _, err := readSlots(d, int64(len(d.image())))
	check(t, err)
	return s
}

// testJob is a sealed job, as its submitter has it.
type testJob struct {
	id           consign.JobID
	cek          seal.CEK
	header, wrap []byte
}

func newJob(t testing.TB, v *Vault, id consign.JobID) testJob {
	t.Helper()
	j := testJob{id: id, cek: seal.NewCEK()}
	result, err := seal.GenerateKey(seal.X25519)
	check(t, err)
	j.header, _, err = seal.SealPayload(seal.Header{Job: id, Kind: "TASK", Privacy: seal.Public, Custody: seal.Escrow,
		Comparator: "none", ResultKey: result.Public()}, j.cek, []byte("payload"))
	check(t, err)
	to, err := v.Key(t.Context())
	check(t, err)
	j.wrap = wrapTo(t, to, j)
	return j
}

func wrapTo(t testing.TB, to []byte, j testJob) []byte {
	t.Helper()
	key, err := seal.ParsePublicKey(to)
	check(t, err)
	wrap, err := seal.Wrap(key, seal.VaultWrap{Job: j.id, Header: seal.HeaderHash(j.header)}, j.cek)
	check(t, err)
	return wrap
}

func (j testJob) deposit(ctx context.Context, v *Vault) error {
	return v.Deposit(ctx, j.id, j.header, j.wrap)
}

// find returns the key that the vault has.
func (j testJob) find(t testing.TB, v *Vault) (seal.CEK, error) {
	t.Helper()
	s, err := v.find(t.Context(), j.id, seal.HeaderHash(j.header))
	return s.cek, err
}

// testWorker may claim jobs.
type testWorker struct {
	consign.WorkerKeys
	key *seal.PrivateKey
}

func newWorker(t testing.TB, now time.Time) testWorker {
	t.Helper()
	identity := sign.Generate()
	key, err := seal.GenerateKey(seal.X25519)
	check(t, err)
	w := testWorker{key: key}
	w.ID, w.Algorithm, w.PublicKey = identity.Public().ID(), identity.Public().Algorithm(), identity.Public().Bytes()
	bundle, err := seal.SignBundle(identity, seal.Bundle{Worker: w.ID, Seq: 1, NotBefore: now, NotAfter: now.Add(seal.MaxBundleAge),
		Keys: []seal.PublicKey{key.Public()}})
	check(t, err)
	w.KeyBundle, err = json.Marshal(bundle)
	check(t, err)
	return w
}

// release returns the key as the worker gets it.
func (j testJob) release(t testing.TB, v *Vault, w testWorker) (seal.CEK, error) {
	t.Helper()
	claim := consign.Claim{Job: j.id, Claim: consign.NewClaimID()}
	hash := seal.HeaderHash(j.header)
	wrap, err := v.Release(t.Context(), consign.KeyRelease{Claim: claim, Header: hash, Worker: w.WorkerKeys})
	if err != nil {
		return seal.CEK{}, err
	}
	return seal.Unwrap(seal.ClaimWrap{Job: j.id, Worker: w.ID, Claim: claim.Claim, Header: hash}, wrap, w.key)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
