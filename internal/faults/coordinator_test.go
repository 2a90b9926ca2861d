package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/vault"
)

// coordinator says what a whole queue is made of, served over HTTP in this
// process or one of its own.
type coordinator struct {
	SQLite string // the file
	DSN    string // of PostgreSQL; with neither the queue is in memory
	Vault  string // a folder, a file that ends in .db, or a DSN; empty: none
	KEK    string // the file of its keys
	Rotate bool   // it, all the time
	Lease  time.Duration
	Plant  mutant // the bug that is in it; empty: none
}

const schema = "faults"

// open opens the store.
func (c *coordinator) open(ctx context.Context) (_ consign.Store, closer func(), err error) {
	switch {
	case c.SQLite != "":
		s, err := sqlite.Open(ctx, sqlite.Config{Path: c.SQLite, Logger: quiet()})
		if err != nil {
			return nil, nil, err
		}
		return s, func() { _ = s.Close() }, nil
	case c.DSN != "":
		pool, err := pgxpool.New(ctx, c.DSN)
		if err != nil {
			return nil, nil, err
		}
		s, err := postgres.New(ctx, pool, postgres.Config{Schema: schema})
		if err != nil {
			pool.Close()
			return nil, nil, err
		}
		return s, pool.Close, nil
	}
	return memdb.New(), func() {}, nil
}

func (c *coordinator) openVault(ctx context.Context, s consign.Store, now func() time.Time) (*vault.Vault, error) {
	kek, err := vault.KEKFromFile(c.KEK)
	if err != nil {
		return nil, err
	}
	config := vault.Config{Store: s, Now: now, Logger: quiet()}
	var storage vault.Storage
	switch {
	case c.DSN != "":
		storage, err = openSharedVault(ctx, c.Vault)
	case filepath.Ext(c.Vault) == ".db":
		storage, err = sqlite.OpenVault(ctx, c.Vault)
	default:
		return vault.Open(c.Vault, kek, config)
	}
	if err != nil {
		return nil, err
	}
	if c.Rotate {
		storage = &tardyKeys{Storage: storage, plant: c.Plant}
	}
	return vault.New(ctx, storage, kek, config)
}

// tardyKeys carries out a write of a key late, now and then, and says that it
// failed: as where a caller gives up.
type tardyKeys struct {
	vault.Storage
	plant  mutant
	writes atomic.Int64
}

func (s *tardyKeys) Put(ctx context.Context, r vault.Record) error {
	if r.Job.IsZero() || s.writes.Add(1)%4 > 0 {
		return s.Storage.Put(ctx, r)
	}
	time.AfterFunc(10*time.Millisecond, func() { _ = s.Storage.Put(context.Background(), r) })
	return context.DeadlineExceeded
}

func (s *tardyKeys) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	if s.plant == lateKeys {
		old = nil
	}
	return s.Storage.Retire(ctx, old, present)
}

// rotate rotates the key of a vault until ctx is done.
func (c *coordinator) rotate(ctx context.Context, v *vault.Vault) {
	for ctx.Err() == nil {
		_ = v.RotateKEK(ctx, c.KEK)
		sleep(ctx, 5*time.Millisecond)
	}
}

// sharedVault is a vault on PostgreSQL with a pool of its own.
type sharedVault struct {
	*postgres.Vault
	pool *pgxpool.Pool
}

func openSharedVault(ctx context.Context, dsn string) (*sharedVault, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	v, err := postgres.NewVault(ctx, pool, postgres.Config{Schema: schema + "_vault"})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &sharedVault{v, pool}, nil
}

func (v *sharedVault) Close() error {
	v.pool.Close()
	return nil
}

// identity is every coordinator's: together they are one queue.
func identity() *sign.Identity { return sign.FromEd25519Seed([32]byte{1}) }

// served is a queue that works and is served.
type served struct {
	addr  string
	store consign.Store // as the queue sees it
	stop  func()
}

func (c *coordinator) serve(ctx context.Context) (*served, error) {
	store, closeStore, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	config := consign.Config{Store: c.Plant.store(store), Identity: identity(), Lease: c.Lease, MaxAttempts: 1000,
		BackoffBase: 10 * time.Millisecond, BackoffMax: 100 * time.Millisecond, DrainTimeout: time.Second, Logger: quiet()}
	if c.Vault != "" {
		v, err := c.openVault(ctx, store, nil)
		if err != nil {
			return nil, err
		}
		config.Vault = v
		if c.Plant == keysInMemory {
			if config.Vault, err = vault.NewMemory(vault.Config{}); err != nil {
				return nil, err
			}
		}
	}
	q, err := consign.New(config)
	if err != nil {
		return nil, err
	}
	submitters := c.Plant.submitter(q.Submitter(longpoll.DefaultAccount))
	workers := c.Plant.workers(q)
	polls, err := longpoll.NewHandler(longpoll.Config{Workers: workers, Logger: quiet(),
		Submitters: func(string) consign.SubmitterAPI { return submitters }})
	if err != nil {
		return nil, err
	}
	sockets, err := websocket.NewHandler(websocket.Config{Workers: workers, Logger: quiet(), Silence: 3 * time.Second})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", polls)
	mux.Handle("GET "+websocket.Path, sockets)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	running, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { _ = q.Run(running) })
	if v, ok := config.Vault.(*vault.Vault); ok && c.Rotate {
		ended.Go(func() { c.rotate(running, v) })
	}
	go server.Serve(listener) //nolint:errcheck // it ends with stop
	return &served{addr: listener.Addr().String(), store: store, stop: func() {
		cancel()
		_ = server.Close()
		sockets.Close()
		ended.Wait()
		if v, ok := config.Vault.(*vault.Vault); ok {
			_ = v.Close()
		}
		closeStore()
	}}, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// child is a process of its own: this test's binary, which ends when nobody
// holds its standard input any more.
type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

const childEnv = "CONSIGN_FAULTS_CHILD"

// startChild runs the role of a childTask.
func startChild(t *testing.T, task childTask) *child {
	t.Helper()
	spec, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// startCoordinator runs a coordinator as a child and returns its address.
func startCoordinator(t *testing.T, c coordinator) (*child, string) {
	t.Helper()
	process := startChild(t, childTask{Coordinator: &c})
	addr, err := process.out.ReadString('\n')
	if err != nil {
		process.kill()
		t.Fatalf("a coordinator does not start: %v", err)
	}
	return process, strings.TrimSpace(addr)
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.in.Close()
}

// childTask is what a child does: one of its fields is set.
type childTask struct {
	Coordinator *coordinator
	Worker      *workerTask
}

// TestMain lets the test's binary be a child.
func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's
	text := os.Getenv(childEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var task childTask
	err := json.Unmarshal([]byte(text), &task)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		time.Sleep(30 * time.Second)
		os.Exit(3)
	}()
	switch {
	case err != nil:
	case task.Coordinator != nil:
		var s *served
		if s, err = task.Coordinator.serve(context.Background()); err == nil {
			fmt.Println(s.addr)
			<-ctx.Done()
			s.stop()
		}
	default:
		err = task.Worker.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
