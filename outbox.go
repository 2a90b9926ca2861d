package consign

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// Delivery is a job's end that its webhook has to be told: the body of a
// document of kind DocWebhook. It is written in the job's own change, so that
// none is lost and none comes before its job. It says all that is to be told,
// since the job may be forgotten first. Package webhook delivers it.
type Delivery struct {
	Job          JobID        `json:"job_id"`
	Account      string       `json:"account"`
	Created      Instant      `json:"created"` // when the job was: IDs may come again
	Since        Instant      `json:"since"`   // its end
	State        string       `json:"state"`   // in which it ended
	Verification Verification `json:"verification,omitempty"`
	Tries        int          `json:"tries"`
}

// Hook is the key of the document of kind DocHook that says where the delivery
// goes.
func (d *Delivery) Hook() string { return hookKey(d.Job, d.Created) }

// Hook is the URL that a job's end is told: the body of a document of kind
// DocHook, which is there from the submit until the delivery is over.
type Hook struct {
	URL string `json:"url"`
}

func hookKey(job JobID, created Instant) string { return fmt.Sprintf("%s/%d", job, created) }

// hookDoc keeps where a new job's end is to be told.
func (s *Spec) hookDoc(j *Job) []Doc {
	if !j.Notify {
		return nil
	}
	return []Doc{jsonDoc(DocHook, hookKey(j.ID, j.CreatedAt), 1, Hook{URL: s.Webhook})}
}

// OutboxKey is the key of a delivery that is due at a time: the minute, the turn
// of its account, the time within the minute, the job, divided by slashes. So
// keys are in the order of the minutes, and who reads them can step over what
// one account has in a minute, however much it is. The first two parts, which
// are OutboxTurn bytes with their slashes, are the same for all of that.
func OutboxKey(due Instant, account string, job JobID) string {
	const minute = Instant(time.Minute / time.Microsecond)
	turn := sha256.Sum256([]byte(account)) // of one width, whatever the name
	return fmt.Sprintf("%020d/%x/%08d/%s", due/minute, turn[:8], due%minute, job)
}

// OutboxTurn is how many bytes of an OutboxKey name the minute and the account.
const OutboxTurn = 20 + 1 + 16 + 1

// outbox is the first delivery of a job, if it has ended just now.
func (j *Job) outbox(old *Job, ev *Event) []Doc {
	if !j.Notify || !j.State.Terminal() || old.State.Terminal() {
		return nil
	}
	d := Delivery{Job: j.ID, Account: j.Account, Created: j.CreatedAt, Since: j.EndedAt, State: j.State.String(), Verification: ev.Verification}
	return []Doc{jsonDoc(DocWebhook, OutboxKey(j.EndedAt, j.Account, j.ID), 1, d)}
}
