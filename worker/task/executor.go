package task

import (
	"context"
	"errors"
	"fmt"

	"github.com/consignq/consign/worker"
)

// Executor is [Run] as a worker's executor of jobs of kind TASK. The zero value
// is ready:
//
//	Executors: map[string]worker.Executor{consign.KindTask: task.Executor{}}
//
// A job with a [*PayloadError] fails for good and counts against no worker. The
// worker's record names [Engine] and [Class].
type Executor struct{}

var _ worker.Executor = Executor{}

// Execute implements worker.Executor.
func (Executor) Execute(ctx context.Context, t *worker.Task) (worker.Output, error) {
	result, err := Run(ctx, t.Payload)
	if _, ok := errors.AsType[*PayloadError](err); ok {
		return worker.Output{}, fmt.Errorf("%w: %w", worker.ErrPayload, err)
	}
	if err != nil {
		return worker.Output{}, err
	}
	return worker.Output{Result: result, Engine: Engine, Class: Class()}, nil
}
