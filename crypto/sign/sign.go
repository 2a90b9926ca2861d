// Package sign holds the keys that sign a queue's records and receipts, and
// the DSSE envelopes that carry them.
//
// Two algorithms exist: ed25519, the default, and RSA-PSS with SHA-256 for
// workers whose hardware holds an RSA key. Verification is the standard
// library's: what it refuses is refused here, and no other implementation has
// a say.
package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// The names of the algorithms, as in a registration and in a key's text form.
const (
	// Ed25519 is RFC 8032's pure Ed25519.
	Ed25519 = "ed25519"
	// RSAPSS is RSASSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of 32
	// bytes, under a modulus of 3,072 to 8,192 bits.
	RSAPSS = "rsa-pss-sha256"
)

// An RSA modulus below minRSABits is too weak for receipts that outlive their
// job; one above maxRSABits would let a stranger's key buy our time.
const (
	minRSABits = 3072
	maxRSABits = 8192
)

// The salt is as long as the hash, and a verifier takes no other length.
var pssOptions = &rsa.PSSOptions{SaltLength: sha256.Size, Hash: crypto.SHA256}

var (
	// ErrKey is wrapped where a key, or the file that holds it, is refused.
	ErrKey = errors.New("sign: bad key")
	// ErrSignature is wrapped where a signature does not verify.
	ErrSignature = errors.New("sign: bad signature")
)

// Identity is a private signing key. It is safe for concurrent use. The zero
// Identity signs nothing.
type Identity struct {
	private crypto.Signer // ed25519.PrivateKey or *rsa.PrivateKey
	public  PublicKey
}

// Generate returns a new ed25519 identity.
func Generate() *Identity {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic("sign: " + err.Error()) // never: crypto/rand does not fail
	}
	return FromEd25519Seed([32]byte(private.Seed()))
}

// FromEd25519Seed returns the ed25519 identity of RFC 8032's 32-byte private
// key. The seed must be secret and uniformly random.
func FromEd25519Seed(seed [32]byte) *Identity {
	private := ed25519.NewKeyFromSeed(seed[:])
	public := PublicKey{algorithm: Ed25519}
	copy(public.id[:], private[32:])
	return &Identity{private: private, public: public}
}

// GenerateRSA returns a new RSA identity with a modulus of the given size. It
// wraps ErrKey if that is less than 3,072 or more than 8,192 bits.
func GenerateRSA(bits int) (*Identity, error) {
	if bits < minRSABits || bits > maxRSABits {
		return nil, keyError("an RSA modulus has %d to %d bits, not %d", minRSABits, maxRSABits, bits)
	}
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return fromPrivate(private)
}

// ParseIdentity reads a private key in PKCS#8 DER, the form of Bytes. Errors
// wrap ErrKey.
func ParseIdentity(der []byte) (*Identity, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return fromPrivate(private)
}

func fromPrivate(private any) (*Identity, error) {
	switch private := private.(type) {
	case ed25519.PrivateKey:
		return FromEd25519Seed([32]byte(private.Seed())), nil
	case *rsa.PrivateKey:
		public, err := fromRSA(&private.PublicKey)
		if err != nil {
			return nil, err
		}
		return &Identity{private: private, public: public}, nil
	default:
		return nil, keyError("%T is neither ed25519 nor RSA", private)
	}
}

// Bytes returns the private key in PKCS#8 DER. It wraps ErrKey for the zero
// Identity.
func (id *Identity) Bytes() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.private)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return der, nil
}

// Public returns the public half.
func (id *Identity) Public() PublicKey { return id.public }

// Sign signs the message. It fails only for the zero Identity, or an RSA key
// that cannot do arithmetic.
func (id *Identity) Sign(message []byte) ([]byte, error) {
	switch private := id.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(private, message), nil
	case *rsa.PrivateKey:
		digest := sha256.Sum256(message)
		return rsa.SignPSS(rand.Reader, private, crypto.SHA256, digest[:], pssOptions)
	default:
		return nil, keyError("the identity is empty")
	}
}

// Derive returns a secret that follows from the private key and the label, for
// uses beside signing: HMAC-SHA256(PKCS#8 DER, "consign/derive/v1" || label).
// Whoever holds the same key gets the same one. It wraps ErrKey for the zero
// Identity.
func (id *Identity) Derive(label string) ([32]byte, error) {
	der, err := id.Bytes()
	if err != nil {
		return [32]byte{}, err
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte("consign/derive/v1" + label))
	return [32]byte(mac.Sum(nil)), nil
}

func keyError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrKey, fmt.Sprintf(format, args...))
}
