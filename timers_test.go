package consign

import (
	"errors"
	"testing"
	"time"
)

// A full batch of due jobs that cannot be moved starves nobody, however the
// answers of the store fall: here what the batch came to is known just before the
// next one is read, and counts for it. (Read before it was known, it was the same
// batch again, without end.)
func TestStuckBatchIsReadPast(t *testing.T) {
	config := Config{}.withDefaults()
	e := newEngine(&config, [8]byte{})
	now := Instant(time.Hour / time.Microsecond)
	var due []*Job
	for i := range timerBatch + 10 {
		due = append(due, &Job{ID: jobNumber(i), Version: 1, State: StateQueued, Lane: "x", Deadline: now - 1, DueAt: now - 1})
	}
	e.timer.due = now
	moved := map[JobID]bool{}
	reads, inputs := 0, []input(nil)
	for step := 0; !moved[due[len(due)-1].ID]; step++ {
		if step == 20 {
			t.Fatalf("the last job is not moved, after %d reads", reads)
		}
		out := e.Step(now, inputs)
		inputs = nil
		var answers []answer
		for _, c := range out.commits {
			moved[c.Job.ID] = true
			answers = append(answers, answer{commit: c, err: errors.New("the store does not take it")})
		}
		if answers != nil {
			inputs = append(inputs, inCommitted{answers})
		}
		for _, r := range out.reads {
			switch n := min(r.n, len(due)); r.kind {
			case readDue:
				reads++
				next := Instant(0)
				if n < len(due) {
					next = due[n].DueAt
				}
				inputs = append(inputs, inDue{due[:n], next, nil})
			case readJob:
				for _, j := range due {
					if j.ID == r.id {
						inputs = append(inputs, inJobs{[]JobID{r.id}, []*Job{j}, nil})
					}
				}
			case readLapsed:
				inputs = append(inputs, inLapsed{})
			}
		}
	}
}
