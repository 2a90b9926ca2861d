package consign

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// backlog is a store for engine benchmarks: it applies everything at once, and
// has a new job for each one that was taken, so that the backlog stays as it
// is. What it costs is part of the figures, and small.
type backlog struct {
	lanes map[string][]*Job
	spec  Spec
	n     uint64
}

func (s *backlog) job(lane Lane, text string) *Job {
	s.n++
	j := &Job{Version: 1, State: StateQueued, Lane: text, Account: lane.Account, Key: Instant(s.n), ReadyAt: 1, MaxAttempts: 5, Chars: 1000}
	for i := range 8 {
		j.ID[i] = byte(s.n * 0x9e3779b97f4a7c15 >> (8 * i))
		j.ID[8+i] = byte(s.n >> (56 - 8*i))
	}
	return j
}

// serve answers a step's output with the inputs of the next.
func (s *backlog) serve(out *output, in []input) []input {
	if len(out.commits) > 0 {
		answers := make([]answer, len(out.commits))
		for i, c := range out.commits {
			answers[i].commit = c
			if c.wantSpec {
				answers[i].spec = &s.spec
			}
		}
		in = append(in, inCommitted{answers})
	}
	for _, r := range out.reads {
		switch r.kind {
		case readPage:
			queue := s.lanes[r.lane.text]
			i := 0
			for i < len(queue) && !r.after.Before(Place{queue[i].Key, queue[i].ID}) {
				i++
			}
			page := slices.Grow(slices.Clone(queue[i:min(len(queue), i+r.n)]), r.n)
			for len(page) < r.n {
				page = append(page, s.job(r.lane.Lane, r.lane.text))
			}
			s.lanes[r.lane.text] = nil
			in = append(in, inPage{r.lane, r.n, page, nil})
		case readDue:
			in = append(in, inDue{})
		case readLapsed:
			in = append(in, inLapsed{})
		case readEffects:
			in = append(in, inEffects{})
		}
	}
	return in
}

// mixedFleet registers workers of 16 capability classes.
func mixedFleet(e *engine, now Instant, n int) []WorkerID {
	ids := make([]WorkerID, n)
	var in []input
	for i := range ids {
		ids[i] = WorkerID{byte(i), byte(i >> 8), 1}
		caps := Capabilities{Kinds: []string{KindTask}, MaxContextTier: Tier(1 + i%4), Slots: 4}
		if i%8 >= 4 {
			caps.Kinds = append(caps.Kinds, KindInference)
			caps.Models = []string{"m0", "m1", "m2", "m3"}[:1+i%4]
		}
		if i%16 >= 8 {
			caps.Docker = true
			caps.Kinds = append(caps.Kinds, KindContainer)
		}
		in = append(in, inRegister{record: WorkerRecord{ID: ids[i]}, caps: caps})
	}
	e.Step(now, in)
	in = in[:0]
	for i := range ids {
		w := e.workers[ids[i]]
		if len(w.Capabilities.Models) > 0 {
			beat := Heartbeat{Capabilities: w.Capabilities, FreeSlots: 4, MaxWarm: 1, Warm: []WarmModel{{Name: w.Capabilities.Models[i%len(w.Capabilities.Models)], Since: time.Hour}}}
			in = append(in, inHeartbeat{newCall(), ids[i], beat})
		}
	}
	e.Step(now, in)
	return ids
}

// newBacklog fills n jobs into lanes of mixed needs, for that many accounts.
func newBacklog(n, lanes int) *backlog {
	s := &backlog{lanes: map[string][]*Job{}}
	var all []Lane
	for i := range lanes {
		l := Lane{Account: fmt.Sprintf("a%d", i/24), Offset: 10 * time.Second}
		l.Needs = Needs{Kind: KindTask, Tier: Tier(1 + i%4)}
		switch i / 4 % 6 {
		case 1, 2, 3, 4:
			l.Needs.Kind, l.Needs.Model = KindInference, fmt.Sprintf("m%d", i/4%6-1)
		case 5:
			l.Needs.Kind, l.Needs.Docker = KindContainer, true
		}
		all = append(all, l)
	}
	texts := make([]string, len(all))
	for i, l := range all {
		texts[i] = l.String()
	}
	for i := range n {
		t := texts[i%len(texts)]
		s.lanes[t] = append(s.lanes[t], s.job(all[i%len(all)], t))
	}
	return s
}

func benchEngine(b *testing.B, queued, lanes, workers, batch int) {
	c := Config{}.withDefaults()
	e := newEngine(&c, [8]byte{1})
	s := newBacklog(queued, lanes)
	now := Instant(1_700_000_000_000_000)
	ids := mixedFleet(e, now, workers)
	var heads []LaneHead
	for text, jobs := range s.lanes {
		heads = append(heads, LaneHead{text, jobs[0].Key})
	}
	slices.SortFunc(heads, func(a, b LaneHead) int { return int(a.Key - b.Key) })
	in := s.serve(e.Step(now, []input{inLanes{heads}}), nil)
	for len(in) > 0 {
		in = s.serve(e.Step(now, in), nil)
	}

	calls := make([]*call, batch)
	for i := range calls {
		calls[i] = newCall()
	}
	var steps []time.Duration
	done, turn := 0, 0
	var engine time.Duration // in Step alone
	step := func(in []input) *output {
		start := time.Now()
		out := e.Step(now, in)
		engine += time.Since(start)
		return out
	}
	claimed := make([]Claim, 0, batch)
	holders := make([]WorkerID, 0, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for done < b.N {
		in = in[:0]
		for i := range batch {
			in = append(in, inClaim{calls[i], ids[turn%len(ids)], NewClaimID()})
			turn++
		}
		start := engine
		claimed, holders = claimed[:0], holders[:0]
		for len(in) > 0 {
			out := step(in)
			for _, r := range out.replies {
				if r.spec != nil {
					claimed = append(claimed, Claim{r.job.ID, r.job.Claim})
					holders = append(holders, r.job.Worker)
				}
			}
			in = s.serve(out, in[:0])
		}
		for i, c := range claimed {
			in = append(in, inOp{&op{kind: opEvent, id: c.Job, claim: c.Claim, worker: holders[i],
				done: &Done{ID: c.Job, Claim: c.Claim}, ev: Event{Kind: EventComplete}}})
			done++
		}
		for len(in) > 0 {
			in = s.serve(step(in), in[:0])
		}
		steps = append(steps, engine-start)
		now += 10
		for c := range e.waiters { // a worker that found nothing does not wait here
			in = append(in, inAbandon{c})
		}
		if len(in) > 0 {
			e.Step(now, in)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(done)/engine.Seconds(), "cycles/s")
	slices.Sort(steps)
	b.ReportMetric(float64(steps[len(steps)*99/100].Microseconds()), fmt.Sprintf("p99-us/%d-cycles", batch))
}

// BenchmarkEngine is one claim and one completion, with capability match,
// turns and affinity, without a store: 1,000 workers of 16 classes. They come
// in batches of 16, as when a queue is busy, or one by one.
func BenchmarkEngine(b *testing.B) {
	for _, queued := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("queued=%d", queued), func(b *testing.B) { benchEngine(b, queued, 96, 1000, 16) })
	}
	for _, lanes := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) { benchEngine(b, 100_000, lanes, 1000, 16) })
	}
	b.Run("alone", func(b *testing.B) { benchEngine(b, 100_000, 96, 1000, 1) })
}
