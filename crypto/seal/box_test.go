package seal

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/consignq/consign/internal/lp"
)

func TestPadded(t *testing.T) {
	for n, want := range map[int]int{
		0: 256, 8: 256, 255: 256, 256: 256, 257: 272, 272: 272, 273: 288, 1000: 1024, 1024: 1024, 1025: 1088,
		9999: 10240, 65536: 65536, 65537: 67584, 1<<20 + 8: 1<<20 + 1<<15,
	} {
		if got := padded(n); got != want {
			t.Errorf("padded(%d) = %d, want %d", n, got, want)
		}
	}
	// Against the paper's words: at most log2(E)+1 bits of mantissa, rounded up.
	for n := 256; n < 1<<17; n++ {
		e := int(math.Log2(float64(n)))
		s := int(math.Log2(float64(e))) + 1
		unit := 1 << (e - s)
		if want := (n + unit - 1) / unit * unit; padded(n) != want {
			t.Fatalf("padded(%d) = %d, want %d", n, padded(n), want)
		}
	}
}

// sealChunks makes a box of any plaintext, padded or not, for what Box would
// never write.
func sealChunks(key [32]byte, aad, p []byte) []byte {
	out := bytes.Repeat([]byte{7}, boxPrefix)
	nonce := newNonce(out)
	for i := uint32(0); ; i++ {
		n := min(len(p), chunkSize)
		last := n == len(p)
		out = newAEAD(key).Seal(out, nonce.at(i, last), p[:n], aad)
		if p = p[n:]; last {
			return out
		}
	}
}

func TestBox(t *testing.T) {
	key, aad := fill32(1), []byte("aad")
	rng := rand.NewChaCha8([32]byte{})
	for _, n := range []int{0, 1, 247, 248, 249, 1000, 65527, 65528, 65529, 131063, 131064, 131065, 300000, 1 << 20} {
		m := make([]byte, n)
		_, _ = rng.Read(m)
		b := Box(key, aad, m)
		if len(b) != BoxSize(n) || cap(b) > len(b)+4096+len(b)/4 {
			t.Errorf("%d: %d bytes, cap %d, want %d", n, len(b), cap(b), BoxSize(n))
		}
		got, err := OpenBox(key, aad, b)
		if err != nil || !bytes.Equal(got, m) {
			t.Errorf("%d: %v", n, err)
		}
		// The other way to write the same: pad all, then cut.
		p := lp.Append(nil, m)
		p = append(p, make([]byte, padded(len(p))-len(p))...)
		if want := sealChunks(key, aad, p); !bytes.Equal(box(key, [boxPrefix]byte(want[:boxPrefix]), aad, m), want) {
			t.Errorf("%d: differs", n)
		}
		if again := Box(key, aad, m); bytes.Equal(again[:boxPrefix], b[:boxPrefix]) {
			t.Errorf("%d: the same nonce twice", n)
		}
	}
}

func TestOpenBoxRefuses(t *testing.T) {
	key, aad := fill32(1), []byte("aad")
	const c = boxPrefix + sealedChunk // where the second chunk starts
	good := Box(key, aad, make([]byte, 3*chunkSize+1000))
	if len(good) != boxPrefix+3*sealedChunk+4096+16 { // 4 chunks, the last short
		t.Fatalf("%d bytes: the cases below are about other lengths", len(good))
	}
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	for name, b := range map[string][]byte{
		"empty":                   nil,
		"less than a nonce":       good[:18],
		"no chunk":                good[:19],
		"an empty chunk":          sealChunks(key, aad, nil),
		"less than a tag":         good[:19+15],
		"the last chunk missing":  good[:c+2*sealedChunk],
		"two chunks missing":      good[:c+sealedChunk],
		"the last chunk cut":      good[:len(good)-1],
		"a chunk cut":             edit(func(b []byte) []byte { return slices.Delete(b, c-1, c) }),
		"a byte after":            edit(func(b []byte) []byte { return append(b, 0) }),
		"a chunk after":           edit(func(b []byte) []byte { return append(b, b[c:c+sealedChunk]...) }),
		"the first chunk doubled": edit(func(b []byte) []byte { return slices.Insert(b, c, b[boxPrefix:c]...) }),
		"the first chunk missing": edit(func(b []byte) []byte { return slices.Delete(b, boxPrefix, c) }),
		"two chunks swapped":      slices.Concat(good[:boxPrefix], good[c:c+sealedChunk], good[boxPrefix:c], good[c+sealedChunk:]),
		"a chunk of another box": edit(func(b []byte) []byte {
			copy(b[c:], Box(key, aad, make([]byte, 3*chunkSize+1000))[c:c+sealedChunk])
			return b
		}),
		"the nonce changed":        edit(func(b []byte) []byte { b[18] ^= 1; return b }),
		"a bit in the first chunk": edit(func(b []byte) []byte { b[100] ^= 1; return b }),
		"a bit in the last tag":    edit(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }),
	} {
		if m, err := OpenBox(key, aad, b); !errors.Is(err, ErrBox) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenBox(fill32(2), aad, good); !errors.Is(err, ErrBox) {
		t.Errorf("another key: %v", err)
	}
	if _, err := OpenBox(key, nil, good); !errors.Is(err, ErrBox) {
		t.Errorf("other associated data: %v", err)
	}
	// The associated data is under every chunk, not the first alone.
	mixed := slices.Concat(box(key, [boxPrefix]byte{}, aad, make([]byte, 100000))[:c], box(key, [boxPrefix]byte{}, nil, make([]byte, 100000))[c:])
	if _, err := OpenBox(key, aad, mixed); !errors.Is(err, ErrBox) {
		t.Errorf("a chunk under other associated data: %v", err)
	}
}

// What is authentic and yet not what Box writes is refused: one message has
// one length, and nothing hides in the padding.
func TestOpenBoxRefusesPadding(t *testing.T) {
	key := fill32(1)
	pad := func(m []byte, n int) []byte {
		p := lp.Append(nil, m)
		return append(p, make([]byte, n-len(p))...)
	}
	nonzero := func(i int) []byte {
		p := pad([]byte("hello"), 256)
		p[i] = 1
		return p
	}
	long := pad(make([]byte, 100000), padded(100008))
	long[len(long)-1] = 1
	far := pad(make([]byte, 1<<20), padded(1<<20+8))
	far[1<<20+8+5000] = 1
	for name, p := range map[string][]byte{
		"less than a length":         make([]byte, 7),
		"no padding":                 pad([]byte("hello"), 13),
		"255 bytes":                  pad([]byte("hello"), 255),
		"too much":                   pad([]byte("hello"), 272),
		"too little":                 pad(make([]byte, 300), 319),
		"a step too far":             pad(make([]byte, 300), 336),
		"a whole chunk too much":     pad([]byte("hello"), 256+chunkSize),
		"the first byte not zero":    nonzero(13),
		"the last byte not zero":     nonzero(255),
		"the last byte, long":        long,
		"in the middle, long":        far,
		"a length past the end":      append(binaryBE(249), make([]byte, 248)...),
		"a length of 2^64-1":         append(bytes.Repeat([]byte{0xff}, 8), make([]byte, 248)...),
		"a last chunk without bytes": append(binaryBE(chunkSize-8), make([]byte, chunkSize-8)...),
	} {
		b := sealChunks(key, nil, p)
		if name == "a last chunk without bytes" {
			nonce := newNonce(b[:boxPrefix])
			b = newAEAD(key).Seal(b[:boxPrefix:boxPrefix], nonce.at(0, false), p, nil)
			b = newAEAD(key).Seal(b, nonce.at(1, true), nil, nil)
			if m, err := OpenBox(key, nil, b); !errors.Is(err, ErrBox) {
				t.Errorf("%s: %d bytes, %v", name, len(m), err)
			}
			continue
		}
		if m, err := OpenBox(key, nil, b); !errors.Is(err, ErrPadding) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func binaryBE(n int) []byte {
	b := binaryLE(n)
	slices.Reverse(b)
	return b
}

// To open costs memory in proportion to the box, whatever lengths it claims.
func TestOpenBoxAllocates(t *testing.T) {
	b := sealChunks(fill32(1), nil, append(bytes.Repeat([]byte{0x7f}, 8), make([]byte, 248)...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		_, _ = OpenBox(fill32(1), nil, b)
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 1000; n > 4096 {
		t.Errorf("%d bytes", n)
	}
}

func FuzzOpenBox(f *testing.F) {
	key := fill32(1)
	f.Add(Box(key, nil, []byte("hello")), false)
	f.Add(append(binaryBE(5), make([]byte, 248)...), true)
	f.Add(bytes.Repeat([]byte{0xff}, 256), true)
	f.Fuzz(func(t *testing.T, b []byte, plaintext bool) {
		if plaintext { // so that what is behind the cipher is reached
			b = sealChunks(key, nil, b)
		}
		m, err := OpenBox(key, nil, b)
		if err != nil {
			if !errors.Is(err, ErrBox) && !errors.Is(err, ErrPadding) || m != nil {
				t.Errorf("%v with %d bytes", err, len(m))
			}
			return
		}
		if again := box(key, [boxPrefix]byte(b[:boxPrefix]), nil, m); !bytes.Equal(again, b) {
			t.Errorf("a second form of the box of %d bytes", len(m))
		}
	})
}
