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

// uptimes remembers those of workers that are gone, for two half-lives at least
// and four at most, and less long where there are many: keys are free, and who
// makes new ones must not have the queue remember them.
type uptimes struct {
	of, before map[WorkerID]uptime // since began, and in the time before
	began      Instant
}

// maxUptimes bounds both parts together.
const maxUptimes = 100_000

func (u *uptimes) keep(id WorkerID, up uptime, now Instant) {
	if u.of == nil || len(u.of) >= maxUptimes/2 || now.Sub(u.began) > 2*uptimeHalfLife {
		u.of, u.before, u.began = map[WorkerID]uptime{}, u.of, now
	}
	u.of[id] = up
}

// take returns a worker's, and forgets it.
func (u *uptimes) take(id WorkerID) uptime {
	up, ok := u.of[id]
	if !ok {
		up = u.before[id]
	}
	delete(u.of, id)
	delete(u.before, id)
	return up
}
