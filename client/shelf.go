package client

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/consignq/consign/internal/keyfile"
)

// shelf keeps small things by names of two parts, as in "jobs/1". Each appears
// and changes whole or not at all, so that several goroutines, and processes,
// may use one. Errors wrap fs.ErrNotExist and fs.ErrExist.
type shelf interface {
	read(name string) ([]byte, error)
	create(name string, data []byte) error // never replaces
	replace(name string, data []byte) error
	remove(name string) error           // of what is not there succeeds
	list(part string) ([]string, error) // the second parts, sorted
}

// memory is a shelf that ends with its process.
type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *memory) read(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.m[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (s *memory) create(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.m[name]; ok {
		return fs.ErrExist
	}
	s.m[name] = data
	return nil
}

func (s *memory) replace(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[name] = data
	return nil
}

func (s *memory) remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, name)
	return nil
}

func (s *memory) list(part string) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.m)) {
		if first, second, _ := strings.Cut(name, "/"); first == part {
			names = append(names, second)
		}
	}
	return names, nil
}

// folder is a shelf on disk. What a call has written outlives a crash of the
// machine once it has returned.
type folder string

// openFolder makes the folder, with one for each first part of a name, if there
// is none, and refuses one that other users can enter.
func openFolder(dir string, parts ...string) (folder, error) {
	for _, part := range parts {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o700); err != nil {
			return "", err
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%w: %s is not a folder", ErrKeyring, dir)
	}
	return folder(dir), mine(dir, info)
}

// mine refuses what other users can read. On Windows a mode says nothing; there
// the owner has to see to the access list.
func mine(path string, info fs.FileInfo) error {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 || runtime.GOOS == "windows" {
		return nil
	}
	return fmt.Errorf("%w: %s is open to other users (mode %04o); run: chmod %04o %s", ErrKeyring, path, mode, mode&0o700, path)
}

func (s folder) path(name string) string { return filepath.Join(string(s), filepath.FromSlash(name)) }

func (s folder) read(name string) ([]byte, error) {
	f, err := os.Open(s.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := mine(f.Name(), info); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

func (s folder) create(name string, data []byte) error {
	return keyfile.Write(string(s), s.path(name), data, os.Link)
}

func (s folder) replace(name string, data []byte) error {
	return keyfile.Write(string(s), s.path(name), data, os.Rename)
}

func (s folder) remove(name string) error {
	if err := os.Remove(s.path(name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return keyfile.SyncDir(filepath.Dir(s.path(name)))
}

func (s folder) list(part string) ([]string, error) {
	entries, err := os.ReadDir(s.path(part))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}
