package consign_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

// counting is a store that counts the results that another store takes. Whether
// a store is one is for package storetest to say: see TestCountingStore.
type counting struct {
	consign.Store // does the work
	results       atomic.Int64
}

func (s *counting) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	outcomes, err := s.Store.Apply(ctx, changes)
	if err != nil {
		return nil, err // no outcome is known
	}
	for i, c := range changes {
		if outcomes[i] == nil && c.Done != nil {
			s.results.Add(1)
		}
	}
	return outcomes, nil
}

// A store that wraps another. Every result, its receipt and the job's new state
// are one Change, so counting the changes counts the results.
func ExampleStore() {
	store := &counting{Store: memdb.New()}
	queue, stop := exampleQueue(consign.Config{Store: store})
	defer stop()
	defer exampleWorker(queue, sign.Generate(), 4, capitals)()

	submitter := queue.Submitter("acme")
	for _, text := range []string{"one", "two", "three"} {
		fmt.Println(string(waitFor(submitter, submitText(submitter, text)).Result))
	}
	fmt.Println(store.results.Load(), "results")
	// Output:
	// ONE
	// TWO
	// THREE
	// 3 results
}
