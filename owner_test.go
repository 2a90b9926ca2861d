package consign_test

import (
	"errors"
	"testing"

	"github.com/consignq/consign"
)

// On the store of another queue, what is sealed to one that ends with its
// process is not taken in: nobody could run it. What stands for all stores is
// in queuetest.
func TestGuestTakesInNothingSealed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		r.submit(r.request())
		r.config.Identity = nil
		guest, stop := r.second(nil)
		defer stop()
		job := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Custody: consign.CustodyTransit, Payload: []byte("x")}
		_, err := guest.Submitter("acme").Submit(t.Context(), job)
		if _, final := errors.AsType[*consign.FieldError](err); final || !errors.Is(err, consign.ErrClosed) {
			t.Errorf("a job in transit: %v", err)
		}
		job.Custody = consign.CustodyPlain
		if _, err := guest.Submitter("acme").Submit(t.Context(), job); err != nil {
			t.Errorf("a plain job: %v", err)
		}
	})
}
