package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// Backup writes the store as it is at one moment to a new file, which Open
// opens. Writers go on meanwhile. The file is there whole and on the disk, or
// not at all. It returns a *consign.FieldError if there is such a file already.
func (s *Store) Backup(ctx context.Context, path string) error {
	return backup(path, func(part string) error { return s.copyTo(ctx, part) })
}

// Backup does what Store.Backup does with the store in the file at path, which
// another process may have open and write to. It returns ErrForeign where no
// store is in the file.
func Backup(ctx context.Context, path, to string) error {
	return backup(to, func(part string) error {
		conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite) // a reader of a WAL writes, too: beside it
		if err != nil {
			return explain(err)
		}
		defer conn.Close() //nolint:errcheck // nothing was written
		conn.SetBusyTimeout(busyTimeout)
		id, err := number(conn, "PRAGMA application_id")
		if err != nil {
			return explain(err)
		}
		if id != applicationID {
			return fmt.Errorf("%w: %s: name the file of a queue", ErrForeign, path)
		}
		return copyOf(ctx, conn, part)
	})
}

func backup(path string, copyTo func(part string) error) error {
	if _, err := os.Lstat(path); path == "" || err == nil {
		return &consign.FieldError{Field: "path", Problem: fmt.Sprintf("is %q, which is there already or no file", path), Remedy: "name a new file"}
	}
	part := path + ".part"
	if err := os.Remove(part); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("sqlite: what is left of an earlier backup: %w", err)
	}
	err := os.WriteFile(part, nil, 0o600) // nobody else's to read, as the store is
	if err == nil {
		err = copyTo(part)
	}
	if err == nil {
		err = flush(part)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		return fmt.Errorf("sqlite: back up to %s: %w", path, err)
	}
	return flush(filepath.Dir(path))
}

// copyTo copies what a connection of the pool reads.
func (s *Store) copyTo(ctx context.Context, path string) error {
	conn, err := s.reader.take(ctx)
	if err != nil {
		return err
	}
	defer func() { s.reader <- conn }()
	return copyOf(ctx, conn, path)
}

// copyOf copies the file outside of a transaction, as VACUUM must be.
func copyOf(ctx context.Context, conn *sqlite.Conn, path string) error {
	conn.SetInterrupt(ctx.Done())
	defer conn.SetInterrupt(nil)
	_, err := run(conn, "VACUUM INTO ?", func(a *args) { a.text(path) })
	if err == nil {
		return nil
	}
	return cmp.Or(ctx.Err(), explain(err))
}

// flush waits until a file or a folder is on the disk.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck
	return f.Sync()
}
