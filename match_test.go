package consign

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// flat takes every match for as good as any other.
type flat struct{ FourSignals }

func (flat) Score(*Ticket, *WorkerState, Instant) time.Duration { return 0 }

// TestPickKeepsTheLine draws tickets, workers and pauses. Where every match is
// as good as any other a worker gets a ticket of the group that has the first
// one it could run, and nothing only where there is nothing.
func TestPickKeepsTheLine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		if why := playMatcher(rt, func(*matcher) {}, func(*matcher) {}); why != "" {
			rt.Fatal(why)
		}
	})
}

// Each way to let the heaps of links fall behind is seen.
func TestPickMutants(t *testing.T) {
	mutants := []struct {
		name        string
		made, after func(*matcher)
	}{
		{"a group that comes forward is not moved", func(m *matcher) { m.ready.grown = func(*group) {} }, func(*matcher) {}},
		{"a link that was moved back is forgotten", func(*matcher) {}, func(m *matcher) {
			for _, g := range m.ready.groups {
				g.top = 0
			}
		}},
		{"a class that is new is given nothing", func(m *matcher) { m.ready.made = func(*group) {} }, func(*matcher) {}},
	}
	caught := 0
	for _, mutant := range mutants {
		seen := false
		for seed := 0; seed < 300 && !seen; seed++ {
			seen = rapid.Custom(func(rt *rapid.T) string { return playMatcher(rt, mutant.made, mutant.after) }).Example(seed) != ""
		}
		if seen {
			caught++
		} else {
			t.Errorf("survived: %s", mutant.name)
		}
	}
	t.Logf("%d of %d caught", caught, len(mutants))
}

func playMatcher(rt *rapid.T, made, after func(*matcher)) string {
	m := newMatcher(flat{}, true)
	m.wantPage = func(*lane) {}
	made(m)
	const now = Instant(1_000_000_000)
	kinds := []string{"a", "b", "c"}
	workers := []*worker{}
	for i := range 4 {
		w := &worker{running: map[ClaimID]JobID{}}
		w.ID, w.Capabilities = WorkerID{byte(i)}, Capabilities{Kinds: kinds[i%3:], MaxContextTier: Tier(1 + i), Slots: 100}
		workers = append(workers, w)
		m.join(w, nil)
	}
	queued := map[JobID]*Job{}
	paused := map[string]bool{}
	for n := range rapid.IntRange(1, 120).Draw(rt, "steps") {
		switch op := rapid.IntRange(0, 9).Draw(rt, "op"); {
		case op < 5:
			l := Lane{Account: fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "account")), Needs: Needs{
				Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Tier: Tier(rapid.IntRange(1, 4).Draw(rt, "tier"))}}
			j := &Job{ID: JobID{byte(n)}, Version: 1, State: StateQueued, Lane: l.String(), ReadyAt: 1,
				Key: now.Add(time.Duration(rapid.IntRange(0, 20).Draw(rt, "key")) * time.Second)}
			queued[j.ID] = j
			if err := m.ready.add(j, now); err != nil {
				rt.Fatal(err)
			}
		case op < 9:
			w := rapid.SampledFrom(workers).Draw(rt, "worker")
			first, front := never, map[Needs]Instant{}
			for _, j := range queued {
				l, _ := ParseLane(j.Lane)
				if paused[l.Needs.Kind] || m.scheduler.Fits(&l.Needs, &w.Capabilities) != "" {
					continue
				}
				first = min(first, j.Key)
				front[l.Needs] = earliest(front[l.Needs], j.Key)
			}
			j := m.pick(w, now)
			if j == nil && first != never {
				return fmt.Sprintf("step %d: worker %d gets nothing, and there is %v", n, w.ID[0], front)
			}
			if j == nil {
				break
			}
			// Which account's ticket it is, is a matter of turns.
			if l, _ := ParseLane(j.Lane); queued[j.ID] != j || front[l.Needs] != first {
				return fmt.Sprintf("step %d: worker %d gets %+v, and there is %v", n, w.ID[0], l.Needs, front)
			}
			delete(queued, j.ID)
		default:
			kind := rapid.SampledFrom(kinds).Draw(rt, "paused")
			paused[kind] = !paused[kind]
			m.ready.pause(PauseKind(kind), paused[kind])
		}
		after(m)
	}
	return ""
}
