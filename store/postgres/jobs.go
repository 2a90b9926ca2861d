package postgres

import (
	"crypto/sha256"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// column is a column of the table of jobs, as a statement unnests it.
type column struct{ name, kind string }

// jobColumns are what a consign.Job holds. jobRows and scanJob go by the same
// order.
var jobColumns = []column{
	{"id", "uuid"},
	{"created_at", "bigint"}, {"deadline", "bigint"}, {"queue_time", "bigint"}, {"key_offset", "bigint"}, {"price", "bigint"},
	{"chars", "bigint"}, {"max_attempts", "integer"}, {"custody", "text"}, {"input_hash", "bytea"}, {"account", "text"},
	{"lane", "text"},
	{"version", "bigint"}, {"key", "bigint"}, {"ready_at", "bigint"}, {"exclude_until", "bigint"}, {"queue_until", "bigint"},
	{"claimed_at", "bigint"}, {"limit_at", "bigint"}, {"lease_for", "bigint"}, {"lease_until", "bigint"}, {"ended_at", "bigint"},
	{"acked_at", "bigint"}, {"due_at", "bigint"},
	{"attempt", "integer"}, {"faults", "integer"}, {"state", "smallint"}, {"ticket", "smallint"}, {"purged", "boolean"},
	{"change", "uuid"}, {"claim", "uuid"}, {"worker", "bytea"}, {"last_worker", "bytea"}, {"reason", "text"},
}

// jobRows gathers jobs column by column, as the statement's parameters.
type jobRows struct {
	id                                            []pgtype.UUID
	created, deadline, queueTime, offset, price   []int64
	chars                                         []int64
	maxAttempts                                   []int32
	custody                                       []string
	inputHash                                     [][]byte
	account, lane                                 []string
	version, key, readyAt, excludeUntil           []int64
	queueUntil, claimedAt, limitAt                []int64
	leaseFor, leaseUntil, endedAt, ackedAt, dueAt []int64
	attempt, faults                               []int32
	state, ticket                                 []int16
	purged                                        []bool
	change                                        []pgtype.UUID
	claim                                         []pgtype.UUID
	worker, lastWorker                            [][]byte
	reason                                        []string

	laneID []pgtype.UUID // not a field of a Job
}

func (r *jobRows) add(j *consign.Job) {
	r.id = append(r.id, uuid(j.ID))
	r.created = append(r.created, int64(j.CreatedAt))
	r.deadline = append(r.deadline, int64(j.Deadline))
	r.queueTime = append(r.queueTime, micros(j.QueueTime))
	r.offset = append(r.offset, micros(j.Offset))
	r.price = append(r.price, int64(j.Price))
	r.chars = append(r.chars, int64(j.Chars))
	r.maxAttempts = append(r.maxAttempts, int32(j.MaxAttempts))
	r.custody = append(r.custody, string(j.Custody))
	r.inputHash = append(r.inputHash, j.InputHash[:])
	r.account = append(r.account, j.Account)
	if n := len(r.lane); n > 0 && r.lane[n-1] == j.Lane {
		r.laneID = append(r.laneID, r.laneID[n-1])
	} else {
		r.laneID = append(r.laneID, laneID(j.Lane))
	}
	r.lane = append(r.lane, j.Lane)
	r.version = append(r.version, int64(j.Version))
	r.key = append(r.key, int64(j.Key))
	r.readyAt = append(r.readyAt, int64(j.ReadyAt))
	r.excludeUntil = append(r.excludeUntil, int64(j.ExcludeUntil))
	r.queueUntil = append(r.queueUntil, int64(j.QueueUntil))
	r.claimedAt = append(r.claimedAt, int64(j.ClaimedAt))
	r.limitAt = append(r.limitAt, int64(j.LimitAt))
	r.leaseFor = append(r.leaseFor, micros(j.LeaseFor))
	r.leaseUntil = append(r.leaseUntil, int64(j.LeaseUntil))
	r.endedAt = append(r.endedAt, int64(j.EndedAt))
	r.ackedAt = append(r.ackedAt, int64(j.AckedAt))
	r.dueAt = append(r.dueAt, int64(j.DueAt))
	r.attempt = append(r.attempt, int32(j.Attempt))
	r.faults = append(r.faults, int32(j.Faults))
	r.state = append(r.state, int16(j.State))
	r.ticket = append(r.ticket, int16(j.Ticket))
	r.purged = append(r.purged, j.Purged)
	r.change = append(r.change, uuid(j.Change))
	r.claim = append(r.claim, pgtype.UUID{Bytes: j.Claim, Valid: !j.Claim.IsZero()})
	r.worker = append(r.worker, optional32(&j.Worker))
	r.lastWorker = append(r.lastWorker, optional32(&j.LastWorker))
	r.reason = append(r.reason, j.Reason)
}

// args are the parameters, in the order of jobColumns.
func (r *jobRows) args() []any {
	return []any{r.id, r.created, r.deadline, r.queueTime, r.offset, r.price, r.chars, r.maxAttempts, r.custody, r.inputHash, r.account,
		r.lane, r.version, r.key, r.readyAt, r.excludeUntil, r.queueUntil, r.claimedAt, r.limitAt, r.leaseFor, r.leaseUntil,
		r.endedAt, r.ackedAt, r.dueAt, r.attempt, r.faults, r.state, r.ticket, r.purged, r.change, r.claim, r.worker, r.lastWorker, r.reason}
}

// scanJob reads the columns of jobColumns.
func scanJob(rows pgx.Rows) (*consign.Job, error) {
	j := &consign.Job{}
	var queueTime, offset, leaseFor, chars, version int64
	var maxAttempts, attempt, faults int32
	var state, ticket int16
	var claim *[16]byte
	var inputHash, worker, lastWorker []byte
	err := rows.Scan((*[16]byte)(&j.ID), (*int64)(&j.CreatedAt), (*int64)(&j.Deadline), &queueTime, &offset, (*int64)(&j.Price), &chars,
		&maxAttempts, (*string)(&j.Custody), &inputHash, &j.Account, &j.Lane,
		&version, (*int64)(&j.Key), (*int64)(&j.ReadyAt), (*int64)(&j.ExcludeUntil), (*int64)(&j.QueueUntil), (*int64)(&j.ClaimedAt),
		(*int64)(&j.LimitAt), &leaseFor, (*int64)(&j.LeaseUntil), (*int64)(&j.EndedAt), (*int64)(&j.AckedAt), (*int64)(&j.DueAt),
		&attempt, &faults, &state, &ticket, &j.Purged, (*[16]byte)(&j.Change), &claim, &worker, &lastWorker, &j.Reason)
	j.QueueTime, j.Offset, j.LeaseFor = duration(queueTime), duration(offset), duration(leaseFor)
	j.Chars, j.Version = uint32(chars), uint64(version)
	j.MaxAttempts, j.Attempt, j.Faults = int(maxAttempts), int(attempt), int(faults)
	j.State, j.Ticket = consign.State(state), consign.TicketKind(ticket)
	if claim != nil {
		j.Claim = *claim
	}
	copy(j.InputHash[:], inputHash)
	copy(j.Worker[:], worker)
	copy(j.LastWorker[:], lastWorker)
	return j, err
}

// laneID is what a lane is indexed by.
func laneID(lane string) pgtype.UUID {
	sum := sha256.Sum256([]byte(lane))
	return uuid([16]byte(sum[:]))
}

// uuid is an ID as a parameter. Its type is one that pgx knows without asking
// the server.
func uuid(id [16]byte) pgtype.UUID { return pgtype.UUID{Bytes: id, Valid: true} }

func optional32(id *consign.WorkerID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}
