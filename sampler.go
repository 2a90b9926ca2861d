package consign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/consignq/consign/internal/lp"
)

// The labels of the two preimages below. A change of format takes a new label.
const (
	drawLabel  = "consign/draw/v1"
	epochLabel = "consign/epoch/v1"
)

// establishedN is how many consecutive validated results a worker gives, each
// of them checked, before its results are checked by lot. It is BOINC's
// number (adaptive replication).
const establishedN = 10

// DrawCertain is the probability 1 as a Decision holds it: every other value p
// stands for p/2^64.
const DrawCertain = math.MaxUint64

// EpochCommitment returns what the queue publishes before an epoch begins: the
// hash that fixes the epoch's secret, so that no draw can be chosen later. The
// secret is revealed when the epoch's claims have ended.
//
//	SHA-256(LP("consign/epoch/v1") LP(queue_id) LP(uint64_be epoch) LP(secret))
func EpochCommitment(queue QueueID, epoch uint64, secret [32]byte) [32]byte {
	return sha256.Sum256(lp.Append(nil,
		[]byte(epochLabel), queue[:], binary.BigEndian.AppendUint64(nil, epoch), secret[:]))
}

// DrawValue returns the lot u of one result, uniform over the integers of 64
// bits to anyone without the epoch's secret. The worker signs the PoE, which
// names the epoch's work, before it can learn u; and a coordinator that
// commits to its secret first cannot pick u either.
//
//	first 8 bytes, big endian, of
//	HMAC-SHA256(secret, LP("consign/draw/v1") LP(job_id) LP(worker_id) LP(PoE))
func DrawValue(secret [32]byte, job JobID, worker WorkerID, poe [32]byte) uint64 {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(lp.Append(nil, []byte(drawLabel), job[:], worker[:], poe[:]))
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// SamplingPolicy says which share of results is run a second time (seed 003
// step 7, check 2: "a configurable fraction"). The zero value is the default:
// adaptive, with a floor of 5 %.
type SamplingPolicy struct {
	// Fixed draws every result with probability Rate, whatever the worker's
	// record. Otherwise the draw is adaptive: certain while N is below 10,
	// then 1/N, and never below Rate.
	Fixed bool
	// Rate is in parts per million, at most 1,000,000. Adaptive: the floor; a
	// worker knows the floor, so this is what deters one that waits (see
	// DeterrenceRate). Fixed: the rate itself, and 0 draws nothing but the
	// results of workers under watch. Defaults to 50,000 (5 %) where adaptive.
	Rate uint32
}

const (
	ratesPerOne = 1_000_000
	defaultRate = 50_000
)

func (p SamplingPolicy) withDefaults() SamplingPolicy {
	if !p.Fixed && p.Rate == 0 {
		p.Rate = defaultRate
	}
	return p
}

// validate returns a *FieldError where the rate is above one.
func (p SamplingPolicy) validate() error {
	if p.Rate > ratesPerOne {
		return fieldError("sampling.rate", fmt.Sprintf("is %d parts per million", p.Rate),
			"choose at most 1000000")
	}
	return nil
}

// Decision is a draw and all that it rests on. The acceptance of the result
// records it, so that an auditor can do it again.
type Decision struct {
	Row   uint64 // the last evidence row of the standing that was used
	N     uint64 // consecutive validated results at that row
	P     uint64 // probability, as p/2^64; DrawCertain is 1
	U     uint64 // the lot; secret until the epoch's secret is revealed
	Drawn bool   // U < P, or P is DrawCertain
}

// Decide makes the draw for a result of the worker whose standing this is.
// u comes from DrawValue. A worker under watch or on review is always drawn,
// under a fixed rate too. Integers only: two machines never disagree.
func (p SamplingPolicy) Decide(s Standing, u uint64) Decision {
	d := Decision{Row: s.Row, N: s.N, U: u}
	if s.Watched() {
		d.P = DrawCertain
	} else {
		d.P = p.probability(s.N)
	}
	d.Drawn = d.P == DrawCertain || u < d.P
	return d
}

// probability returns the chance of a draw after n validated results.
func (p SamplingPolicy) probability(n uint64) uint64 {
	p = p.withDefaults()
	rate := perMillion(p.Rate)
	switch {
	case p.Fixed:
		return rate
	case n < establishedN:
		return DrawCertain
	default:
		return max(rate, math.MaxUint64/n)
	}
}

// perMillion returns floor((2^64-1) * ppm / 10^6); a million or more is 1.
func perMillion(ppm uint32) uint64 {
	hi, lo := bits.Mul64(math.MaxUint64, uint64(min(ppm, ratesPerOne)))
	q, _ := bits.Div64(hi, lo, ratesPerOne)
	return q
}

// DrawClaim is what the record and the acceptance of one result say about its
// draw. U is no part of it: the coordinator does not publish it.
type DrawClaim struct {
	Queue  QueueID
	Epoch  uint64
	Job    JobID
	Worker WorkerID
	PoE    [32]byte
	Row    uint64
	N      uint64
	P      uint64
	Drawn  bool
}

// AuditDraw replays a draw after its epoch's secret was revealed, and returns
// what the decision must have been. commitment is the one that the log held
// before the worker signed; s is the standing that the auditor itself folded,
// up to the row that the claim names.
//
// It returns an error that wraps ErrBadReceipt, beside the true decision, where
// the claim says anything else: another secret than the committed one, another
// worker or row, another N, P or outcome.
func AuditDraw(p SamplingPolicy, commitment, secret [32]byte, s Standing, c DrawClaim) (Decision, error) {
	d := p.Decide(s, DrawValue(secret, c.Job, c.Worker, c.PoE))
	bad := func(format string, args ...any) (Decision, error) {
		return d, fmt.Errorf("%w: draw of job %s: %s", ErrBadReceipt, c.Job, fmt.Sprintf(format, args...))
	}
	switch {
	case EpochCommitment(c.Queue, c.Epoch, secret) != commitment:
		return bad("the secret revealed for epoch %d is not the one committed to", c.Epoch)
	case c.Worker != s.Worker:
		return bad("it names worker %s, the standing is of %s", c.Worker, s.Worker)
	case c.Row != s.Row:
		return bad("it names evidence row %d, the standing is at %d", c.Row, s.Row)
	case c.N != d.N:
		return bad("it says N = %d, the evidence gives %d", c.N, d.N)
	case c.P != d.P:
		return bad("it says p = %d/2^64, the policy gives %d", c.P, d.P)
	case c.Drawn != d.Drawn:
		return bad("it says drawn = %t, the secret gives %t", c.Drawn, d.Drawn)
	}
	return d, nil
}
