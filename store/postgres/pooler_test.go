package postgres_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/store/storetest"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/vault/vaulttest"
)

// The modes of pgx that keep no prepared statement in a session.
var sessionless = []string{"exec", "cache_describe", "simple_protocol"}

// The contract holds in each mode, directly.
func TestModes(t *testing.T) {
	for _, mode := range sessionless {
		t.Run(mode, func(t *testing.T) {
			dsn := pgtest.DSN(t) + " default_query_exec_mode=" + mode
			storetest.Run(t, func(t *testing.T) consign.Store {
				pool := connect(t, dsn)
				return openIn(t, pool, newSchema(t, pool))
			})
		})
	}
}

// A queue works behind PgBouncer in transaction mode, where each transaction
// may have another connection, and there are fewer of them than callers.
func TestPgBouncer(t *testing.T) {
	server := pgtest.Private(t)
	bouncer := startBouncer(t, server)
	for _, mode := range sessionless {
		t.Run(mode, func(t *testing.T) {
			f := newFleet(t, bouncer+" pool_max_conns=20 default_query_exec_mode="+mode, 2, 4)
			var group sync.WaitGroup
			for _, q := range f.queues {
				group.Go(func() { f.submit(context.Background(), q, 500) })
			}
			group.Wait()
			f.drained()
		})
	}
}

// Who leaves pgx its prepared statements behind a pooler that gives sessions to
// others is told what to do.
func TestPoolersErrorsSayWhatToDo(t *testing.T) {
	server := pgtest.Private(t)
	bouncer := startBouncer(t, server)
	ctx := context.Background()
	pool := connect(t, bouncer+" pool_max_conns=4 default_query_exec_mode=exec")
	schema := newSchema(t, pool)
	openIn(t, pool, schema)
	behind := openIn(t, connect(t, bouncer+" pool_max_conns=4"), schema)
	var group sync.WaitGroup
	var said sync.Map
	for range 4 {
		group.Go(func() {
			for range 200 {
				if _, err := behind.Doc(ctx, consign.DocWorker, "x"); err != nil {
					said.Store(err.Error(), true)
				}
			}
		})
	}
	group.Wait()
	errs := 0
	said.Range(func(text, _ any) bool {
		errs++
		if !strings.Contains(text.(string), "add default_query_exec_mode=exec") {
			t.Errorf("prepared statements behind a pooler: %v", text)
		}
		return true
	})
	if errs == 0 {
		t.Error("prepared statements work behind the pooler")
	}
}

func TestVaultPgBouncer(t *testing.T) {
	bouncer := startBouncer(t, pgtest.Private(t))
	for _, mode := range sessionless {
		t.Run(mode, func(t *testing.T) {
			pool := connect(t, bouncer+" default_query_exec_mode="+mode)
			vaulttest.Storage(t, func(t *testing.T) vault.Storage { return newVault(t, pool, newSchema(t, pool)) })
		})
	}
}

// startBouncer runs PgBouncer before the server until the test ends, and
// returns its connection string.
func startBouncer(t *testing.T, server *pgtest.Server) string {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			t.Skip("there is no pgbouncer: install it")
		}
	}
	dir := server.Dir()
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s user=postgres
[pgbouncer]
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
auth_type = any
listen_port = 6432
unix_socket_dir = %s
`, dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := server.Command(path, config)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-quiet
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	dsn := "host=" + dir + " port=6432 user=postgres dbname=postgres"
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		pool, err := pgxpool.New(context.Background(), dsn+" default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		err = pool.Ping(context.Background())
		pool.Close()
		if err == nil {
			return dsn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
