package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/consignq/consign/internal/lp"
)

// PublicKey verifies what one Identity signed. It is a value: copy it freely.
// The zero PublicKey verifies nothing.
type PublicKey struct {
	algorithm string
	id        [32]byte // for ed25519 the key itself
	rsa       *rsa.PublicKey
}

// ParsePublicKey reads the form of Bytes: the 32 raw bytes of an ed25519 key,
// or an RSA key's SubjectPublicKeyInfo in DER. One key has one form, and any
// other is refused, for a key's name is a hash of its bytes. Refused as well:
// ed25519 bytes that are not a point, or a point of small order, under which
// one signature fits every message; an RSA modulus below 3,072 or above 8,192
// bits; a public exponent below 65,537. Errors wrap ErrKey.
func ParsePublicKey(algorithm string, b []byte) (PublicKey, error) {
	switch algorithm {
	case Ed25519:
		return parseEd25519(b)
	case RSAPSS:
		return parseRSA(b)
	default:
		return PublicKey{}, keyError("unknown algorithm %.40q: use %q or %q", algorithm, Ed25519, RSAPSS)
	}
}

// Fingerprint returns the 32 characters by which people compare a public key of
// any kind: base32 of the first 20 bytes of
//
//	SHA-256(LP("consign/fingerprint/v1") LP(algorithm) LP(public key))
func Fingerprint(algorithm string, publicKey []byte) string {
	sum := sha256.Sum256(lp.Append(nil, []byte("consign/fingerprint/v1"), []byte(algorithm), publicKey))
	return base32.StdEncoding.EncodeToString(sum[:20])
}

// Fingerprint is what people compare: see Fingerprint.
func (k PublicKey) Fingerprint() string { return Fingerprint(k.algorithm, k.Bytes()) }

// Algorithm returns Ed25519 or RSAPSS, or "" for the zero PublicKey.
func (k PublicKey) Algorithm() string { return k.algorithm }

// ID returns the 32 bytes that name the key's owner as a worker: an ed25519
// key itself, or the SHA-256 of an RSA key's SubjectPublicKeyInfo.
func (k PublicKey) ID() [32]byte { return k.id }

// Bytes returns the key in the one form that ParsePublicKey accepts, nil for
// the zero PublicKey.
func (k PublicKey) Bytes() []byte {
	switch k.algorithm {
	case Ed25519:
		return k.id[:]
	case RSAPSS:
		der, err := x509.MarshalPKIXPublicKey(k.rsa)
		if err != nil {
			panic("sign: " + err.Error()) // never: fromRSA encoded this key once
		}
		return der
	default:
		return nil
	}
}

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool {
	return k.algorithm == other.algorithm && k.id == other.id
}

// Verify returns nil if the signature over the message is the key's, and
// otherwise an error that wraps ErrSignature.
func (k PublicKey) Verify(message, signature []byte) error {
	switch k.algorithm {
	case Ed25519:
		if ed25519.Verify(k.id[:], message, signature) {
			return nil
		}
	case RSAPSS:
		digest := sha256.Sum256(message)
		if rsa.VerifyPSS(k.rsa, crypto.SHA256, digest[:], signature, pssOptions) == nil {
			return nil
		}
	default:
		return fmt.Errorf("%w: there is no key to verify it with", ErrSignature)
	}
	return fmt.Errorf("%w: it was not made by this %s key over these bytes", ErrSignature, k.algorithm)
}

// String returns the text form: the algorithm, a colon, and Bytes in standard
// base64. It is empty for the zero PublicKey.
func (k PublicKey) String() string {
	if k.algorithm == "" {
		return ""
	}
	return k.algorithm + ":" + base64.StdEncoding.EncodeToString(k.Bytes())
}

// MarshalText implements encoding.TextMarshaler with the form of String. It
// wraps ErrKey for the zero PublicKey.
func (k PublicKey) MarshalText() ([]byte, error) {
	if k.algorithm == "" {
		return nil, keyError("there is no key to write")
	}
	return []byte(k.String()), nil
}

// UnmarshalText accepts exactly the form of String. Errors wrap ErrKey.
func (k *PublicKey) UnmarshalText(text []byte) error {
	algorithm, encoded, ok := strings.Cut(string(text), ":")
	if !ok {
		return keyError("a key's text is algorithm:base64, not %.40q", text)
	}
	b, err := decodeBase64(encoded)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	parsed, err := ParsePublicKey(algorithm, b)
	if err != nil {
		return err
	}
	*k = parsed
	return nil
}

func parseRSA(der []byte) (PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return PublicKey{}, keyError("%T is not an RSA key", parsed)
	}
	key, err := fromRSA(public)
	if err != nil {
		return PublicKey{}, err
	}
	if !slices.Equal(key.Bytes(), der) {
		return PublicKey{}, keyError("the RSA key is not encoded as DER would")
	}
	return key, nil
}

func fromRSA(public *rsa.PublicKey) (PublicKey, error) {
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return PublicKey{}, keyError("an RSA modulus has %d to %d bits, not %d", minRSABits, maxRSABits, bits)
	}
	if public.E < 65537 || public.E%2 == 0 || public.N.Bit(0) == 0 {
		return PublicKey{}, keyError("an RSA modulus and exponent are odd, the exponent at least 65537")
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return PublicKey{algorithm: RSAPSS, id: sha256.Sum256(der), rsa: public}, nil
}

func parseEd25519(b []byte) (PublicKey, error) {
	if len(b) != ed25519.PublicKeySize {
		return PublicKey{}, keyError("an ed25519 key has 32 bytes, not %d", len(b))
	}
	if err := checkPoint(b); err != nil {
		return PublicKey{}, err
	}
	return PublicKey{algorithm: Ed25519, id: [32]byte(b)}, nil
}

// The curve of ed25519: -x² + y² = 1 + dx²y² modulo p = 2²⁵⁵ - 19 (RFC 8032,
// section 5.1). order8, a root of dy⁴ + 2y² - 1, is the y of points of order eight; p - order8
// is the other.
var (
	curveP = hexInt("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed")
	curveD = hexInt("52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3")
	order8 = hexInt("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7")
	one    = big.NewInt(1)
)

func hexInt(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 16)
	return n
}

// checkPoint refuses what the standard library would meet only in a
// verification, or not at all. The bytes are public, so it need not run in
// constant time.
func checkPoint(b []byte) error {
	bigEndian := slices.Clone(b)
	slices.Reverse(bigEndian)
	bigEndian[0] &= 0x7f // the top bit is the sign of x
	y := new(big.Int).SetBytes(bigEndian)
	if y.Cmp(curveP) >= 0 {
		return keyError("the ed25519 key is not in canonical form")
	}
	// x² = (y² - 1) / (dy² + 1) must have a root. u/v has one exactly where
	// uv has one, and v is never zero.
	yy := new(big.Int).Mul(y, y)
	u := new(big.Int).Sub(yy, one)
	v := new(big.Int).Mul(yy, curveD)
	uv := v.Mul(u, v.Add(v, one))
	if big.Jacobi(uv.Mod(uv, curveP), curveP) == -1 {
		return keyError("the ed25519 key is not a point of the curve")
	}
	minus := func(n *big.Int) *big.Int { return new(big.Int).Sub(curveP, n) }
	for _, small := range []*big.Int{new(big.Int), one, minus(one), order8, minus(order8)} {
		if y.Cmp(small) == 0 {
			return keyError("the ed25519 key is a point of small order: it would verify what nobody signed")
		}
	}
	return nil
}
