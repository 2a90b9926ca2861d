package sqlite

import (
	"encoding/json"
	"fmt"

	"github.com/consignq/consign"
)

// The columns of each table in the order in which they are bound and read.
const (
	movingColumns = `version, change_id, state, ticket, ready_at, key, last_worker, exclude_until, queue_until, attempt, faults,
		claim, worker, claimed_at, limit_at, lease_for, lease_until, ended_at, acked_at, purged, reason, due_at`
	movingCount    = 22
	lastingColumns = `account, lane, key_offset, custody, input_hash, price, created_at, deadline, queue_time, chars, notify, max_attempts`
	lastingCount   = 12
	jobColumns     = movingColumns + `, ` + lastingColumns
	specColumns    = `kind, model, custody, comparator, privacy, policy, priority, hardware_tier, vram, labels, chars, tier,
		client_key, wraps, signature, webhook, header, payload`
	specCount   = 18
	doneColumns = `claim, worker, exit_status, digest, accepted_at, verification, record, acceptance, compare_t, compare_r, sketch, result` // and log
	doneCount   = 12
)

// moving binds movingColumns: what the versions of a job differ in. The store
// says when the lease ends.
func (a *args) moving(j *consign.Job, leaseUntil consign.Instant) {
	a.int(int64(j.Version))
	a.hash(j.Change[:])
	a.int(int64(j.State))
	a.int(int64(j.Ticket))
	a.time(j.ReadyAt)
	a.time(j.Key)
	a.hash(j.LastWorker[:])
	a.time(j.ExcludeUntil)
	a.time(j.QueueUntil)
	a.int(int64(j.Attempt))
	a.int(int64(j.Faults))
	a.hash(j.Claim[:])
	a.hash(j.Worker[:])
	a.time(j.ClaimedAt)
	a.time(j.LimitAt)
	a.duration(j.LeaseFor)
	a.time(leaseUntil)
	a.time(j.EndedAt)
	a.time(j.AckedAt)
	a.bool(j.Purged)
	a.text(j.Reason)
	a.time(j.DueAt)
}

// lasting binds lastingColumns: what stays as the first version has it.
func (a *args) lasting(j *consign.Job) {
	a.text(j.Account)
	a.text(j.Lane)
	a.duration(j.Offset)
	a.text(string(j.Custody))
	a.hash(j.InputHash[:])
	a.int(int64(j.Price))
	a.time(j.CreatedAt)
	a.time(j.Deadline)
	a.duration(j.QueueTime)
	a.int(int64(j.Chars))
	a.bool(j.Notify)
	a.int(int64(j.MaxAttempts))
}

// job reads n, id and jobColumns.
func (r *row) job() (n int64, j *consign.Job, err error) {
	n = r.int()
	j = new(consign.Job)
	r.hash(j.ID[:])
	j.Version = uint64(r.int())
	r.hash(j.Change[:])
	if j.State = small[consign.State](r); j.State > consign.StateExpired {
		r.fail(r.next-1, fmt.Sprintf("is %d, which is no state", j.State))
	}
	j.Ticket = small[consign.TicketKind](r)
	j.ReadyAt = r.time()
	j.Key = r.time()
	r.hash(j.LastWorker[:])
	j.ExcludeUntil = r.time()
	j.QueueUntil = r.time()
	j.Attempt = small[int](r)
	j.Faults = small[int](r)
	r.hash(j.Claim[:])
	r.hash(j.Worker[:])
	j.ClaimedAt = r.time()
	j.LimitAt = r.time()
	j.LeaseFor = r.duration()
	j.LeaseUntil = r.time()
	j.EndedAt = r.time()
	j.AckedAt = r.time()
	j.Purged = r.bool()
	j.Reason = r.text()
	j.DueAt = r.time()
	j.Account = r.text()
	j.Lane = r.text()
	j.Offset = r.duration()
	j.Custody = custody(r.text())
	r.hash(j.InputHash[:])
	j.Price = consign.Price(r.int())
	j.CreatedAt = r.time()
	j.Deadline = r.time()
	j.QueueTime = r.duration()
	j.Chars = small[uint32](r)
	j.Notify = r.bool()
	j.MaxAttempts = small[int](r)
	return n, j, r.corrupt("jobs", n)
}

// custody returns the constant that the text is, so that its copy can go.
func custody(text string) consign.Custody {
	for _, c := range [...]consign.Custody{consign.CustodySealed, consign.CustodyEscrow, consign.CustodyTransit, consign.CustodyPlain} {
		if string(c) == text {
			return c
		}
	}
	return consign.Custody(text)
}

// spec binds specColumns.
func (a *args) spec(s *consign.Spec) {
	a.text(s.Kind)
	a.text(s.Model)
	a.text(string(s.Custody))
	a.text(s.Comparator)
	a.int(int64(s.Privacy))
	a.int(int64(s.Policy))
	a.int(int64(s.Priority))
	a.int(int64(s.HardwareTier))
	a.int(int64(s.VRAM))
	a.text(s.Labels)
	a.int(int64(s.Chars))
	a.int(int64(s.Tier))
	a.blob(s.ClientKey)
	a.json(s.Wraps, s.Wraps == nil)
	a.blob(s.Signature)
	a.text(s.Webhook)
	a.blob(s.Header)
	a.blob(s.Payload)
}

// spec reads n and specColumns.
func (r *row) spec(id consign.JobID) (*consign.Spec, error) {
	n := r.int()
	s := &consign.Spec{ID: id}
	s.Kind = r.text()
	s.Model = r.text()
	s.Custody = custody(r.text())
	s.Comparator = r.text()
	s.Privacy = small[consign.Privacy](r)
	s.Policy = small[consign.Policy](r)
	s.Priority = small[consign.Priority](r)
	s.HardwareTier = small[uint8](r)
	s.VRAM = small[uint32](r)
	s.Labels = r.text()
	s.Chars = small[uint32](r)
	s.Tier = small[consign.Tier](r)
	s.ClientKey = r.blob()
	r.json(&s.Wraps)
	s.Signature = r.blob()
	s.Webhook = r.text()
	s.Header = r.blob()
	s.Payload = r.blob()
	return s, r.corrupt("specs", n)
}

// done binds doneColumns.
func (a *args) done(d *consign.Done) {
	a.hash(d.Claim[:])
	a.hash(d.Worker[:])
	a.int(int64(d.ExitStatus))
	a.hash(d.Digest[:])
	a.time(d.AcceptedAt)
	a.text(string(d.Verification))
	a.blob(d.Record)
	a.json(d.Acceptance, d.Acceptance == nil)
	if c := d.Comparison; c != nil {
		a.blob(c.T[:])
		a.blob(c.R[:])
		a.blob(c.Sketch)
	} else {
		a.null()
		a.null()
		a.null()
	}
	a.blob(d.Result)
}

// done reads n and doneColumns.
func (r *row) done(id consign.JobID) (*consign.Done, error) {
	n := r.int()
	d := &consign.Done{ID: id}
	r.hash(d.Claim[:])
	r.hash(d.Worker[:])
	d.ExitStatus = small[int32](r)
	r.hash(d.Digest[:])
	d.AcceptedAt = r.time()
	d.Verification = consign.Verification(r.text())
	d.Record = r.blob()
	r.json(&d.Acceptance)
	d.Comparison = new(consign.Comparison)
	none := r.stmt.ColumnIsNull(r.next)
	r.hash(d.Comparison.T[:])
	r.hash(d.Comparison.R[:])
	if d.Comparison.Sketch = r.blob(); none {
		d.Comparison = nil
	}
	d.Result = r.blob()
	return d, r.corrupt("done", n)
}

// json binds a value as JSON text, or NULL.
func (a *args) json(v any, null bool) {
	if null {
		a.null()
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types have no value that JSON cannot hold
	}
	a.text(string(text))
}

// json reads what args.json has bound; NULL leaves the value as it is.
func (r *row) json(into any) {
	if r.stmt.ColumnIsNull(r.next) {
		r.next++
		return
	}
	if err := json.Unmarshal([]byte(r.text()), into); err != nil {
		r.fail(r.next-1, fmt.Sprintf("is not the JSON that it should be (%v)", err))
	}
}
