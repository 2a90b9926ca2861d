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

// Faults that others shipped, by their numbers, where a store could bring them
// back. The other files of this package have those that it could not.
func TestOthers(t *testing.T)        { onMemory.Others(t) }
func TestOthersMutants(t *testing.T) { onMemory.OthersMutants(t) }
