package consign_test

import (
	linked "container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// What a queue keeps does not grow with what has been: generations of workers,
// accounts, models, lanes and jobs come and go, each with names of its own, and
// in the end there is no more in any map, slice, list or channel of the queue
// than twice of what there was after the second: what is bounded rather than
// emptied, as idle lanes are, is so much for some and so much for the next.
func TestSoak(t *testing.T) {
	const generations = 6
	bubble(t, func(t *testing.T) {
		s := newSoak(t)
		var sizes map[string]int
		var heap uint64
		for g := range generations {
			s.generation(g)
			s.forget()
			switch g {
			case 1:
				sizes, heap = census(s.q, consign.EngineOf(s.q)), liveHeap()
				s.witness(sizes)
			case generations - 1:
				compare(t, sizes, census(s.q, consign.EngineOf(s.q)))
				if live := liveHeap(); live > heap+8<<20 { // a generation's jobs alone are 6 MB
					t.Errorf("the heap grew from %d to %d bytes", heap, live)
				}
			}
		}
		s.stop()
	})
}

// A worker that stays keeps nothing of the models that are gone, nor of the
// claims that it has lost.
func TestSoakOfAWorkerThatStays(t *testing.T) {
	const rounds, lanes, warm, lost = 6, 3000, 40, 14
	bubble(t, func(t *testing.T) {
		q, stop := startQueueStop(t, consign.Config{Identity: seededIdentity(1), Lease: 10 * time.Second, Logger: slog.New(slog.DiscardHandler)})
		caps := consign.Capabilities{Kinds: []string{consign.KindTask}, Models: []string{"*"}, MaxContextTier: 4, Slots: 2 * lost}
		session := openSession(t, q, seededIdentity(2), caps)
		beat := func(models ...consign.WarmModel) {
			t.Helper()
			_, err := session.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: caps, FreeSlots: lost, Warm: models})
			check(t, err)
		}
		sub := q.Submitter("acme")
		submit := func(n int, name string) (ids []consign.JobID) {
			t.Helper()
			rs := make([]consign.SubmitRequest, n)
			for i := range rs {
				rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Model: fmt.Sprintf("%s-%d", name, i), Payload: []byte("x"), Custody: consign.CustodyPlain}
			}
			for _, o := range sub.SubmitMany(t.Context(), rs) {
				check(t, o.Err)
				ids = append(ids, o.Job.ID)
			}
			return ids
		}
		cancel := func(ids []consign.JobID) {
			t.Helper()
			for _, id := range ids {
				_, err := sub.Cancel(t.Context(), id)
				check(t, err)
			}
		}
		var sizes map[string]int
		for round := range rounds {
			cancel(submit(lanes, fmt.Sprint("lane-", round))) // more than the queue keeps
			ids := submit(lost, fmt.Sprint("lost-", round))
			for range ids {
				_, err := session.Claim(t.Context())
				check(t, err)
			}
			for range 6 {
				beat()
				time.Sleep(3 * time.Second)
			}
			cancel(ids)
			beat()
			waiting, leave := context.WithCancel(t.Context())
			left := make(chan error)
			go func() { _, err := session.Claim(waiting); left <- err }()
			synctest.Wait()
			for i := range warm {
				beat(consign.WarmModel{Name: fmt.Sprint("warm-", round, "-", i)})
			}
			leave()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			synctest.Wait()
			switch round {
			case 1:
				sizes = census(q, consign.EngineOf(q), session)
			case rounds - 1:
				compare(t, sizes, census(q, consign.EngineOf(q), session))
			}
		}
		stop()
	})
}

const (
	soakAccounts = 220
	soakModels   = 20 // times accounts: more lanes than the queue keeps
	soakWorkers  = 24
)

type soak struct {
	*testing.T
	store *memdb.Store
	vault *testkit.Vault
	q     *consign.Queue
	stop  func()

	mu    sync.Mutex
	tried map[consign.JobID]bool
	ends  map[consign.State]int
}

func newSoak(t *testing.T) *soak {
	s := &soak{T: t, store: memdb.New(), vault: &testkit.Vault{}, ends: map[consign.State]int{}}
	s.q, s.stop = testkit.Start(t, consign.Config{Store: s.store, Vault: s.vault, Identity: seededIdentity(1), NoReceipts: true, Prices: consign.PriceTable{{Price: 1}},
		Lease: 10 * time.Second, Retention: time.Hour, DrainTimeout: time.Second, BackoffBase: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	return s
}

// The fates of jobs, by the first byte of their payload.
const (
	fateCompleted = iota
	fateAcknowledged
	fateFailed
	fateCancelled
	fateExpired
	fateReleased
	fateLost
	fateCount
)

// generation is a life of names that nobody else has.
func (s *soak) generation(g int) {
	ctx := s.Context()
	s.tried = map[consign.JobID]bool{}
	var models []string
	for m := range soakModels {
		models = append(models, fmt.Sprintf("model-%d-%d", g, m))
	}
	working, vanish := context.WithCancel(ctx)
	var workers, submitters sync.WaitGroup
	for w := range soakWorkers {
		workers.Go(func() { s.work(working, g, w, models) })
	}
	for a := range soakAccounts {
		submitters.Go(func() { s.submit(ctx, g, a, models) })
	}
	s.administer(ctx, g)
	submitters.Wait()
	vanish() // without a word
	workers.Wait()
}

// submit is an account: a job of each model, each with a fate.
func (s *soak) submit(ctx context.Context, g, a int, models []string) {
	account := fmt.Sprintf("account-%d-%d", g, a)
	sub := s.q.Submitter(account)
	if err := s.q.AddCredit(ctx, account, 100, account); err != nil {
		s.Error(err)
	}
	var rs []consign.SubmitRequest
	for i, model := range models {
		fate := byte(i+a) % fateCount
		r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Model: model, Custody: consign.CustodyPlain, Payload: append([]byte{fate}, make([]byte, 1000)...)}
		switch {
		case fate == fateExpired:
			r.QueueTime, r.Labels = 5*time.Second, map[string]string{"nobody": account}
		case i%5 == 0:
			r.Custody = consign.CustodyTransit
		}
		rs = append(rs, r)
	}
	for i, o := range sub.SubmitMany(ctx, rs) {
		if o.Err != nil {
			s.Error(o.Err)
			continue
		}
		if rs[i].Payload[0] == fateCancelled {
			_, _ = sub.Cancel(ctx, rs[i].ID) // or it is completed already
		}
		abandoned, leave := context.WithTimeout(ctx, time.Microsecond)
		_, _ = sub.Wait(abandoned, rs[i].ID)
		leave()
	}
	for _, r := range rs {
		info, err := sub.Wait(ctx, r.ID)
		if err != nil {
			s.Error(err)
			return
		}
		s.mu.Lock()
		s.ends[info.State]++
		s.mu.Unlock()
		if r.Payload[0] == fateAcknowledged {
			if err := sub.Acknowledge(ctx, r.ID); err != nil {
				s.Error(err)
			}
		}
	}
}

// work is a worker, which has its own models and labels, and sends heartbeats.
func (s *soak) work(ctx context.Context, g, n int, models []string) {
	const slots = 16
	c := consign.Capabilities{Kinds: []string{consign.KindTask}, Models: models, MaxContextTier: 4, Encryption: true, Slots: slots,
		Labels: map[string]string{"name": fmt.Sprintf("worker-%d-%d", g, n)}}
	id := seededIdentity(uint64(1000 + 100*g + n))
	session := s.register(id, c)
	var group sync.WaitGroup
	for range slots {
		group.Go(func() {
			for ctx.Err() == nil {
				claiming, leave := context.WithTimeout(ctx, time.Second) // abandoned, and asked again
				a, err := session.Claim(claiming)
				leave()
				if err == nil {
					s.do(ctx, session, a)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					sleep(ctx, time.Second)
				}
			}
		})
	}
	for ctx.Err() == nil {
		if _, err := session.Heartbeat(ctx, consign.Heartbeat{Capabilities: c, FreeSlots: slots, Warm: []consign.WarmModel{{Name: models[n%len(models)]}}, Rates: map[string]float64{models[0]: 1e6}}); err != nil && ctx.Err() == nil {
			s.Error(err)
		}
		_, _ = session.ClaimPairing(ctx, "BBBBB-BBBBB") // a guess
		sleep(ctx, 3*time.Second)
	}
	group.Wait()
}

func (s *soak) register(id *sign.Identity, c consign.Capabilities) consign.Session {
	challenge, err := s.q.Challenge(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	signature, err := id.Sign(consign.RegistrationMessage(challenge.Queue, "inproc", challenge.Nonce, nil))
	if err != nil {
		s.Fatal(err)
	}
	session, err := s.q.Register(s.Context(), consign.Registration{Algorithm: id.Public().Algorithm(), PublicKey: id.Public().Bytes(),
		Origin: "inproc", Nonce: challenge.Nonce, Signature: signature, Capabilities: c})
	if err != nil {
		s.Fatal(err)
	}
	return session
}

// do gives a job its fate. One that is released or lost completes the next time.
func (s *soak) do(ctx context.Context, session consign.Session, a consign.Assignment) {
	claim := consign.Claim{Job: a.Job, Claim: a.Claim}
	s.mu.Lock()
	again := s.tried[a.Job]
	s.tried[a.Job] = true
	s.mu.Unlock()
	fate := a.Payload[len(a.Payload)-1001]
	_ = session.Report(ctx, consign.Report{Claim: claim, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("at work")}}})
	switch {
	case fate == fateFailed:
		_ = session.Fail(ctx, consign.Failure{Claim: claim, Kind: consign.FailPayload, Reason: "poison"})
	case fate == fateReleased && !again:
		_ = session.Release(ctx, consign.Release{Claim: claim})
	case fate == fateLost && !again: // the next heartbeat does not name it
	default:
		_ = session.Complete(ctx, consign.Completion{Claim: claim, Result: make([]byte, 500)})
	}
}

// administer pairs and pauses what is of the generation, and takes it back.
func (s *soak) administer(ctx context.Context, g int) {
	for i := range 20 {
		account, worker := fmt.Sprintf("account-%d-%d", g, i), seededIdentity(uint64(1000+100*g+i)).Public()
		key := seededIdentity(uint64(9000 + i)).Public().Bytes()
		_, err := s.q.Submitter(account).NewPairing(ctx, key)
		p := consign.Pairing{Account: account, Worker: worker.ID(), Submitter: key}
		lane := consign.PauseLane(fmt.Sprintf("lane-%d-%d", g, i))
		for _, e := range []error{err, s.q.Pair(ctx, p), s.q.Pause(ctx, lane), s.q.Resume(ctx, lane), s.q.Unpair(ctx, p)} {
			if e != nil {
				s.Error(e)
			}
		}
	}
}

// forget lets all pass: leases, retention, tombstones, and what is remembered
// of workers that are gone.
func (s *soak) forget() {
	for _, d := range []time.Duration{time.Minute, 2 * time.Hour, 25 * time.Hour, 5 * 24 * time.Hour} {
		consign.Skip(s.q, d)
		time.Sleep(30 * time.Second)
	}
	synctest.Wait()
	if len(s.tried) < soakAccounts*soakModels/2 {
		s.Errorf("only %d jobs were handed out", len(s.tried))
	}
	for id := range s.tried {
		if s.vault.Holds(id) {
			s.Fatalf("the vault has a key of job %s", id)
		}
	}
	left, err := s.store.List(s.Context(), consign.Filter{}, consign.JobID{}, 10)
	effects, err2 := s.store.Effects(s.Context(), 10)
	if err = errors.Join(err, err2); err != nil || len(left) > 0 || len(effects) > 0 {
		s.Errorf("left are %d jobs and more, and %d effects (%v)", len(left), len(effects), err)
	}
}

// witness sees that all states were there, and that the census sees what it
// should.
func (s *soak) witness(sizes map[string]int) {
	for _, state := range []consign.State{consign.StateCompleted, consign.StateFailed, consign.StateCancelled, consign.StateExpired} {
		if s.ends[state] < 2*soakAccounts {
			s.Errorf("only %d jobs are %s", s.ends[state], state)
		}
	}
	for _, part := range []string{"engine.jobs", "engine.workers", ".waiters", "readyIndex.lanes", "matcher.classes", "topics.of", "guesses.byWorker", "nonces.used", "pump.shreds", "inbox.items", "uptimes"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(sizes)), func(path string) bool { return strings.Contains(path, part) }) {
			s.Errorf("the census does not count %s: it has %v", part, slices.Sorted(maps.Keys(sizes)))
		}
	}
}

func compare(t *testing.T, before, now map[string]int) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(now)) {
		if now[path] > 2*before[path]+16 {
			t.Errorf("%s has %d elements, and had %d", path, now[path], before[path])
		}
	}
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what a finalizer or a pool let go
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// census counts the elements of all maps, slices, lists and channels that can be
// reached from the roots within the package, by the way to them.
func census(roots ...any) map[string]int {
	c := counter{sizes: map[string]int{}, seen: map[uintptr]bool{}}
	for _, root := range roots {
		v := reflect.ValueOf(root)
		c.walk(v, v.Type().Elem().Name())
	}
	return c.sizes
}

type counter struct {
	sizes map[string]int
	seen  map[uintptr]bool
}

var ownPackage = reflect.TypeFor[consign.Queue]().PkgPath()

func (c *counter) walk(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			c.walk(v.Elem(), path)
		}
	case reflect.Pointer:
		if v.IsNil() || c.seen[v.Pointer()] {
			return
		}
		c.seen[v.Pointer()] = true
		if v.Type() == reflect.TypeFor[*linked.List]() {
			c.list(v.Elem(), path)
			return
		}
		c.walk(v.Elem(), path)
	case reflect.Struct:
		c.fields(v, path)
	case reflect.Map:
		c.sizes[path] += v.Len()
		for it := v.MapRange(); it.Next(); {
			c.walk(it.Key(), path+"[key]")
			c.walk(it.Value(), path+"[]")
		}
	case reflect.Slice:
		c.sizes[path] += v.Len()
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				c.walk(v.Index(i), path+"[]")
			}
		}
	case reflect.Chan:
		c.sizes[path] += v.Len()
	}
}

// fields walks into the package's own structs, and into lists.
func (c *counter) fields(v reflect.Value, path string) {
	switch {
	case v.Type() == reflect.TypeFor[linked.List]():
		c.list(v, path)
	case v.Type().PkgPath() == ownPackage || v.Type().PkgPath() == "":
		// One way to each type: many lead there.
		if name := v.Type().Name(); name != "" && v.CanAddr() {
			path = name
		}
		for i := range v.NumField() {
			c.walk(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	}
}

func (c *counter) list(l reflect.Value, path string) {
	c.sizes[path] += int(l.FieldByName("len").Int())
	root := l.FieldByName("root").Addr().Pointer()
	for e := l.FieldByName("root").FieldByName("next"); !e.IsNil() && e.Pointer() != root; e = e.Elem().FieldByName("next") {
		c.walk(e.Elem().FieldByName("Value"), path+"[]")
	}
}
