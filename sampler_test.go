package consign

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// drawVectors is testdata/vectors/draw.json: enough to check another
// implementation of the draw, in any language. Numbers of 64 bits are decimal
// strings, since not every JSON reader keeps them.
type drawVectors struct {
	Comment  string        `json:"comment"`
	Epochs   []epochVector `json:"epoch_commitments"`
	Draws    []drawVector  `json:"draws"`
	Standing []pVector     `json:"probabilities"`
}

type epochVector struct {
	QueueID    string `json:"queue_id"`
	Epoch      string `json:"epoch"`
	Secret     string `json:"secret"`
	Commitment string `json:"commitment"`
}

type drawVector struct {
	Secret   string `json:"secret"`
	JobID    string `json:"job_id"`
	WorkerID string `json:"worker_id"`
	PoE      string `json:"poe"`
	U        string `json:"u"`
}

type pVector struct {
	Fixed bool   `json:"fixed"`
	Rate  uint32 `json:"rate_per_million"`
	N     string `json:"n"`
	P     string `json:"p_of_2_64"` // 18446744073709551615 is certain
}

func makeDrawVectors() drawVectors {
	v := drawVectors{Comment: "LP(x) = uint64_be(len(x)) || x. " +
		"commitment = SHA-256(LP('consign/epoch/v1') LP(queue_id) LP(uint64_be epoch) LP(secret)). " +
		"u = first 8 bytes, big endian, of HMAC-SHA256(secret, LP('consign/draw/v1') LP(job_id) LP(worker_id) LP(poe)). " +
		"A result is drawn if p is 2^64-1 or u < p. Identifiers, secrets and hashes are hexadecimal."}
	for i, epoch := range []uint64{0, 1, 1 << 40, math.MaxUint64} {
		queue, secret := QueueID(fill(byte(0x40+i))), fill(byte(0x50+i))
		commitment := EpochCommitment(queue, epoch, secret)
		v.Epochs = append(v.Epochs, epochVector{queue.String(), strconv.FormatUint(epoch, 10),
			hex.EncodeToString(secret[:]), hex.EncodeToString(commitment[:])})
	}
	job, _ := ParseJobID("0190a1b2c3d47e5f8a9b0c1d2e3f4051")
	for i := range 4 {
		worker, poe, secret := WorkerID(fill(0x22+byte(i))), fill(0x11*byte(i)), fill(0x50+byte(i/2))
		v.Draws = append(v.Draws, drawVector{hex.EncodeToString(secret[:]), hex.EncodeToString(job[:]),
			worker.String(), hex.EncodeToString(poe[:]), strconv.FormatUint(DrawValue(secret, job, worker, poe), 10)})
	}
	for _, p := range []SamplingPolicy{{}, {Rate: 100_000}, {Rate: 1}, {Fixed: true}, {Fixed: true, Rate: 36_000}, {Fixed: true, Rate: 1_000_000}} {
		for _, n := range []uint64{0, 9, 10, 11, 20, 21, 1 << 30} {
			v.Standing = append(v.Standing, pVector{p.Fixed, p.withDefaults().Rate,
				strconv.FormatUint(n, 10), strconv.FormatUint(p.probability(n), 10)})
		}
	}
	return v
}

func fill(b byte) (out [32]byte) {
	for i := range out {
		out[i] = b
	}
	return out
}

// TestDrawVectors compares with the vectors; CONSIGN_UPDATE=1 writes them.
func TestDrawVectors(t *testing.T) {
	path := filepath.Join("testdata", "vectors", "draw.json")
	got, err := json.MarshalIndent(makeDrawVectors(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if os.Getenv("CONSIGN_UPDATE") == "1" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s says otherwise; a changed format needs a new label", path)
	}
}

// TestDrawIsUniform bounds the chi-square of 65,536 draws over 256 buckets: of
// the first byte, the last, and the share below 5 %.
func TestDrawIsUniform(t *testing.T) {
	const draws = 1 << 16
	var first, last [256]float64
	below := 0
	limit := SamplingPolicy{Fixed: true, Rate: 50_000}
	for i := range draws {
		var job JobID
		job[0], job[1], job[2] = byte(i), byte(i>>8), byte(i>>16)
		u := DrawValue(fill(7), job, WorkerID{1}, fill(9))
		first[u>>56]++
		last[u&255]++
		if limit.Decide(Standing{}, u).Drawn {
			below++
		}
	}
	for name, buckets := range map[string][256]float64{"first": first, "last": last} {
		chi2 := 0.0
		for _, n := range buckets {
			chi2 += (n - draws/256) * (n - draws/256) / (draws / 256)
		}
		if chi2 < 150 || chi2 > 380 { // 255 degrees of freedom: mean 255, sd 22.6
			t.Errorf("chi-square of the %s byte is %.0f", name, chi2)
		}
	}
	if mean, sd := .05*draws, math.Sqrt(.05*.95*draws); math.Abs(float64(below)-mean) > 4*sd {
		t.Errorf("%d of %d drawn at 5 %%", below, draws)
	}
}

func TestSamplingPolicyValidate(t *testing.T) {
	var field *FieldError
	if err := (SamplingPolicy{Rate: 1_000_001}).validate(); !errors.As(err, &field) || field.Field != "sampling.rate" {
		t.Errorf("a rate above one: %v", err)
	}
	for _, p := range []SamplingPolicy{{}, {Fixed: true}, {Rate: 1_000_000}} {
		if err := p.validate(); err != nil {
			t.Error(err)
		}
	}
}

// TestPerMillion: floor((2^64-1) * ppm / 10^6), checked by multiplying back.
func TestPerMillion(t *testing.T) {
	for _, ppm := range []uint32{0, 1, 49_999, 50_000, 333_333, 999_999, 1_000_000, math.MaxUint32} {
		q := perMillion(ppm)
		hi, lo := bits.Mul64(q, 1_000_000)
		wantHi, wantLo := bits.Mul64(math.MaxUint64, uint64(min(ppm, 1_000_000)))
		rest, borrow := bits.Sub64(wantLo, lo, 0)
		if hi+borrow != wantHi || rest >= 1_000_000 {
			t.Errorf("perMillion(%d) = %d", ppm, q)
		}
	}
}

func TestAuditDrawFindsEachLie(t *testing.T) {
	secret := fill(0x50)
	s := Standing{Subject: Subject{Worker: WorkerID{1}}, Row: 31, N: 25}
	honest := DrawClaim{Queue: QueueID{9}, Epoch: 4, Job: JobID{7}, Worker: s.Worker, PoE: fill(3)}
	d := SamplingPolicy{}.Decide(s, DrawValue(secret, honest.Job, honest.Worker, honest.PoE))
	honest.Row, honest.N, honest.P, honest.Drawn = d.Row, d.N, d.P, d.Drawn
	commitment := EpochCommitment(honest.Queue, honest.Epoch, secret)
	if got, err := AuditDraw(SamplingPolicy{}, commitment, secret, s, honest); err != nil || got != d {
		t.Fatalf("%+v, %v", got, err)
	}
	for lie, tell := range map[string]func(*DrawClaim){
		"epoch":  func(c *DrawClaim) { c.Epoch++ },
		"queue":  func(c *DrawClaim) { c.Queue[0]++ },
		"worker": func(c *DrawClaim) { c.Worker[0]++ },
		"row":    func(c *DrawClaim) { c.Row-- },
		"N":      func(c *DrawClaim) { c.N++ },
		"p":      func(c *DrawClaim) { c.P-- },
		"drawn":  func(c *DrawClaim) { c.Drawn = !c.Drawn },
	} {
		c := honest
		tell(&c)
		if _, err := AuditDraw(SamplingPolicy{}, commitment, secret, s, c); !errors.Is(err, ErrBadReceipt) {
			t.Errorf("a lie about %s: %v", lie, err)
		}
	}
	if _, err := AuditDraw(SamplingPolicy{}, commitment, fill(0x51), s, honest); !errors.Is(err, ErrBadReceipt) {
		t.Errorf("another secret: %v", err)
	}
}

// An auditor holds the log: the epoch's commitment, the worker's signed record
// and the acceptance that says whether the result was drawn. Once the secret
// is revealed it does the draw again.
func ExampleAuditDraw() {
	queue, worker := QueueID{1}, WorkerID{2}
	secret := [32]byte{3}
	commitment := EpochCommitment(queue, 12, secret) // in the log before the epoch began

	standing := Standing{Subject: Subject{Worker: worker, Class: "llama3.1:8b"}}
	claim := DrawClaim{Queue: queue, Epoch: 12, Job: JobID{4}, Worker: worker, PoE: [32]byte{5},
		Row: 0, N: 0, P: DrawCertain, Drawn: true}
	_, err := AuditDraw(SamplingPolicy{}, commitment, secret, standing, claim)
	fmt.Println("as claimed:", err)

	claim.Drawn = false // a coordinator that spared its friend
	d, err := AuditDraw(SamplingPolicy{}, commitment, secret, standing, claim)
	fmt.Println("must have been drawn:", d.Drawn)
	fmt.Println(errors.Is(err, ErrBadReceipt))
	// Output:
	// as claimed: <nil>
	// must have been drawn: true
	// true
}
