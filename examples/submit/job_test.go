package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/worker/task"
)

// A text that is too long for the executor is refused before it is sealed and
// sent, and the longest that is not is sent.
func TestLongestText(t *testing.T) {
	for _, more := range []int{0, 1} {
		l := line{Kind: consign.KindTask, Task: "summarize", Text: strings.Repeat("x", task.MaxText+more)}
		_, err := l.request()
		bad, refused := errors.AsType[*consign.FieldError](err)
		if refused != (more > 0) || refused && (bad.Field != "text" || bad.Remedy == "") {
			t.Errorf("%d bytes: %v", len(l.Text), err)
		}
	}
}
