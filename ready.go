package consign

import (
	"bytes"
	"cmp"
	"container/heap"
	"container/list"
	"maps"
	"slices"
	"sort"
	"time"
)

// The bounds of the ready index. A lane's window holds the front of the line;
// the rest stays in the store, so memory does not grow with the backlog.
const (
	maxWindow    = 256     // tickets of one lane
	minWindow    = 8       // however many lanes there are
	maxTickets   = 100_000 // tickets of all lanes
	maxIdleLanes = 4_096   // empty lanes that are kept for their next ticket
	maxDelayed   = 100_000 // tickets kept aside until they are ready, but for the nearest

	// Delayed tickets up to here are read from the store, later ones stay
	// there. It is more than any offset, so no ready ticket stands behind one
	// that stays.
	delayHorizon = 70 * time.Second
	never        = maxInstant // the key of a lane that has nothing to give
)

// lane is the front of one line.
//
// Every queued job of the lane that this process knows of is in the window, or
// kept aside until it is ready, or being claimed, or comes after last in the
// store, and then more is set. Jobs of shards that other queues read it learns
// of when they stay at the front of the line (see unknown).
type lane struct {
	Lane
	text  string
	group *group

	window  []*Job  // in claim order, all of them ready
	more    bool    // the store may hold tickets after last
	last    Place   // how far the store is known
	floor   Instant // with more: no ticket after last has a smaller key
	loading bool
	steal   bool    // the next page is of all shards
	late    []*Job  // came in during a load, for the store to keep
	anew    bool    // what is being loaded is out of date: rescan
	resume  Instant // the store has nothing ready before this; 0: unknown
	poke    Instant // somebody who may not take a ticket yet may then
	paused  bool
	head    Instant // the store's smallest key, when it was last not known here
	look    Instant // and when to look what it is

	heapIndex int           // in group.heap, -1 if it has nothing to give
	turn      *list.Element // in group.turns, nil likewise
	used      *list.Element // in readyIndex.used
}

// key is the smallest key that the lane may have to give.
func (l *lane) key() Instant {
	switch {
	case l.paused:
		return never
	case len(l.window) > 0:
		return l.window[0].Key
	case l.more && l.resume == 0:
		return l.floor
	}
	return never
}

func (l *lane) placeAt(i int) Place { return Place{l.window[i].Key, l.window[i].ID} }

// find returns where the place is, or would be, in the window.
func (l *lane) find(p Place) int {
	return sort.Search(len(l.window), func(i int) bool { return !l.placeAt(i).Before(p) })
}

// wantsLoad reports whether the lane's window should be filled from the store:
// it is less than half of what a page holds.
func (r *readyIndex) wantsLoad(l *lane) bool {
	return l.more && !l.loading && l.resume == 0 && len(l.window) < r.pageSize()/2
}

// group is all lanes with equal needs and offset: those whose accounts take
// turns. The lanes of PRIVATE jobs are groups of their own, since accounts
// differ in whom they trust.
type group struct {
	Lane         // Account only for PRIVATE
	made  uint64 // counts the groups, so that they have one order
	lanes int
	heap  laneHeap   // lanes with something to give, smallest key first
	turns *list.List // the same lanes, next account first
	links []*link    // the capability classes that can run it
	top   Instant    // no link has a larger key
}

// key is the smallest key in the group.
func (g *group) key() Instant {
	if len(g.heap) == 0 {
		return never
	}
	return g.heap[0].key()
}

// readyIndex is the bounded image of the store's ready list. It knows lines
// and turns, and nothing of workers.
type readyIndex struct {
	lanes      map[string]*lane
	groups     map[Lane]*group
	groupsMade uint64
	used       *list.List // lanes, least recently served first
	idle       int        // lanes that have nothing to give
	tickets    int        // in all windows
	delayed    delayHeap
	paused     map[PauseKey]bool

	made  func(*group) // is told of each new group,
	grown func(*group) // of one whose key may be smaller than before,
	gone  func(*group) // and of one that is forgotten
}

func newReadyIndex() *readyIndex {
	return &readyIndex{lanes: map[string]*lane{}, groups: map[Lane]*group{}, used: list.New(), paused: map[PauseKey]bool{}}
}

// lane returns the lane of that text, making it if need be.
func (r *readyIndex) lane(text string) (*lane, error) {
	if l := r.lanes[text]; l != nil {
		return l, nil
	}
	parsed, err := ParseLane(text)
	if err != nil {
		return nil, err
	}
	if r.idle > maxIdleLanes {
		r.dropIdle()
	}
	l := &lane{Lane: parsed, text: text, heapIndex: -1, group: r.group(parsed)}
	l.group.lanes++
	l.paused = r.paused[PauseLane(text)] || r.paused[PauseKind(parsed.Needs.Kind)]
	l.used = r.used.PushBack(l)
	r.lanes[text] = l
	r.idle++
	return l, nil
}

func (r *readyIndex) group(id Lane) *group {
	if !id.Needs.Private {
		id.Account = ""
	}
	g := r.groups[id]
	if g == nil {
		r.groupsMade++
		g = &group{Lane: id, made: r.groupsMade, turns: list.New()}
		r.groups[id] = g
		r.made(g)
	}
	return g
}

// dropIdle forgets the longest unused half of the lanes that have nothing to
// give.
func (r *readyIndex) dropIdle() {
	for el := r.used.Front(); el != nil && r.idle > maxIdleLanes/2; {
		l := el.Value.(*lane)
		el = el.Next()
		if l.heapIndex >= 0 || l.loading || l.more || l.poke != 0 || len(l.window) > 0 {
			continue
		}
		r.used.Remove(l.used)
		delete(r.lanes, l.text)
		r.idle--
		if l.group.lanes--; l.group.lanes == 0 {
			delete(r.groups, l.group.Lane)
			r.gone(l.group)
		}
	}
}

// settle puts the lane where its key belongs after a change.
func (r *readyIndex) settle(l *lane) {
	g := l.group
	has := l.key() != never
	switch {
	case has && l.heapIndex < 0:
		heap.Push(&g.heap, l)
		l.turn = g.turns.PushBack(l)
		r.idle--
		r.grown(g)
	case has:
		heap.Fix(&g.heap, l.heapIndex)
		r.grown(g)
	case l.heapIndex >= 0:
		heap.Remove(&g.heap, l.heapIndex)
		g.turns.Remove(l.turn)
		l.turn = nil
		r.idle++
	}
}

// add takes in a ticket: into the window, if it belongs there, or aside until
// it is ready.
func (r *readyIndex) add(j *Job, now Instant) error {
	l, err := r.lane(j.Lane)
	if err != nil {
		return err
	}
	r.addTo(l, j, now)
	return nil
}

func (r *readyIndex) addTo(l *lane, j *Job, now Instant) {
	switch {
	case j.ReadyAt <= now:
		r.insert(l, j)
	case len(r.delayed) < maxDelayed || j.ReadyAt <= now.Add(delayHorizon):
		heap.Push(&r.delayed, delay{at: j.ReadyAt, job: j})
	default:
		r.leave(l, j)
	}
}

// insert puts a ready ticket into the window, or leaves it to the store if it
// comes after what has been read of the lane.
func (r *readyIndex) insert(l *lane, j *Job) {
	place := Place{j.Key, j.ID}
	if l.more && l.last.Before(place) {
		if l.loading {
			l.late = append(l.late, j)
		}
		l.floor = min(l.floor, j.Key)
		l.resume = 0
		r.settle(l)
		return
	}
	i := l.find(place)
	if i < len(l.window) && l.window[i].ID == j.ID {
		l.window[i] = j // a newer version in the same place
		return
	}
	l.window = slices.Insert(l.window, i, j)
	r.tickets++
	if len(l.window) > maxWindow && !l.loading { // the page under way comes after last
		r.cut(l, maxWindow)
	}
	r.settle(l)
	if r.tickets > maxTickets {
		r.evict(l)
	}
}

// leave marks that the store holds a ticket which is not ready for long, and
// all after it.
func (r *readyIndex) leave(l *lane, j *Job) {
	if l.loading {
		l.late = append(l.late, j)
		return
	}
	before := Place{Key: j.Key - 1, ID: JobID(bytes.Repeat([]byte{0xff}, len(JobID{})))}
	if !l.more || before.Before(l.last) {
		l.last = before
		l.floor = j.Key
	}
	if !l.more || l.resume != 0 && j.ReadyAt < l.resume {
		l.resume = j.ReadyAt // else the store may have some that are ready
		heap.Push(&r.delayed, delay{at: j.ReadyAt, lane: l})
	}
	l.more = true
	r.settle(l)
}

// cut leaves at most n tickets in the window; the store has the others.
func (r *readyIndex) cut(l *lane, n int) {
	if len(l.window) <= n {
		return
	}
	l.floor = l.window[n].Key
	l.more, l.resume = true, 0
	l.last = Place{}
	if n > 0 {
		l.last = l.placeAt(n - 1)
	}
	r.tickets -= len(l.window) - n
	clear(l.window[n:])
	l.window = l.window[:n]
}

// evict empties the window that was served longest ago, to make room. It
// reports whether there was one. Lanes without one go to the back, so that the
// next search does not pass them again.
func (r *readyIndex) evict(except *lane) bool {
	for range r.used.Len() {
		l := r.used.Front().Value.(*lane)
		r.used.MoveToBack(l.used)
		if l != except && len(l.window) > 0 && !l.loading {
			r.cut(l, 0)
			l.window = nil
			r.settle(l)
			return true
		}
	}
	return false
}

// asideFor is how long a ticket rests that could not be claimed, so that the
// others of its lane go on meanwhile.
const asideFor = time.Second

// setAside takes in a ticket that the store may still have, a little later.
func (r *readyIndex) setAside(j *Job, now Instant) {
	heap.Push(&r.delayed, delay{at: now.Add(asideFor), job: j})
}

// remove takes a job out of its window, if it is there.
func (r *readyIndex) remove(j *Job) {
	l := r.lanes[j.Lane]
	if l == nil {
		return
	}
	if i := l.find(Place{j.Key, j.ID}); i < len(l.window) && l.window[i].ID == j.ID {
		r.take(l, i)
	}
}

// take removes and returns the i-th ticket of a window.
func (r *readyIndex) take(l *lane, i int) *Job {
	j := l.window[i]
	if i == 0 {
		l.window[0] = nil
		l.window = l.window[1:]
	} else {
		l.window = slices.Delete(l.window, i, i+1)
	}
	if len(l.window) == 0 {
		l.window = nil
		l.floor = max(l.floor, l.last.Key)
	}
	r.tickets--
	r.settle(l)
	return j
}

// serve is take, and ends the account's turn.
func (r *readyIndex) serve(l *lane, i int) *Job {
	r.used.MoveToBack(l.used)
	l.group.turns.MoveToBack(l.turn)
	return r.take(l, i)
}

// pauses lists what is paused, in an order that is the same everywhere.
func (r *readyIndex) pauses() []PauseKey { return slices.Sorted(maps.Keys(r.paused)) }

// wake brings in what has become ready by now, and returns the groups that
// may have something to give.
func (r *readyIndex) wake(now Instant) (woken []*group) {
	for len(r.delayed) > 0 && r.delayed[0].at <= now {
		d := heap.Pop(&r.delayed).(delay)
		l := d.lane
		if d.job != nil {
			l, _ = r.lane(d.job.Lane) // parsed before, so it parses
			r.insert(l, d.job)
		}
		if l.resume != 0 && l.resume <= now {
			l.resume = 0
			r.settle(l)
		}
		if l.poke <= now {
			l.poke = 0
		}
		woken = append(woken, l.group)
	}
	return woken
}

// pokeAt has wake return the lane's group at a time.
func (r *readyIndex) pokeAt(l *lane, at Instant) {
	if l.poke == 0 || at < l.poke {
		l.poke = at
		heap.Push(&r.delayed, delay{at: at, lane: l})
	}
}

// pause stops or resumes lanes, and returns those that it touched.
func (r *readyIndex) pause(what PauseKey, paused bool) (touched []*lane) {
	if paused {
		r.paused[what] = true
	} else {
		delete(r.paused, what)
	}
	for _, text := range slices.Sorted(maps.Keys(r.lanes)) {
		l := r.lanes[text]
		if what == PauseLane(text) || what == PauseKind(l.Needs.Kind) {
			l.paused = r.paused[PauseLane(text)] || r.paused[PauseKind(l.Needs.Kind)]
			r.settle(l)
			touched = append(touched, l)
		}
	}
	return touched
}

// sortedGroups returns the groups in an order that is the same everywhere.
func (r *readyIndex) sortedGroups() []*group {
	return slices.SortedFunc(maps.Values(r.groups), func(a, b *group) int { return cmp.Compare(a.made, b.made) })
}

// nextWake is when wake has something to do, or zero.
func (r *readyIndex) nextWake() Instant {
	if len(r.delayed) == 0 {
		return 0
	}
	return r.delayed[0].at
}

// laneHeap orders lanes by key, then by text so that equal keys have one order.
type laneHeap []*lane

func (h laneHeap) Len() int { return len(h) }
func (h laneHeap) Less(i, j int) bool {
	if a, b := h[i].key(), h[j].key(); a != b {
		return a < b
	}
	return h[i].text < h[j].text
}
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.heapIndex = len(*h)
	*h = append(*h, l)
}
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.heapIndex = -1
	return l
}

// delay is something to look at later: a ticket that becomes ready, or a lane
// whose tickets in the store do.
type delay struct {
	at   Instant
	job  *Job // nil: the lane
	lane *lane
}

type delayHeap []delay

func (h delayHeap) Len() int           { return len(h) }
func (h delayHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h delayHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *delayHeap) Push(x any)        { *h = append(*h, x.(delay)) }
func (h *delayHeap) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = delay{}
	*h = old[:len(old)-1]
	return d
}
