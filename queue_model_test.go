package consign_test

import (
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/queuetest"
	"github.com/consignq/consign/store/memdb"
)

// Whole queues on the store in memory; the other stores' tests have the same.
var onMemory = queuetest.Suite{Place: func(*testing.T) func() consign.Store {
	s := memdb.New()
	return func() consign.Store { return s }
}}

func TestQueueModel(t *testing.T)   { onMemory.Model(t) }
func TestQueueMutants(t *testing.T) { onMemory.Mutants(t) }
func TestQueueReplay(t *testing.T)  { onMemory.Replay(t) }
func TestQueueOwner(t *testing.T)   { onMemory.Owner(t) }
