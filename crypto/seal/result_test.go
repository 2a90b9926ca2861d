package seal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"
)

var hpkeKEMs = []KEM{MLKEM768X25519, X25519}

func testInfo() ResultInfo {
	return ResultInfo{Queue: fill32(1), Job: fill16(2), Worker: fill32(3), Claim: fill16(4), Input: fill32(5)}
}

// otherInfos are testInfo with one field changed, or two exchanged.
func otherInfos() map[string]ResultInfo {
	i := testInfo()
	return map[string]ResultInfo{
		"queue":           {fill32(9), i.Job, i.Worker, i.Claim, i.Input},
		"job":             {i.Queue, fill16(9), i.Worker, i.Claim, i.Input},
		"worker":          {i.Queue, i.Job, fill32(9), i.Claim, i.Input},
		"claim":           {i.Queue, i.Job, i.Worker, fill16(9), i.Input},
		"input":           {i.Queue, i.Job, i.Worker, i.Claim, fill32(9)},
		"job for claim":   {i.Queue, i.Claim, i.Worker, i.Job, i.Input},
		"queue for input": {i.Input, i.Job, i.Worker, i.Claim, i.Queue},
	}
}

func TestResult(t *testing.T) {
	for _, kem := range hpkeKEMs {
		key := testKeys()[kem]
		for _, n := range []int{0, 5, 100000} {
			result := bytes.Repeat([]byte{'r'}, n)
			sealed, err := SealResult(key.Public(), testInfo(), result)
			if err != nil {
				t.Fatal(err)
			}
			if len(sealed) != encSizes[kem]+BoxSize(n) {
				t.Errorf("%v: %d bytes", kem, len(sealed))
			}
			if got, err := OpenResult(key, testInfo(), sealed); err != nil || !bytes.Equal(got, result) {
				t.Errorf("%v: %v", kem, err)
			}
			revealed, err := RevealResultKey(key, testInfo(), sealed)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := OpenRevealedResult(kem, revealed, testInfo(), sealed); err != nil || !bytes.Equal(got, result) {
				t.Errorf("%v, revealed: %v", kem, err)
			}
		}
	}
}

func TestInputHash(t *testing.T) {
	if got, want := InputHash([]byte("header"), []byte("ciphertext")), sha256.Sum256([]byte("headerciphertext")); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestResultRefuses(t *testing.T) {
	for _, kem := range hpkeKEMs {
		key := testKeys()[kem]
		sealed, err := SealResult(key.Public(), testInfo(), []byte("result"))
		if err != nil {
			t.Fatal(err)
		}
		refused := func(name string, key *PrivateKey, info ResultInfo, sealed []byte) {
			if got, err := OpenResult(key, info, sealed); !errors.Is(err, ErrBox) || got != nil {
				t.Errorf("%v, %s: %v", kem, name, err)
			}
		}
		for name, info := range otherInfos() {
			refused("another "+name, key, info, sealed)
		}
		fresh, err := GenerateKey(kem)
		if err != nil {
			t.Fatal(err)
		}
		refused("another key", fresh, testInfo(), sealed)
		for _, i := range []int{0, encSizes[kem] - 1, encSizes[kem], len(sealed) - 1} {
			altered := slices.Clone(sealed)
			altered[i] ^= 1
			refused("altered", key, testInfo(), altered)
		}
		for _, n := range []int{0, encSizes[kem] - 1, encSizes[kem], len(sealed) - 1} {
			refused("cut", key, testInfo(), sealed[:n])
		}
		refused("a byte after", key, testInfo(), append(slices.Clone(sealed), 0))
		low := slices.Clone(sealed) // an encapsulated X25519 key of zeros agrees on zero
		clear(low[encSizes[kem]-32 : encSizes[kem]])
		refused("a weak enc", key, testInfo(), low)
		if _, err := OpenRevealedResult(kem, fill32(1), testInfo(), sealed); !errors.Is(err, ErrBox) {
			t.Errorf("%v, another revealed key: %v", kem, err)
		}
		part, err := NewPartSealer(key.Public(), testInfo())
		if err != nil {
			t.Fatal(err)
		}
		p, err := part.Seal([]byte("result"), true)
		if err != nil {
			t.Fatal(err)
		}
		refused("a part", key, testInfo(), p)
		refused("a part without its mark", key, testInfo(), p[markSize:])
	}
	for name, public := range map[string]PublicKey{"RSA": testKeys()[RSAOAEP].Public(), "none": {}} {
		if _, err := SealResult(public, testInfo(), nil); !errors.Is(err, ErrKey) {
			t.Errorf("to %s: %v", name, err)
		}
		if _, err := NewPartSealer(public, testInfo()); !errors.Is(err, ErrKey) {
			t.Errorf("parts to %s: %v", name, err)
		}
	}
	for name, key := range map[string]*PrivateKey{"RSA": testKeys()[RSAOAEP], "none": {}} {
		if _, err := OpenResult(key, testInfo(), make([]byte, 4096)); !errors.Is(err, ErrKey) {
			t.Errorf("with %s: %v", name, err)
		}
		if _, err := NewPartOpener(key, testInfo()); !errors.Is(err, ErrKey) {
			t.Errorf("parts with %s: %v", name, err)
		}
	}
}

func sealParts(t testing.TB, kem KEM, messages ...string) (parts [][]byte) {
	t.Helper()
	s, err := NewPartSealer(testKeys()[kem].Public(), testInfo())
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range messages {
		p, err := s.Seal([]byte(m), i == len(messages)-1)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	if _, err := s.Seal(nil, true); !errors.Is(err, ErrPartEnded) {
		t.Errorf("a part after the last: %v", err)
	}
	return parts
}

func newOpener(t testing.TB, kem KEM, info ResultInfo) *PartOpener {
	t.Helper()
	o, err := NewPartOpener(testKeys()[kem], info)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestParts(t *testing.T) {
	for _, kem := range hpkeKEMs {
		parts := sealParts(t, kem, "one", "", "three")
		for i, p := range parts {
			if want := markSize + BoxSize(5); i > 0 && len(p) != want {
				t.Errorf("part %d has %d bytes, want %d", i, len(p), want)
			}
		}
		o := newOpener(t, kem, testInfo())
		open := func(i int, want string, wantErr error) {
			t.Helper()
			m, last, err := o.Open(parts[i])
			if !errors.Is(err, wantErr) || string(m) != want || last != (err == nil && i == 2) {
				t.Errorf("%v, part %d: %q, %v, %v, want %v", kem, i, m, last, err, wantErr)
			}
		}
		open(1, "", ErrPartGap)
		open(2, "", ErrPartGap)
		open(0, "one", nil)
		open(0, "", ErrPartReplayed)
		open(2, "", ErrPartGap)
		open(1, "", nil)
		open(1, "", ErrPartReplayed)
		open(0, "", ErrPartReplayed)
		open(2, "three", nil)
		open(2, "", ErrPartReplayed)

		// After the last part nothing is opened, not even under the same key.
		s, err := NewPartSealer(testKeys()[kem].Public(), testInfo())
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			p, err := s.Seal(nil, false)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p)
		}
		if _, _, err := o.Open(parts[6]); !errors.Is(err, ErrPartEnded) {
			t.Errorf("after the last: %v", err)
		}
	}
}

func TestPartsRefuses(t *testing.T) {
	for _, kem := range hpkeKEMs {
		parts := sealParts(t, kem, "one", "two", "three")
		edit := func(i, at int, b byte) []byte {
			p := slices.Clone(parts[i])
			p[at] ^= b
			return p
		}
		refused := func(name string, o *PartOpener, part []byte) {
			t.Helper()
			if m, last, err := o.Open(part); !errors.Is(err, ErrBox) || m != nil || last {
				t.Errorf("%v, %s: %v", kem, name, err)
			}
		}
		o := newOpener(t, kem, testInfo())
		refused("nothing", o, nil)
		refused("a mark", o, parts[0][:markSize])
		refused("an enc", o, parts[0][:markSize+encSizes[kem]])
		refused("part 0 called the last", o, edit(0, markSize-1, 1))
		refused("a flag of 2", o, edit(0, markSize-1, 2))
		refused("another enc", o, edit(0, markSize+encSizes[kem]-1, 1))
		refused("part 1 called part 0", o, edit(1, 7, 1))
		refused("another message", o, edit(0, len(parts[0])-1, 1))
		s, err := NewPartSealer(testKeys()[kem].Public(), testInfo())
		if err != nil {
			t.Fatal(err)
		}
		mark := append(make([]byte, 8), 2) // authentic, and a second form of "not the last"
		refused("a flag of 2, sealed so", o, slices.Concat(mark, s.enc, Box(s.key, partAAD(s.context, mark), nil)))
		for name, info := range otherInfos() {
			refused("another "+name, newOpener(t, kem, info), parts[0])
		}
		if m, _, err := o.Open(parts[0]); err != nil || string(m) != "one" {
			t.Errorf("%v: what was refused before spoiled part 0: %v", kem, err)
		}
		refused("part 2 called part 1", o, edit(2, 7, 3))
		refused("part 1 called the last", o, edit(1, markSize-1, 1))
		refused("part 1 of another stream", o, sealParts(t, kem, "one", "two", "three")[1])
		if m, _, err := o.Open(parts[1]); err != nil || string(m) != "two" {
			t.Errorf("%v: part 1: %v", kem, err)
		}
		refused("the last part without its flag", o, edit(2, markSize-1, 1))
		if m, last, err := o.Open(parts[2]); err != nil || string(m) != "three" || !last {
			t.Errorf("%v: part 2: %v", kem, err)
		}
	}
}

func FuzzOpenResult(f *testing.F) {
	for _, kem := range hpkeKEMs {
		b, err := SealResult(testKeys()[kem].Public(), testInfo(), []byte("result"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kem := range hpkeKEMs {
			if m, err := OpenResult(testKeys()[kem], testInfo(), b); err != nil && !errors.Is(err, ErrBox) {
				t.Errorf("%v with %q", err, m)
			}
		}
	})
}

func FuzzOpenPart(f *testing.F) {
	parts := sealParts(f, X25519, "one", "two", "three")
	for _, p := range parts {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := range 3 {
			o := newOpener(t, X25519, testInfo())
			for _, p := range parts[:n] {
				if _, _, err := o.Open(p); err != nil {
					t.Fatal(err)
				}
			}
			m, _, err := o.Open(b)
			if err == nil && (!bytes.Equal(b, parts[n]) && n > 0 || m == nil) {
				t.Errorf("opened %x", b)
			}
			if err != nil && !errors.Is(err, ErrBox) && !errors.Is(err, ErrPartReplayed) && !errors.Is(err, ErrPartGap) {
				t.Errorf("%v", err)
			}
		}
	})
}
