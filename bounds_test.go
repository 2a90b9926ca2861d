package consign

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

func jobNumber(i int) (id JobID) { binary.BigEndian.PutUint64(id[:], uint64(i)+1); return id }

// What strangers choose the names of, a queue that runs for months forgets.
func TestStrangersAreForgotten(t *testing.T) {
	w := newWorld(seeded(1), planted{})
	w.rest()
	e, now := w.engine, w.now
	name := func(i int) (id WorkerID) { binary.BigEndian.PutUint64(id[:], uint64(i)+1); return id }

	var gone uptimes
	for i := range 3 * maxUptimes {
		gone.keep(name(i), uptime{up: float64(i)}, now)
	}
	if n := len(gone.of) + len(gone.before); n > maxUptimes {
		t.Errorf("%d workers that are gone are remembered", n)
	}
	if last := 3*maxUptimes - 1; gone.take(name(last)).up != float64(last) || gone.take(name(last)).up != 0 {
		t.Error("the last that went is not remembered, or twice")
	}
	gone.keep(name(0), uptime{up: 1}, now)
	for day := range 10 {
		gone.keep(name(1), uptime{}, now.Add(time.Duration(day)*24*time.Hour))
	}
	if n := len(gone.of) + len(gone.before); n > 2 {
		t.Errorf("%d are remembered that went long ago", n)
	}

	one := &worker{}
	for i := range 10_000 {
		one.loses(Claim{Job: jobNumber(i)})
	}
	if n := len(one.lost); n > 1000 || one.lost[n-1].Job != jobNumber(9_999) {
		t.Errorf("a worker that does not ask is to be told of %d claims, or not of the last", n)
	}

	caps := Capabilities{Kinds: []string{KindTask}, MaxContextTier: 1, Slots: 1}
	inRegister{WorkerRecord{ID: name(7)}, 1, caps}.apply(e)
	e.matcher.wait(&waiter{worker: e.workers[name(7)]})
	for i := range 100 {
		inHeartbeat{newCall(), name(7), Heartbeat{Capabilities: caps, Warm: []WarmModel{{Name: fmt.Sprint("model ", i)}}}}.apply(e)
	}
	if n := len(e.workers[name(7)].class.warm); n > 1 {
		t.Errorf("%d models are remembered, of which none but the last is loaded", n)
	}

	e.out.bad = nil
	for i := range 200 {
		inLanes{[]LaneHead{{Lane: fmt.Sprint("of a newer version ", i/2)}}}.apply(e)
	}
	if len(e.badLanes) != 1 || len(e.out.bad) != 100 {
		t.Errorf("%d lanes that are gone are remembered, and %d of 100 were reported", len(e.badLanes), len(e.out.bad))
	}

	r := newReadyIndex()
	r.made, r.grown, r.gone = func(*group) {}, func(*group) {}, func(*group) {}
	text := Lane{Account: "acme", Needs: Needs{Kind: KindTask}}.String()
	l, err := r.lane(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		at := now.Add(time.Hour + time.Duration(i)*time.Second)
		r.leave(l, &Job{ID: jobNumber(i), Lane: text, ReadyAt: at, Key: at})
	}
	if n := len(r.delayed); n > 1 {
		t.Errorf("%d entries for one lane whose jobs stay in the store", n)
	}
}
