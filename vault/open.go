package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/consignq/consign/internal/keyfile"
)

// Open returns the vault in the folder dir, which it makes if there is none: one
// file of records, and one that keeps a second process out until Close.
//
// It returns what New returns, an error for a folder that another vault holds,
// and one for a file that is not a vault's.
func Open(dir string, k KEK, c Config) (*Vault, error) {
	s, torn, err := openSlots(dir)
	if err != nil {
		return nil, err
	}
	v, err := New(context.Background(), s, k, c)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if torn > 0 {
		v.config.Logger.Warn("vault: erased records that a crash had left half written", "records", torn, "folder", dir)
	}
	return v, nil
}

// locked is a file that is locked through another, which is closed after it.
type locked struct {
	*os.File
	lock *os.File
}

func (l locked) Close() error { return errors.Join(l.File.Close(), l.lock.Close()) }

func openSlots(dir string) (_ *slots, torn int, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, fmt.Errorf("vault: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, 0, fmt.Errorf("vault: %s is in use, or cannot be locked: %w", dir, err)
	}
	f, err := openOrCreate(filepath.Join(dir, "records"))
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("vault: %w", err), lock.Close())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("vault: %w", err), f.Close(), lock.Close())
	}
	s, torn, err := readSlots(locked{f, lock}, info.Size())
	if err != nil {
		return nil, 0, errors.Join(err, f.Close(), lock.Close())
	}
	return s, torn, nil
}

// openOrCreate opens the file of slots. A new one appears with its label.
func openOrCreate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	label := make([]byte, slotSize)
	copy(label, slotLabel)
	temp, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = temp.Write(label)
	if err == nil {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	for _, d := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} { // the folder may be new too
		if err == nil {
			err = keyfile.SyncDir(d)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}
