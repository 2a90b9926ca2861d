package postgres_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// smallDisk moves tables to a disk of 4 MiB, which is mounted at the folder that
// it returns.
func smallDisk(t *testing.T, server *pgtest.Server, pool *pgxpool.Pool, schema string, tables ...string) (disk string) {
	t.Helper()
	disk = filepath.Join(server.Dir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	as, err := user.Lookup("postgres")
	if err != nil || syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m,mode=700,uid="+as.Uid+",gid="+as.Gid) != nil {
		t.Skip("a small disk cannot be mounted here")
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	moves := []string{"CREATE TABLESPACE small LOCATION '" + disk + "'"}
	for _, table := range tables {
		moves = append(moves, "ALTER TABLE "+schema+"."+table+" SET TABLESPACE small")
	}
	for _, sql := range moves {
		if _, err := pool.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// A disk that is full is an error that says so, after which everything can
// still be read; once there is room the store goes on.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	server := pgtest.Private(t, "fsync = off")
	pool := connect(t, server.DSN)
	s := openIn(t, pool, "queue")
	disk := smallDisk(t, server, pool, "queue", "specs")
	submit := func(n int) (ids []consign.JobID, err error) {
		payload := make([]byte, 64<<10)
		for i := range payload { // that does not compress
			payload[i] = byte(i * i >> 8 * 31)
		}
		var changes []consign.Change
		for range n {
			id := consign.NewJobID()
			copy(payload, id[:])
			changes = append(changes, consign.Change{Job: &consign.Job{ID: id, Version: 1, State: consign.StateQueued, Lane: "a"},
				Spec: &consign.Spec{ID: id, Payload: bytes.Clone(payload)}})
			ids = append(ids, id)
		}
		outcomes, err := s.Apply(ctx, changes)
		return ids, errors.Join(append(outcomes, err)...)
	}
	var err error
	for _, n := range []int{1, 100} { // inserted, and copied
		var kept []consign.JobID
		for err = nil; err == nil; {
			if kept = append(kept, consign.JobID{}); len(kept) > 2000 {
				t.Fatal("the disk does not fill up")
			}
			_, err = submit(n)
		}
		if !strings.Contains(err.Error(), "make room") {
			t.Errorf("batches of %d: %v", n, err)
		}
		if _, err := s.Page(ctx, "a", consign.AllShards, consign.Place{}, 10); err != nil {
			t.Errorf("batches of %d: while the disk is full: %v", n, err)
		}
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	ids, err := submit(100)
	if err != nil {
		t.Fatalf("after there is room: %v", err)
	}
	if specs, err := s.Specs(ctx, ids); err != nil || len(specs) != 100 || specs[99] == nil {
		t.Error(err)
	}
}

// A whole queue whose disk fills up: calls say so, what was acknowledged is read,
// and once there is room all of it goes on to its end.
func TestQueueOnFullDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server := pgtest.Private(t, "fsync = off")
	pool := connect(t, server.DSN)
	store := openIn(t, pool, "queue")
	disk := smallDisk(t, server, pool, "queue", "jobs", "specs", "done", "reports", "effects", "docs", "counters")
	q, _ := startQueue(t, consign.Config{Store: store, Identity: identity(0), NoReceipts: true, Lease: 5 * time.Minute, DrainTimeout: time.Second})
	w, err := openSession(ctx, q, identity(1), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	sub := q.Submitter("acme")
	states := map[consign.JobID]consign.State{} // as they were acknowledged
	submit := func(rs []consign.SubmitRequest) (refused []consign.SubmitRequest, err error) {
		for i, o := range sub.SubmitMany(ctx, rs) {
			if o.Err != nil {
				refused, err = append(refused, rs[i]), o.Err
			} else {
				states[rs[i].ID] = consign.StateQueued
			}
		}
		return refused, err
	}
	claim := func() consign.Claim {
		a, err := w.Claim(ctx)
		if err != nil {
			t.Fatal(err)
		}
		states[a.Job] = consign.StateRunning
		return consign.Claim{Job: a.Job, Claim: a.Claim}
	}
	complete := func(c consign.Claim, bytes int) error {
		err := w.Complete(ctx, consign.Completion{Claim: c, Result: noise(c.Job, bytes)})
		if err == nil {
			states[c.Job] = consign.StateCompleted
		}
		return err
	}
	isFull := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "make room") {
			t.Errorf("%s, while the disk is full: %v", what, err)
		}
	}
	if _, err := submit(requests(40)); err != nil {
		t.Fatal(err)
	}
	var held []consign.Claim
	for range 20 {
		held = append(held, claim())
	}
	for _, c := range held[:10] {
		if err := complete(c, 100); err != nil {
			t.Fatal(err)
		}
	}

	ballast := filepath.Join(disk, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	rs := requests(20)
	for i := range rs {
		rs[i].Payload = noise(rs[i].ID, 64<<10)
	}
	refused, err := submit(rs)
	isFull("a submit", err)
	err = complete(held[10], 256<<10)
	isFull("a completion", err)
	for id, state := range states {
		if info, err := sub.Get(ctx, id); err != nil || info.State != state {
			t.Errorf("while the disk is full job %s is %s (%v), acknowledged was %s", id, info.State, err, state)
		}
	}

	if err := errors.Join(os.Remove(ballast), syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=64m")); err != nil {
		t.Fatal(err)
	}
	if _, err := submit(refused); err != nil {
		t.Fatalf("a submit again, once there is room: %v", err)
	}
	for _, c := range held[10:] {
		if err := complete(c, 256<<10); err != nil {
			t.Fatalf("a completion, once there is room: %v", err)
		}
	}
	for range len(states) - len(held) {
		if err := complete(claim(), 100); err != nil {
			t.Fatal(err)
		}
	}
	for id := range states {
		info, err := sub.Get(ctx, id)
		if err != nil || info.State != consign.StateCompleted || len(info.Result) < 100 || !bytes.Equal(info.Result, noise(id, len(info.Result))) {
			t.Errorf("job %s is %s with %d bytes (%v)", id, info.State, len(info.Result), err)
		}
	}
	if len(states) != 60 {
		t.Errorf("%d jobs were acknowledged, want 60", len(states))
	}
}

// noise is text of a job that does not compress much.
func noise(id consign.JobID, n int) []byte {
	b := make([]byte, n/2)
	_, _ = rand.NewChaCha8([32]byte(append(id[:], id[:]...))).Read(b) // it never fails
	return hex.AppendEncode(nil, b)
}
