package task

import "math/bits"

// Scores are computed in fixed point with 16 fractional bits. Floating point
// would differ between machines: Go may fuse x*y+z on some processors and not
// on others, and the results of two workers are compared byte for byte.
const one = 1 << 16

// log2 returns log2(x) in fixed point; x is an ordinary integer, at least 1.
func log2(x uint64) uint64 {
	n := bits.Len64(x) - 1
	m := x << (63 - n) >> 32 // 1.31
	result := uint64(n)
	for range 16 {
		m = m * m >> 31
		result <<= 1
		if m >= 1<<32 {
			m >>= 1
			result |= 1
		}
	}
	return result
}

// idf returns log2(1 + n/df) in fixed point: how much a term tells that df of
// n texts hold.
func idf(n, df int) uint64 {
	return log2(uint64(n+df)<<16/uint64(df)) - 16*one
}

// isqrt returns the largest r with r*r <= x.
func isqrt(x uint64) uint64 {
	if x == 0 {
		return 0
	}
	r := uint64(1) << ((bits.Len64(x) + 1) / 2)
	for {
		next := (r + x/r) / 2
		if next >= r {
			return r
		}
		r = next
	}
}

// perMille returns 1000*part/whole, rounded half up; 0 of nothing is 0.
func perMille(part, whole uint64) int {
	if whole == 0 {
		return 0
	}
	return int((part*1000 + whole/2) / whole)
}
