package vault

import (
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
)

// BenchmarkVault is what a job asks of its vault: one Deposit, one Release, one
// Shred. The file is in the test's temporary folder: TMPDIR says on which disk.
func BenchmarkVault(b *testing.B) {
	for _, kem := range []seal.KEM{seal.X25519, seal.MLKEM768X25519} {
		c := testConfig()
		c.KEM = kem
		b.Run("memory/"+kem.String(), func(b *testing.B) {
			v, err := NewMemory(c)
			check(b, err)
			benchmark(b, v)
		})
		b.Run("file/"+kem.String(), func(b *testing.B) {
			v, err := Open(b.TempDir(), NewKEK(), c)
			check(b, err)
			benchmark(b, v)
			check(b, v.Close())
		})
	}
}

func benchmark(b *testing.B, v *Vault) {
	w := newWorker(b, time.Now().Add(-time.Hour))
	for _, op := range []struct {
		name    string
		prepare func(j testJob)
		run     func(j testJob) error
	}{
		{"deposit", func(testJob) {}, func(j testJob) error { return j.deposit(b.Context(), v) }},
		{"release", func(j testJob) { check(b, j.deposit(b.Context(), v)) }, func(j testJob) error {
			_, err := v.Release(b.Context(), consign.KeyRelease{Claim: consign.Claim{Job: j.id}, Header: seal.HeaderHash(j.header), Worker: w.WorkerKeys})
			return err
		}},
		{"shred", func(j testJob) { check(b, j.deposit(b.Context(), v)) }, func(j testJob) error { return v.Shred(b.Context(), j.id) }},
	} {
		for _, callers := range []int{1, 8} {
			b.Run(op.name+"/"+string(rune('0'+callers)), func(b *testing.B) {
				jobs := make(chan testJob, b.N)
				for range b.N {
					j := newJob(b, v, consign.NewJobID())
					op.prepare(j)
					jobs <- j
				}
				close(jobs)
				b.ResetTimer()
				done := make(chan error)
				for range callers {
					go func() {
						var err error
						for j := range jobs {
							if err == nil {
								err = op.run(j)
							}
						}
						done <- err
					}()
				}
				for range callers {
					check(b, <-done)
				}
			})
		}
	}
}
