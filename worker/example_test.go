package worker_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/consignq/consign/worker"
)

// upper answers in capitals. An executor of your own is as long as this, and
// what it runs.
type upper struct{}

func (upper) Execute(ctx context.Context, t *worker.Task) (worker.Output, error) {
	if len(t.Payload) == 0 {
		return worker.Output{}, fmt.Errorf("%w: no text", worker.ErrPayload) // nobody can run it
	}
	var out strings.Builder
	for word := range strings.FieldsSeq(string(t.Payload)) {
		if err := ctx.Err(); err != nil {
			return worker.Output{}, err // the result is not wanted any more
		}
		loud := strings.ToUpper(word) + " "
		t.Part([]byte(loud)) // a preview for who follows the job
		out.WriteString(loud)
	}
	return worker.Output{Result: []byte(out.String()), Engine: "upper 1.0"}, nil
}

// An executor is tested without a queue.
func ExampleExecutor() {
	out, err := upper{}.Execute(context.Background(), &worker.Task{Payload: []byte("consign it")})
	fmt.Printf("%s%v\n", out.Result, err)
	_, err = upper{}.Execute(context.Background(), &worker.Task{})
	fmt.Println(err)
	// Output:
	// CONSIGN IT <nil>
	// worker: bad payload: no text
}
