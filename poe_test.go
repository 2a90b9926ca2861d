package consign

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The inputs of the published vectors (testdata/vectors/poe.json).
var (
	vectorJob    = JobID{0x01, 0x90, 0xa1, 0xb2, 0xc3, 0xd4, 0x7e, 0x5f, 0x8a, 0x9b, 0x0c, 0x1d, 0x2e, 0x3f, 0x40, 0x51}
	vectorClaim  = ClaimID(bytes.Repeat([]byte{0x33}, 16))
	vectorWorker = WorkerID(bytes.Repeat([]byte{0x22}, 32))
)

func vectorPoEv2() PoEv2 {
	return PoEv2{Job: vectorJob, Claim: vectorClaim, Worker: vectorWorker, Model: "llama3.1:8b",
		InputHash: InputHash([]byte("in"), []byte("put")), ResultHash: InputHash(nil, []byte("hello"))}
}

func TestPoEv1(t *testing.T) {
	const want = "90437677e6f8221bb9a996198d2257dfe321bde8529064071ce16bd6a6c29e53"
	got := PoEv1Checked(vectorJob, []byte("hello"), vectorWorker)
	if hex.EncodeToString(got[:]) != want {
		t.Errorf("PoEv1Checked = %x, want %s", got, want)
	}
	if raw := PoEv1(vectorJob[:], []byte("hello"), vectorWorker[:]); raw != got {
		t.Errorf("PoEv1 = %x, PoEv1Checked = %x", raw, got)
	}
}

// The collision that its comment warns of.
func TestPoEv1IsAmbiguous(t *testing.T) {
	if PoEv1([]byte("req1"), []byte("0result"), nil) != PoEv1([]byte("req10"), []byte("result"), nil) {
		t.Error("the formula of seed 003 is no longer what it was")
	}
}

func TestPoEv2(t *testing.T) {
	const want = "8d35b19639c9ae6d2dd451f36c02af29da7209562132666652d35d085a4cac06"
	if got := vectorPoEv2().Sum(); hex.EncodeToString(got[:]) != want {
		t.Errorf("Sum = %x, want %s", got, want)
	}
}

// Each field is committed to, and the bytes of one cannot pass for another's.
func TestPoEv2CommitsToEveryField(t *testing.T) {
	seen := map[[32]byte]string{vectorPoEv2().Sum(): "unchanged"}
	for name, change := range map[string]func(*PoEv2){
		"job":     func(p *PoEv2) { p.Job[15]++ },
		"claim":   func(p *PoEv2) { p.Claim[0]++ },
		"worker":  func(p *PoEv2) { p.Worker[31]++ },
		"model":   func(p *PoEv2) { p.Model += "\x00" },
		"input":   func(p *PoEv2) { p.InputHash[0]++ },
		"result":  func(p *PoEv2) { p.ResultHash[0]++ },
		"commit":  func(p *PoEv2) { p.TCommit[0]++ },
		"swapped": func(p *PoEv2) { p.InputHash, p.ResultHash = p.ResultHash, p.InputHash },
		"long":    func(p *PoEv2) { p.Model = string(bytes.Repeat([]byte("m"), 2000)) },
	} {
		p := vectorPoEv2()
		change(&p)
		if other, ok := seen[p.Sum()]; ok {
			t.Errorf("%s commits to the same value as %s", name, other)
		}
		seen[p.Sum()] = name
	}
}

func FuzzPoEv1(f *testing.F) {
	f.Add([]byte("task"), []byte("result"), []byte("node"))
	f.Fuzz(func(t *testing.T, task, result, node []byte) {
		want := InputHash(bytes.Join([][]byte{task, result, node}, nil), nil)
		if got := PoEv1(task, result, node); got != want {
			t.Errorf("PoEv1 = %x, want %x", got, want)
		}
	})
}

func BenchmarkPoEv2(b *testing.B) {
	p := vectorPoEv2()
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Sum()
	}
}
