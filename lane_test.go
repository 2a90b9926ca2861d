package consign_test

import (
	"testing"
	"time"

	"github.com/consignq/consign"
)

// TestLaneTextIsCheap: every submit encodes a lane, and every look at a job does.
func TestLaneTextIsCheap(t *testing.T) {
	l := consign.Lane{Account: "acme", Offset: 10 * time.Second, Needs: consign.Needs{Kind: "LLM_INFER", Model: "llama3.1-8b", Tier: 2, HardwareTier: 1, Private: true}}
	want := "acct=acme&hw=1&kind=LLM_INFER&model=llama3.1-8b&off=10&priv=1&tier=2"
	if got := l.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = l.String() }); n > 1 {
		t.Errorf("%v allocations, want that of the text alone", n)
	}
}
