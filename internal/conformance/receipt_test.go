package conformance

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"filippo.io/edwards25519"
	"github.com/c2sp/wycheproof"
	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// wycheproofFile is what the tests below use of a Wycheproof file of
// signatures.
type wycheproofFile struct {
	NumberOfTests int `json:"numberOfTests"`
	TestGroups    []struct {
		PublicKey struct {
			PK string `json:"pk"` // ed25519
		} `json:"publicKey"`
		PublicKeyDer string `json:"publicKeyDer"`
		Tests        []struct {
			ID      int    `json:"tcId"`
			Comment string `json:"comment"`
			Msg     string `json:"msg"`
			Sig     string `json:"sig"`
			Result  string `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

func TestWycheproof(t *testing.T) {
	for _, file := range []struct{ name, algorithm string }{
		{"ed25519_test.json", sign.Ed25519},
		{"rsa_pss_3072_sha256_mgf1_32_test.json", sign.RSAPSS},
		{"rsa_pss_4096_sha256_mgf1_32_test.json", sign.RSAPSS},
	} {
		t.Run(file.name, func(t *testing.T) {
			f := readWycheproof(t, file.name)
			ran := map[string]int{}
			for _, group := range f.TestGroups {
				b := unhex(t, group.PublicKeyDer)
				if file.algorithm == sign.Ed25519 {
					b = unhex(t, group.PublicKey.PK)
				}
				key, err := sign.ParsePublicKey(file.algorithm, b)
				if err != nil {
					t.Fatal(err)
				}
				for _, tc := range group.Tests {
					ran[tc.Result]++
					err := key.Verify(unhex(t, tc.Msg), unhex(t, tc.Sig))
					if (err == nil) != (tc.Result == "valid") {
						t.Errorf("%d %s: %v, want %s", tc.ID, tc.Comment, err, tc.Result)
					}
				}
			}
			if n := ran["valid"] + ran["invalid"]; n != f.NumberOfTests || ran["valid"] == 0 || ran["invalid"] == 0 {
				t.Errorf("ran %v of %d", ran, f.NumberOfTests)
			}
		})
	}
}

// Keys that are too small, and keys whose SubjectPublicKeyInfo names RSASSA-PSS
// instead of plain RSA, are refused before any signature is looked at.
func TestWycheproofRefusedKeys(t *testing.T) {
	for _, name := range []string{"rsa_pss_2048_sha256_mgf1_32_test.json", "rsa_pss_3072_sha256_mgf1_32_params_test.json"} {
		for _, group := range readWycheproof(t, name).TestGroups {
			if _, err := sign.ParsePublicKey(sign.RSAPSS, unhex(t, group.PublicKeyDer)); !errors.Is(err, sign.ErrKey) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func readWycheproof(t *testing.T, name string) (f wycheproofFile) {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.TestGroups) == 0 {
		t.Fatal(name, " is empty")
	}
	return f
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ParsePublicKey accepts the canonical encodings of points of the curve, less
// the eight of small order, as filippo.io/edwards25519 sees them.
func TestEd25519Points(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	identity := edwards25519.NewIdentityPoint()
	accepted := 0
	check := func(b []byte) {
		p, err := new(edwards25519.Point).SetBytes(b)
		want := err == nil && bytes.Equal(p.Bytes(), b) && new(edwards25519.Point).MultByCofactor(p).Equal(identity) == 0
		if _, err := sign.ParsePublicKey(sign.Ed25519, b); (err == nil) != want {
			t.Errorf("%x: %v, want accepted %v", b, err, want)
		} else if want {
			accepted++
		}
	}
	for range 2000 {
		b := make([]byte, 32)
		_, _ = rng.Read(b)
		check(b)
	}
	for i := range 256 { // around 0 and around p, with both signs
		for _, top := range []byte{0, 0x80} {
			low := make([]byte, 32)
			low[0], low[31] = byte(i), top
			check(low)
			high := bytes.Repeat([]byte{0xff}, 32)
			high[0], high[31] = byte(i), 0x7f|top
			check(high)
		}
	}
	if accepted < 900 {
		t.Errorf("only %d points accepted", accepted)
	}
}

// oracleVerifier is an ed25519 key as the DSSE library wants it.
type oracleVerifier struct{ key ed25519.PublicKey }

func (v oracleVerifier) KeyID() (string, error)   { return hex.EncodeToString(v.key), nil }
func (v oracleVerifier) Public() crypto.PublicKey { return v.key }
func (v oracleVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(v.key, data, sig) {
		return errors.New("bad signature")
	}
	return nil
}

type oracleSigner struct {
	oracleVerifier
	private ed25519.PrivateKey
}

func (s oracleSigner) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.private, data), nil
}

// The DSSE authors' library verifies our envelopes, and we verify its.
func TestDSSE(t *testing.T) {
	seed := [32]byte{7}
	id := sign.FromEd25519Seed(seed)
	private := ed25519.NewKeyFromSeed(seed[:])
	signer := oracleSigner{oracleVerifier{private.Public().(ed25519.PublicKey)}, private}
	verifier, err := dsse.NewEnvelopeVerifier(signer)
	if err != nil {
		t.Fatal(err)
	}
	envelopeSigner, err := dsse.NewEnvelopeSigner(signer)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		payloadType string
		payload     []byte
	}{
		{consign.RecordType, []byte(`{"a":1}`)}, {"t", []byte{0}}, {"é", []byte("\xff\x00 4 x")}, {"a 1", bytes.Repeat([]byte("x"), 10000)},
	} {
		if got, want := sign.PAE(tc.payloadType, tc.payload), dsse.PAE(tc.payloadType, tc.payload); !bytes.Equal(got, want) {
			t.Errorf("PAE = %q, want %q", got, want)
		}
		ours, err := sign.SignEnvelope(id, tc.payloadType, tc.payload)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		var theirs dsse.Envelope
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatal(err)
		}
		if _, payload, err := verifier.VerifyAndDecode(t.Context(), &theirs); err != nil || !bytes.Equal(payload, tc.payload) {
			t.Errorf("they read ours as %q, %v", payload, err)
		}

		signed, err := envelopeSigner.SignPayload(t.Context(), tc.payloadType, tc.payload)
		if err != nil {
			t.Fatal(err)
		}
		if data, err = json.Marshal(signed); err != nil {
			t.Fatal(err)
		}
		var back sign.Envelope
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if payload, err := back.Verify(tc.payloadType, id.Public()); err != nil || !bytes.Equal(payload, tc.payload) {
			t.Errorf("we read theirs as %q, %v", payload, err)
		}
	}
}

// The body of a record is what an independent RFC 8785 canonicalizer makes of
// it, whatever its texts and numbers are.
func TestCanonicalJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	id := sign.FromEd25519Seed([32]byte{7})
	alphabet := []rune("aZ09 \"\\/\b\f\n\r\t\x00\x01\x1f\x7f<>&'é€\u2028\u2029\ufeff\ufffd\uffff\U0001f602\U0010ffff")
	text := func() string {
		s := make([]rune, rng.IntN(20))
		for i := range s {
			s[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(s)
	}
	number := func() int64 { return rng.Int64N(1<<53) >> rng.IntN(53) }
	for range 2000 {
		r := consign.Record{Kind: "k" + text(), Comparator: "c" + text(), Model: text(), ModelRequested: text(), ModelDigest: text(),
			Engine: text(), Class: text(), Epoch: number(), Seq: max(1, number()), ExitStatus: -number(), FinishedAt: number(),
			ResourceUse: consign.ResourceUse{CPUMicros: number(), OutputTokens: number()}}
		e, err := consign.SignRecord(id, r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jcs.Transform(e.Payload)
		if err != nil || !bytes.Equal(e.Payload, want) {
			t.Fatalf("the body is\n%s\nwant\n%s, %v", e.Payload, want, err)
		}
		checks := []string{text(), text(), text()}
		slices.Sort(checks)
		e, err = consign.SignAcceptance(id, consign.Acceptance{Custody: consign.CustodyPlain, Checks: slices.Compact(checks), P: rng.Uint64(), Drawn: rng.IntN(2) == 0})
		if err != nil {
			t.Fatal(err)
		}
		want, err = jcs.Transform(e.Payload)
		if err != nil || !bytes.Equal(e.Payload, want) {
			t.Fatalf("the body is\n%s\nwant\n%s, %v", e.Payload, want, err)
		}
	}
}

const secondReader = "../../testdata/vectors/verify.mjs"

// A reader in another language agrees with every vector.
func TestSecondReader(t *testing.T) {
	checkSecondReader(t, secondReader)
}

// checkSecondReader runs a reader, and sees to it that no file of vectors beside
// it is left unread.
func checkSecondReader(t *testing.T, reader string) {
	t.Helper()
	out, err := exec.Command(findNode(t), reader).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(reader), "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		if !bytes.Contains(out, []byte(filepath.Base(file)+" ")) && !bytes.Contains(out, []byte(filepath.Base(file)+":")) {
			t.Errorf("it did not read %s", file)
		}
	}
}

// And it would say so if it did not: a copy of the vectors in which one
// expectation is wrong makes it fail.
func TestSecondReaderCanFail(t *testing.T) {
	node := findNode(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Dir(secondReader))); err != nil {
		t.Fatal(err)
	}
	for _, change := range []struct{ file, old, new string }{
		{"record.json", `"expect": "record.poe"`, `"expect": "success"`},
		{"receipt.json", `"expect": "success"`, `"expect": "record.poe"`},
		{"pae.json", `"sha256": "8`, `"sha256": "9`},
		{"poe.json", `"poe": "9`, `"poe": "8`},
		{"draw.json", `"commitment": "8d`, `"commitment": "8e`},
		{"draw.json", `"u": "`, `"u": "1`},
		{"draw.json", `"p_of_2_64": "922`, `"p_of_2_64": "923`},
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

func findNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed, so the second reader of the vectors did not run")
	}
	return node
}
