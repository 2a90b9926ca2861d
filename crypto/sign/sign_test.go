package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
)

// testRSA is made once: an RSA key of this size takes a while.
var testRSA = sync.OnceValue(func() *Identity {
	id, err := GenerateRSA(3072)
	if err != nil {
		panic(err)
	}
	return id
})

func identities() map[string]*Identity {
	return map[string]*Identity{Ed25519: Generate(), RSAPSS: testRSA()}
}

func TestSignVerify(t *testing.T) {
	message := []byte("a message")
	for algorithm, id := range identities() {
		t.Run(algorithm, func(t *testing.T) {
			sig, err := id.Sign(message)
			if err != nil {
				t.Fatal(err)
			}
			key := id.Public()
			if err := key.Verify(message, sig); err != nil {
				t.Fatal(err)
			}
			for i := range 64 {
				bad := slices.Clone(sig)
				bad[i*len(bad)/64] ^= 1 << (i % 8)
				if err := key.Verify(message, bad); !errors.Is(err, ErrSignature) {
					t.Fatalf("a signature with a bit flipped: %v", err)
				}
			}
			for _, bad := range [][]byte{nil, {}, sig[1:], append(slices.Clone(sig), 0)} {
				if err := key.Verify(message, bad); !errors.Is(err, ErrSignature) {
					t.Errorf("a signature of %d bytes: %v", len(bad), err)
				}
			}
			if err := key.Verify([]byte("another message"), sig); !errors.Is(err, ErrSignature) {
				t.Errorf("another message: %v", err)
			}
			for _, other := range []PublicKey{{}, Generate().Public(), testOtherRSA().Public()} {
				if err := other.Verify(message, sig); !errors.Is(err, ErrSignature) {
					t.Errorf("the key %v: %v", other, err)
				}
			}
		})
	}
}

var testOtherRSA = sync.OnceValue(func() *Identity {
	id, err := GenerateRSA(3072)
	if err != nil {
		panic(err)
	}
	return id
})

func TestZeroIdentity(t *testing.T) {
	var id Identity
	if _, err := id.Sign(nil); !errors.Is(err, ErrKey) {
		t.Errorf("Sign: %v", err)
	}
	if _, err := id.Bytes(); !errors.Is(err, ErrKey) {
		t.Errorf("Bytes: %v", err)
	}
	if _, err := id.Public().MarshalText(); !errors.Is(err, ErrKey) {
		t.Errorf("MarshalText: %v", err)
	}
}

func TestKeysComeBack(t *testing.T) {
	for algorithm, id := range identities() {
		t.Run(algorithm, func(t *testing.T) {
			key := id.Public()
			if key.Algorithm() != algorithm {
				t.Errorf("Algorithm = %q", key.Algorithm())
			}
			parsed, err := ParsePublicKey(algorithm, key.Bytes())
			if err != nil || !parsed.Equal(key) {
				t.Errorf("ParsePublicKey(Bytes) = %v, %v, want %v", parsed, err, key)
			}
			var text PublicKey
			if err := text.UnmarshalText([]byte(key.String())); err != nil || !text.Equal(key) {
				t.Errorf("UnmarshalText(String) = %v, %v, want %v", text, err, key)
			}
			der, err := id.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			back, err := ParseIdentity(der)
			if err != nil || !back.Public().Equal(key) {
				t.Errorf("ParseIdentity(Bytes) = %v, %v", back, err)
			}
		})
	}
}

// The worker's ID is the ed25519 key itself, or the SHA-256 of the RSA key's
// SubjectPublicKeyInfo.
func TestID(t *testing.T) {
	seed := sha256.Sum256([]byte("a seed"))
	want := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	if id := FromEd25519Seed(seed).Public().ID(); !bytes.Equal(id[:], want) {
		t.Errorf("ed25519 ID = %x, want %x", id, want)
	}
	spki, err := x509.MarshalPKIXPublicKey(testRSA().Public().rsa)
	if err != nil {
		t.Fatal(err)
	}
	if id := testRSA().Public().ID(); id != sha256.Sum256(spki) {
		t.Errorf("RSA ID = %x", id)
	}
}

func TestParseEd25519Refuses(t *testing.T) {
	p, _ := new(big.Int).SetString("57896044618658097711785492504343953926634992332820282019728792003956564819949", 10)
	encode := func(y *big.Int, sign byte) []byte {
		b := y.FillBytes(make([]byte, 32))
		slices.Reverse(b)
		b[31] |= sign << 7
		return b
	}
	refused := func(b []byte, reason string) {
		t.Helper()
		_, err := ParsePublicKey(Ed25519, b)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%x: %v, want %q", b, err, reason)
		}
	}
	for _, sign := range []byte{0, 1} {
		for _, y := range []*big.Int{new(big.Int), one, new(big.Int).Sub(p, one), order8, new(big.Int).Sub(p, order8)} {
			refused(encode(y, sign), "small order")
		}
		for i := range int64(19) { // p ... 2^255-1
			refused(encode(new(big.Int).Add(p, big.NewInt(i)), sign), "canonical")
		}
	}
	refused(nil, "32 bytes")
	refused(make([]byte, 31), "32 bytes")
	refused(make([]byte, 33), "32 bytes")
	refused(encode(big.NewInt(2), 0), "not a point") // RFC 8032's curve has no point with y = 2
}

// dy⁴ + 2y² - 1 = 0 holds for the points of order eight and for no others.
func TestOrder8(t *testing.T) {
	yy := new(big.Int).Mul(order8, order8)
	sum := new(big.Int).Mul(curveD, new(big.Int).Mul(yy, yy))
	sum.Add(sum, yy).Add(sum, yy).Sub(sum, one)
	if sum.Mod(sum, curveP).Sign() != 0 {
		t.Error("order8 is not the y of a point of order eight")
	}
}

// The check of the curve's equation refuses no key that exists, and about half
// of all byte strings.
func TestPointCheck(t *testing.T) {
	for range 200 {
		if _, err := ParsePublicKey(Ed25519, Generate().Public().Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for range 400 {
		b := make([]byte, 32)
		_, _ = rand.Read(b)
		if _, err := ParsePublicKey(Ed25519, b); err != nil {
			refused++
		}
	}
	if refused < 130 || refused > 270 {
		t.Errorf("%d of 400 random strings refused, want about 200", refused)
	}
}

func TestParseRSARefuses(t *testing.T) {
	der := testRSA().Public().Bytes()
	small := func() []byte {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseIdentity(pkcs8(t, key)); !errors.Is(err, ErrKey) {
			t.Errorf("an identity of 2048 bits: %v", err)
		}
		return spki(t, &key.PublicKey)
	}
	n := testRSA().Public().rsa.N
	// A NULL after the last element of the outer sequence, which has a length
	// in two bytes. The standard library lets it pass.
	extra := append(slices.Clone(der), 5, 0)
	binary.BigEndian.PutUint16(extra[2:], binary.BigEndian.Uint16(extra[2:])+2)
	if _, err := x509.ParsePKIXPublicKey(extra); err != nil {
		t.Errorf("x509 now refuses %x: %v", extra[:4], err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	huge := new(big.Int).SetBit(new(big.Int).Set(n), maxRSABits, 1)
	for name, b := range map[string][]byte{
		"empty":         nil,
		"trailing byte": append(slices.Clone(der), 0),
		"extra element": extra,
		"cut":           der[:len(der)-1],
		"2048 bits":     small(),
		"8193 bits":     spki(t, &rsa.PublicKey{N: huge, E: 65537}),
		"exponent 3":    spki(t, &rsa.PublicKey{N: n, E: 3}),
		"even exponent": spki(t, &rsa.PublicKey{N: n, E: 65538}),
		"even modulus":  spki(t, &rsa.PublicKey{N: new(big.Int).Add(n, one), E: 65537}),
		"P-256":         spki(t, &ec.PublicKey),
		"ed25519":       spki(t, ed25519.PublicKey(Generate().Public().Bytes())),
	} {
		if _, err := ParsePublicKey(RSAPSS, b); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := GenerateRSA(2048); !errors.Is(err, ErrKey) {
		t.Errorf("GenerateRSA(2048): %v", err)
	}
	if _, err := ParsePublicKey("ed448", make([]byte, 57)); !errors.Is(err, ErrKey) {
		t.Errorf("unknown algorithm: %v", err)
	}
	if _, err := ParseIdentity(pkcs8(t, ec)); !errors.Is(err, ErrKey) {
		t.Errorf("an ECDSA identity: %v", err)
	}
}

// Only the salt of 32 bytes is accepted.
func TestPSSSalt(t *testing.T) {
	digest := sha256.Sum256([]byte("m"))
	for _, salt := range []int{0, 20, 31, 33, 64} {
		sig, err := rsa.SignPSS(rand.Reader, testRSA().private.(*rsa.PrivateKey), pssOptions.Hash, digest[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		if err := testRSA().Public().Verify([]byte("m"), sig); !errors.Is(err, ErrSignature) {
			t.Errorf("a salt of %d bytes: %v", salt, err)
		}
	}
}

func TestUnmarshalTextRefuses(t *testing.T) {
	key := Generate().Public()
	good := key.String()
	for _, text := range []string{"", "ed25519", "ed25519:", good[:len(good)-1], good + "=", good + "\n", "ED25519:" + good[8:], "rsa-pss-sha256:" + good[8:]} {
		kept := key
		if err := kept.UnmarshalText([]byte(text)); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
		if !kept.Equal(key) {
			t.Errorf("%q: the key was changed", text)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add(true, Generate().Public().Bytes())
	spki, _ := hex.DecodeString("30820122300d06092a864886f70d01010105000382010f003082010a0282010100")
	f.Add(false, spki)
	f.Fuzz(func(t *testing.T, ed bool, b []byte) {
		algorithm := RSAPSS
		if ed {
			algorithm = Ed25519
		}
		key, err := ParsePublicKey(algorithm, b)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Errorf("%v does not wrap ErrKey", err)
			}
			return
		}
		if !bytes.Equal(key.Bytes(), b) {
			t.Errorf("%x came back as %x", b, key.Bytes())
		}
	})
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func spki(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func BenchmarkSign(b *testing.B) {
	for algorithm, id := range identities() {
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = id.Sign([]byte("m"))
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for algorithm, id := range identities() {
		sig, err := id.Sign([]byte("m"))
		if err != nil {
			b.Fatal(err)
		}
		key := id.Public()
		b.Run(algorithm, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = key.Verify([]byte("m"), sig)
			}
		})
	}
}
