package conformance

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha3"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/crypto/seal"
)

// The suites that package seal uses: its two KEMs, HKDF-SHA256, and
// ChaCha20-Poly1305 for wraps or no cipher for results.
const (
	hkdfSHA256       = 0x0001
	chaCha20Poly1305 = 0x0003
	exportOnly       = 0xffff
)

// hpkeVector is a case of Go's own files of vectors, which hold RFC 9180's with
// a thousand encryptions and exports under one hash each, and those of
// draft-ietf-hpke-pq in full.
type hpkeVector struct {
	KEM  uint16 `json:"kem_id"`
	KDF  uint16 `json:"kdf_id"`
	AEAD uint16 `json:"aead_id"`

	Info, SkRm, PkRm, Enc string
	Encryptions           []struct{ AAD, CT, PT string }
	Exports               []struct {
		Context string `json:"exporter_context"`
		L       int
		Value   string `json:"exported_value"`
	}
	Accumulated string `json:"exports_accumulated"`
}

// What HPKE's authors computed for the suites of package seal, its recipients
// compute: the keys, what is exported and what is opened.
func TestHPKEVectors(t *testing.T) {
	ran := map[[2]uint16]int{}
	for _, file := range []string{"rfc9180.json", "hpke-pq.json"} {
		for _, v := range goVectors(t, file) {
			aead, ours := map[uint16]hpke.AEAD{chaCha20Poly1305: hpke.ChaCha20Poly1305(), exportOnly: hpke.ExportOnly()}[v.AEAD]
			if !ours || v.KDF != hkdfSHA256 || v.KEM != uint16(seal.X25519) && v.KEM != uint16(seal.MLKEM768X25519) {
				continue
			}
			r, err := hpke.NewRecipient(unhex(t, v.Enc), v.key(t), hpke.HKDFSHA256(), aead, unhex(t, v.Info))
			if err != nil {
				t.Fatal(err)
			}
			ran[[2]uint16{v.KEM, v.AEAD}] += v.opens(t, r) + v.exports(t, r)
		}
	}
	for _, suite := range [][2]uint16{{uint16(seal.X25519), chaCha20Poly1305}, {uint16(seal.X25519), exportOnly},
		{uint16(seal.MLKEM768X25519), chaCha20Poly1305}} {
		if ran[suite] == 0 {
			t.Errorf("nothing ran of KEM %04x with AEAD %04x", suite[0], suite[1])
		}
	}
}

// key returns the recipient's key, and sees to it that seal takes both halves
// for what they are.
func (v *hpkeVector) key(t *testing.T) hpke.PrivateKey {
	t.Helper()
	kem, err := hpke.NewKEM(v.KEM)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kem.NewPrivateKey(unhex(t, v.SkRm))
	if err != nil {
		t.Fatal(err)
	}
	sk, err := key.Bytes() // an X25519 key as it is once clamped
	if err != nil {
		t.Fatal(err)
	}
	id := binary.BigEndian.AppendUint16(nil, v.KEM)
	ours, err := seal.ParsePrivateKey(slices.Concat(id, sk))
	if err != nil || !bytes.Equal(ours.Public().Bytes(), slices.Concat(id, unhex(t, v.PkRm))) {
		t.Errorf("KEM %04x: seal reads another key: %v", v.KEM, err)
	}
	return key
}

func (v *hpkeVector) opens(t *testing.T, r *hpke.Recipient) int {
	t.Helper()
	for i, e := range v.Encryptions {
		if got, err := r.Open(unhex(t, e.AAD), unhex(t, e.CT)); err != nil || !bytes.Equal(got, unhex(t, e.PT)) {
			t.Errorf("KEM %04x: message %d opens as %x, %v", v.KEM, i, got, err)
		}
	}
	return len(v.Encryptions)
}

func (v *hpkeVector) exports(t *testing.T, r *hpke.Recipient) int {
	t.Helper()
	for _, e := range v.Exports {
		if got, err := r.Export(string(unhex(t, e.Context)), e.L); err != nil || !bytes.Equal(got, unhex(t, e.Value)) {
			t.Errorf("KEM %04x: %q exports %x, %v", v.KEM, e.Context, got, err)
		}
	}
	if v.Accumulated == "" {
		return len(v.Exports)
	}
	const n = 1000
	contexts, all := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	for length := range n {
		value, err := r.Export(string(drawText(t, contexts)), length)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = all.Write(value)
	}
	sum := make([]byte, 16)
	_, _ = all.Read(sum)
	if want := unhex(t, v.Accumulated); !bytes.Equal(sum, want) {
		t.Errorf("KEM %04x, AEAD %04x: exports accumulate to %x, want %x", v.KEM, v.AEAD, sum, want)
	}
	return n
}

// drawText is how Go's accumulated vectors choose their texts: a length of one
// byte, and as many bytes.
func drawText(t *testing.T, from io.Reader) []byte {
	t.Helper()
	var n [1]byte
	if _, err := io.ReadFull(from, n[:]); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, n[0])
	if _, err := io.ReadFull(from, text); err != nil {
		t.Fatal(err)
	}
	return text
}

// goVectors reads vectors that lie beside Go's standard library.
func goVectors(t *testing.T, file string) (all []hpkeVector) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src/crypto/hpke/testdata", file))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this Go came without its test data, so HPKE's vectors did not run: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// RFC 9180, A.2.1: the only ciphertexts that it prints for the suite of a wrap
// to an X25519 key.
func TestHPKEWrapSuite(t *testing.T) {
	v := hpkeVector{KEM: uint16(seal.X25519),
		SkRm: "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
		PkRm: "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"}
	r, err := hpke.NewRecipient(unhex(t, "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"), v.key(t),
		hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte("Ode on a Grecian Urn"))
	if err != nil {
		t.Fatal(err)
	}
	ct := unhex(t, "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28")
	if got, err := r.Open([]byte("Count-0"), ct); err != nil || string(got) != "Beauty is truth, truth beauty" {
		t.Errorf("%q, %v", got, err)
	}
}
