package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign/internal/testkit/pgtest"
)

// place holds the servers and folders that the systems work on.
type place struct {
	dir    string
	pg     *pgtest.Server
	pool   *pgxpool.Pool
	redis  map[bool]*redisServer // by whether it syncs each write
	trips  atomic.Int64          // to PostgreSQL and back, of all connections
	number atomic.Int64
}

// newPlace starts what the systems work on.
func newPlace(ctx context.Context, chosen []system) (p *place, err error) {
	p = &place{redis: map[bool]*redisServer{}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return p, err
	}
	needs := func(s server) bool { return slices.ContainsFunc(chosen, func(c system) bool { return c.on == s }) }
	if needs(onPostgres) {
		if p.pg, err = pgtest.Start(); err != nil {
			return p, err
		}
		if p.pool, err = p.connect(ctx); err != nil {
			return p, err
		}
	}
	for on, synced := range map[server]bool{onRedis: false, onRedisSynced: true} {
		if !needs(on) {
			continue
		}
		if p.redis[synced], err = startRedis(synced); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *place) close() {
	if p.pool != nil {
		p.pool.Close()
	}
	if p.pg != nil {
		p.pg.Stop()
	}
	for _, r := range p.redis {
		r.stop()
	}
	_ = os.RemoveAll(p.dir)
}

// connect makes the pool that all systems on PostgreSQL use, and counts what
// goes over it.
func (p *place) connect(ctx context.Context) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(p.pg.DSN + " pool_max_conns=10")
	if err != nil {
		return nil, err
	}
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &countingConn{Conn: conn, trips: &p.trips}, err
	}
	return pgxpool.NewWithConfig(ctx, c)
}

// countingConn counts round trips: an answer that is read after something was
// written.
type countingConn struct {
	net.Conn
	trips *atomic.Int64
	asked atomic.Bool
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.asked.Store(true)
	return c.Conn.Write(b)
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.asked.CompareAndSwap(true, false) {
		c.trips.Add(1)
	}
	return n, err
}

// unique is a name that nothing else here has.
func (p *place) unique(of string) string { return fmt.Sprintf("%s_%d", of, p.number.Add(1)) }

// folder makes a folder, and says how to remove it.
func (p *place) folder() (string, func() error, error) {
	dir := filepath.Join(p.dir, p.unique("files"))
	return dir, func() error { return os.RemoveAll(dir) }, os.Mkdir(dir, 0o700)
}

// schema makes a schema, and says how to drop it. The checkpoint ends what the
// system before has left to be written.
func (p *place) schema(ctx context.Context) (string, func() error, error) {
	name := p.unique("bench")
	if _, err := p.pool.Exec(ctx, "CHECKPOINT"); err != nil {
		return "", nil, err
	}
	_, err := p.pool.Exec(ctx, "CREATE SCHEMA "+name)
	return name, func() error {
		_, err := p.pool.Exec(context.Background(), "DROP SCHEMA "+name+" CASCADE")
		return err
	}, err
}

// cost is what work took beside time.
type cost struct {
	ours, server time.Duration // of the processor: this process, and the database's
	wal, trips   int64         // of PostgreSQL
}

func (c cost) since(before cost) cost {
	return cost{c.ours - before.ours, c.server - before.server, c.wal - before.wal, c.trips - before.trips}
}

// cost is what this process and the server of a system have taken so far.
func (p *place) cost(ctx context.Context, s system) (c cost, err error) {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return c, err
	}
	c.ours = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	switch s.on {
	case onRedis, onRedisSynced:
		c.server, err = processorTime(p.redis[s.on == onRedisSynced].pid)
	case onPostgres:
		c.trips = p.trips.Load()
		err = p.pool.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&c.wal)
		if err != nil {
			return c, err
		}
		pid, err := p.pg.PID()
		if err != nil {
			return c, err
		}
		if c.server, err = processorTime(pid); err != nil {
			return c, err
		}
	}
	return c, err
}

// processorTime is what a process and its children have used; zero where there
// is no /proc.
func processorTime(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	const perSecond = 100 // USER_HZ
	var ticks int64
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // from the state on
		if self, parent := filepath.Base(filepath.Dir(path)), f[1]; self != strconv.Itoa(pid) && parent != strconv.Itoa(pid) {
			continue
		}
		for _, field := range f[11:15] { // its own and its ended children's
			n, _ := strconv.ParseInt(field, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// syncTime is what pg_test_fsync says that one fdatasync of 8 kB takes.
func (p *place) syncTime() (string, error) {
	cmd := p.pg.Command(p.pg.Binary("pg_test_fsync"), "-s", "1", "-f", filepath.Join(p.pg.Dir(), "pg_test_fsync"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer cmd.Wait()         //nolint:errcheck // it was killed
	defer cmd.Process.Kill() //nolint:errcheck // the rest takes long, and nobody reads it
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 4 && f[0] == "fdatasync" {
			return strings.Join(f[3:5], " "), nil // "fdatasync  1234.5 ops/sec  810 usecs/op"
		}
	}
	return "", errors.New("pg_test_fsync does not say what fdatasync takes")
}

// redisServer is a private Redis on a socket, which ends with this process
// however that ends: its keeper waits on a pipe that only this process holds.
type redisServer struct {
	bin, socket string
	pid         int
	stop        func()
}

// version is what redis-server says of itself.
func (r *redisServer) version() string {
	out, err := exec.Command(r.bin, "--version").Output()
	for field := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(field, "v="); ok && err == nil {
			return v
		}
	}
	return "unknown"
}

var errNoRedis = errors.New("there is no redis-server on PATH: install Redis")

const keepRedis = `
trap '' INT TERM HUP
"$@" >/dev/null 2>&1 &
echo $!
read -r _
kill $!
wait
`

func startRedis(synced bool) (*redisServer, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	dir, err := os.MkdirTemp("/tmp", "redis-") // short: a socket's path is at most 107 bytes
	if err != nil {
		return nil, err
	}
	r := &redisServer{bin: bin, socket: filepath.Join(dir, "socket")}
	args := []string{"-c", keepRedis, "redis", bin, "--port", "0", "--unixsocket", r.socket, "--dir", dir}
	if synced {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	}
	keeper := exec.Command("/bin/sh", args...)
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt at the terminal does not reach it
	in, err := keeper.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	out, err := keeper.StdoutPipe()
	if err == nil {
		err = keeper.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.stop = func() {
		_ = in.Close()
		_ = keeper.Wait()
		_ = os.RemoveAll(dir)
	}
	if _, err := fmt.Fscan(out, &r.pid); err != nil {
		r.stop()
		return nil, err
	}
	for range 500 {
		if conn, err := net.Dial("unix", r.socket); err == nil {
			return r, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.stop()
	return nil, errors.New("redis-server does not answer on its socket within 10 s")
}
