package consign

import "time"

// Instant is a point in time: microseconds since the Unix epoch, UTC. Zero
// means none. Rules and stores use it instead of time.Time so that the same
// inputs give the same bytes on every machine.
type Instant int64

// At converts a time.Time; the zero time becomes the zero Instant.
func At(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixMicro())
}

// Time converts back; the zero Instant becomes the zero time.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(i)).UTC()
}

// Add returns the instant d later. It saturates instead of wrapping, so that
// an absurd duration means "never" and not "long ago".
func (i Instant) Add(d time.Duration) Instant {
	sum := i + Instant(d/time.Microsecond)
	if d > 0 && sum < i {
		return maxInstant
	}
	return sum
}

// Sub returns how much later i is than j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Microsecond }

const maxInstant = Instant(1<<63 - 1)

// earliest returns the first of the instants that are set, or zero.
func earliest(instants ...Instant) Instant {
	var first Instant
	for _, i := range instants {
		if i != 0 && (first == 0 || i < first) {
			first = i
		}
	}
	return first
}
