package memdb_test

import (
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/storetest"
)

func open(*testing.T) consign.Store { return memdb.New() }

func TestContract(t *testing.T)     { storetest.RunSync(t, open) }
func TestContractReal(t *testing.T) { storetest.Run(t, open) }
func TestModel(t *testing.T)        { storetest.Model(t, open) }
