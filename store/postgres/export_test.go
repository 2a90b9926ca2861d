package postgres

import "time"

// WaitInRetire has Retire wait that long at most.
func WaitInRetire(v *Vault, d time.Duration) { v.wait = d.String() }

// Schema is where the store's tables are.
func (s *Store) Schema() string { return s.schema }
