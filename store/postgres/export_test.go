package postgres

import "time"

// WaitInRetire has Retire wait that long at most.
func WaitInRetire(v *Vault, d time.Duration) { v.wait = d.String() }
