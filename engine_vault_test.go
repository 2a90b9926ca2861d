package consign

import "testing"

// Keys that wait for a vault which nobody has hold up neither money nor keys of
// the vault that is here, and only so many wait.
func TestAbsentVaultHoldsUpNothing(t *testing.T) {
	w := newWorld(seeded(1), planted{})
	w.faults = false
	w.rest()
	id := func(n int) JobID { return JobID{1, byte(n >> 16), byte(n >> 8), byte(n)} }
	const absent = 3 * maxAbsent
	for n := range absent {
		w.store.effects = append(w.store.effects, Effect{ID: EffectID{Job: id(n), Seq: 1}, Kind: EffectShred, Target: "gone"})
	}
	here := id(absent)
	w.keys[here] = true
	w.store.effects = append(w.store.effects, Effect{ID: EffectID{Job: here, Seq: 1}, Kind: EffectShred, Target: simVaults[0]},
		Effect{ID: EffectID{Job: id(absent + 1), Seq: 1}, Kind: EffectRefund, Target: "acme", Amount: 5})
	w.store.counters[heldCounter("acme")] += 5
	w.granted["acme"] += 5
	for range 60 {
		w.now += 3 * second
		w.step()
		w.rest()
	}
	w.check()
	if len(w.violated) > 0 {
		t.Error(w.story())
	}
	if held := w.store.counters[heldCounter("acme")]; held != 0 || w.keys[here] {
		t.Errorf("%d are held, and the key of the vault that is here is there: %t", held, w.keys[here])
	}
	if n := len(w.store.effects); n != maxAbsent || w.store.effects[0].ID.Job != id(absent-maxAbsent) {
		t.Errorf("%d effects wait, from job %s on: want the newest %d", n, w.store.effects[0].ID.Job, maxAbsent)
	}
	// Once the vault is there they are carried out.
	w.setVaults(append([]string{"gone"}, simVaults...))
	for range 60 {
		w.rest()
		w.now += 3 * second
		w.step()
	}
	if n := len(w.store.effects); n != 0 {
		t.Errorf("%d effects wait for a vault that is there", n)
	}
}
