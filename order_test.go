package consign_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/consignq/consign"
)

// Jobs of equal priority start in the order in which they were submitted, also
// those of one call of SubmitMany, which come at one moment; and those of
// several calls, between which no time has passed.
func TestSubmitManyKeepsItsOrder(t *testing.T) {
	for seed := range uint64(6) {
		bubble(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, func(r *rig) { r.config.Prices = nil })
			defer r.stop()
			want := map[consign.Priority][]consign.JobID{}
			priority := map[consign.JobID]consign.Priority{}
			deadline := time.Duration(dice.IntN(2)) * time.Minute // nearer than its offset and slack
			for range 1 + dice.IntN(3) {
				var rs []consign.SubmitRequest
				for range 1 + dice.IntN(300) { // more than a window, in all
					req := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Custody: consign.CustodyPlain, Payload: []byte("x"),
						Priority: consign.Priority(dice.IntN(3)), Deadline: deadline}
					want[req.Priority] = append(want[req.Priority], req.ID)
					priority[req.ID] = req.Priority
					rs = append(rs, req)
				}
				for _, o := range r.sub.SubmitMany(t.Context(), rs) {
					if o.Err != nil {
						t.Fatal(o.Err)
					}
				}
			}
			got := map[consign.Priority][]consign.JobID{}
			session, claim := r.quiet(r.q)
			for range priority {
				a := claim()
				p := priority[a.Job]
				got[p] = append(got[p], a.Job)
				if err := session.complete(a); err != nil {
					t.Fatal(err)
				}
			}
			for p, ids := range want {
				if !slices.Equal(got[p], ids) {
					t.Errorf("seed %d: %d jobs of priority %s did not start in the order in which they came", seed, len(ids), p)
				}
			}
		})
	}
}
