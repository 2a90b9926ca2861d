package faults

import (
	"testing"

	"github.com/consignq/consign"
)

// The model takes what can happen, and refuses what must not.
func TestHistoryModel(t *testing.T) {
	a, b := consign.ClaimID{1}, consign.ClaimID{2}
	done := func(c consign.ClaimID, o outcome) call {
		return call{Action: complete, Outcome: o, Claim: c, Result: resultOf(c)}
	}
	claimed := func(c consign.ClaimID) call { return call{Action: claim, Outcome: acknowledged, Claim: c} }
	saw := func(s consign.State, c consign.ClaimID) call {
		o := call{Action: get, Outcome: acknowledged, State: s, Claim: c}
		if s == consign.StateCompleted {
			o.Result = resultOf(c)
		}
		return o
	}
	submitted := call{Action: submit, Outcome: acknowledged}
	maybe := call{Action: submit, Outcome: unknown}
	cancelled, late := call{Action: cancel, Outcome: acknowledged}, call{Action: cancel, Outcome: tooLate}
	for name, c := range map[string]struct {
		good  bool
		calls []call
	}{
		"a life":                                {true, []call{submitted, claimed(a), done(a, acknowledged), saw(consign.StateCompleted, a)}},
		"the same again":                        {true, []call{submitted, claimed(a), done(a, acknowledged), done(a, acknowledged), late}},
		"a lapse":                               {true, []call{submitted, claimed(a), claimed(b), done(a, tooLate), done(b, acknowledged)}},
		"a lapse that nobody claims after":      {true, []call{submitted, claimed(a), done(a, tooLate), saw(consign.StateQueued, consign.ClaimID{})}},
		"an unknown submit that came about":     {true, []call{maybe, claimed(a), done(a, acknowledged)}},
		"an unknown completion that did":        {true, []call{submitted, claimed(a), done(a, unknown), saw(consign.StateCompleted, a)}},
		"an unknown completion that did not":    {true, []call{submitted, claimed(a), done(a, unknown), claimed(b), done(b, acknowledged)}},
		"a cancel":                              {true, []call{submitted, claimed(a), cancelled, done(a, tooLate), saw(consign.StateCancelled, consign.ClaimID{})}},
		"a stale completion accepted":           {false, []call{submitted, claimed(a), claimed(b), done(a, acknowledged)}},
		"two completions":                       {false, []call{submitted, claimed(a), done(a, acknowledged), claimed(b), done(b, acknowledged)}},
		"a completion that is lost":             {false, []call{submitted, claimed(a), done(a, acknowledged), saw(consign.StateQueued, consign.ClaimID{})}},
		"a cancel that is lost":                 {false, []call{submitted, cancelled, saw(consign.StateQueued, consign.ClaimID{})}},
		"a cancel after the end":                {false, []call{submitted, claimed(a), done(a, acknowledged), cancelled}},
		"a completion after the cancel":         {false, []call{submitted, claimed(a), cancelled, done(a, acknowledged)}},
		"a completion that is refused and done": {false, []call{submitted, claimed(a), done(a, tooLate), saw(consign.StateCompleted, a)}},
		"a submit that is lost":                 {false, []call{submitted, {Action: get, Outcome: refused}}},
		"a job that nobody submitted":           {false, []call{claimed(a)}},
		"a claim that comes back":               {false, []call{submitted, claimed(a), claimed(b), saw(consign.StateRunning, a)}},
	} {
		h := history{}
		for i, x := range c.calls {
			x.Began, x.Ended = int64(10*i), int64(10*i+5)
			if x.Outcome == unknown {
				x.Ended = ended(unknown)
			}
			h.add(x)
		}
		if _, _, bad := h.linearizable(); (bad == nil) != c.good {
			t.Errorf("%s: taken is %t", name, bad == nil)
		}
	}
}

// resultOf is the result of a claim.
func resultOf(c consign.ClaimID) [32]byte { return digest(c[:]) }
