// Package pgtest gives tests a PostgreSQL to work on: the one that
// CONSIGN_TEST_POSTGRES names, else a private one, started from the binaries of
// this machine. Programs that measure get one from Start.
package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Env names the variable that holds the connection string of a PostgreSQL that
// is there already.
const Env = "CONSIGN_TEST_POSTGRES"

// DSN returns the connection string of a server that all tests of the process
// share: make a schema of your own in it. It skips the test if there is none
// and none can be started.
func DSN(tb testing.TB) string {
	tb.Helper()
	if dsn := os.Getenv(Env); dsn != "" {
		return dsn
	}
	s, err := shared()
	if errors.Is(err, ErrNoBinaries) {
		tb.Skipf("%v: install PostgreSQL, or set %s to a connection string", err, Env)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s.DSN
}

// Private starts a server of the test's own, which it may restart and break.
// It skips the test if there are no binaries of PostgreSQL.
func Private(tb testing.TB, settings ...string) *Server {
	tb.Helper()
	s, err := Start(settings...)
	if errors.Is(err, ErrNoBinaries) {
		tb.Skipf("%v: install PostgreSQL", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// shared starts the process's server when it is first asked for. It outlives no
// machine, so it waits for no disk.
var shared = sync.OnceValues(func() (*Server, error) { return Start("fsync = off", "full_page_writes = off") })

// Server is a private PostgreSQL. It has a data folder of its own, listens on a
// socket in it, and ends with this process however that ends: its keeper waits
// on a pipe that only this process holds.
type Server struct {
	DSN string // as superuser postgres, to the database postgres

	bin, dir string
	as       *syscall.Credential // nil: whoever we are
	keeper   *exec.Cmd
	pipe     io.Closer
}

// ErrNoBinaries is returned where PostgreSQL is not installed.
var ErrNoBinaries = errors.New("pgtest: there is no initdb and pg_ctl on PATH or under /usr/lib/postgresql")

// keep runs the server until its standard input ends.
const keep = `
bin=$1 dir=$2
trap '' INT TERM HUP
"$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >"$dir/start" 2>&1 && echo up || echo down
read -r _
"$bin/pg_ctl" -D "$dir/data" -m immediate -w stop
cd / && rm -rf "$dir"
`

// Start starts a server of the caller's own, who stops it, with lines to add to
// postgresql.conf. It returns ErrNoBinaries where there are none to start.
func Start(settings ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/tmp", "pgtest-") // short: a socket's path is at most 107 bytes
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, DSN: "host=" + dir + " user=postgres dbname=postgres"}
	if s.as, err = credential(); err != nil {
		return nil, err
	}
	if s.as != nil {
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return nil, err
		}
	}
	if err := s.run("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"); err != nil {
		return nil, err
	}
	conf := append([]string{"", "listen_addresses = ''", "unix_socket_directories = '" + dir + "'", "max_connections = 200"}, settings...)
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(strings.Join(conf, "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return s, s.keep()
}

// keep starts the keeper, which starts the server.
func (s *Server) keep() error {
	s.keeper = s.command("/bin/sh", "-c", keep, "pgtest", s.bin, s.dir)
	in, err := s.keeper.StdinPipe()
	if err != nil {
		return err
	}
	s.pipe = in
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	word := make([]byte, 3)
	if _, err := io.ReadFull(out, word); err != nil || string(word) != "up\n" {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.Stop()
		return fmt.Errorf("pgtest: the server does not start: %s", log)
	}
	return nil
}

// Stop ends the server and removes what it left.
func (s *Server) Stop() {
	_ = s.pipe.Close()
	_ = s.keeper.Wait()
	_ = os.RemoveAll(s.dir)
}

// Restart stops the server without a checkpoint, as a crash does, and starts
// it again. Every connection is lost.
func (s *Server) Restart() error {
	return s.run("pg_ctl", "-D", s.data(), "-l", filepath.Join(s.dir, "log"), "-m", "immediate", "-w", "-t", "60", "restart")
}

// Kill kills the postmaster with SIGKILL, waits until its children have noticed,
// and starts the server again. Every connection is lost.
func (s *Server) Kill() error {
	pid, err := s.PID()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for range 100 { // it refuses to start while a child of the old one lives
		if err = s.run("pg_ctl", "-D", s.data(), "-l", filepath.Join(s.dir, "log"), "-w", "-t", "60", "start"); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// PID is the postmaster's process.
func (s *Server) PID() (int, error) {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("pgtest: postmaster.pid holds %q", first)
	}
	return pid, nil
}

// Dir is the folder of the server's socket. What is put there is removed with
// the server.
func (s *Server) Dir() string { return s.dir }

// Binary is the path of one of PostgreSQL's programs.
func (s *Server) Binary(name string) string { return filepath.Join(s.bin, name) }

// Command is a command that runs as the server's user.
func (s *Server) Command(name string, args ...string) *exec.Cmd { return s.command(name, args...) }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// run runs one of the binaries to its end.
func (s *Server) run(name string, args ...string) error {
	cmd := s.command(s.Binary(name), args...)
	log, err := os.CreateTemp("", "pgtest-out-") // a file: the server inherits it, and would hold a pipe open
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("pgtest: %s: %w: %s", name, err, said)
	}
	return nil
}

// command is a command of the server's user, in a session of its own, so that
// an interrupt at the terminal does not reach it.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.as}
	return cmd
}

// credential is the user postgres where we are root, as whom the server does
// not run.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("pgtest: PostgreSQL does not run as root: %w", err)
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uidErr, gidErr)
}

// binaries finds the folder of initdb and pg_ctl: of the newest version that is
// installed, unless one is on PATH.
func binaries() (string, error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		initdb, err = filepath.EvalSymlinks(initdb) // the other programs are where it is
		return filepath.Dir(initdb), err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", ErrNoBinaries
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}
