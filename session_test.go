package consign

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A nonce is good for a minute, and once, however the uses lie in time.
func TestNonces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var n nonces
		now := Instant(1_000_000_000)
		var made [][]byte
		at, used := []Instant{}, map[int]bool{}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second)
			if len(made) == 0 || rapid.Bool().Draw(rt, "make") {
				made, at = append(made, n.make(now)), append(at, now)
				continue
			}
			i := rapid.IntRange(max(0, len(made)-4), len(made)-1).Draw(rt, "which")
			want := !used[i] && now.Sub(at[i]) <= nonceLife
			if got := n.take(made[i], now); got != want {
				rt.Fatalf("nonce %d, %v old, used %t: taken %t", i, now.Sub(at[i]), used[i], got)
			}
			used[i] = used[i] || want
			if len(n.used)+len(n.before) > len(made) {
				rt.Fatal("more is kept than was made")
			}
		}
	})
}
