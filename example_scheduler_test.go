package consign_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/worker"
)

// shortestFirst takes from the default scheduler who can run what, and replaces
// who goes first: a job stands in line a millisecond later for each character.
type shortestFirst struct{ consign.FourSignals }

func (shortestFirst) Score(t *consign.Ticket, _ *consign.WorkerState, _ consign.Instant) time.Duration {
	return -time.Duration(t.Chars) * time.Millisecond
}

// A scheduler of one's own. Jobs that ask for the same things stand in one lane
// and keep their order; a scheduler chooses between lanes, and tiers are lanes.
func ExampleScheduler() {
	queue, stop := exampleQueue(consign.Config{Scheduler: shortestFirst{}})
	defer stop()
	submitter := queue.Submitter("acme")
	var jobs []consign.JobID
	for _, length := range []int{30_000, 10_000, 3_000, 10} {
		jobs = append(jobs, submitText(submitter, strings.Repeat("x", length)))
	}

	defer exampleWorker(queue, sign.Generate(), 4, func(_ context.Context, t *worker.Task) (worker.Output, error) {
		fmt.Println("tier", t.Tier)
		return worker.Output{}, nil
	})()
	for _, id := range jobs {
		waitFor(submitter, id)
	}
	// Output:
	// tier 1
	// tier 2
	// tier 3
	// tier 4
}
