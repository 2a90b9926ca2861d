package consign

import "fmt"

// Delivery is a job's end that its webhook has to be told: the body of a
// document of kind DocWebhook. It is written in the job's own change, so that
// none is lost and none comes before its job. Package webhook delivers it.
type Delivery struct {
	Job     JobID   `json:"job_id"`
	Account string  `json:"account"`
	Tries   int     `json:"tries"`
	Since   Instant `json:"since"` // the job's end
}

// OutboxKey is the key of a delivery that is due at a time: keys are in the
// order of their times.
func OutboxKey(due Instant, job JobID) string { return fmt.Sprintf("%020d/%s", due, job) }

// outbox is the first delivery of a job, if it has ended just now.
func (j *Job) outbox(old *Job) []Doc {
	if !j.Notify || !j.State.Terminal() || old.State.Terminal() {
		return nil
	}
	return []Doc{jsonDoc(DocWebhook, OutboxKey(j.EndedAt, j.ID), 1, Delivery{Job: j.ID, Account: j.Account, Since: j.EndedAt})}
}
