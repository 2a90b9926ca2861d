package task

import (
	"os"
	"strings"
	"testing"
	"time"
)

// Eight times the text may take eight times as long; twenty-five would be a
// curve. The texts are what tempts an algorithm to look at all pairs: one word,
// brackets that never close, names without values, candidates without end.
func TestTimeIsNearLinear(t *testing.T) {
	if os.Getenv("CONSIGN_TIMED") == "" {
		t.Skip("measures time, so it wants a quiet machine: set CONSIGN_TIMED=1")
	}
	for _, pattern := range []string{
		"Words in a row make one sentence. ", "a. 1 ", "Dr. ", "{\"a\":", "[1,", "\"[", "((0", "name: ", "a@b.", "1,", "low ", "- x\n",
	} {
		for _, job := range []string{"summarize", "extract"} {
			options := ""
			if job == "extract" {
				options = `,"schema":` + invoiceSchema
			}
			small := payloadOf(job, strings.Repeat(pattern, 24<<10/len(pattern)), options)
			large := payloadOf(job, strings.Repeat(pattern, 192<<10/len(pattern)), options)
			if !nearLinear(t, small, large) {
				t.Errorf("%s of %q: time grows faster than the text", job, pattern)
			}
		}
	}
}

// A name that is repeated beside numbers: as many places as values.
func TestTimeOfRepeatedNameIsNearLinear(t *testing.T) {
	if os.Getenv("CONSIGN_TIMED") == "" {
		t.Skip("measures time, so it wants a quiet machine: set CONSIGN_TIMED=1")
	}
	const pattern, options = "total 1 ", `,"schema":` + invoiceSchema
	small := payloadOf("extract", strings.Repeat(pattern, MaxText/8/len(pattern)), options)
	large := payloadOf("extract", strings.Repeat(pattern, MaxText/len(pattern)), options)
	if !nearLinear(t, small, large) {
		t.Error("time grows faster than the text")
	}
}

// nearLinear measures once; on a busy machine a single measure may be unlucky.
func nearLinear(t *testing.T, small, large string) bool {
	t.Helper()
	for range 3 {
		start := time.Now()
		mustRun(t, small)
		middle := time.Now()
		mustRun(t, large)
		first, second := middle.Sub(start), time.Since(middle)
		if second < 25*first || second < 250*time.Millisecond {
			return true
		}
	}
	return false
}
