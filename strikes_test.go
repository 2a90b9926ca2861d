package consign

import (
	"encoding/json"
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

// Word of a worker's standing comes by several ways, and one may be slow: an
// older one does not undo a newer one.
func TestOlderWordOfAStanding(t *testing.T) {
	config := Config{}.withDefaults()
	e := newEngine(&config, [8]byte{})
	id := WorkerID{1}
	inRegister{WorkerRecord{ID: id}, 4, Capabilities{Kinds: []string{KindTask}, Slots: 1}}.apply(e)
	word := func(version uint64, s Standing) inStanding {
		body, _ := json.Marshal(WorkerRecord{ID: id, Standing: s})
		return inStanding{Doc{Kind: DocWorker, Key: id.String(), Version: version, Body: body}}
	}
	word(6, Standing{Removed: true}).apply(e)
	word(5, Standing{}).apply(e)
	if got := e.workers[id].standing; got != StandingRemoved {
		t.Errorf("a removed worker is %s by an older word", got)
	}
	word(7, Standing{}).apply(e)
	if got := e.workers[id].standing; got != StandingActive {
		t.Errorf("a worker that was taken back is %s", got)
	}
}

// What a removed worker still brings does not take the place of why it was removed.
func TestStrikeOnARemovedWorker(t *testing.T) {
	id := WorkerID{1}
	subject := Subject{Worker: id}
	for reason, standing := range map[string]Standing{"its key was stolen": {Subject: subject, Removed: true}, "bad": {Subject: subject}} {
		body, _ := json.Marshal(WorkerRecord{ID: id, Standing: standing, Reason: "its key was stolen"})
		c, err := foldStrikes(Doc{Kind: DocWorker, Key: id.String(), Version: 1, Body: body},
			[]Effect{{ID: EffectID{Job: JobID{1}, Seq: 1}, Kind: EffectStrike, Target: id.String(), Reason: "bad"}})
		if err != nil || len(c.Docs) != 1 {
			t.Fatal(err)
		}
		var r WorkerRecord
		if err := json.Unmarshal(c.Docs[0].Body, &r); err != nil || r.Reason != reason {
			t.Errorf("the reason is %q, not %q (%v)", r.Reason, reason, err)
		}
	}
}
