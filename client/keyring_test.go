package client_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/longpoll"
)

func openKeyring(t *testing.T, dir string) *client.Keyring {
	t.Helper()
	k, err := client.OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func vaultKey(t *testing.T) seal.PublicKey {
	t.Helper()
	key, err := seal.GenerateKey(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

func TestPins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "keyring")
	for name, k := range map[string]*client.Keyring{"memory": client.NewKeyring(), "folder": openKeyring(t, dir)} {
		fp, other := fingerprint(workerKey), fingerprint(mallory)
		for range 2 {
			if err := errors.Join(k.Pin(fp), k.Pin(other)); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := k.Unpin(other); err != nil {
				t.Error(err)
			}
		}
		if pins, err := k.Pins(); err != nil || len(pins) != 1 || pins[0] != fp {
			t.Errorf("%s: %v, %v", name, pins, err)
		}
		for _, bad := range []string{"", "x", strings.ToLower(fp), fp + "A", "../../../../../../../../etc/passw"} {
			if f, ok := errors.AsType[*consign.FieldError](k.Pin(bad)); !ok || f.Field != "fingerprint" {
				t.Errorf("%s: %q was pinned", name, bad)
			}
			if err := k.Unpin(bad); err != nil {
				t.Error(err)
			}
		}
	}
	if pins, err := openKeyring(t, dir).Pins(); err != nil || len(pins) != 1 {
		t.Errorf("opened again: %v, %v", pins, err)
	}
}

// All that race get one identity, and one vault.
func TestKeyringsRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keyring")
	memory := client.NewKeyring()
	for name, open := range map[string]func() *client.Keyring{
		"folder": func() *client.Keyring { return openKeyring(t, dir) },
		"memory": func() *client.Keyring { return memory },
	} {
		var mu sync.Mutex
		ids := make(map[string]bool)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				id, err := open().Identity()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[id.Public().String()] = true
			})
		}
		all.Wait()
		if len(ids) != 1 {
			t.Errorf("%s: %d identities", name, len(ids))
		}
	}
}

// Nothing in the folder, nor the folder, is for others, and what is there for
// others is refused.
func TestKeyringIsItsOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing here")
	}
	dir := filepath.Join(t.TempDir(), "keyring")
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		k := openKeyring(t, dir)
		if _, err := k.Identity(); err != nil {
			t.Fatal(err)
		}
		if err := k.Pin(fingerprint(workerKey)); err != nil {
			t.Fatal(err)
		}
		c := open(t, q, func(c *client.Config) { c.Keyring = k })
		job, err := c.Submit(t.Context(), secret("job"))
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
			if e.IsDir() {
				return nil
			}
			files++
			data, err := os.ReadFile(path)
			if strings.Contains(string(data), "secret job") {
				t.Errorf("%s holds plaintext", path)
			}
			return err
		})
		if err != nil || files != 4 {
			t.Errorf("%d files: %v", files, err)
		}
		path := filepath.Join(dir, "jobs", job.ID.String())
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Collect(t.Context(), job.ID); !errors.Is(err, client.ErrKeyring) || !strings.Contains(err.Error(), "chmod 0600") {
			t.Errorf("an open file: %v", err)
		}
		if err := os.Chmod(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if _, err := client.OpenKeyring(dir); !errors.Is(err, client.ErrKeyring) || !strings.Contains(err.Error(), "chmod 0700") {
			t.Errorf("an open folder: %v", err)
		}
		if _, err := client.OpenKeyring(path); err == nil {
			t.Error("a file was opened as a folder")
		}
	})
}

// A file that does not hold what it should is refused, and left as it is.
func TestBrokenKeyring(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keyring")
	k := openKeyring(t, dir)
	id := consign.NewJobID()
	path := filepath.Join(dir, "jobs", id.String())
	for _, data := range []string{"", "x", "{}", "null", `{"Format":"consign/keyring-job/v2"}`,
		fmt.Sprintf(`{"Format":"consign/keyring-job/v2","Input":"%s=","CEK":"%s="}`, strings.Repeat("A", 43), strings.Repeat("AQEB", 10)+"AQE"),
		`{"Format":"consign/keyring-job/v1","Input":"AAAA"}`, `{"Format":"consign/keyring-job/v1"}` + "\nx",
		fmt.Sprintf(`{"Format":"consign/keyring-job/v1","Input":"%s="}`, strings.Repeat("A", 43))} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			c := open(t, q, func(c *client.Config) { c.Keyring, c.Patience = k, -1 })
			r := secret("job")
			r.ID = id
			if _, err := c.Submit(t.Context(), r); !errors.Is(err, client.ErrKeyring) {
				t.Errorf("%.40q: Submit: %v", data, err)
			}
			if _, err := c.Collect(t.Context(), id); err == nil {
				t.Errorf("%.40q: Collect succeeded", data)
			}
			for _, err := range c.Stream(t.Context(), id) {
				if err == nil {
					t.Errorf("%.40q: Stream goes on", data)
				}
			}
		})
		if after, err := os.ReadFile(path); err != nil || string(after) != data {
			t.Errorf("%.40q was changed: %v", data, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "jobs", "1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Jobs(); !errors.Is(err, client.ErrKeyring) {
		t.Errorf("Jobs: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity", "key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Identity(); err == nil {
		t.Error("a broken identity")
	}
}

// The first key of a vault is trusted, another only after PinVault.
func TestVaultsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		answer(t, q, shout)
		k := openKeyring(t, filepath.Join(t.TempDir(), "keyring"))
		run := func() error {
			c := open(t, q, func(c *client.Config) { c.Keyring = k })
			_, err := c.Run(t.Context(), secret("job"))
			return err
		}
		queue := consign.QueueIDOf(queueKey.Public())
		if err := k.PinVault(queue, vaultKey(t)); err != nil {
			t.Fatal(err)
		}
		if err := run(); !errors.Is(err, client.ErrVaultChanged) || !strings.Contains(err.Error(), q.Vault.Public().Fingerprint()) {
			t.Errorf("another key than was pinned: %v", err)
		}
		if err := k.PinVault(queue, q.Vault.Public()); err != nil {
			t.Fatal(err)
		}
		if err := run(); err != nil {
			t.Error(err)
		}
		// A client asks again after a while, so that it notices.
		c := open(t, q, func(c *client.Config) { c.Keyring = k })
		if _, err := c.Run(t.Context(), secret("job")); err != nil {
			t.Error(err)
		}
		var err error
		if q.Vault, err = seal.GenerateKey(seal.X25519); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := c.Run(t.Context(), secret("job")); !errors.Is(err, client.ErrVaultChanged) {
			t.Errorf("another key after a while: %v", err)
		}
		if err := k.PinVault(queue, seal.PublicKey{}); !errors.Is(err, seal.ErrKey) {
			t.Errorf("no key at all was pinned: %v", err)
		}
	})
}

// To confirm a pairing is to pin the worker, however a person types; a refused
// one pins nobody.
func TestConfirmingPins(t *testing.T) {
	typed := " " + strings.ToLower(fingerprint(workerKey)) + " "
	for _, refusal := range []error{nil, consign.ErrNotFound} {
		k := client.NewKeyring()
		c := open(t, pairs{testkit.NewFakeQueue(), refusal}, func(c *client.Config) { c.Keyring = k })
		if _, err := c.ConfirmPairing(t.Context(), workerKey.Public().ID(), typed); !errors.Is(err, refusal) {
			t.Error(err)
		}
		if pins, err := k.Pins(); err != nil || (len(pins) == 1 && pins[0] == fingerprint(workerKey)) != (refusal == nil) {
			t.Errorf("after %v: %v, %v", refusal, pins, err)
		}
		check(t, c.RevokePairing(t.Context(), workerKey.Public().ID()))
		if pins, err := k.Pins(); err != nil || len(pins) != 0 {
			t.Errorf("after it was revoked: %v, %v", pins, err)
		}
	}
}

type pairs struct {
	consign.SubmitterAPI
	refusal error
}

func (p pairs) ConfirmPairing(context.Context, consign.WorkerID, string) (consign.Pairing, error) {
	return consign.Pairing{}, p.refusal
}

// A coordinator that puts a key of its own in the worker's place while it relays
// the pairing gets no sealed job: what is pinned is the fingerprint that the
// worker's owner told, whatever the coordinator answers.
func TestPairingWithASwappedKey(t *testing.T) {
	evil, err := seal.GenerateKey(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	data := bundle(t, mallory, seal.Bundle{Worker: mallory.Public().ID(), Seq: 1, Keys: []seal.PublicKey{evil.Public()}})
	inPlace := consign.WorkerKeys{ID: mallory.Public().ID(), Algorithm: sign.Ed25519, PublicKey: mallory.Public().Bytes(), KeyBundle: data}
	queue := &recorder{SubmitterAPI: swaps{otherKeys{testkit.NewFakeQueue(), func(k *consign.Keys) { k.Workers = []consign.WorkerKeys{inPlace} }}}}
	handler, err := longpoll.NewHandler(longpoll.Config{Submitters: func(string) consign.SubmitterAPI { return queue }})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	overHTTP, _, err := longpoll.Dial(longpoll.DialConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	for where, api := range map[string]consign.SubmitterAPI{"in process": queue, "over HTTP": overHTTP} {
		keyring := client.NewKeyring()
		c := open(t, api, func(c *client.Config) { c.Keyring, c.Identity, c.Patience = keyring, alice, -1 })
		if _, err := c.NewPairing(t.Context(), alice.Public().Bytes()); err != nil {
			t.Fatal(err)
		}
		claimed, err := c.Pairings(t.Context())
		if err != nil || len(claimed) != 1 {
			t.Fatalf("%s: %v, %v", where, claimed, err)
		}
		if _, err := c.ConfirmPairing(t.Context(), claimed[0].Worker, fingerprint(workerKey)); err != nil {
			t.Fatal(err)
		}
		if pins, err := keyring.Pins(); err != nil || len(pins) != 1 || pins[0] != fingerprint(workerKey) {
			t.Errorf("%s: pinned %v, %v", where, pins, err)
		}
		if _, err := c.Run(t.Context(), private("job")); !errors.Is(err, client.ErrNotPinned) || !strings.Contains(err.Error(), fingerprint(mallory)) {
			t.Errorf("%s: %v", where, err)
		}
		if jobs, err := keyring.Jobs(); len(queue.sent) != 0 || len(jobs) != 0 || err != nil {
			t.Errorf("%s: %d jobs were sent, %d kept: %v", where, len(queue.sent), len(jobs), err)
		}
	}
}

// swaps is a queue in whose pairings mallory's key is where the worker's was. It
// takes no job: what is sent to it shows in what records it.
type swaps struct{ consign.SubmitterAPI }

func (s swaps) pairing(pending bool) consign.Pairing {
	return consign.Pairing{Account: "acme", Worker: mallory.Public().ID(), Pending: pending, Submitter: alice.Public().Bytes(),
		WorkerFingerprint: fingerprint(mallory), SubmitterFingerprint: fingerprint(alice)}
}

func (s swaps) NewPairing(context.Context, []byte) (consign.PairingCode, error) {
	return consign.PairingCode{Code: "BCDFG-HJKLM", ExpiresAt: time.Now().Add(time.Minute)}, nil
}

func (s swaps) Pairings(context.Context) ([]consign.Pairing, error) {
	return []consign.Pairing{s.pairing(true)}, nil
}

func (s swaps) ConfirmPairing(context.Context, consign.WorkerID, string) (consign.Pairing, error) {
	return s.pairing(false), nil
}

func (s swaps) Submit(context.Context, consign.SubmitRequest) (consign.JobInfo, error) {
	return consign.JobInfo{}, consign.ErrCredit
}
