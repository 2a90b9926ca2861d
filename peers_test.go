package consign

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// The shards of a few queues are all shards, each once; and whoever leaves
// moves only its own.
func TestShardsOf(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var names []string
		for i := range rapid.IntRange(1, 4).Draw(r, "queues") {
			names = append(names, fmt.Sprint(i, rapid.Uint32().Draw(r, "name")))
		}
		without := func(i int) []string { return append(append([]string{}, names[:i]...), names[i+1:]...) }
		var all uint16
		for i, name := range names {
			own := shardsOf(name, without(i))
			if own == AllShards && len(names) > 1 {
				continue // it has none
			}
			if all&own != 0 {
				r.Fatalf("shards %016b have two owners", all&own)
			}
			all |= own
			if len(names) < 2 || i == 0 {
				continue
			}
			if after := shardsOf(name, without(i)[1:]); after&own != own { // the first has left
				r.Fatalf("shards %016b became %016b", own, after)
			}
		}
		if all != AllShards {
			r.Fatalf("nobody has the shards %016b", ^all)
		}
	})
}
