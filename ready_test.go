package consign

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lines is a ready index with the store's side of it: sorted lines of tickets,
// pages that are read early and told late, claims that fail or succeed.
type lines struct {
	dice
	now    Instant
	r      *readyIndex
	store  map[string][]*Job // by place
	where  map[JobID]*Job    // in the store
	claims []*Job            // served, and not written yet
	rests  map[JobID]Instant // set aside until
	loads  []*load
	texts  []string
	n      uint64
	served int
	stale  int
	early  int           // served before their turn
	wrong  []string      // what is wrong with the index
	evil   func(*lines)  // a planted bug
	jump   time.Duration // the furthest that a ticket went before another of its lane
}

// play does many things and serves the rest.
func (w *lines) play(steps int) {
	for range steps {
		w.act()
		if w.evil != nil {
			w.evil(w)
		}
		if w.check(); len(w.wrong) > 0 {
			return
		}
	}
	w.drain()
	w.check()
}

// fill leaves room for few more tickets that are kept aside.
func (w *lines) fill() {
	l := must1(w.r.lane(w.texts[0]))
	for range maxDelayed - 20 {
		w.r.delayed = append(w.r.delayed, delay{at: w.now.Add(1000 * time.Hour), lane: l})
	}
}

type load struct {
	l     *lane
	after Place
	n     int
	page  []*Job
	read  bool
}

func newLines(d dice, lanes int) *lines {
	w := &lines{dice: d, now: 1e15, store: map[string][]*Job{}, where: map[JobID]*Job{}, rests: map[JobID]Instant{}, r: newReadyIndex()}
	w.r.made, w.r.grown, w.r.gone = func(*group) {}, func(*group) {}, func(*group) {}
	for i := range lanes {
		offset := []time.Duration{0, 5 * time.Second, 65 * time.Second}[i%3]
		w.texts = append(w.texts, Lane{Account: fmt.Sprintf("a%d", i/6), Offset: offset, Needs: Needs{Kind: "TASK", Tier: Tier(1 + i/3%2)}}.String())
	}
	return w
}

func (w *lines) complain(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func place(j *Job) Place { return Place{j.Key, j.ID} }

func (w *lines) put(j *Job) {
	line := w.store[j.Lane]
	i := sort.Search(len(line), func(i int) bool { return !place(line[i]).Before(place(j)) })
	w.store[j.Lane] = slices.Insert(line, i, j)
	w.where[j.ID] = j
}

func (w *lines) drop(j *Job) {
	line := w.store[j.Lane]
	i := sort.Search(len(line), func(i int) bool { return !place(line[i]).Before(place(j)) })
	w.store[j.Lane] = slices.Delete(line, i, i+1)
	delete(w.where, j.ID)
}

// submit makes a ticket that is ready after a while.
func (w *lines) submit(text string, delay, deadline time.Duration) *Job {
	w.n++
	j := &Job{Version: 1, State: StateQueued, Lane: text}
	binary.BigEndian.PutUint64(j.ID[:], w.n*0x9E3779B97F4A7C15)
	lane, _ := ParseLane(text)
	j.Offset = lane.Offset
	j.ReadyAt = w.now.Add(delay)
	if deadline > 0 {
		j.Deadline = j.ReadyAt.Add(deadline)
	}
	j.Key = ticketKey(j.ReadyAt, j.Offset, j.Deadline)
	w.put(j)
	return j
}

func (w *lines) add(j *Job) {
	if err := w.r.add(j, w.now); err != nil {
		w.complain("%v", err)
	}
}

func (w *lines) want(l *lane) {
	if w.r.wantsLoad(l) {
		l.loading = true
		w.loads = append(w.loads, &load{l: l, after: l.last, n: w.r.pageSize()})
	}
}

func (w *lines) read(ld *load) {
	if ld.read {
		return
	}
	ld.read = true
	line := w.store[ld.l.text]
	i := sort.Search(len(line), func(i int) bool { return ld.after.Before(place(line[i])) })
	ld.page = slices.Clone(line[i:min(len(line), i+ld.n)])
}

func (w *lines) tell(i int) {
	ld := w.loads[i]
	w.loads = slices.Delete(w.loads, i, i+1)
	w.read(ld)
	w.r.loaded(ld.l, ld.page, len(ld.page) == ld.n, w.now, func(j *Job) bool { return slices.ContainsFunc(w.claims, func(c *Job) bool { return c.ID == j.ID }) })
}

// serve gives out the next ticket of a group, if there is one at hand.
func (w *lines) serve(g *group) *Job {
	turns := 0
	for el := g.turns.Front(); el != nil && turns < maxTurns; el = el.Next() {
		l := el.Value.(*lane)
		turns++
		if len(l.window) == 0 {
			w.want(l)
			continue
		}
		j := w.r.serve(l, 0)
		w.want(l)
		if is := w.where[j.ID]; is == nil || is.Version != j.Version || slices.Contains(w.claims, is) {
			w.stale++
			return nil
		}
		if j.ReadyAt > w.now {
			w.early++
		}
		for _, other := range w.store[j.Lane] {
			if !place(other).Before(place(j)) {
				break
			}
			if other.ReadyAt <= w.now && w.now > w.rests[other.ID] && !slices.Contains(w.claims, other) {
				w.jump = max(w.jump, j.Key.Sub(other.Key))
				break
			}
		}
		return j
	}
	return nil
}

func (w *lines) groups() []*group {
	return slices.DeleteFunc(w.r.sortedGroups(), func(g *group) bool { return g.key() == never })
}

func (w *lines) act() {
	switch w.roll("action", 12) {
	case 0, 1:
		text := w.texts[w.roll("lane", len(w.texts))]
		for range 1 + w.roll("burst", 200) {
			delay, deadline := time.Duration(0), time.Duration(0)
			switch w.roll("delay", 6) {
			case 0:
				delay = time.Duration(w.roll("near", 50)) * time.Second
			case 1:
				delay = time.Duration(w.roll("far", 600)) * time.Second
			}
			if w.roll("has deadline", 6) == 0 {
				deadline = time.Duration(1+w.roll("deadline", 90)) * time.Second
			}
			j := w.submit(text, delay, deadline)
			if w.roll("told", 20) > 0 {
				w.add(j)
			} else { // by another coordinator: it is heard of when its lane is read
				w.rests[j.ID] = never
				l, _ := w.r.lane(text)
				w.r.rescan(l, min(l.floor, j.Key))
			}
		}
	case 2, 3, 4, 5:
		if gs := w.groups(); len(gs) > 0 {
			g := gs[w.roll("group", len(gs))]
			for range 1 + w.roll("claims", 100) {
				if j := w.serve(g); j != nil {
					w.served++
					w.claims = append(w.claims, j)
				}
			}
		}
	case 6, 7:
		if len(w.loads) > 0 {
			w.tell(w.roll("load", len(w.loads)))
		}
	case 8:
		for _, ld := range w.loads {
			if w.roll("read", 2) == 0 {
				w.read(ld) // and told later
			}
		}
	case 9:
		for len(w.claims) > 0 && w.roll("more", 100) > 0 {
			i := w.roll("claim", len(w.claims))
			j := w.claims[i]
			w.claims = slices.Delete(w.claims, i, i+1)
			if w.where[j.ID] != j {
				continue
			}
			switch w.roll("outcome", 10) {
			case 0: // refused
				w.r.setAside(j, w.now)
				w.rests[j.ID] = w.now.Add(asideFor)
			case 1: // failed, to be tried again
				w.drop(j)
				again := *j
				again.Version++
				again.ReadyAt = w.now.Add(time.Duration(w.roll("backoff", 100)) * time.Second)
				again.Key = ticketKey(again.ReadyAt, again.Offset, again.Deadline)
				w.put(&again)
				w.add(&again)
			default:
				w.drop(j)
			}
		}
	case 10:
		w.now += Instant(w.roll("passes", 20e6))
		w.r.wake(w.now)
	case 11:
		switch w.roll("other", 4) {
		case 0: // cancelled
			if line := w.store[w.texts[w.roll("lane", len(w.texts))]]; len(line) > 0 {
				if j := line[w.roll("which", len(line))]; !slices.Contains(w.claims, j) {
					w.drop(j)
					w.r.remove(j)
				}
			}
		case 1:
			w.r.pause(PauseLane(w.texts[w.roll("lane", len(w.texts))]), w.roll("pause", 2) == 0)
		case 2:
			if len(w.loads) > 0 { // the page cannot be read: it is tried again later
				ld := w.loads[0]
				w.loads = w.loads[1:]
				ld.l.loading = false
				w.want(ld.l)
			}
		case 3:
			w.r.evict(nil)
		}
	}
}

// check compares the index with itself.
func (w *lines) check() {
	tickets, idle := 0, 0
	for text, l := range w.r.lanes {
		tickets += len(l.window)
		if l.heapIndex < 0 {
			idle++
		}
		if (l.heapIndex >= 0) != (l.key() != never) || (l.turn != nil) != (l.heapIndex >= 0) {
			w.complain("lane %s has key %d, and its place in the heap is %d", text, l.key(), l.heapIndex)
		}
		for i := 1; i < len(l.window); i++ {
			if !l.placeAt(i - 1).Before(l.placeAt(i)) {
				w.complain("lane %s: ticket %d is not after the one before it", text, i)
			}
		}
		if len(l.window) > maxWindow && !l.loading {
			w.complain("lane %s has %d tickets", text, len(l.window))
		}
	}
	if tickets != w.r.tickets || idle != w.r.idle || tickets > maxTickets+2*maxWindow {
		w.complain("%d tickets counted as %d, %d idle lanes as %d", tickets, w.r.tickets, idle, w.r.idle)
	}
	if w.early > 0 {
		w.complain("%d tickets were given out before they were ready", w.early)
	}
}

// drain serves everything, however long it takes, and complains of what never
// comes.
func (w *lines) drain() {
	for what := range w.r.paused {
		w.r.pause(what, false)
	}
	for _, j := range w.claims {
		if w.where[j.ID] == j {
			w.drop(j)
		}
	}
	w.claims = nil
	for idle := 0; len(w.where) > 0 && idle < 10; {
		for len(w.loads) > 0 {
			w.tell(0)
		}
		gs := w.groups()
		for _, g := range gs {
			for range 1000 {
				if j := w.serve(g); j != nil {
					w.drop(j)
					w.served++
				} else if g.key() == never || len(w.loads) > 0 {
					break
				}
			}
		}
		if len(gs) == 0 && len(w.loads) == 0 {
			next := w.r.nextWake()
			if next == 0 {
				idle++
				next = w.now + minute
			}
			w.now = max(w.now, next)
			w.r.wake(w.now)
		}
	}
	if n := len(w.where); n > 0 {
		for _, j := range w.where {
			l := w.r.lanes[j.Lane]
			w.complain("%d tickets were lost: %s, ready %s ago, its lane more %v loading %v resume %d last %v", n, j.ID, w.now.Sub(j.ReadyAt), l.more, l.loading, l.resume, l.last)
			break
		}
	}
}

// No ticket is ever lost, whatever order pages, tickets, claims, retries,
// cancellations, pauses and evictions come in.
func TestReadyIndexLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &rapidDice{t}
		w := newLines(seeded(rapid.Uint64().Draw(t, "seed")), 1+d.roll("lanes", 12))
		for range 20 + d.roll("steps", 200) {
			w.act()
		}
		w.check()
		w.drain()
		w.check()
		if len(w.wrong) > 0 {
			t.Fatal(w.wrong)
		}
	})
}

func TestReadyIndexSeeds(t *testing.T) {
	first := envInt("CONSIGN_SEED", 1)
	served, stale := 0, 0
	var jump time.Duration
	for seed := first; seed < first+envInt("CONSIGN_SEEDS", 15); seed++ {
		w := newLines(seeded(uint64(seed)), 1+seed%9)
		if seed%4 == 0 {
			w.fill()
		}
		if w.play(400); len(w.wrong) > 0 {
			t.Fatalf("seed %d: %v", seed, w.wrong)
		}
		served += w.served
		stale += w.stale
		jump = max(jump, w.jump)
	}
	t.Logf("%d tickets served, %d were stale, none went more than %s before another of its lane", served, stale, jump)
	if jump > 0 {
		t.Errorf("a ticket went %s before another of its lane", jump)
	}
}

// Bugs in the index are seen.
func TestReadyIndexMutants(t *testing.T) {
	each := func(f func(w *lines, l *lane)) func(*lines) {
		return func(w *lines) {
			for _, text := range w.texts {
				if l := w.r.lanes[text]; l != nil {
					f(w, l)
					w.r.settle(l)
				}
			}
		}
	}
	mutants := map[string]func(*lines){
		"an evicted window is not read again": each(func(_ *lines, l *lane) { l.more = l.more && (len(l.window) > 0 || l.last != Place{}) }),
		"a full page is taken for the last":   each(func(_ *lines, l *lane) { l.more = l.more && len(l.window) < 100 }),
		"a delayed ticket comes early":        func(w *lines) { w.r.wake(w.now + 3*second) },
		"a delayed ticket never comes": func(w *lines) {
			if n := len(w.r.delayed); n > 10 {
				w.r.delayed = w.r.delayed[:n-1]
			}
		},
		"what comes in during a load is forgotten": each(func(_ *lines, l *lane) {
			if len(l.late) > 0 {
				l.late, l.more = nil, false
			}
		}),
		"a ticket is taken from the end of the line": each(func(w *lines, l *lane) {
			if n := len(l.window); n > 1 {
				l.window[0], l.window[n-1] = l.window[n-1], l.window[0]
			}
		}),
		"the place in the store is wrong": each(func(_ *lines, l *lane) {
			if l.more && !l.loading {
				l.last.Key += 20 * second
			}
		}),
		"a lane that sleeps is not woken": func(w *lines) {
			for _, text := range w.texts {
				if l := w.r.lanes[text]; l != nil && l.resume != 0 {
					l.resume = never
				}
			}
			w.r.delayed = slices.DeleteFunc(w.r.delayed, func(d delay) bool { return d.job == nil && d.at < w.now.Add(time.Hour) })
			heap.Init(&w.r.delayed)
		},
	}
	caught := 0
	for name, evil := range mutants {
		found := false
		for seed := uint64(1); seed < 12 && !found; seed++ {
			w := newLines(seeded(seed), 1+int(seed)%9)
			w.evil = evil
			if seed%2 == 0 {
				w.fill()
			}
			w.play(200)
			found = len(w.wrong) > 0 || w.jump > 0
		}
		if found {
			caught++
		} else {
			t.Errorf("survived: %s", name)
		}
	}
	t.Logf("%d of %d caught", caught, len(mutants))
}

// fullIndex fills an index with more tickets than it may hold, and empties it.
func fullIndex(t *testing.T, tickets, lanes int) {
	t.Helper()
	w := newLines(seeded(1), 0)
	for i := range lanes {
		w.texts = append(w.texts, Lane{Account: fmt.Sprintf("a%d", i), Needs: Needs{Kind: "TASK", Tier: 1}}.String())
	}
	for i := range tickets {
		w.now++
		w.add(w.submit(w.texts[i%lanes], 0, 0))
	}
	w.check()
	// Half is served by turns, with new tickets coming in, so that windows are
	// evicted and filled again.
	for i := range tickets / 2 {
		for len(w.loads) > 0 {
			w.tell(0)
		}
		if gs := w.groups(); len(gs) > 0 {
			if j := w.serve(gs[0]); j != nil {
				w.drop(j)
			}
		}
		if i%3 == 0 {
			w.now++
			w.add(w.submit(w.texts[w.roll("lane", lanes)], 0, 0))
		}
	}
	w.check()
	w.drain()
	w.check()
	if len(w.wrong) > 0 {
		t.Fatal(w.wrong)
	}
	if w.jump > 0 {
		t.Errorf("a ticket went %s before another of its lane", w.jump)
	}
}

// More tickets than the index may hold: in few lanes, whose lines are longer
// than their windows, and in many, whose windows are evicted.
func TestReadyIndexBacklog(t *testing.T) {
	for _, shape := range [][2]int{{105_000, 3}, {105_000, 7_000}, {maxTickets + 5_000, 500}} {
		t.Run(fmt.Sprintf("%d tickets in %d lanes", shape[0], shape[1]), func(t *testing.T) {
			t.Parallel()
			fullIndex(t, shape[0], shape[1])
		})
	}
}

// delayed puts tickets in with delays, and notes when each is given out.
func delayed(t *testing.T, w *lines, delays []time.Duration, told func(i int) bool) {
	t.Helper()
	start := w.now
	jobs := make([]*Job, len(delays))
	for i, d := range delays {
		jobs[i] = w.submit(w.texts[i%len(w.texts)], d, 0)
		if told(i) {
			w.add(jobs[i])
		}
	}
	for _, text := range w.texts {
		l, _ := w.r.lane(text)
		if !told(0) {
			w.r.rescan(l, 0)
		}
	}
	for steps := 0; len(w.where) > 0 && steps < 10*len(delays)+1000; steps++ {
		for again := true; again; {
			again = false
			for len(w.loads) > 0 {
				w.tell(0)
				again = true
			}
			for _, g := range w.groups() {
				for g.key() != never {
					loads := len(w.loads)
					j := w.serve(g)
					if j == nil && len(w.loads) == loads {
						break
					}
					if j != nil {
						again = true
						w.drop(j)
						if late := w.now.Sub(j.ReadyAt); late > 0 && j.ReadyAt > start {
							t.Fatalf("a ticket with a delay of %s was given out %s late", j.ReadyAt.Sub(start), late)
						}
					}
					if len(w.loads) > loads {
						again = true
						break
					}
				}
			}
		}
		next := w.r.nextWake()
		if next == 0 {
			break
		}
		w.now = max(w.now, next)
		w.r.wake(w.now)
	}
	w.check()
	if len(w.where) > 0 || len(w.wrong) > 0 {
		t.Fatalf("%d tickets never became ready; %v", len(w.where), w.wrong)
	}
}

// A delayed ticket is given out when it is ready: not before, and not later,
// near or beyond the horizon, submitted here or found in the store, and beyond
// the number of tickets that are kept aside.
func TestDelayedTickets(t *testing.T) {
	var delays []time.Duration
	for i := range 2_000 {
		delays = append(delays, time.Duration(i*i%997)*time.Second/3+time.Duration(i)*time.Millisecond)
	}
	for name, told := range map[string]func(int) bool{
		"submitted here": func(int) bool { return true },
		"in the store":   func(int) bool { return false },
	} {
		t.Run(name, func(t *testing.T) { delayed(t, newLines(seeded(1), 6), delays, told) })
	}
	t.Run("beyond the bound", func(t *testing.T) {
		w := newLines(seeded(1), 6)
		for range maxDelayed { // so that there is no room
			w.r.delayed = append(w.r.delayed, delay{at: w.now.Add(1000 * time.Hour), lane: must1(w.r.lane(w.texts[0]))})
		}
		delayed(t, w, delays[:600], func(int) bool { return true })
	})
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
