package postgres

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"iter"

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
}

var _ vault.Storage = (*Vault)(nil)

//go:embed vault.sql
var vaultSchema string

type vaultStatements struct{ put, replace, get, all, delete string }

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
	if err := migrate(ctx, pool, c.Schema, "vault_migrations", []string{vaultSchema}); err != nil {
		return nil, err
	}
	at := func(sql string) string { return in(c.Schema, sql) }
	return &Vault{pool: pool, sql: vaultStatements{
		put: at(`INSERT INTO @vault_records (job, header, at, sealed) SELECT $1::uuid, $2::bytea, $3::bigint, $4::bytea
			WHERE (SELECT count(*) FROM @vault_records WHERE job = $1::uuid AND header <> $2::bytea) < $5::integer
			ON CONFLICT (job, header) DO UPDATE SET at = excluded.at, sealed = excluded.sealed`),
		replace: at(`UPDATE @vault_records r SET sealed = c.sealed
			FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bytea[]) AS c(job, header, at, sealed)
			WHERE (r.job, r.header, r.at) = (c.job, c.header, c.at)`),
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
	var b pgx.Batch                                                                                // one round trip, one transaction
	b.Queue("SELECT pg_advisory_xact_lock($1::bigint)", int64(binary.BigEndian.Uint64(r.Job[8:]))) //nolint:gosec // the bits are kept
	kept := false
	b.Queue(v.sql.put, uuid(r.Job), r.Header[:], int64(r.At), notNull(r.Sealed), vault.MaxHeaders).Exec(func(tag pgconn.CommandTag) error {
		kept = tag.RowsAffected() == 1
		return nil
	})
	if err := v.pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("postgres: keep a key: %w", err)
	}
	if !kept {
		return vault.ErrFull
	}
	return nil
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
	c := columnsOf(rs)
	if _, err := v.pool.Exec(ctx, v.sql.replace, c.jobs, c.headers, c.ats, c.sealed); err != nil {
		return fmt.Errorf("postgres: replace keys: %w", err)
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
