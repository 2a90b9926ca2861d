package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/consignq/consign"
)

// Most of what is written does one of three things. Each has a statement that
// names only the columns which it changes, as every column costs, and which
// does not mind what is not to be expected: it fails, or leaves the job out.
// The statement of writeSQL takes everything.
type shape int

const (
	created  shape = iota // a job that is new
	started               // a first attempt
	finished              // the result of a first attempt
	other
	shapes
)

// shapeOf says what the write does.
func shapeOf(r *row) shape {
	switch {
	case r.base == 0:
		if r.done == nil && isCreated(*r.job) {
			return created
		}
	case r.spec != nil:
	case r.done == nil:
		if r.job.LeaseFor > 0 && isStarted(*r.job) {
			return started
		}
	case r.done.Claim == r.job.Claim && r.done.Worker == r.job.Worker:
		if !r.job.Claim.IsZero() && !r.job.Worker.IsZero() && isFinished(*r.job) {
			return finished
		}
	}
	return other
}

// What each shape writes beside a job's identity: the fields, and the columns
// of the same. What is not among them it sets to zero, see zeros; what never
// changes only a new job has. Each function reports whether the job, a copy,
// has no other fields.

func isCreated(j consign.Job) bool {
	j.ReadyAt, j.Key, j.QueueUntil, j.DueAt = 0, 0, 0, 0
	return isBlank(&j, consign.StateQueued)
}

func isStarted(j consign.Job) bool {
	j.ReadyAt, j.Attempt, j.ClaimedAt, j.LimitAt, j.DueAt = 0, 0, 0, 0, 0
	j.Claim, j.Worker, j.LeaseFor, j.LeaseUntil = consign.ClaimID{}, consign.WorkerID{}, 0, 0
	return isBlank(&j, consign.StateRunning)
}

func isFinished(j consign.Job) bool {
	j.ReadyAt, j.Attempt, j.ClaimedAt, j.EndedAt, j.DueAt = 0, 0, 0, 0, 0
	j.Claim, j.Worker = consign.ClaimID{}, consign.WorkerID{}
	return isBlank(&j, consign.StateCompleted)
}

// isBlank reports whether a job is in the state and has nothing else but its
// identity and what no write but the first one changes. It clears those.
func isBlank(j *consign.Job, state consign.State) bool {
	j.ID, j.Version, j.Change = consign.JobID{}, 0, consign.ChangeID{}
	j.Account, j.Lane, j.Offset, j.Custody, j.InputHash, j.Price = "", "", 0, "", [32]byte{}, 0
	j.CreatedAt, j.Deadline, j.QueueTime, j.Chars, j.Notify, j.MaxAttempts = 0, 0, 0, 0, false, 0
	return *j == consign.Job{State: state}
}

var (
	identity        = []string{"id", "version", "change", "entries"}
	neverChanged    = []string{"created_at", "deadline", "queue_time", "key_offset", "price", "chars", "max_attempts", "custody", "input_hash", "account", "lane", "notify"}
	createdColumns  = pickColumns(slices.Concat(identity, neverChanged, []string{"lane_id", "ready_at", "key", "queue_until", "due_at"}))
	startedColumns  = pickColumns(slices.Concat(identity, []string{"ready_at", "attempt", "claimed_at", "limit_at", "due_at", "claim", "worker", "lease_for"}))
	finishedColumns = pickColumns(slices.Concat(identity, []string{"ready_at", "attempt", "claimed_at", "ended_at", "due_at", "claim", "worker"}))
)

// endColumns are those of a job's end that the job does not have as well.
var endColumns = endColumnsOf(doneColumns)

func endColumnsOf(columns []column[*consign.Done]) (ends []column[*row]) {
	for _, c := range columns {
		if !slices.Contains([]string{"id", "claim", "worker"}, c.name) {
			ends = append(ends, column[*row]{c.name, c.kind, c.types, func(b []byte, r *row) []byte { return c.field(b, r.done) }})
		}
	}
	return ends
}

func specsOf(rows []*row) (specs []*consign.Spec) {
	for _, r := range rows {
		if r.spec != nil {
			specs = append(specs, r.spec)
		}
	}
	return specs
}

// pickColumns are the columns of a job and its row with the names.
func pickColumns(names []string) (picked []column[*row]) {
	all := slices.Concat(jobColumns, rowColumns)
	for _, name := range names {
		picked = append(picked, all[slices.IndexFunc(all, func(c column[*row]) bool { return c.name == name })])
	}
	return picked
}

// zeros are the job's columns that are not among the written ones and the
// kept ones, each with its zero, and the state with its number.
func zeros(written []column[*row], kept []string, state consign.State) (columns, values []string) {
	for _, c := range jobColumns {
		if slices.Contains(kept, c.name) || slices.ContainsFunc(written, func(w column[*row]) bool { return w.name == c.name }) {
			continue
		}
		value := "0"
		switch {
		case c.name == "state":
			value = strconv.Itoa(int(state))
		case c.kind == "text":
			value = "''"
		case c.kind == "boolean":
			value = "false"
		case c.kind == "uuid" || c.kind == "bytea":
			value = "NULL"
		}
		columns, values = append(columns, c.name), append(values, value)
	}
	return columns, values
}

// createSQL inserts new jobs. It fails if one is there already.
func createSQL() string {
	columns, values := zeros(createdColumns, nil, consign.StateQueued)
	written := names(createdColumns, "")
	return `INSERT INTO @jobs (` + strings.Replace(written, "entries", "log", 1) + `, forgotten, ` + strings.Join(columns, ", ") + `)
		SELECT ` + written + `, false, ` + strings.Join(values, ", ") + ` FROM ` + unnest(createdColumns, 1) + ` AS c`
}

// startSQL writes that attempts have started.
func startSQL() string {
	return updateSQL(startedColumns, nil, consign.StateRunning, "lease_until", now+" + c.lease_for") + ` RETURNING j.id`
}

// finishSQL writes that attempts have ended, and how.
func finishSQL() string {
	return `WITH u AS (` + updateSQL(finishedColumns, endColumns, consign.StateCompleted, "", "") + ` RETURNING c.*)
		INSERT INTO @done (` + names(doneColumns, "") + `) SELECT ` + names(doneColumns, "") + ` FROM u RETURNING id`
}

// updateSQL updates jobs whose stored version is the one before, with further
// parameters beside, and sets one column to an expression. The table is read
// by ANY, so that rows are locked in the order of their IDs.
func updateSQL(written, beside []column[*row], state consign.State, name, expression string) string {
	var set []string
	for _, c := range written {
		if c.name != "id" && c.name != "entries" {
			set = append(set, c.name+" = c."+c.name)
		}
	}
	columns, values := zeros(written, append([]string{"id", name}, neverChanged...), state)
	for i := range columns {
		set = append(set, columns[i]+" = "+values[i])
	}
	if name != "" {
		set = append(set, name+" = "+expression)
	}
	all := slices.Concat(written, beside)
	return `UPDATE @jobs j SET ` + strings.Join(set, ", ") + `, log = CASE WHEN j.forgotten THEN '' ELSE j.log || c.entries END
		FROM ` + unnest(all, 1) + ` AS c
		WHERE j.id = ANY($1::uuid[]) AND j.id = c.id AND j.version = c.version - 1`
}
