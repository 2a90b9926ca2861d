package longpoll

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// TestDocsAreWhole: what openapi.yaml has, docs/wire-protocol.md explains.
func TestDocsAreWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/wire-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	missing := func(what, text string) {
		if !strings.Contains(string(page), text) {
			t.Errorf("docs/wire-protocol.md does not have the %s %s", what, text)
		}
	}
	count := 0
	for _, m := range regexp.MustCompile(`(?m)^  (/\S+):$`).FindAllStringSubmatch(string(openapi), -1) {
		missing("path", m[1])
		count++
	}
	for _, m := range regexp.MustCompile(`(?m)^\s{8,}([a-z_]+): \{`).FindAllStringSubmatch(string(openapi), -1) {
		if !slices.Contains([]string{"schema", "content", "properties", "default", "items"}, m[1]) {
			missing("member", m[1])
			count++
		}
	}
	if count < 150 {
		t.Errorf("only %d paths and members were found", count)
	}
}

// TestCodesAreDescribed: each code that an error can have is in both.
func TestCodesAreDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/wire-protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{consign.ErrNotFound, consign.ErrConflict, consign.ErrIDTaken, consign.ErrLeaseLost, consign.ErrCancelled, consign.ErrBadResult,
		consign.ErrBadReceipt, consign.ErrCredit, consign.ErrNoWorker, consign.ErrSession, consign.ErrRemoved, consign.ErrClosed, consign.ErrBusy,
		&consign.FieldError{}, &consign.TransitionError{}, os.ErrInvalid} {
		code := wire.NewProblem(err).Code
		if !strings.Contains(string(page), "| `"+code+"` |") {
			t.Errorf("docs/wire-protocol.md does not have the code %s", code)
		}
		if !regexp.MustCompile(`\b` + code + `\b[,\]]`).Match(openapi) {
			t.Errorf("openapi.yaml does not have the code %s", code)
		}
	}
}
