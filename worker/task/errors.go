package task

import "fmt"

// PayloadError says that the job itself is at fault: every worker would answer
// the same, so the job must not be retried and no worker is to blame.
type PayloadError struct {
	Field   string // as on the wire, a path below the payload: "text", "labels.sport", "payload" for the whole
	Problem string // what is wrong: "is missing"
	Remedy  string // what to do: "send the text to work on"
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("task: %s %s: %s", e.Field, e.Problem, e.Remedy)
}

func payloadError(field, problem, remedy string) error {
	return &PayloadError{Field: field, Problem: problem, Remedy: remedy}
}
