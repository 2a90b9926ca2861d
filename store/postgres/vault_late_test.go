package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/vault"
)

// lateJob is a job whose key is about to be written, under the KEK older, and
// waits for its turn: until whoever has that ends.
type lateJob struct {
	older, newer vault.KEK
	storage      *postgres.Vault
	keys         *vault.Vault
	record       vault.Record
	turn         pgx.Tx
	put          chan error
}

func newLateJob(t *testing.T, pool *pgxpool.Pool) *lateJob {
	t.Helper()
	j := &lateJob{older: vault.NewKEK(), newer: vault.NewKEK(), storage: newVault(t, pool, newSchema(t, pool)), put: make(chan error, 1)}
	j.keys = keys(t, j.storage, j.older, vault.Config{})
	job := consign.NewJobID()
	_, err := j.keys.Seal(t.Context(), consign.SealRequest{Job: job, Kind: consign.KindTask, Comparator: consign.ComparatorNone, Payload: []byte("x")})
	check(t, err)
	rs, err := j.storage.Get(t.Context(), job)
	check(t, err)
	j.record = rs[0]
	check(t, j.keys.Shred(t.Context(), job))
	j.turn, err = pool.Begin(t.Context())
	check(t, err)
	t.Cleanup(func() { _ = j.turn.Rollback(context.Background()) })
	_, err = j.turn.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1::bigint)", int64(binary.BigEndian.Uint64(job[8:])))
	check(t, err)
	go func() { j.put <- j.storage.Put(t.Context(), j.record) }()
	waits(t, pool, j.put, job[8:])
	return j
}

// waits returns once somebody waits for the advisory lock of these bits.
func waits(t *testing.T, pool *pgxpool.Pool, ended chan error, bits []byte) {
	t.Helper()
	for waiting := false; !waiting; {
		select {
		case err := <-ended:
			t.Fatalf("it does not wait (%v)", err)
		default:
		}
		check(t, pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND (classid, objid) = ($1, $2))",
			binary.BigEndian.Uint32(bits), binary.BigEndian.Uint32(bits[4:])).Scan(&waiting))
	}
}

// A key whose Put is under way, of whomever, when the KEK is rotated: the rotation
// waits for it, and finds it.
func TestVaultLatePut(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	j := newLateJob(t, pool)
	rekeyed := make(chan error, 1)
	go func() { rekeyed <- j.keys.Rekey(t.Context(), j.newer) }()
	kek := j.record.KEK()
	waits(t, pool, rekeyed, kek[:])
	// Nobody else has to wait: here is one who is at work under the new key.
	other := vault.Record{Job: consign.NewJobID(), Sealed: []byte("another key's ID, and so on")}
	check(t, j.storage.Put(t.Context(), other))
	check(t, j.storage.Delete(t.Context(), []vault.Record{other}))
	check(t, j.turn.Rollback(t.Context()))
	check(t, <-j.put)
	check(t, <-rekeyed)
	again := keys(t, j.storage, j.newer, vault.Config{})
	if rs, err := j.storage.Get(t.Context(), j.record.Job); err != nil || len(rs) != 1 || rs[0].KEK() == kek {
		t.Errorf("it has %v (%v)", rs, err)
	}
	check(t, again.Shred(t.Context(), j.record.Job))
	if err := j.storage.Put(t.Context(), j.record); !errors.Is(err, vault.ErrRetired) {
		t.Errorf("one that comes after it: %v", err)
	}
}

// A Put that does not end, as of one who hangs amid it, holds a rotation up for a
// while, which then fails, and harms nobody: the vault goes on under the new key.
func TestVaultStuckPut(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	j := newLateJob(t, pool)
	postgres.WaitInRetire(j.storage, time.Millisecond)
	if err := j.keys.Rekey(t.Context(), j.newer); err == nil || !strings.Contains(err.Error(), "pg_stat_activity") {
		t.Errorf("the error is %v", err)
	}
	other := consign.NewJobID()
	_, err := j.keys.Seal(t.Context(), consign.SealRequest{Job: other, Kind: consign.KindTask, Comparator: consign.ComparatorNone, Payload: []byte("y")})
	check(t, err)
	check(t, j.turn.Rollback(t.Context()))
	check(t, <-j.put)
	check(t, j.keys.Rekey(t.Context(), j.newer))
	keys(t, j.storage, j.newer, vault.Config{})
}

// The keys of a program that could not retire one are taken over.
func TestVaultUpgrade(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	r := vault.Record{Job: consign.NewJobID(), Sealed: []byte("the key's ID, and so on")}
	check(t, newVault(t, pool, schema).Put(t.Context(), r))
	in := pgx.Identifier{schema}.Sanitize()
	_, err := pool.Exec(t.Context(), "DROP TABLE "+in+".vault_retired")
	check(t, err)
	_, err = pool.Exec(t.Context(), "DELETE FROM "+in+".vault_migrations WHERE version = 2")
	check(t, err)
	v := newVault(t, pool, schema)
	if rs, err := v.Get(t.Context(), r.Job); err != nil || len(rs) != 1 {
		t.Errorf("it has %v (%v)", rs, err)
	}
	check(t, v.Retire(t.Context(), [][8]byte{r.KEK()}, [8]byte{}))
	if err := v.Put(t.Context(), r); !errors.Is(err, vault.ErrRetired) {
		t.Errorf("under a key that is retired: %v", err)
	}
}
