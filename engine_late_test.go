package consign

import "testing"

// lateWorld is a world without faults of its own, in which a worker is about to
// claim the one job that there is.
func lateWorld() *world {
	w := newWorld(seeded(1), planted{})
	w.faults = false
	w.enrol(w.workers[0])
	w.submitAs("acme", SubmitRequest{ID: JobID{1}, Kind: KindTask, Custody: CustodyPlain, Payload: []byte("x")})
	w.rest()
	return w
}

// nextTask carries out the first task that is not late, with a fault, and tells the
// engine.
func (w *world) nextTask(f fault) {
	for i, t := range w.tasks {
		if t.late == 0 && (f == fine || t.commits != nil) {
			w.carryOut(i, f)
			w.inputs, w.answers = append(w.inputs, w.answers...), nil
			w.step()
			return
		}
	}
	panic("nothing to do")
}

// lands carries out the first commit that is late.
func (w *world) lands() {
	for i, t := range w.tasks {
		if t.late != 0 {
			w.carryOut(i, fine)
			return
		}
	}
	panic("nothing is late")
}

// A claim whose commit has an unknown outcome, and lands only when the engine
// has looked for it and tried again, is the worker's own.
func TestClaimThatLandsLate(t *testing.T) {
	for name, play := range map[string]func(w *world){
		"as the second try is under way": func(w *world) {
			w.nextTask(failLate) // the claim
			w.nextTask(fine)     // read: it is not there
			w.lands()
		},
		"as the last try is under way": func(w *world) {
			w.nextTask(failLate)
			w.nextTask(fine)
			w.nextTask(failBefore) // the second try
			w.nextTask(fine)
			w.lands()
		},
		"after the last try": func(w *world) {
			for range maxTries - 1 {
				w.nextTask(failBefore)
				w.nextTask(fine)
			}
			w.nextTask(failLate)
			w.lands()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := lateWorld()
			w.claimFor(w.workers[0])
			play(w)
			w.rest()
			job := w.store.jobs[JobID{1}]
			if holds := w.workers[0].holds; len(holds) != 1 || job.State != StateRunning || holds[0].Claim.Claim != job.Claim {
				t.Fatalf("the job is %s under %s, and its worker was given %v", job.State, job.Claim, holds)
			}
			if ent := w.engine.jobs[job.ID]; ent == nil || ent.job.ClaimedAt != job.ClaimedAt || ent.job.Change != job.Change {
				t.Errorf("the engine knows another job than the store has: %+v", ent)
			}
			w.drain()
			if len(w.violated) > 0 {
				t.Error(w.story())
			}
		})
	}
}

// A lease that is reaped by a commit which lands late: the worker is told, and
// its slot is free.
func TestReapThatLandsLate(t *testing.T) {
	w := lateWorld()
	sw := w.workers[0]
	w.claimFor(sw)
	w.rest()
	w.now += 31 * second
	w.step()
	for w.tasks[0].commits == nil { // scans
		w.nextTask(fine)
	}
	w.nextTask(failLate)
	w.nextTask(fine)
	w.lands()
	w.rest()
	if job := w.store.jobs[JobID{1}]; job.State != StateQueued {
		t.Fatalf("the job is %s", job.State)
	}
	if ew := w.engine.workers[sw.id]; len(ew.running) != 0 || len(ew.lost) != 1 {
		t.Errorf("its worker is thought to run %v, and is told that it lost %v", ew.running, ew.lost)
	}
}
