package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/consignq/consign/internal/lp"
)

const (
	minPadded   = 256     // bytes of the shortest padded message
	chunkSize   = 1 << 16 // bytes of plaintext in each chunk but the last
	boxPrefix   = 19      // random bytes in front, the start of every nonce
	lpSize      = 8       // bytes of the length in front of a message
	sealedChunk = chunkSize + chacha20poly1305.Overhead
)

// Box encrypts a message of any length under a key and associated data:
//
//	p      = LP(m), zeros up to its Padmé length, 256 at least
//	nonce  = 19 random bytes || uint32_be(i) || 1 for the last chunk, else 0
//	output = the 19 bytes || XChaCha20-Poly1305(nonce, aad, chunk i of p) for all i
//
// with chunks of 65,536 bytes, of which the last may be shorter. Its length
// tells the message's length only to within an eighth.
func Box(key [32]byte, aad, m []byte) []byte {
	var prefix [boxPrefix]byte
	_, _ = rand.Read(prefix[:]) // never fails: crypto/rand crashes the program instead
	return box(key, prefix, aad, m)
}

// BoxSize returns the length of the Box of a message of n bytes.
func BoxSize(n int) int {
	p := padded(lpSize + n)
	return boxPrefix + p + chunks(p)*chacha20poly1305.Overhead
}

// box seals chunks that are the message's own from where they are. The first
// and the padded ones it puts together where their ciphertext belongs, so that
// the padded message is never held.
func box(key [32]byte, prefix [boxPrefix]byte, aad, m []byte) []byte {
	aead := newAEAD(key)
	left := padded(lpSize + len(m))
	out := append(make([]byte, 0, BoxSize(len(m))), prefix[:]...)
	nonce := newNonce(prefix[:])
	front := binary.BigEndian.AppendUint64(nil, uint64(len(m)))
	for i := uint32(0); left > 0; i++ {
		n := min(left, chunkSize)
		left -= n
		start := len(out)
		p := out[start : start+n]
		if len(front) == 0 && n <= len(m) {
			p, m = m[:n], m[n:]
		} else {
			filled := copy(p, front)
			front = nil // shorter than any chunk
			copied := copy(p[filled:], m)
			m = m[copied:]
			clear(p[filled+copied:])
		}
		out = aead.Seal(out, nonce.at(i, left == 0), p, aad)
	}
	return out
}

// OpenBox returns the message in a box. It wraps ErrBox where a chunk is not
// authentic in its place, and so where one is missing, doubled, moved, cut, or
// where anything follows the last one; and ErrPadding where all are authentic
// and the padding is too long, too short, or not zero. It releases nothing
// before it has checked everything.
func OpenBox(key [32]byte, aad, b []byte) ([]byte, error) {
	if len(b) < boxPrefix {
		return nil, fmt.Errorf("%w: it has only %d bytes", ErrBox, len(b))
	}
	nonce, b := newNonce(b[:boxPrefix]), b[boxPrefix:]
	aead := newAEAD(key)
	buffer := make([]byte, len(b))
	p := buffer[:0]
	for i := uint32(0); ; i++ {
		n := min(len(b), sealedChunk)
		last := n == len(b)
		if n <= chacha20poly1305.Overhead {
			clear(buffer)
			return nil, fmt.Errorf("%w: chunk %d is empty", ErrBox, i)
		}
		var err error
		p, err = aead.Open(p, nonce.at(i, last), b[:n], aad)
		if err != nil {
			clear(buffer)
			return nil, fmt.Errorf("%w: chunk %d is not authentic", ErrBox, i)
		}
		if b = b[n:]; last {
			break
		}
	}
	m, padding, ok := lp.Next(p)
	if !ok || len(p) != padded(lpSize+len(m)) || !allZero(padding) {
		clear(buffer)
		return nil, ErrPadding
	}
	return m, nil
}

// padded returns the length that n bytes are padded to: 256 at least, and
// otherwise Padmé's, which keeps as many leading bits of n as its number of
// bits has bits (Nikitin et al., Reducing Metadata Leakage from Encrypted
// Files and Communication with PURBs, 2019, section 4.2).
func padded(n int) int {
	if n < minPadded {
		return minPadded
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e)) //nolint:gosec // e is 8 to 63
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}

// chunks returns how many chunks n bytes take.
func chunks(n int) int { return (n + chunkSize - 1) / chunkSize }

func newAEAD(key [32]byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("seal: " + err.Error()) // never: the key has 32 bytes
	}
	return aead
}

// nonce is prefix || uint32_be(i) || last.
type nonce [chacha20poly1305.NonceSizeX]byte

func newNonce(prefix []byte) (n nonce) {
	copy(n[:], prefix)
	return n
}

func (n *nonce) at(i uint32, last bool) []byte {
	binary.BigEndian.PutUint32(n[boxPrefix:], i)
	n[boxPrefix+4] = lastByte(last)
	return n[:]
}

func lastByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

var zeros [4096]byte

func allZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
