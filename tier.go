package consign

import (
	"fmt"
	"strconv"
)

// Tier is a context tier, 1 to 4: how long a prompt is, and how long a prompt
// a worker takes on (seed 000, section 03).
type Tier uint8

// MaxTier is the highest context tier.
const MaxTier Tier = 4

// TierBounds are the prompt lengths, in characters (Unicode code points), at
// which tiers 2, 3 and 4 begin. A prompt of exactly a bound is in the higher
// tier.
type TierBounds [3]uint32

// DefaultTierBounds are those of seed 000: 1.5K, 6K and 24K characters.
var DefaultTierBounds = TierBounds{1_500, 6_000, 24_000}

// Tier classifies a prompt of the given length.
func (b TierBounds) Tier(chars uint32) Tier {
	tier := Tier(1)
	for _, bound := range b {
		if chars >= bound {
			tier++
		}
	}
	return tier
}

func (b TierBounds) validate() error {
	if b[0] == 0 || b[0] >= b[1] || b[1] >= b[2] {
		return fieldError("tiers", fmt.Sprintf("are not increasing: %v", [3]uint32(b)), "give three increasing lengths above zero")
	}
	return nil
}

func (t Tier) String() string { return strconv.Itoa(int(t)) }
