package longpoll

import (
	"net/http"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/peer"
	"github.com/consignq/consign/transport/internal/wire"
)

// The endpoints of trust pairing: all of the submitter's, but for claimPairing.

// newPairing is a request for a code; Submitter is the key that signs the
// account's PRIVATE jobs.
type newPairing struct {
	Submitter []byte `json:"submitter_pubkey"`
}

// claimPairing is a worker's use of a code.
type claimPairing struct {
	Code string `json:"code"`
}

// confirmPairing carries the fingerprint that the worker's owner told.
type confirmPairing struct {
	Fingerprint string `json:"fingerprint"`
}

func (h *handler) newPairing(c *call) error {
	var in newPairing
	if err := c.read(&in); err != nil {
		return err
	}
	code, err := c.api.NewPairing(c.r.Context(), in.Submitter)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, wire.NewPairingCode(code))
}

func (h *handler) pairings(c *call) error {
	pairings, err := c.api.Pairings(c.r.Context())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewPairings(pairings))
}

func (h *handler) confirmPairing(c *call) error {
	var worker consign.WorkerID
	if err := worker.UnmarshalText([]byte(c.r.PathValue("id"))); err != nil {
		return err
	}
	var in confirmPairing
	if err := c.read(&in); err != nil {
		return err
	}
	pairing, err := c.api.ConfirmPairing(c.r.Context(), worker, in.Fingerprint)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewPairing(pairing))
}

func (h *handler) revokePairing(c *call) error {
	var worker consign.WorkerID
	if err := worker.UnmarshalText([]byte(c.r.PathValue("id"))); err != nil {
		return err
	}
	if err := c.api.RevokePairing(c.r.Context(), worker); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) claimPairing(c *call) error {
	s, err := h.session(c)
	if err != nil {
		return err
	}
	var in claimPairing
	if err := c.read(&in); err != nil {
		return err
	}
	pairing, err := h.guesses.Claim(peer.Addr(c.r, h.TrustedProxies), func() (consign.Pairing, error) {
		return s.ClaimPairing(c.r.Context(), in.Code)
	})
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, wire.NewPairing(pairing))
}
