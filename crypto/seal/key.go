package seal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/consignq/consign/crypto/sign"
)

// KEM is the kind of an encryption key: an HPKE key encapsulation mechanism by
// its registered number, or RSAOAEP.
type KEM uint16

// The kinds of keys.
const (
	// MLKEM768X25519 is the hybrid of ML-KEM-768 and X25519, the default: to
	// open what is wrapped to it takes breaking both.
	MLKEM768X25519 KEM = 0x647a
	// X25519 is DHKEM(X25519, HKDF-SHA256), with far shorter wraps.
	X25519 KEM = 0x0020
	// RSAOAEP is RSAES-OAEP with SHA-256 and MGF1 with SHA-256, for workers
	// whose hardware holds an RSA key. It takes wraps, never results. Its
	// number is ours: HPKE has no such KEM.
	RSAOAEP KEM = 0xff01
)

var kemNames = map[KEM]string{MLKEM768X25519: "mlkem768-x25519", X25519: "x25519", RSAOAEP: "rsa-oaep-sha256"}

// String returns the name that a key's text form starts with.
func (k KEM) String() string {
	if name, ok := kemNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kem-0x%04x", uint16(k))
}

// hpke returns the KEM's implementation, nil where it is not HPKE's.
func (k KEM) hpke() hpke.KEM {
	switch k {
	case MLKEM768X25519:
		return hpke.MLKEM768X25519()
	case X25519:
		return hpke.DHKEM(ecdh.X25519())
	default:
		return nil
	}
}

// PublicKey is what wraps and results are encrypted to. It is a value: copy it
// freely. The zero PublicKey encrypts nothing.
type PublicKey struct {
	bytes string // uint16_be(kem_id) || pk; empty for the zero PublicKey
	hpke  hpke.PublicKey
	rsa   *rsa.PublicKey
}

// ParsePublicKey reads the form of Bytes: the KEM's number, big-endian, and the
// key, which is HPKE's serialization, or an RSA key's SubjectPublicKeyInfo in
// DER. One key has one form, and any other is refused, for a key's ID is a hash
// of its bytes. Refused as well: an ML-KEM key with a coefficient out of range,
// an X25519 key of small order, RSA keys as in sign.ParsePublicKey. So to
// encrypt to a key that was parsed never fails. Errors wrap ErrKey.
func ParsePublicKey(b []byte) (PublicKey, error) {
	if len(b) < 2 {
		return PublicKey{}, keyError("it has %d bytes", len(b))
	}
	kem, pk := KEM(binary.BigEndian.Uint16(b)), b[2:]
	if kem == RSAOAEP {
		return parseRSA(pk)
	}
	implementation := kem.hpke()
	if implementation == nil {
		return PublicKey{}, keyError("unknown %v", kem)
	}
	key, err := implementation.NewPublicKey(pk)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %v: %w", ErrKey, kem, err)
	}
	// Both serializations end in the X25519 key.
	if err := checkX25519(pk[len(pk)-32:]); err != nil {
		return PublicKey{}, err
	}
	return PublicKey{bytes: string(b), hpke: key}, nil
}

// KEM returns the key's kind, 0 for the zero PublicKey.
func (k PublicKey) KEM() KEM {
	if k.bytes == "" {
		return 0
	}
	return KEM(binary.BigEndian.Uint16([]byte(k.bytes)))
}

// Bytes returns the one form that ParsePublicKey accepts, nil for the zero
// PublicKey.
func (k PublicKey) Bytes() []byte { return []byte(k.bytes) }

// ID returns the key ID, the first 16 bytes of the SHA-256 of Bytes.
func (k PublicKey) ID() [16]byte {
	sum := sha256.Sum256([]byte(k.bytes))
	return [16]byte(sum[:16])
}

// Equal reports whether both are the same key.
func (k PublicKey) Equal(other PublicKey) bool { return k.bytes == other.bytes }

// Fingerprint is what people compare: see Fingerprint.
func (k PublicKey) Fingerprint() string {
	if k.bytes == "" {
		return ""
	}
	return Fingerprint(k.KEM().String(), []byte(k.bytes[2:]))
}

// Fingerprint returns the 32 characters by which people compare a public key of
// any kind: base32 of the first 20 bytes of
//
//	SHA-256(LP("consign/fingerprint/v1") LP(algorithm) LP(public key))
//
// For a signing key pass its Algorithm and Bytes.
func Fingerprint(algorithm string, publicKey []byte) string {
	return sign.Fingerprint(algorithm, publicKey)
}

// String returns the text form: the KEM's name, a colon, and the key in
// standard base64. It is empty for the zero PublicKey.
func (k PublicKey) String() string {
	if k.bytes == "" {
		return ""
	}
	return k.KEM().String() + ":" + base64.StdEncoding.EncodeToString([]byte(k.bytes[2:]))
}

// MarshalText implements encoding.TextMarshaler with the form of String. It
// wraps ErrKey for the zero PublicKey.
func (k PublicKey) MarshalText() ([]byte, error) {
	if k.bytes == "" {
		return nil, keyError("there is no key to write")
	}
	return []byte(k.String()), nil
}

// UnmarshalText accepts exactly the form of String. Errors wrap ErrKey.
func (k *PublicKey) UnmarshalText(text []byte) error {
	name, encoded, _ := strings.Cut(string(text), ":")
	for kem, known := range kemNames {
		if name != known {
			continue
		}
		pk, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKey, err)
		}
		parsed, err := ParsePublicKey(append(binary.BigEndian.AppendUint16(nil, uint16(kem)), pk...))
		if err != nil {
			return err
		}
		if parsed.String() != string(text) { // line breaks, bits after the end
			return keyError("the base64 is not the standard one")
		}
		*k = parsed
		return nil
	}
	return keyError("a key's text is a KEM's name, a colon and base64, not %.40q", text)
}

// PrivateKey opens what was encrypted to its PublicKey. It is safe for
// concurrent use, and prints as its public key's ID.
type PrivateKey struct {
	public PublicKey
	hpke   hpke.PrivateKey
	rsa    *rsa.PrivateKey
}

// GenerateKey returns a new key of the kind, MLKEM768X25519 or X25519. It wraps
// ErrKey for any other; for RSA see GenerateRSA.
func GenerateKey(kem KEM) (*PrivateKey, error) {
	implementation := kem.hpke()
	if implementation == nil {
		return nil, keyError("cannot generate a key of %v", kem)
	}
	key, err := implementation.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return fromHPKE(kem, key), nil
}

// GenerateRSA returns a new RSAOAEP key. It wraps ErrKey if bits is less than
// 3,072 or more than 8,192. Never sign with it.
func GenerateRSA(bits int) (*PrivateKey, error) {
	if bits < 3072 || bits > 8192 {
		return nil, keyError("an RSA modulus has 3072 to 8192 bits, not %d", bits)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return fromRSA(key)
}

// ParsePrivateKey reads the form of Bytes, and nothing else. Errors wrap
// ErrKey.
func ParsePrivateKey(b []byte) (*PrivateKey, error) {
	if len(b) < 2 {
		return nil, keyError("it has %d bytes", len(b))
	}
	key, err := parsePrivate(KEM(binary.BigEndian.Uint16(b)), b[2:])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key.Bytes(), b) {
		return nil, keyError("the private key is not in its one form")
	}
	return key, nil
}

func parsePrivate(kem KEM, sk []byte) (*PrivateKey, error) {
	if kem == RSAOAEP {
		parsed, err := x509.ParsePKCS8PrivateKey(sk)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		key, ok := parsed.(*rsa.PrivateKey)
		if !ok {
			return nil, keyError("%T is not an RSA key", parsed)
		}
		return fromRSA(key)
	}
	implementation := kem.hpke()
	if implementation == nil {
		return nil, keyError("unknown %v", kem)
	}
	key, err := implementation.NewPrivateKey(sk)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrKey, kem, err)
	}
	return fromHPKE(kem, key), nil
}

// fromHPKE takes the public half as it is: what was computed from a private key
// needs none of ParsePublicKey's checks.
func fromHPKE(kem KEM, key hpke.PrivateKey) *PrivateKey {
	public := key.PublicKey()
	b := append(binary.BigEndian.AppendUint16(nil, uint16(kem)), public.Bytes()...)
	return &PrivateKey{public: PublicKey{bytes: string(b), hpke: public}, hpke: key}
}

func fromRSA(key *rsa.PrivateKey) (*PrivateKey, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	public, err := parseRSA(der)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{public: public, rsa: key}, nil
}

// Bytes returns the KEM's number, big-endian, and the private key: HPKE's
// serialization, or PKCS#8 in DER. It is nil for the zero PrivateKey.
func (k *PrivateKey) Bytes() []byte {
	var sk []byte
	var err error
	switch {
	case k.hpke != nil:
		sk, err = k.hpke.Bytes()
	case k.rsa != nil:
		sk, err = x509.MarshalPKCS8PrivateKey(k.rsa)
	default:
		return nil
	}
	if err != nil {
		panic("seal: " + err.Error()) // never: the key was made from such bytes, or generated
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(k.public.KEM())), sk...)
}

// Public returns the public half.
func (k *PrivateKey) Public() PublicKey { return k.public }

// Format keeps the key out of whatever is printed.
func (k *PrivateKey) Format(f fmt.State, _ rune) {
	id := k.public.ID()
	_, _ = fmt.Fprintf(f, "PrivateKey(%s)", hex.EncodeToString(id[:]))
}

// parseRSA applies sign's rules to RSA keys, which are the same.
func parseRSA(der []byte) (PublicKey, error) {
	if _, err := sign.ParsePublicKey(sign.RSAPSS, der); err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return PublicKey{}, keyError("%T is not an RSA key", parsed)
	}
	return PublicKey{bytes: string(append(binary.BigEndian.AppendUint16(nil, uint16(RSAOAEP)), der...)), rsa: key}, nil
}

// The points of small order of Curve25519 and its twist, by their canonical
// little-endian u: 0, 1, p-1, and two of order eight. To agree on a secret with
// one of them is to agree on zero, which crypto/ecdh refuses when it is too
// late to blame the key.
var smallOrder = [][]byte{
	unhex("0000000000000000000000000000000000000000000000000000000000000000"),
	unhex("0100000000000000000000000000000000000000000000000000000000000000"),
	unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
	unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
}

func unhex(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}

// checkX25519 refuses a u that is not below p = 2^255 - 19, or of small order.
func checkX25519(u []byte) error {
	// u >= p needs bits 5 to 254 set and a low byte of at least 0xed, or bit 255.
	tooLarge := u[31]&0x80 != 0 ||
		u[31] == 0x7f && u[0] >= 0xed && !slices.ContainsFunc(u[1:31], func(b byte) bool { return b != 0xff })
	if tooLarge {
		return keyError("the X25519 key is not in canonical form")
	}
	for _, small := range smallOrder {
		if bytes.Equal(u, small) {
			return keyError("the X25519 key is of small order")
		}
	}
	return nil
}

func keyError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrKey, fmt.Sprintf(format, args...))
}
