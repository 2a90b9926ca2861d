package consign

import "testing"

// The invariants of DESIGN section 3, by number, in the simulated world: they
// hold whatever the store, the workers, the submitters, the clock and another
// coordinator do, and each bug that is planted against one is seen. Those that
// need the whole queue are in queue_invariants_test.go.

// holds plays worlds in which the invariant may not break, and worlds with
// each of its bugs, in which it has to.
func holds(t *testing.T, invariant string) {
	t.Helper()
	t.Parallel()
	for seed := range envInt("CONSIGN_INVARIANT_SEEDS", 8) {
		w := runWorld(1_000+uint64(seed), 500, planted{})
		for _, v := range w.violated {
			t.Errorf("seed %d: %s", 1_000+seed, v)
		}
	}
	caught, planted := 0, 0
	for i := range bugs {
		if b := &bugs[i]; b.invariant == invariant {
			planted++
			if b.caught() {
				caught++
			} else {
				t.Errorf("survived: %s", b.name)
			}
		}
	}
	if planted == 0 {
		t.Error("no bug is planted against it")
	}
	t.Logf("%d of %d caught", caught, planted)
}

// 1. An acknowledged submit is durable before the reply.
func TestInvariant01_AcknowledgedSubmitIsDurable(t *testing.T) { holds(t, "1") }

// 2. At most one attempt's result is ever the job's result.
func TestInvariant02_AtMostOneResult(t *testing.T) { holds(t, "2") }

// 3. A stale holder changes no state and is told so; the same completion again
// gets the first answer, another body a conflict.
func TestInvariant03_Fencing(t *testing.T) { holds(t, "3") }

// 3, the other way round: a claim that is current is never told that it is
// lost.
func TestInvariant03_NoFalseLostLease(t *testing.T) { holds(t, "lost") }

// 4. Terminal states never change.
func TestInvariant04_TerminalStatesNeverChange(t *testing.T) { holds(t, "4") }

// 5. Result, receipt, log, state and effect rows land in one Change, and are
// what the rules say.
func TestInvariant05_OneChange(t *testing.T) { holds(t, "5") }

// 6. No job is admitted before its hold on the account clears; what is held is
// paid or repaid, once.
func TestInvariant06_CreditsPrecedeWork(t *testing.T) { holds(t, "6") }

// 8. Anchor before settle: without an anchor, the commit of the result.
func TestInvariant08_AnchorBeforeSettle(t *testing.T) { holds(t, "8") }

// 9. A job's keys are destroyed once it has ended and is acknowledged or past
// retention, and not before.
func TestInvariant09_KeysAreDestroyed(t *testing.T) { holds(t, "9") }

// 10. PRIVATE jobs go only to workers paired with that submitter.
func TestInvariant10_PrivateJobsGoToPairedWorkers(t *testing.T) { holds(t, "10") }

// 12. A bad result never completes a job, and counts against the worker that
// sent it.
func TestInvariant12_BadResultIsRejected(t *testing.T) { holds(t, "12") }

// 13. A transient failure is never counted as cheating, nor a poison payload.
func TestInvariant13_TransientIsNoCheating(t *testing.T) { holds(t, "13") }

// 14. Nothing is silently dropped: every job ends, every call is answered,
// every end has a reason.
func TestInvariant14_NothingIsDropped(t *testing.T) { holds(t, "14") }

// The first of the four signals: no worker ever gets a job above its tier, or
// that it lacks anything else for.
func TestInvariant_NoWorkerGetsWhatItCannotRun(t *testing.T) { holds(t, "cap") }
