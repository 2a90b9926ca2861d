package consign_test

import (
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/storetest"
)

// The store of ExampleStore is a store: the contract says so.
func TestCountingStore(t *testing.T) {
	open := func(*testing.T) consign.Store { return &counting{Store: memdb.New()} }
	storetest.RunSync(t, open)
	storetest.Model(t, open)
}
