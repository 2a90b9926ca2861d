package seal

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

// Each Box beside the bare cipher over the same message, in the same run: what
// it adds is padding, chunks and one copy.
func BenchmarkBox(b *testing.B) {
	key, aad := fill32(1), make([]byte, 300)
	for _, n := range []int{4 << 10, 1 << 20, 64 << 20} {
		m := bytes.Repeat([]byte{'m'}, n)
		sealed := Box(key, aad, m)
		bare := newAEAD(key)
		nonce := make([]byte, bare.NonceSize())
		bareSealed := bare.Seal(nil, nonce, m, aad)
		for _, op := range []struct {
			name string
			f    func()
		}{
			{"seal", func() { Box(key, aad, m) }},
			{"seal/bare", func() { bare.Seal(nil, nonce, m, aad) }},
			{"open", func() {
				if _, err := OpenBox(key, aad, sealed); err != nil {
					b.Fatal(err)
				}
			}},
			{"open/bare", func() {
				if _, err := bare.Open(nil, nonce, bareSealed, aad); err != nil {
					b.Fatal(err)
				}
			}},
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", n>>10, op.name), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					op.f()
				}
			})
		}
	}
}

// The same as a ratio of the fastest of alternating runs, which holds on a
// machine that does other things meanwhile.
func BenchmarkBoxOverBare(b *testing.B) {
	key, aad := fill32(1), make([]byte, 300)
	for _, n := range []int{1 << 20, 64 << 20} {
		m := bytes.Repeat([]byte{'m'}, n)
		bare := newAEAD(key)
		nonce := make([]byte, bare.NonceSize())
		sealed, bareSealed := Box(key, aad, m), bare.Seal(nil, nonce, m, aad)
		best := [4]time.Duration{1 << 62, 1 << 62, 1 << 62, 1 << 62}
		b.Run(fmt.Sprintf("%dMiB", n>>20), func(b *testing.B) {
			for b.Loop() {
				for i, f := range [4]func(){
					func() { Box(key, aad, m) },
					func() { bare.Seal(nil, nonce, m, aad) },
					func() { _, _ = OpenBox(key, aad, sealed) },
					func() { _, _ = bare.Open(nil, nonce, bareSealed, aad) },
				} {
					began := time.Now()
					f()
					best[i] = min(best[i], time.Since(began))
				}
			}
			b.ReportMetric(float64(best[0])/float64(best[1]), "seal/bare")
			b.ReportMetric(float64(best[2])/float64(best[3]), "open/bare")
		})
	}
}

// What a submitter does for a job of 4 KB, and what a worker does.
func BenchmarkJob(b *testing.B) {
	payload := bytes.Repeat([]byte{'p'}, 4096)
	for _, kem := range []KEM{MLKEM768X25519, X25519} {
		key := testKeys()[kem]
		h := testHeader()
		h.ResultKey = key.Public()
		purpose := ClaimWrap{Job: h.Job}
		var header, ciphertext, wrap []byte
		var cek CEK
		submit := func(b *testing.B) {
			cek = NewCEK()
			var err error
			if header, ciphertext, err = SealPayload(h, cek, payload); err != nil {
				b.Fatal(err)
			}
			purpose.Header = HeaderHash(header)
			if wrap, err = Wrap(key.Public(), purpose, cek); err != nil {
				b.Fatal(err)
			}
		}
		submit(b)
		a := Assignment{Queue: h.Queue, Job: h.Job, Kind: h.Kind, Model: h.Model, Chars: 4096, Custody: h.Custody, Comparator: h.Comparator}
		result, err := SealResult(key.Public(), testInfo(), payload)
		if err != nil {
			b.Fatal(err)
		}
		run := func(name string, f func(b *testing.B)) {
			b.Run(kem.String()+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f(b)
				}
			})
		}
		run("seal+wrap", submit)
		run("unwrap+open", func(b *testing.B) {
			got, err := Unwrap(purpose, wrap, key)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := OpenPayload(header, ciphertext, got, a); err != nil {
				b.Fatal(err)
			}
		})
		run("header/parse", func(b *testing.B) {
			if _, err := ParseHeader(header); err != nil {
				b.Fatal(err)
			}
		})
		run("result/seal", func(b *testing.B) {
			if _, err := SealResult(key.Public(), testInfo(), payload); err != nil {
				b.Fatal(err)
			}
		})
		run("result/open", func(b *testing.B) {
			if _, err := OpenResult(key, testInfo(), result); err != nil {
				b.Fatal(err)
			}
		})
		s, err := NewPartSealer(key.Public(), testInfo())
		if err != nil {
			b.Fatal(err)
		}
		run("part/seal", func(b *testing.B) {
			if _, err := s.Seal(payload[:40], false); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("rsa3072/unwrap", func(b *testing.B) {
		key := testKeys()[RSAOAEP]
		wrap, err := Wrap(key.Public(), VaultWrap{}, NewCEK())
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := Unwrap(VaultWrap{}, wrap, key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bundle/verify", func(b *testing.B) {
		e, err := SignBundle(testWorker, testBundle())
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := VerifyBundle(e, testWorker.Public(), testNow.Add(time.Hour), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
