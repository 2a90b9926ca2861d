package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"zombiezen.com/go/sqlite"
)

// walHead is how long the head of a WAL is. A WAL without it is an empty one.
const walHead = 32

// forget leaves nothing in the WAL: it is moved into the file, where a page takes
// the place of its older version, and overwritten. Nobody reads it then: SQLite
// begins the next one at its start. It is idle if nothing was written since.
func (v *Vault) forget(conn *sqlite.Conn) error {
	if !v.remembers {
		return nil
	}
	busy, err := number(conn, "PRAGMA wal_checkpoint(RESTART)")
	if err == nil && busy != 0 {
		err = errors.New("sqlite: the WAL cannot be moved into the file: another program reads it: end that")
	}
	if err == nil {
		err = wipe(v.path + "-wal")
	}
	v.remembers = err != nil
	return err
}

// wipe overwrites a WAL: its head first, and alone, for of a WAL that has lost
// its end a crash would bring the beginning back.
func wipe(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sqlite: overwrite the WAL: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was synced
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = blank(f, 0, min(size, walHead))
	}
	if err == nil {
		err = blank(f, walHead, size)
	}
	if err != nil {
		return fmt.Errorf("sqlite: overwrite the WAL: %w", err)
	}
	return nil
}

// blank overwrites part of a file with zeros, and waits for the disk.
func blank(f *os.File, from, to int64) error {
	if from >= to {
		return nil
	}
	if _, err := f.WriteAt(make([]byte, to-from), from); err != nil {
		return err
	}
	return f.Sync()
}
