package consign

import "flag"

// update is shared by all golden files of this package: go test . -update
var update = flag.Bool("update", false, "rewrite the golden files under testdata")
