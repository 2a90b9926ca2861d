package sqlite_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/consignq/consign/store/sqlite"
)

// A store whose file this user may not write is refused at once, and not with
// the first change. The superuser may write any file, so somebody else asks.
func TestOpenReadOnly(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only the superuser can ask in another's name")
	}
	folder := t.TempDir()
	path, program := filepath.Join(folder, "queue.db"), filepath.Join(folder, "test")
	if err := openAt(t, sqlite.Config{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = errors.Join(os.WriteFile(program, binary, 0o755), os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(folder, 0o777),
			os.Chmod(path, 0o444), os.Remove(path+".lock"))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "CONSIGN_OPEN_FILE="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "let this user write the file and its folder") {
		t.Errorf("somebody who may not write the file was told %q (%v)", out, err)
	}
}

// TestFullDisk is TestFull with a disk of 2 MiB.
func TestFullDisk(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=2m") != nil {
		t.Skip("a small disk cannot be mounted here")
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, 0) })
	s := openAt(t, sqlite.Config{Path: filepath.Join(folder, "queue.db")})
	ballast := filepath.Join(folder, "ballast")
	for round := range 5 {
		full(t, s, round, func(on bool) {
			if on { // what is free, to the last page
				f, err := os.Create(ballast)
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = f.Write(make([]byte, 4096))
				}
				_ = f.Close()
			} else if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	}
}
