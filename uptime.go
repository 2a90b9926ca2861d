package consign

import "time"

// uptime measures how much of the time a worker is there, from its
// heartbeats: the match goes by "capability + uptime" (seed 002, step 3).
// Older observations weigh half as much after a day.
type uptime struct {
	last     Instant
	up, down float64 // seconds, decayed
}

const (
	uptimeHalfLife = 24 * time.Hour
	uptimeEvidence = 600.0 // seconds watched before it says anything
)

// beat counts the time since the last heartbeat: up to grace of it as up, the
// rest as down.
func (u *uptime) beat(now Instant, grace time.Duration) {
	if u.last != 0 && now > u.last {
		dt := now.Sub(u.last)
		keep := 1 - min(1, float64(dt)/float64(2*uptimeHalfLife))
		up := min(dt, grace)
		u.up = u.up*keep + up.Seconds()
		u.down = u.down*keep + (dt - up).Seconds()
	}
	u.last = now
}

// share is the part of the time that the worker was up: 1 until there is
// evidence.
func (u *uptime) share() float64 {
	if u.up+u.down < uptimeEvidence {
		return 1
	}
	return u.up / (u.up + u.down)
}
