package vault

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/internal/lp"
)

// ErrKEK: a key-encryption key is none, or not the one that records are
// encrypted under.
var ErrKEK = errors.New("vault: bad key-encryption key")

// KEK is the key, or the keys, that the records of a vault are encrypted under:
// the last of them encrypts, and all open. It prints as nothing.
type KEK struct{ keys []kek }

// kek is one key. Records carry its ID.
type kek struct {
	id    [8]byte
	bytes [32]byte
	aead  cipher.AEAD
}

// NewKEK returns a new random key.
func NewKEK() KEK {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	return KEK{[]kek{newKEK(b)}}
}

func newKEK(b [32]byte) kek {
	aead, err := chacha20poly1305.NewX(b[:])
	if err != nil {
		panic("vault: " + err.Error()) // never: the length is right
	}
	id := sha256.Sum256(lp.Append(nil, []byte("consign/vault/kek/v1"), b[:]))
	return kek{[8]byte(id[:]), b, aead}
}

// ParseKEK reads keys of 64 hexadecimal digits each with white space between
// them, the one that encrypts last. To rotate, put a new key behind the old
// one, open the vault, which encrypts everything anew, and take the old one
// away with Rekey, which retires it. Where several processes share a storage all
// have to know the new key first: put it in front of the old one, then behind.
//
// It wraps ErrKEK.
func ParseKEK(text string) (KEK, error) {
	var k KEK
	for _, word := range strings.Fields(text) {
		b, err := hex.DecodeString(word)
		if err != nil || len(b) != 32 || [32]byte(b) == [32]byte{} {
			return KEK{}, fmt.Errorf("%w: key %d is not 64 hexadecimal digits of a random key: make one with openssl rand -hex 32", ErrKEK, len(k.keys)+1)
		}
		k.keys = append(k.keys, newKEK([32]byte(b)))
	}
	if len(k.keys) == 0 {
		return KEK{}, fmt.Errorf("%w: there is none: make one with openssl rand -hex 32", ErrKEK)
	}
	return k, nil
}

// KEKFromEnv reads the environment variable as ParseKEK does.
func KEKFromEnv(name string) (KEK, error) {
	k, err := ParseKEK(os.Getenv(name))
	if err != nil {
		return KEK{}, fmt.Errorf("%w (in the environment variable %s)", err, name)
	}
	return k, nil
}

// Format keeps the keys out of whatever is printed.
func (k KEK) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("KEK(secret)")) }

// Text returns what ParseKEK reads, to keep it.
func (k KEK) Text() string {
	words := make([]string, len(k.keys))
	for i, key := range k.keys {
		words[i] = hex.EncodeToString(key.bytes[:])
	}
	return strings.Join(words, "\n") + "\n"
}

// current returns the key that encrypts.
func (k KEK) current() kek { return k.keys[len(k.keys)-1] }

// with returns a KEK that opens what either does, and encrypts as other.
func (k KEK) with(other KEK) KEK {
	both := slices.DeleteFunc(slices.Clone(k.keys), func(key kek) bool { return other.knows(KEK{[]kek{key}}) })
	return KEK{append(both, other.keys...)}
}

// without returns the IDs of k's keys that other does not have.
func (k KEK) without(other KEK) (ids [][8]byte) {
	for _, key := range k.keys {
		if !other.knows(KEK{[]kek{key}}) {
			ids = append(ids, key.id)
		}
	}
	return ids
}

// knows reports whether k has the current key of other.
func (k KEK) knows(other KEK) bool {
	return slices.ContainsFunc(k.keys, func(key kek) bool { return key.id == other.current().id })
}

// secret is what a record keeps: a job's content key, and the private key that
// its result is sealed to, if the vault has that; or a key of the vault itself.
type secret struct {
	cek seal.CEK
	key *seal.PrivateKey
}

// The form of a sealed record: the KEK's ID, a nonce, and under them 32 bytes of
// the content key and 34 of the private key, zeros where there is none.
const (
	privateSize = 34
	secretSize  = 32 + privateSize
)

// seal encrypts a secret into the record.
func (k KEK) seal(r Record, s secret) (Record, error) {
	plain := make([]byte, secretSize)
	copy(plain, s.cek.Bytes())
	if s.key != nil {
		b := s.key.Bytes()
		if len(b) != privateSize {
			return Record{}, fmt.Errorf("vault: a private key of %v does not fit a record", s.key.Public().KEM())
		}
		copy(plain[32:], b)
	}
	key := k.current()
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce)
	r.Sealed = key.aead.Seal(slices.Concat(key.id[:], nonce), nonce, plain, r.context())
	return r, nil
}

// open decrypts a record. It wraps ErrKEK where the key is not at hand, or
// where the record is not authentic.
func (k KEK) open(r Record) (secret, error) {
	i := slices.IndexFunc(k.keys, r.under)
	if i < 0 {
		return secret{}, fmt.Errorf("%w: a record is under another key than those given: put the older key in front of the newer", ErrKEK)
	}
	key := k.keys[i]
	b := r.Sealed[len(key.id):]
	if len(b) < chacha20poly1305.NonceSizeX {
		return secret{}, fmt.Errorf("%w: a record is cut short", ErrKEK)
	}
	plain, err := key.aead.Open(nil, b[:chacha20poly1305.NonceSizeX], b[chacha20poly1305.NonceSizeX:], r.context())
	if err != nil || len(plain) != secretSize {
		return secret{}, fmt.Errorf("%w: the record of job %s is not authentic: it was altered", ErrKEK, r.Job)
	}
	return parseSecret(plain)
}

func parseSecret(plain []byte) (s secret, err error) {
	if [32]byte(plain) != [32]byte{} {
		if s.cek, err = seal.ParseCEK(plain[:32]); err != nil {
			return secret{}, err
		}
	}
	if [privateSize]byte(plain[32:]) != [privateSize]byte{} {
		s.key, err = seal.ParsePrivateKey(plain[32:])
	}
	return s, err
}

// under reports whether the record is encrypted under the key.
func (r Record) under(key kek) bool {
	return len(r.Sealed) >= len(key.id) && [8]byte(r.Sealed) == key.id
}

// context is what the ciphertext is bound to: all that is in the open.
func (r Record) context() []byte {
	at := binary.BigEndian.AppendUint64(nil, uint64(r.At)) //nolint:gosec // the bits are kept
	return lp.Append(nil, []byte("consign/vault/record/v1"), r.Job[:], r.Header[:], at)
}
