package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// jobColumns are what a consign.Job holds. jobScan goes by the same order.
var jobColumns = []column[*row]{
	col("id", "uuid", func(r *row) pgtype.UUID { return uuid(r.job.ID) }),
	col("created_at", "bigint", func(r *row) int64 { return int64(r.job.CreatedAt) }),
	col("deadline", "bigint", func(r *row) int64 { return int64(r.job.Deadline) }),
	col("queue_time", "bigint", func(r *row) int64 { return micros(r.job.QueueTime) }),
	col("key_offset", "bigint", func(r *row) int64 { return micros(r.job.Offset) }),
	col("price", "bigint", func(r *row) int64 { return int64(r.job.Price) }),
	col("chars", "bigint", func(r *row) int64 { return int64(r.job.Chars) }),
	col("max_attempts", "integer", func(r *row) int32 { return int32(r.job.MaxAttempts) }),
	col("custody", "text", func(r *row) string { return string(r.job.Custody) }),
	col("input_hash", "bytea", func(r *row) []byte { return r.job.InputHash[:] }),
	col("account", "text", func(r *row) string { return r.job.Account }),
	col("lane", "text", func(r *row) string { return r.job.Lane }),
	col("version", "bigint", func(r *row) int64 { return int64(r.job.Version) }),
	col("key", "bigint", func(r *row) int64 { return int64(r.job.Key) }),
	col("ready_at", "bigint", func(r *row) int64 { return int64(r.job.ReadyAt) }),
	col("exclude_until", "bigint", func(r *row) int64 { return int64(r.job.ExcludeUntil) }),
	col("queue_until", "bigint", func(r *row) int64 { return int64(r.job.QueueUntil) }),
	col("claimed_at", "bigint", func(r *row) int64 { return int64(r.job.ClaimedAt) }),
	col("limit_at", "bigint", func(r *row) int64 { return int64(r.job.LimitAt) }),
	col("lease_for", "bigint", func(r *row) int64 { return micros(r.job.LeaseFor) }),
	col("lease_until", "bigint", func(r *row) int64 { return int64(r.job.LeaseUntil) }),
	col("ended_at", "bigint", func(r *row) int64 { return int64(r.job.EndedAt) }),
	col("acked_at", "bigint", func(r *row) int64 { return int64(r.job.AckedAt) }),
	col("due_at", "bigint", func(r *row) int64 { return int64(r.job.DueAt) }),
	col("attempt", "integer", func(r *row) int32 { return int32(r.job.Attempt) }),
	col("faults", "integer", func(r *row) int32 { return int32(r.job.Faults) }),
	col("state", "smallint", func(r *row) int16 { return int16(r.job.State) }),
	col("ticket", "smallint", func(r *row) int16 { return int16(r.job.Ticket) }),
	col("notify", "boolean", func(r *row) bool { return r.job.Notify }),
	col("purged", "boolean", func(r *row) bool { return r.job.Purged }),
	col("change", "uuid", func(r *row) pgtype.UUID { return uuid(r.job.Change) }),
	col("claim", "uuid", func(r *row) pgtype.UUID { return pgtype.UUID{Bytes: r.job.Claim, Valid: !r.job.Claim.IsZero()} }),
	col("worker", "bytea", func(r *row) []byte { return worker(&r.job.Worker) }),
	col("last_worker", "bytea", func(r *row) []byte { return worker(&r.job.LastWorker) }),
	col("reason", "text", func(r *row) string { return r.job.Reason }),
}

// rowColumns are what a statement that writes jobs takes beside them.
var rowColumns = []column[*row]{
	col("lane_id", "uuid", func(r *row) pgtype.UUID { return laneID(r.job.Lane) }),
	// The version that must be stored; 0: none.
	col("base", "bigint", func(r *row) int64 { return int64(r.base) }),
	// Nothing of what is stored stays.
	col("anew", "boolean", func(r *row) bool { return r.anew }),
	// Spec, result and log are forgotten.
	col("gone", "boolean", func(r *row) bool { return r.gone }),
	// To add to the log.
	entriesColumn("entries"),
}

// entriesColumn is what is added to a log, packed as it is sent.
func entriesColumn(name string) column[*row] {
	return column[*row]{name, "bytea", arrayTypes["bytea"], func(b []byte, r *row) []byte {
		at := len(b)
		b = pack(append(b, 0, 0, 0, 0), r.entries)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
		return b
	}}
}

// jobScan returns what reads rows of the columns of jobColumns, one after the
// other, each to a job or a *CorruptError. A place for each column that pgx can
// write to costs more than the job: they are made once, for all rows.
func jobScan() func(pgx.Rows) (*consign.Job, error) {
	var row consign.Job
	var queueTime, offset, leaseFor, chars, version int64
	var maxAttempts, attempt, faults int32
	var state, ticket int16
	var claim *[16]byte
	var inputHash, ran, ranLast pgtype.DriverBytes // good until the next row
	places := []any{(*[16]byte)(&row.ID), (*int64)(&row.CreatedAt), (*int64)(&row.Deadline), &queueTime, &offset, (*int64)(&row.Price), &chars,
		&maxAttempts, (*string)(&row.Custody), &inputHash, &row.Account, &row.Lane,
		&version, (*int64)(&row.Key), (*int64)(&row.ReadyAt), (*int64)(&row.ExcludeUntil), (*int64)(&row.QueueUntil), (*int64)(&row.ClaimedAt),
		(*int64)(&row.LimitAt), &leaseFor, (*int64)(&row.LeaseUntil), (*int64)(&row.EndedAt), (*int64)(&row.AckedAt), (*int64)(&row.DueAt),
		&attempt, &faults, &state, &ticket, &row.Notify, &row.Purged, (*[16]byte)(&row.Change), &claim, &ran, &ranLast, &row.Reason}
	return func(rows pgx.Rows) (*consign.Job, error) {
		if err := rows.Scan(places...); err != nil {
			return nil, err
		}
		j := row
		var c checks
		c.within("state", int64(state), int64(consign.StateExpired))
		c.within("ticket", int64(ticket), math.MaxUint8)
		c.within("chars", chars, math.MaxUint32)
		c.sized("input_hash", inputHash, len(j.InputHash), false)
		c.sized("worker", ran, len(j.Worker), true)
		c.sized("last_worker", ranLast, len(j.LastWorker), true)
		j.QueueTime, j.Offset, j.LeaseFor = duration(queueTime), duration(offset), duration(leaseFor)
		j.Chars, j.Version = uint32(chars), uint64(version)
		j.MaxAttempts, j.Attempt, j.Faults = int(maxAttempts), int(attempt), int(faults)
		j.State, j.Ticket = consign.State(state), consign.TicketKind(ticket)
		if claim != nil {
			j.Claim = *claim
		}
		copy(j.InputHash[:], inputHash)
		copy(j.Worker[:], ran)
		copy(j.LastWorker[:], ranLast)
		return &j, c.err("jobs", j.ID)
	}
}

// laneID is what a lane is indexed by.
func laneID(lane string) pgtype.UUID {
	sum := sha256.Sum256([]byte(lane))
	return uuid([16]byte(sum[:]))
}

// worker is a worker's ID, null where there is none.
func worker(id *consign.WorkerID) []byte {
	if id.IsZero() {
		return nil
	}
	return id[:]
}
