package conformance

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/consignq/consign/crypto/seal"
	"golang.org/x/crypto/chacha20poly1305"
)

// wycheproofCase is what the tests below use of a Wycheproof case, whatever it
// is about.
type wycheproofCase struct {
	ID      int      `json:"tcId"`
	Comment string   `json:"comment"`
	Flags   []string `json:"flags"`
	Result  string   `json:"result"`

	Public, Private, Shared string // X25519

	Key, IV, AAD, Msg, CT, Tag string // AEAD; OAEP has Msg, CT and Label
	Label                      string

	IKM, Salt, Info, OKM string // HKDF
	Size                 int

	Seed, EK, DK, C, K, M string // ML-KEM
}

// eachCase runs check for all cases of a file and reports how many of each
// result there were. PKCS#8 is the group's RSA key.
func eachCase(t *testing.T, name string, check func(t *testing.T, tc wycheproofCase, pkcs8 []byte)) {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		NumberOfTests int `json:"numberOfTests"`
		TestGroups    []struct {
			PrivateKeyPkcs8 string           `json:"privateKeyPkcs8"`
			Tests           []wycheproofCase `json:"tests"`
		} `json:"testGroups"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, g := range f.TestGroups {
		for _, tc := range g.Tests {
			ran++
			check(t, tc, unhex(t, g.PrivateKeyPkcs8))
		}
	}
	if ran == 0 || ran != f.NumberOfTests {
		t.Errorf("%s: ran %d of %d", name, ran, f.NumberOfTests)
	}
}

// Of Wycheproof's public keys, seal takes those in canonical form that agree on
// a secret, and none else: "acceptable" ones are the twist's, which are taken,
// and the weak and ambiguous ones, which are not.
func TestWycheproofX25519(t *testing.T) {
	refused := 0
	eachCase(t, "x25519_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		public := unhex(t, tc.Public)
		weak := slices.Contains(tc.Flags, "ZeroSharedSecret") || slices.Contains(tc.Flags, "LowOrderPublic")
		nonCanonical := slices.Contains(tc.Flags, "NonCanonicalPublic")
		key, err := seal.ParsePublicKey(append([]byte{0x00, 0x20}, public...))
		if wrong := err == nil; wrong == (weak || nonCanonical) {
			t.Errorf("%d %s %v: parsed: %v", tc.ID, tc.Comment, tc.Flags, err)
		}
		if err != nil {
			refused++
			if !errors.Is(err, seal.ErrKey) {
				t.Errorf("%d: %v", tc.ID, err)
			}
		} else if _, err := seal.Wrap(key, seal.VaultWrap{}, seal.NewCEK()); err != nil {
			t.Errorf("%d: a key that was parsed cannot be wrapped to: %v", tc.ID, err)
		}
		if weak {
			return
		}
		private, err := ecdh.X25519().NewPrivateKey(unhex(t, tc.Private))
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ecdh.X25519().NewPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		if shared, err := private.ECDH(peer); err != nil || !bytes.Equal(shared, unhex(t, tc.Shared)) {
			t.Errorf("%d %s: %x, %v", tc.ID, tc.Comment, shared, err)
		}
	})
	if refused == 0 {
		t.Error("no key was refused")
	}
}

func TestWycheproofXChaCha20Poly1305(t *testing.T) {
	eachCase(t, "xchacha20_poly1305_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		nonce, aad, msg, ct := unhex(t, tc.IV), unhex(t, tc.AAD), unhex(t, tc.Msg), append(unhex(t, tc.CT), unhex(t, tc.Tag)...)
		if len(nonce) != chacha20poly1305.NonceSizeX {
			if tc.Result == "valid" {
				t.Errorf("%d: a nonce of %d bytes", tc.ID, len(nonce))
			}
			return // a box has room for 24 and no other
		}
		aead, err := chacha20poly1305.NewX(unhex(t, tc.Key))
		if err != nil {
			t.Fatal(err)
		}
		got, err := aead.Open(nil, nonce, ct, aad)
		if (err == nil) != (tc.Result == "valid") || err == nil && !bytes.Equal(got, msg) {
			t.Errorf("%d %s: %x, %v", tc.ID, tc.Comment, got, err)
		}
		if tc.Result == "valid" && !bytes.Equal(aead.Seal(nil, nonce, msg, aad), ct) {
			t.Errorf("%d %s: seals otherwise", tc.ID, tc.Comment)
		}
	})
}

func TestWycheproofHKDF(t *testing.T) {
	eachCase(t, "hkdf_sha256_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		okm, err := hkdf.Key(sha256.New, unhex(t, tc.IKM), unhex(t, tc.Salt), string(unhex(t, tc.Info)), tc.Size)
		if (err == nil) != (tc.Result == "valid") || err == nil && !bytes.Equal(okm, unhex(t, tc.OKM)) {
			t.Errorf("%d %s: %x, %v", tc.ID, tc.Comment, okm, err)
		}
	})
}

// What comparison values, draws and HKDF are made with. A Wycheproof tag may be
// cut; ours never is.
func TestWycheproofHMAC(t *testing.T) {
	eachCase(t, "hmac_sha256_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		h := hmac.New(sha256.New, unhex(t, tc.Key))
		_, _ = h.Write(unhex(t, tc.Msg))
		want := unhex(t, tc.Tag)
		if got := h.Sum(nil)[:len(want)]; hmac.Equal(got, want) != (tc.Result == "valid") {
			t.Errorf("%d %s: %x", tc.ID, tc.Comment, got)
		}
	})
}

// OAEP with SHA-256 twice, as wraps use it; and keys of these sizes are taken,
// those of 2,048 bits not.
func TestWycheproofOAEP(t *testing.T) {
	for name, taken := range map[string]bool{
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": false,
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": true,
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": true,
	} {
		seen := map[string]bool{}
		eachCase(t, name, func(t *testing.T, tc wycheproofCase, pkcs8 []byte) {
			if !seen[string(pkcs8)] {
				seen[string(pkcs8)] = true
				if _, err := seal.ParsePrivateKey(append([]byte{0xff, 0x01}, pkcs8...)); (err == nil) != taken {
					t.Errorf("%s: its key: %v", name, err)
				}
			}
			key, err := x509.ParsePKCS8PrivateKey(pkcs8)
			if err != nil {
				t.Fatal(err)
			}
			msg, err := rsa.DecryptOAEP(sha256.New(), nil, key.(*rsa.PrivateKey), unhex(t, tc.CT), unhex(t, tc.Label))
			if (err == nil) != (tc.Result == "valid") || err == nil && !bytes.Equal(msg, unhex(t, tc.Msg)) {
				t.Errorf("%s %d %s: %x, %v", name, tc.ID, tc.Comment, msg, err)
			}
		})
	}
}

// The ML-KEM half of a hybrid key: encapsulation keys that the standard
// refuses are refused as keys, before anything is wrapped to them.
func TestWycheproofMLKEM768(t *testing.T) {
	x25519 := append([]byte{9}, make([]byte, 31)...)
	outcome := map[bool]int{}
	parse := func(t *testing.T, id int, ek []byte, valid bool) {
		_, err := seal.ParsePublicKey(slices.Concat([]byte{0x64, 0x7a}, ek, x25519))
		if (err == nil) != valid || err != nil && !errors.Is(err, seal.ErrKey) {
			t.Errorf("%d: the key: %v, want valid %v", id, err, valid)
		}
		outcome[valid]++
	}
	eachCase(t, "mlkem_768_encaps_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		parse(t, tc.ID, unhex(t, tc.EK), tc.Result == "valid")
	})
	eachCase(t, "mlkem_768_keygen_seed_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		key, err := mlkem.NewDecapsulationKey768(unhex(t, tc.Seed))
		if err != nil || !bytes.Equal(key.EncapsulationKey().Bytes(), unhex(t, tc.EK)) {
			t.Errorf("%d: another key, %v", tc.ID, err)
		}
		parse(t, tc.ID, unhex(t, tc.EK), true)
	})
	eachCase(t, "mlkem_768_test.json", func(t *testing.T, tc wycheproofCase, _ []byte) {
		key, err := mlkem.NewDecapsulationKey768(unhex(t, tc.Seed))
		if err != nil {
			if tc.Result == "valid" {
				t.Errorf("%d: %v", tc.ID, err)
			}
			return
		}
		k, err := key.Decapsulate(unhex(t, tc.C))
		if (err == nil) != (tc.Result == "valid") || err == nil && !bytes.Equal(k, unhex(t, tc.K)) {
			t.Errorf("%d %s: %x, %v", tc.ID, tc.Comment, k, err)
		}
	})
	if outcome[true] == 0 || outcome[false] == 0 {
		t.Errorf("keys: %v", outcome)
	}
}

const secondSealReader = "../../crypto/seal/testdata/vectors/verify.mjs"

// A reader in another language agrees with every vector.
func TestSecondSealReader(t *testing.T) {
	checkSecondReader(t, secondSealReader)
}

// The reader's own ML-KEM is Wycheproof's too, ciphertexts that were tampered
// with among it, which decapsulate to another secret without a word.
func TestSecondReaderMLKEM(t *testing.T) {
	type vector struct{ Seed, C, K string }
	var vectors []vector
	eachCase(t, "mlkem_768_test.json", func(_ *testing.T, tc wycheproofCase, _ []byte) {
		if tc.Result == "valid" {
			vectors = append(vectors, vector{tc.Seed, tc.C, tc.K})
		}
	})
	data, err := json.Marshal(vectors)
	if err != nil || len(vectors) == 0 {
		t.Fatal(len(vectors), err)
	}
	module, err := filepath.Abs(filepath.Join(filepath.Dir(secondSealReader), "mlkem.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command(findNode(t), "--input-type=module", "--eval", `
		import { readFileSync } from "node:fs";
		const { keyPair, decapsulate } = await import(process.env.MODULE);
		const hex = (s) => Buffer.from(s, "hex");
		for (const v of JSON.parse(readFileSync(0))) console.log(decapsulate(keyPair(hex(v.Seed)), hex(v.C)).toString("hex"));`)
	node.Env = append(os.Environ(), "MODULE="+module)
	node.Stdin = bytes.NewReader(data)
	out, err := node.Output()
	if err != nil {
		t.Fatal(err)
	}
	secrets := strings.Fields(string(out))
	if len(secrets) != len(vectors) {
		t.Fatalf("%d secrets of %d", len(secrets), len(vectors))
	}
	for i, v := range vectors {
		if secrets[i] != v.K {
			t.Errorf("%d: %s, want %s", i, secrets[i], v.K)
		}
	}
	t.Logf("%d secrets", len(vectors))
}

// And it would say so if it did not.
func TestSecondSealReaderCanFail(t *testing.T) {
	node := findNode(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(secondSealReader))); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ file, old, new string }{
		{"key.json", `"fingerprint": "`, `"fingerprint": "A`},
		{"key.json", `"public": "647a`, `"public": "647b`},
		{"fingerprint.json", `"fingerprint": "`, `"fingerprint": "A`},
		{"header.json", `"expect": "suite"`, `"expect": "header"`},
		{"box.json", `"expect": "padding"`, `"expect": "box"`},
		{"box.json", `"box_sha256": "`, `"box_sha256": "00`},
		{"box.json", "\"chunks\": [\n      1,", "\"chunks\": [\n      0,\n      1,"},
		{"payload.json", `"expect": "commit"`, `"expect": "box"`},
		{"payload.json", `"k_compare": "`, `"k_compare": "00`},
		{"wrap.json", `"expect": "key_unknown"`, `"expect": "success"`},
		{"wrap.json", `"cek": "`, `"cek": "00`},
		{"result.json", `"result": "`, `"result": "00`},
		{"result.json", `"result_key": "`, `"result_key": "00`},
		{"part.json", `"expect": "part_gap"`, `"expect": "part_replayed"`},
		{"compare.json", `"expect": "t_commit"`, `"expect": "success"`},
		{"bundle.json", `"expect": "bundle_time"`, `"expect": "success"`},
	} {
		path := filepath.Join(dir, change.file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Replace(good, []byte(change.old), []byte(change.new), 1)
		if bytes.Equal(good, bad) {
			t.Fatalf("%s holds no %s", change.file, change.old)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(node, filepath.Join(dir, "verify.mjs")).CombinedOutput(); err == nil {
			t.Errorf("%s: passes\n%s", change.file, out)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
