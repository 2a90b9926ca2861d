package task_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/task"
)

func TestExecutor(t *testing.T) {
	payload := []byte(`{"task":"summarize","text":"Leases end. A worker renews its lease. Tea is at five."}`)
	want, err := task.Run(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	got, err := task.Executor{}.Execute(t.Context(), &worker.Task{Payload: payload})
	if err != nil || string(got.Result) != string(want) {
		t.Errorf("got %s, %v; Run says %s", got.Result, err, want)
	}
	if got.Engine != task.Engine || got.Class != task.Class() || got.ExitStatus != 0 || got.Model != "" {
		t.Errorf("the record would say %+v", got)
	}
}

// A payload that nobody can run says so; an attempt that was stopped does not.
func TestExecutorFaults(t *testing.T) {
	_, err := task.Executor{}.Execute(t.Context(), &worker.Task{Payload: []byte(`{"task":"sumarize","text":"Hello."}`)})
	if _, ok := errors.AsType[*task.PayloadError](err); !ok || !errors.Is(err, worker.ErrPayload) || !strings.Contains(err.Error(), "sumarize") {
		t.Errorf("a misspelt task: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = task.Executor{}.Execute(ctx, &worker.Task{Payload: []byte(`{"task":"summarize","text":"Hello."}`)})
	if !errors.Is(err, context.Canceled) || errors.Is(err, worker.ErrPayload) {
		t.Errorf("a stopped attempt: %v", err)
	}
}
