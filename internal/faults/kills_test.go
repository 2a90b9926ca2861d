package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/vault"
)

// sqliteKills kills whole queues on SQLite, with a vault beside each, by turns in
// a folder and in a file, n times while workers are in the middle of their jobs
// and the vault's key is rotated.
func sqliteKills(t *testing.T, n int, plant mutant) *verdict {
	const most = 50 // of one queue, since all of its jobs are looked at after each
	all := &verdict{}
	for vaults := []string{"vault", "vault.db"}; n > 0; vaults[0], vaults[1] = vaults[1], vaults[0] {
		part := min((n+1)/2, most)
		all.add(killQueue(t, part, vaults[0], plant))
		n -= part
	}
	return all
}

func killQueue(t *testing.T, n int, keeps string, plant mutant) *verdict {
	dir := t.TempDir()
	c := coordinator{SQLite: filepath.Join(dir, "queue.db"), Vault: filepath.Join(dir, keeps), KEK: filepath.Join(dir, "kek"), Rotate: true, Lease: 2 * time.Second, Plant: plant}
	process, addr := startCoordinator(t, c)
	b := newBalancer(addr)
	l := start(t, b, 12, 3, consign.CustodyTransit, plant)
	random := rand.New(rand.NewPCG(seed, 1))
	keyless := 0
	var example string
	for range n {
		l.moves(t, 10)
		sleep(l.ctx, time.Duration(random.IntN(50))*time.Millisecond)
		process.kill()
		wrong, said := keys(t, c)
		keyless, example = keyless+wrong, cmp.Or(example, said)
		if wrong > 0 && plant == lateKeys { // no coordinator can open the vault any more
			l.end()
			l.jobs.Wait()
			l.workers.Wait()
			return &verdict{lost: keyless, example: example}
		}
		process, addr = startCoordinator(t, c)
		b.set(0, addr)
	}
	l.drain()
	_ = process.in.Close() // it ends by itself
	_ = process.cmd.Wait()
	v := judged(t, c, l)
	v.lost, v.example = v.lost+keyless, cmp.Or(v.example, example)
	return v
}

// keys counts the jobs that still need a key and have none in the vault, and,
// after a sweep two hours from now, those with a key that they need no more.
func keys(t *testing.T, c coordinator) (wrong int, example string) {
	t.Helper()
	ctx := context.Background()
	store, closeStore, err := c.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	v, err := c.openVault(ctx, store, func() time.Time { return time.Now().Add(2 * time.Hour) })
	if errors.Is(err, vault.ErrKEK) {
		return 1, err.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	missing, kept := 0, 0
	if err := eachJob(ctx, store, func(j *consign.Job) error {
		specs, err := store.Specs(ctx, []consign.JobID{j.ID})
		if err != nil || specs[0] == nil {
			return err
		}
		_, err = v.OpenPayload(ctx, j.ID, consign.SealedPayload{Header: specs[0].Header, Payload: specs[0].Payload})
		gone := errors.Is(err, consign.ErrKeyGone)
		if err != nil && !gone {
			return err
		}
		switch {
		case gone && j.AckedAt == 0:
			missing++
		case !gone && j.AckedAt != 0:
			kept++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if missing+kept > 0 {
		example = fmt.Sprintf("%d jobs without their key, %d keys without a job that needs it", missing, kept)
	}
	return missing + kept, example
}

// dsn is the connection string of a server for a pool.
func dsn(s *pgtest.Server) string { return s.DSN + " pool_max_conns=20" }

// postmasterKills kills PostgreSQL n times under two coordinators.
func postmasterKills(t *testing.T, n int, plant mutant) *verdict {
	server := pgtest.Private(t)
	c := coordinator{DSN: dsn(server), Lease: 3 * time.Second, Plant: plant}
	first, second := running(t, c), running(t, c)
	l := start(t, newBalancer(first.addr, second.addr), 12, 4, consign.CustodyPlain, plant)
	random := rand.New(rand.NewPCG(seed, 2))
	for range n {
		l.moves(t, 10)
		sleep(l.ctx, time.Duration(random.IntN(50))*time.Millisecond)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	l.drain()
	first.stop()
	second.stop()
	return judged(t, c, l)
}

// coordinatorKills kills one of three coordinators on one PostgreSQL, which has
// their vault as well, n times.
func coordinatorKills(t *testing.T, n int, plant mutant) *verdict {
	const coordinators = 3
	server := pgtest.Private(t)
	c := coordinator{DSN: dsn(server), Vault: server.DSN, KEK: filepath.Join(t.TempDir(), "kek"), Lease: time.Second, Plant: plant}
	var processes [coordinators]*child
	var addrs [coordinators]string
	for i := range processes {
		processes[i], addrs[i] = startCoordinator(t, c)
	}
	b := newBalancer(addrs[:]...)
	l := start(t, b, 12, 6, consign.CustodyTransit, plant)
	random := rand.New(rand.NewPCG(seed, 3))
	for range n {
		l.moves(t, 10)
		sleep(l.ctx, time.Duration(random.IntN(50))*time.Millisecond)
		i := random.IntN(coordinators)
		processes[i].kill()
		l.moves(t, 5) // without it
		processes[i], addrs[i] = startCoordinator(t, c)
		b.set(i, addrs[i])
	}
	l.drain()
	for _, p := range processes {
		p.kill()
	}
	v := judged(t, c, l)
	keyless, example := keys(t, c)
	v.lost, v.example = v.lost+keyless, cmp.Or(v.example, example)
	return v
}

// pauses stops workers, which are processes, for longer than their leases, n
// times.
func pauses(t *testing.T, n int, plant mutant) *verdict {
	const workers, lease = 6, 300 * time.Millisecond
	s := running(t, coordinator{Lease: lease, Plant: plant})
	l := start(t, newBalancer(s.addr), 24, 0, consign.CustodyPlain, plant)
	processes := make([]*child, workers)
	var group sync.WaitGroup
	for i := range processes {
		p := startChild(t, childTask{Worker: &workerTask{Number: i, Slots: 4, MaxWork: 40 * time.Millisecond, Addr: s.addr}})
		processes[i] = p
		group.Go(func() {
			if err := l.history.read(p.out); err != nil {
				t.Error(err)
			}
		})
	}
	for done := 0; done < n; done += workers / 2 {
		l.moves(t, 10)
		var paused sync.WaitGroup
		for i := range min(workers/2, n-done) { // the others get their jobs
			p := processes[(done+i)%workers].cmd.Process
			paused.Go(func() {
				_ = p.Signal(syscall.SIGSTOP)
				sleep(l.ctx, 4*lease)
				_ = p.Signal(syscall.SIGCONT)
			})
		}
		paused.Wait()
	}
	l.stopSubmits()
	for _, p := range processes {
		_ = p.in.Close()
	}
	group.Wait()
	for _, p := range processes {
		_ = p.cmd.Wait()
	}
	l.end()
	v := judgedOn(t, s.store, l)
	s.stop()
	return v
}

// clockJumps sets the clock that leases go by, which is PostgreSQL's, five
// minutes forward and back, n times.
func clockJumps(t *testing.T, n int, plant mutant) *verdict {
	ctx := context.Background()
	server := pgtest.Private(t)
	conn, err := pgx.Connect(ctx, server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	set := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	set(`CREATE SCHEMA skew; CREATE TABLE skew.by (i interval); INSERT INTO skew.by VALUES ('0');
		CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS 'SELECT pg_catalog.clock_timestamp() + i FROM skew.by'`)
	c := coordinator{DSN: dsn(server) + " search_path=skew,pg_catalog,public", Lease: 2 * time.Second, Plant: plant}
	first, second := running(t, c), running(t, c)
	l := start(t, newBalancer(first.addr, second.addr), 12, 4, consign.CustodyPlain, plant)
	random := rand.New(rand.NewPCG(seed, 4))
	for range n {
		l.moves(t, 5)
		sleep(l.ctx, time.Duration(random.IntN(100))*time.Millisecond)
		set("UPDATE skew.by SET i = " + []string{"'5 minutes'", "'-5 minutes'", "'0'"}[random.IntN(3)])
	}
	set("UPDATE skew.by SET i = '1 hour'") // what was handed out before it lapses
	l.drain()
	first.stop()
	second.stop()
	return judged(t, c, l)
}

// diskFull fills the disk of a queue on SQLite, n times.
func diskFull(t *testing.T, n int, plant mutant) *verdict {
	folder := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=96m"); err != nil {
		t.Fatalf("a small disk cannot be mounted here: %v: run this as root", err)
	}
	defer syscall.Unmount(folder, syscall.MNT_DETACH) //nolint:errcheck // it goes with the last who has it open
	c := coordinator{SQLite: filepath.Join(folder, "queue.db"), Lease: 3 * time.Second, Plant: plant}
	s := running(t, c)
	l := start(t, newBalancer(s.addr), 12, 3, consign.CustodyPlain, plant)
	ballast := filepath.Join(folder, "ballast")
	for range n {
		l.moves(t, 10)
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); time.Since(began) < 300*time.Millisecond; {
			if _, err := f.Write(make([]byte, 1<<16)); err != nil { // what is free, and what becomes free
				sleep(l.ctx, 5*time.Millisecond)
			}
		}
		_ = f.Close()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	l.drain()
	v := judgedOn(t, s.store, l)
	s.stop()
	return v
}
