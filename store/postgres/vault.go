package postgres

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// Vault is a vault.Storage in a schema of a PostgreSQL database, which several
// coordinators may share. Make one with NewVault.
//
// PostgreSQL remembers. What Delete deleted stays in dead rows, in the WAL, in
// replicas and in backups, encrypted under the key-encryption key, and whoever
// has both can read it. It is gone for good when that key is: rotate it, as
// often as the server is to forget, with Vault.RotateKEK of package vault, or
// with its Rekey where several processes have the vault open.
type Vault struct {
	pool *pgxpool.Pool
	sql  vaultStatements
	wait string // for how long Retire waits for one who writes
}

var _ vault.Storage = (*Vault)(nil)

//go:embed vault.sql
var vaultSchema string

//go:embed vault_retired.sql
var vaultRetired string

type vaultStatements struct{ put, replace, get, all, delete, retired, retire, present string }

// What a write of keys begins with. It has to see what was committed while it
// waited, whatever the server's default is. And it holds off those who retire the
// keys that it is under, before it waits for its turn among those of a job.
const (
	readCommitted = `SET transaction_isolation = 'read committed'`
	lockForPut    = `SELECT pg_advisory_xact_lock_shared($1::bigint), pg_advisory_xact_lock($2::bigint)`
	lockForMany   = `SELECT pg_advisory_xact_lock_shared(kek) FROM unnest($1::bigint[]) AS kek`
	// How Retire waits for those, and for how long.
	lockWithin   = `SELECT set_config('lock_timeout', $1::text, true)`
	lockToRetire = `SELECT pg_advisory_xact_lock(kek) FROM unnest($1::bigint[]) AS kek`
)

// NewVault returns the keys in a schema of the pool's database, whose table it
// makes or brings up to date. Config.Schema defaults to "consign_vault" here;
// the queue's own will do, but whoever may read a job need not be able to read
// keys. It returns what New returns.
func NewVault(ctx context.Context, pool *pgxpool.Pool, c Config) (*Vault, error) {
	if c.Schema == "" {
		c.Schema = "consign_vault"
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := migrate(ctx, pool, c.Schema, "vault_migrations", []string{vaultSchema, vaultRetired}); err != nil {
		return nil, err
	}
	at := func(sql string) string { return in(c.Schema, sql) }
	return &Vault{pool: pool, wait: "5s", sql: vaultStatements{
		put: at(`INSERT INTO @vault_records (job, header, at, sealed) SELECT $1::uuid, $2::bytea, $3::bigint, $4::bytea
			WHERE (SELECT count(*) FROM @vault_records WHERE job = $1::uuid AND header <> $2::bytea) < $5::integer
				AND NOT EXISTS (SELECT FROM @vault_retired WHERE kek = $6::bytea)
			ON CONFLICT (job, header) DO UPDATE SET at = excluded.at, sealed = excluded.sealed`),
		replace: at(`UPDATE @vault_records r SET sealed = c.sealed
			FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bytea[]) AS c(job, header, at, sealed)
			WHERE (r.job, r.header, r.at) = (c.job, c.header, c.at)
				AND NOT EXISTS (SELECT FROM @vault_retired WHERE kek = ANY($5::bytea[]))`),
		retired: at(`SELECT EXISTS (SELECT FROM @vault_retired WHERE kek = ANY($1::bytea[]))`),
		retire:  at(`INSERT INTO @vault_retired (kek) SELECT unnest($1::bytea[]) ON CONFLICT DO NOTHING`),
		present: at(`DELETE FROM @vault_retired WHERE kek = $1::bytea`),
		delete: at(`DELETE FROM @vault_records r USING unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS c(job, header, at)
			WHERE (r.job, r.header, r.at) = (c.job, c.header, c.at)`),
		get: at(`SELECT job, header, at, sealed FROM @vault_records WHERE job = $1::uuid`),
		all: at(`SELECT job, header, at, sealed FROM @vault_records WHERE (job, header) > ($1::uuid, $2::bytea) ORDER BY job, header LIMIT 256`),
	}}, nil
}

// Close does nothing: the pool is the caller's.
func (v *Vault) Close() error { return nil }

// Put implements vault.Storage. Those of one job take turns, so that they count
// each other.
func (v *Vault) Put(ctx context.Context, r vault.Record) error {
	if err := fits(r); err != nil {
		return err
	}
	kek, kept := r.KEK(), false
	var b pgx.Batch // one round trip, one transaction
	b.Queue(readCommitted)
	b.Queue(lockForPut, lock(kek[:]), lock(r.Job[8:]))
	b.Queue(v.sql.put, uuid(r.Job), r.Header[:], int64(r.At), notNull(r.Sealed), vault.MaxHeaders, kek[:]).Exec(func(tag pgconn.CommandTag) error {
		kept = tag.RowsAffected() == 1
		return nil
	})
	if err := v.pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("postgres: keep a key: %w", err)
	}
	if kept {
		return nil
	}
	var retired bool
	if err := v.pool.QueryRow(ctx, v.sql.retired, [][]byte{kek[:]}).Scan(&retired); err != nil {
		return fmt.Errorf("postgres: keep a key: %w", err)
	}
	if retired {
		return vault.ErrRetired
	}
	return vault.ErrFull
}

// lock is the advisory lock of eight bytes.
func lock(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) } //nolint:gosec // the bits are kept

// distinct returns the IDs of keys, in the one order in which they are locked, and
// their locks.
func distinct(ids [][8]byte) (keks [][]byte, locks []int64) {
	ids = slices.SortedFunc(slices.Values(ids), func(a, b [8]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(ids) {
		keks, locks = append(keks, id[:]), append(locks, lock(id[:]))
	}
	return keks, locks
}

func fits(rs ...vault.Record) error {
	for _, r := range rs {
		if len(r.Sealed) > vault.MaxSealed {
			return fmt.Errorf("postgres: a record has %d bytes, more than %d", len(r.Sealed), vault.MaxSealed)
		}
	}
	return nil
}

// notNull keeps nil from becoming NULL.
func notNull(b []byte) []byte { return append([]byte{}, b...) }

// vaultColumns are records as arrays.
type vaultColumns struct {
	jobs            []pgtype.UUID
	headers, sealed [][]byte
	ats             []int64
}

func columnsOf(rs []vault.Record) (c vaultColumns) {
	for _, r := range rs {
		c.jobs = append(c.jobs, uuid(r.Job))
		c.headers = append(c.headers, r.Header[:])
		c.ats = append(c.ats, int64(r.At))
		c.sealed = append(c.sealed, notNull(r.Sealed))
	}
	return c
}

// Replace implements vault.Storage. Of what was replaced there is as much left
// as of what was deleted.
func (v *Vault) Replace(ctx context.Context, rs []vault.Record) error {
	if err := fits(rs...); err != nil {
		return err
	}
	var ids [][8]byte
	for _, r := range rs {
		ids = append(ids, r.KEK())
	}
	keks, locks := distinct(ids)
	c, retired := columnsOf(rs), false
	var b pgx.Batch
	b.Queue(readCommitted)
	b.Queue(lockForMany, locks)
	b.Queue(v.sql.replace, c.jobs, c.headers, c.ats, c.sealed, keks)
	b.Queue(v.sql.retired, keks).QueryRow(func(row pgx.Row) error { return row.Scan(&retired) })
	if err := v.pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("postgres: replace keys: %w", err)
	}
	if retired {
		return vault.ErrRetired
	}
	return nil
}

// Retire implements vault.Storage. It waits 5 s at most for writes under the old
// keys that have begun, and holds up none under other keys.
func (v *Vault) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	var b pgx.Batch
	b.Queue(readCommitted)
	if len(old) > 0 {
		keks, locks := distinct(old)
		b.Queue(lockWithin, v.wait)
		b.Queue(lockToRetire, locks)
		b.Queue(v.sql.retire, keks)
	}
	b.Queue(v.sql.present, present[:])
	err := v.pool.SendBatch(ctx, &b).Close()
	if code(err) == "55P03" {
		return fmt.Errorf("postgres: retire a key: a write under it has not ended for %s: try again, and if that fails too end the oldest transaction in pg_stat_activity: %w", v.wait, err)
	}
	if err != nil {
		return fmt.Errorf("postgres: retire a key: %w", err)
	}
	return nil
}

// Delete implements vault.Storage. The server remembers: see Vault.
func (v *Vault) Delete(ctx context.Context, rs []vault.Record) error {
	if len(rs) == 0 {
		return nil
	}
	c := columnsOf(rs)
	if _, err := v.pool.Exec(ctx, v.sql.delete, c.jobs, c.headers, c.ats); err != nil {
		return fmt.Errorf("postgres: delete keys: %w", err)
	}
	return nil
}

// Get implements vault.Storage.
func (v *Vault) Get(ctx context.Context, job consign.JobID) ([]vault.Record, error) {
	return v.read(ctx, v.sql.get, uuid(job))
}

// All implements vault.Storage.
func (v *Vault) All(ctx context.Context) iter.Seq2[vault.Record, error] {
	return func(yield func(vault.Record, error) bool) {
		var last vault.Record
		for header := []byte{}; ; header = last.Header[:] { // at first before every other
			rs, err := v.read(ctx, v.sql.all, uuid(last.Job), header)
			if err != nil {
				yield(vault.Record{}, err)
				return
			}
			if len(rs) == 0 {
				return
			}
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
			last = rs[len(rs)-1]
		}
	}
}

func (v *Vault) read(ctx context.Context, sql string, args ...any) ([]vault.Record, error) {
	rows, err := v.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("postgres: read keys: %w", err)
	}
	rs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r vault.Record, err error) {
		var header []byte
		err = row.Scan((*[16]byte)(&r.Job), &header, (*int64)(&r.At), &r.Sealed)
		if err == nil && copy(r.Header[:], header) != len(r.Header) {
			err = fmt.Errorf("the header of a key of job %s has %d bytes: repair the row", r.Job, len(header))
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("postgres: read keys: %w", err)
	}
	return rs, nil
}
