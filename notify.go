package consign

import (
	"context"
	"errors"
	"time"
)

// Several queues may share a store. None leads: each one claims, renews, reaps
// and pumps for itself, and the store's versions and guards decide. What the
// others have done a queue finds out here, by hints where the store has them,
// and by looking.

// Notifier is an optional ability of a Store that several queues share: it
// tells a queue that another one has changed something. It is a hint. A queue
// that hears nothing finds out for itself, up to a quarter of a second later.
type Notifier interface {
	// Watch calls changed, one call at a time, after others have changed
	// something, until ctx is done. It need not tell of what this Store's own
	// Apply has changed.
	Watch(ctx context.Context, changed func(Hint))
}

// Hint says what was changed.
type Hint struct {
	Queued bool    // jobs were queued
	Jobs   []JobID // that changed; none: not known which
}

const (
	// lookEvery is how late a queue whose workers wait notices what others
	// queued, and those who wait for a job what others did to it.
	lookEvery = 250 * time.Millisecond
	// lookRarely is the same, in looks, for a queue with no worker to spare.
	lookRarely = 4
)

// follow looks for what others have done until ctx is done.
func (q *Queue) follow(ctx context.Context) {
	peers := newPeers(q)
	timer := time.NewTicker(lookEvery)
	defer timer.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-q.nudge:
			bounded(ctx, q.lookAtLanes)
			continue
		case <-timer.C:
		}
		if n%lookRarely == 0 || q.waiting.Load() {
			bounded(ctx, q.lookAtLanes)
		}
		if n%lookRarely == 0 {
			bounded(ctx, q.lookAtDocs)
			bounded(ctx, q.lookAtVault)
			bounded(ctx, peers.look)
		}
		bounded(ctx, q.lookAtTopics)
	}
}

// bounded looks at a store that may not answer.
func bounded(ctx context.Context, look func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	look(ctx)
}

// hinted takes a hint.
func (q *Queue) hinted(h Hint) {
	q.topics.wake(h.Jobs)
	if h.Queued && q.waiting.Load() {
		select {
		case q.nudge <- struct{}{}:
		default:
		}
	}
}

// lookAtLanes tells the engine which lanes have tickets. What cannot be read
// is read again soon, here as below.
func (q *Queue) lookAtLanes(ctx context.Context) {
	heads, err := q.config.Store.Lanes(ctx)
	q.answers(ctx, err)
	if err == nil {
		q.inbox.push(inLanes{heads})
	}
}

// answers logs when the store stops answering, and when it does again: while no
// call is under way nobody else would hear of it.
func (q *Queue) answers(ctx context.Context, err error) {
	switch {
	case err != nil && q.silent.IsZero() && !errors.Is(ctx.Err(), context.Canceled):
		q.silent = time.Now()
		q.config.Logger.Error("consign: the store does not answer, and is asked again", "error", err)
	case err == nil && !q.silent.IsZero():
		q.config.Logger.Info("consign: the store answers again", "after", time.Since(q.silent).Round(time.Millisecond))
		q.silent = time.Time{}
	}
}

// lookAtVault tells the engine what the vault opens: others may have given it
// another name, where two made it at once.
func (q *Queue) lookAtVault(ctx context.Context) {
	if names, err := q.vaultNames(ctx); err == nil && names != nil {
		q.inbox.push(inVaults{names})
	}
}

// lookAtTopics wakes those who wait for jobs that others have changed.
func (q *Queue) lookAtTopics(ctx context.Context) {
	ids := q.topics.awaited()
	if len(ids) == 0 {
		return
	}
	if jobs, err := q.config.Store.Jobs(ctx, ids); err == nil {
		q.topics.compare(ids, jobs)
	}
}

// adminCounter counts the changes of pairings, pauses and standings.
const adminCounter = "queue/admin"

// adminChanged is the delta of a change of those.
var adminChanged = Delta{Counter: adminCounter, Add: 1}

// lookAtDocs takes in pairings, pauses and standings that others have changed.
func (q *Queue) lookAtDocs(ctx context.Context) {
	n, err := q.config.Store.Counter(ctx, adminCounter)
	if err != nil || n == q.administered {
		return
	}
	q.admin.Lock()
	defer q.admin.Unlock()
	docs, err := q.readAdmin(ctx)
	if err == nil {
		err = q.docs(ctx, DocWorker, func(d Doc) { docs.workers = append(docs.workers, d) })
	}
	if err != nil {
		if ctx.Err() == nil {
			q.config.Logger.Error("consign: what others changed of pairings, pauses and standings is not taken in", "error", err)
		}
		return
	}
	q.administered = n
	q.inbox.push(docs)
}

// readAdmin reads pairings and pauses. A pairing that cannot be read trusts
// nobody, and keeps no other from being read: it is logged, once for each of
// its versions.
func (q *Queue) readAdmin(ctx context.Context) (in inAdmin, err error) {
	bad := map[string]uint64{}
	err = q.docs(ctx, DocPairing, func(d Doc) {
		p, err := readPairing(d)
		switch {
		case err != nil:
			if bad[d.Key] = d.Version; q.badPairings[d.Key] != d.Version {
				q.config.Logger.Error("consign: a pairing is left out", "error", err)
			}
		case !p.Pending:
			in.trusts = append(in.trusts, trust{p.Account, p.Worker})
		}
	})
	if err != nil {
		return in, err
	}
	q.badPairings = bad
	err = q.docs(ctx, DocPause, func(d Doc) { in.pauses = append(in.pauses, PauseKey(d.Key)) })
	return in, err
}

// inAdmin is what the store has of pairings and pauses, all of them, and of
// workers.
type inAdmin struct {
	trusts  []trust
	pauses  []PauseKey
	workers []Doc
}

func (in inAdmin) apply(e *engine) {
	paired := map[trust]bool{}
	for _, p := range in.trusts {
		paired[p] = true
		inPair{p.account, p.worker, true}.apply(e)
	}
	for _, p := range e.trusts() {
		if !paired[p] {
			inPair{p.account, p.worker, false}.apply(e)
		}
	}
	paused := map[PauseKey]bool{}
	for _, what := range in.pauses {
		paused[what] = true
		if !e.ready.paused[what] {
			inPause{what, true}.apply(e)
		}
	}
	for _, what := range e.ready.pauses() {
		if !paused[what] {
			inPause{what, false}.apply(e)
		}
	}
	for _, d := range in.workers {
		e.workerChanged(d)
	}
}
