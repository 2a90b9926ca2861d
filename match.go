package consign

import (
	"container/heap"
	"container/list"
	"slices"
	"time"
)

// How far the matcher looks. Both bounds keep the cost of a match flat; what
// they leave out is later in line by more than a scheduler may prefer.
const (
	nearlyEqual   = time.Second // keys so close are ordered by fit
	maxCandidates = 8           // tickets scored for a worker, workers of a class for a ticket
	maxTurns      = 8           // accounts asked for a ticket that this worker may take
)

// class is all workers with equal capabilities: they fit the same groups. A
// worker that is paired is a class of its own, since jobs can be sealed to it.
type class struct {
	name    string
	caps    Capabilities
	paired  []string // accounts, sorted
	worker  string   // the ID of one that is paired
	workers int
	links   linkHeap             // to every group that fits, smallest key first
	byModel map[string]*linkHeap // the same, of groups that need a model
	waiting *list.List           // of *waiter, longest first
	warm    map[string]*list.List
}

// link joins a class and a group that it can run. key may be older, so
// smaller, than the group's own: it is corrected when it comes up.
type link struct {
	class *class
	group *group
	all   linkSlot
	model linkSlot
}

// linkSlot is a link's place in one heap.
type linkSlot struct {
	link  *link
	key   Instant
	index int
}

type linkHeap []*linkSlot

func (h linkHeap) Len() int           { return len(h) }
func (h linkHeap) Less(i, j int) bool { return h[i].key < h[j].key }
func (h linkHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *linkHeap) Push(x any) {
	s := x.(*linkSlot)
	s.index = len(*h)
	*h = append(*h, s)
}

// correct gives the first link its group's key, and reports whether it had it.
func (h *linkHeap) correct() bool {
	s := (*h)[0]
	g := s.link.group
	key := g.key()
	if s.key == key {
		return true
	}
	s.key = key
	g.top = max(g.top, key)
	heap.Fix(h, 0)
	return false
}

func (h *linkHeap) Pop() any {
	old := *h
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return s
}

// worker is what the engine knows of a registered worker.
type worker struct {
	WorkerState
	operator string
	class    *class
	standing StandingState
	version  uint64  // of the document that says so
	why      string  // of its standing
	seen     Instant // last heartbeat
	uptime   uptime
	waits    list.List // of *waiter: claims that wait, longest first
	flying   int       // claims that are being given a job
	running  map[ClaimID]JobID
	lost     []Claim // to be told with the next heartbeat
}

// matcher joins tickets and workers. It knows who fits what and who waits.
type matcher struct {
	scheduler Scheduler
	ready     *readyIndex
	classes   map[string]*class
	order     []*class // by first appearance, so that ties have one order
	scratch   Ticket
	vaulted   bool        // the queue has a vault,
	vaults    []string    // and these are its names
	wantPage  func(*lane) // is told of a lane whose window should be filled
}

func newMatcher(s Scheduler, vaulted bool) *matcher {
	m := &matcher{scheduler: s, vaulted: vaulted, ready: newReadyIndex(), classes: map[string]*class{}}
	m.ready.made = m.linkGroup
	m.ready.grown = m.groupGrown
	m.ready.gone = m.unlinkGroup
	return m
}

// fits is the scheduler's word, after where the key is, and trust.
func (m *matcher) fits(g *group, c *class) Reason {
	if g.Needs.vaulted() && !m.hasVault(g.Needs.Vault) {
		return ReasonVault
	}
	if g.Needs.Private {
		if _, ok := slices.BinarySearch(c.paired, g.Account); !ok {
			return ReasonTrust
		}
		if !g.Needs.reaches(c.worker) {
			return ReasonKey
		}
	}
	return m.scheduler.Fits(&g.Needs, &c.caps)
}

func (m *matcher) linkGroup(g *group) {
	for _, c := range m.order {
		m.link(g, c)
	}
}

func (m *matcher) link(g *group, c *class) {
	if m.fits(g, c) != "" {
		return
	}
	l := &link{class: c, group: g}
	key := g.key()
	g.top = max(g.top, key)
	l.all = linkSlot{link: l, key: key}
	g.links = append(g.links, l)
	heap.Push(&c.links, &l.all)
	if model := g.Needs.Model; model != "" {
		if c.byModel[model] == nil {
			c.byModel[model] = &linkHeap{}
		}
		l.model = linkSlot{link: l, key: key}
		heap.Push(c.byModel[model], &l.model)
	}
}

// groupGrown moves the group forward wherever its key became smaller. Where it
// became larger the links are corrected when they come up.
func (m *matcher) groupGrown(g *group) {
	key := g.key()
	if key >= g.top {
		return // as it mostly is: there may be many links
	}
	g.top = key
	for _, l := range g.links {
		if key < l.all.key {
			l.all.key = key
			heap.Fix(&l.class.links, l.all.index)
		}
		if l.model.link != nil && key < l.model.key {
			l.model.key = key
			heap.Fix(l.class.byModel[g.Needs.Model], l.model.index)
		}
	}
}

func (m *matcher) unlinkGroup(g *group) {
	for _, l := range g.links {
		l.remove()
	}
	g.links = nil
}

// remove takes the link out of its class's heaps.
func (l *link) remove() {
	heap.Remove(&l.class.links, l.all.index)
	if l.model.link == nil {
		return
	}
	model := l.group.Needs.Model
	heap.Remove(l.class.byModel[model], l.model.index)
	if l.class.byModel[model].Len() == 0 {
		delete(l.class.byModel, model)
	}
}

// join puts the worker into the class of its capabilities and pairings.
func (m *matcher) join(w *worker, paired []string) {
	name, id := w.Capabilities.class(paired), ""
	if len(paired) > 0 {
		id = w.ID.String()
		name += id
	}
	if w.class != nil && w.class.name == name {
		return
	}
	waiting := m.leave(w)
	c := m.classes[name]
	if c == nil {
		c = &class{name: name, caps: w.Capabilities, paired: paired, worker: id, byModel: map[string]*linkHeap{},
			waiting: list.New(), warm: map[string]*list.List{}}
		m.classes[name] = c
		m.order = append(m.order, c)
		for _, g := range m.ready.sortedGroups() {
			m.link(g, c)
		}
	}
	c.workers++
	w.class = c
	for _, wt := range waiting {
		m.wait(wt)
	}
}

// leave takes the worker out of its class and returns its blocked claims.
func (m *matcher) leave(w *worker) []*waiter {
	c := w.class
	if c == nil {
		return nil
	}
	waiting := w.blocked()
	for _, wt := range waiting {
		m.unwait(wt)
	}
	w.class = nil
	if c.workers--; c.workers == 0 {
		for _, s := range c.links {
			s.link.group.links = slices.DeleteFunc(s.link.group.links, func(l *link) bool { return l == s.link })
		}
		delete(m.classes, c.name)
		m.order = slices.DeleteFunc(m.order, func(o *class) bool { return o == c })
	}
	return waiting
}

// pick takes the best ticket for a worker out of the index, or returns nil.
func (m *matcher) pick(w *worker, now Instant) *Job {
	var best candidate
	m.near(&w.class.links, now, func(g *group) { m.consider(&best, g, w, now) })
	for _, r := range w.Warm {
		if h := w.class.byModel[r.Model]; h != nil {
			m.near(h, now, func(g *group) { m.consider(&best, g, w, now) })
		}
	}
	if best.lane == nil {
		m.beyond(&w.class.links, func(g *group) bool {
			m.consider(&best, g, w, now)
			return best.lane != nil
		})
	}
	if best.lane == nil {
		return nil
	}
	job := m.ready.serve(best.lane, best.index)
	if m.ready.wantsLoad(best.lane) {
		m.wantPage(best.lane)
	}
	return job
}

// beyond visits the first groups of the heap, whatever their keys, until visit
// says that it has found something: the nearest ones may be loading, or closed
// to this worker for a while.
func (m *matcher) beyond(h *linkHeap, visit func(*group) (found bool)) {
	var seen []*linkSlot
	for len(*h) > 0 && len(seen) < maxCandidates {
		if !h.correct() {
			continue
		}
		s := (*h)[0]
		if s.key == never {
			break
		}
		seen = append(seen, heap.Pop(h).(*linkSlot))
		if visit(s.link.group) {
			break
		}
	}
	for _, s := range seen {
		heap.Push(h, s)
	}
}

// candidate is a ticket that a worker may take, and how soon it counts.
type candidate struct {
	lane  *lane
	index int
	rank  Instant
}

// near visits the groups whose keys are nearly equal to the smallest one in
// the heap, at most maxCandidates.
func (m *matcher) near(h *linkHeap, now Instant, visit func(*group)) {
	for len(*h) > 0 && !h.correct() {
		continue
	}
	if len(*h) == 0 || (*h)[0].key == never {
		return
	}
	limit := (*h)[0].key.Add(nearlyEqual)
	// The heap's upper part, breadth first: children have larger keys.
	var front [2*maxCandidates + 1]int
	n := 1
	for i := 0; i < n && i < maxCandidates; i++ {
		at := front[i]
		if g := (*h)[at].link.group; g.key() <= limit {
			visit(g)
		}
		for child := 2*at + 1; child <= 2*at+2 && child < len(*h) && n < len(front); child++ {
			if (*h)[child].key <= limit {
				front[n] = child
				n++
			}
		}
	}
}

// consider replaces best if the group has a better ticket for the worker.
func (m *matcher) consider(best *candidate, g *group, w *worker, now Instant) {
	l, i := m.next(g, w, now)
	if l == nil {
		return
	}
	j := l.window[i]
	rank := g.key() - Instant(m.scheduler.Score(m.ticket(g, j), &w.WorkerState, now)/time.Microsecond)
	if best.lane == nil || rank < best.rank {
		*best = candidate{lane: l, index: i, rank: rank}
	}
}

// ticket shows a job to the scheduler. It is good until the next call.
func (m *matcher) ticket(g *group, j *Job) *Ticket {
	m.scratch = Ticket{Needs: &g.Needs, Chars: j.Chars, ReadyAt: j.ReadyAt, Key: j.Key}
	return &m.scratch
}

// next finds the ticket of the account whose turn it is.
func (m *matcher) next(g *group, w *worker, now Instant) (*lane, int) {
	turns := 0
	for el := g.turns.Front(); el != nil && turns < maxTurns; el = el.Next() {
		l := el.Value.(*lane)
		turns++
		if len(l.window) == 0 {
			if m.ready.wantsLoad(l) {
				m.wantPage(l)
			}
			continue
		}
		for i := 0; i < len(l.window) && i < maxTurns; i++ {
			if !m.excluded(l, l.window[i], w, now) {
				return l, i
			}
		}
	}
	return nil, 0
}

// excluded reports whether the worker must leave the ticket to others: it
// failed this job a short while ago and another worker can run it.
func (m *matcher) excluded(l *lane, j *Job, w *worker, now Instant) bool {
	if j.LastWorker != w.ID || now >= j.ExcludeUntil {
		return false
	}
	for _, k := range l.group.links {
		if k.class.workers > 1 || k.class != w.class {
			m.ready.pokeAt(l, j.ExcludeUntil)
			return true
		}
	}
	return false
}

// matchIn finds a ticket for a blocked claim: of the account whose turn it is,
// or of the next one whose tickets somebody may take.
func (m *matcher) matchIn(g *group, now Instant) (*lane, int, *waiter) {
	turns := 0
	for el := g.turns.Front(); el != nil && turns < maxTurns; el = el.Next() {
		l := el.Value.(*lane)
		if len(l.window) == 0 && m.ready.wantsLoad(l) {
			m.wantPage(l)
		}
		if i, wt := m.takerIn(l, now); wt != nil {
			return l, i, wt
		}
		turns++
	}
	return nil, 0, nil
}

// takerIn finds a ticket near the front of the lane that a blocked claim may
// take, and the best such claim.
func (m *matcher) takerIn(l *lane, now Instant) (int, *waiter) {
	for i := 0; i < len(l.window) && i < maxTurns; i++ {
		if wt := m.taker(l, l.window[i], now); wt != nil {
			return i, wt
		}
	}
	return 0, nil
}

// taker finds the best blocked claim for a ticket, or nil.
func (m *matcher) taker(in *lane, j *Job, now Instant) *waiter {
	g := in.group
	var best *waiter
	var bestScore time.Duration
	ticket := m.ticket(g, j)
	consider := func(waiting *list.List) {
		if waiting == nil {
			return
		}
		n := 0
		for el := waiting.Front(); el != nil && n < maxCandidates; el = el.Next() {
			wt := el.Value.(*waiter)
			if m.excluded(in, j, wt.worker, now) {
				continue
			}
			n++
			score := m.scheduler.Score(ticket, &wt.worker.WorkerState, now)
			if best == nil || score > bestScore {
				best, bestScore = wt, score
			}
		}
	}
	for _, l := range g.links {
		consider(l.class.warm[g.Needs.Model])
		consider(l.class.waiting)
	}
	return best
}

// anyWaiting reports whether a blocked claim could take the group's tickets.
func (g *group) anyWaiting() bool {
	for _, l := range g.links {
		if l.class.waiting.Len() > 0 {
			return true
		}
	}
	return false
}
