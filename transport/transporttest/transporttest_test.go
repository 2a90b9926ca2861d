package transporttest_test

import (
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/transporttest"
)

// In one process the far end is the near one.

func TestSubmitter(t *testing.T) {
	transporttest.Submitter(t, func(_ testing.TB, backend consign.SubmitterAPI) consign.SubmitterAPI { return backend })
}

func TestWorker(t *testing.T) {
	transporttest.Worker(t, func(_ testing.TB, backend consign.WorkerAPI) consign.WorkerAPI { return backend })
}

func TestFaultyWorker(t *testing.T) {
	transporttest.FaultyWorker(t, func(_ testing.TB, m *transporttest.Middle, backend consign.WorkerAPI) consign.WorkerAPI {
		return m.Worker(backend)
	})
}

func TestFaultySubmitter(t *testing.T) {
	transporttest.FaultySubmitter(t, func(_ testing.TB, m *transporttest.Middle, backend consign.SubmitterAPI) consign.SubmitterAPI {
		return m.Submitter(backend)
	})
}
