package consign

import (
	"slices"
	"testing"
	"time"
)

// Rejected results of a worker whose document cannot be read are dropped, and
// said to be, once: they would be tried for ever.
func TestStrikesOnAnUnreadableDocument(t *testing.T) {
	w := newWorld(seeded(1), planted{})
	w.rest()
	strike := Effect{ID: EffectID{Job: JobID{1}, Seq: 1}, Kind: EffectStrike, Target: WorkerID{1}.String(), At: w.now}
	w.store.effects = append(w.store.effects, strike)
	w.store.docs[[2]string{DocWorker, strike.Target}] = Doc{Kind: DocWorker, Key: strike.Target, Version: 4, Body: []byte("{")}
	bad := 0
	for range 10 {
		w.now = w.now.Add(time.Minute)
		w.inputs = nil
		for more := true; more; more = len(w.inputs) > 0 {
			out := w.engine.Step(w.now, w.inputs)
			bad += len(out.bad)
			w.inputs = w.answersTo(out)
		}
	}
	if len(w.store.effects) != 0 || bad != 1 {
		t.Errorf("%d effects are left, and %d lines in the log", len(w.store.effects), bad)
	}
}

// answersTo carries out what the engine says, at once.
func (w *world) answersTo(out *output) (answers []input) {
	if len(out.commits) > 0 {
		answers = append(answers, w.commitTask(slices.Clone(out.commits), fine))
	}
	for _, r := range out.reads {
		answers = append(answers, w.readTask(task{read: &r, jobs: []JobID{r.id}}, nil))
	}
	if len(out.renew) > 0 {
		errs := make([]error, len(out.renew))
		for i, r := range out.renew {
			errs[i] = w.store.renew(r)
		}
		answers = append(answers, inRenewed{out.renew, out.renewers, errs, nil})
	}
	return answers
}
