package consign

import "time"

// EngineOf returns the engine of a queue that runs: look at it while all that
// the queue does waits.
func EngineOf(q *Queue) any {
	found := make(chan *engine, 1)
	if err := q.inbox.call(inFind{found}); err != nil {
		panic(err)
	}
	return <-found
}

type inFind struct{ found chan *engine }

func (in inFind) apply(e *engine) { in.found <- e }

// Skip moves the queue's time forward.
func Skip(q *Queue, d time.Duration) { q.clock.ahead.Add(int64(d / time.Microsecond)) }
