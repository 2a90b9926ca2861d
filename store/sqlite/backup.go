package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	taken := &consign.FieldError{Field: "path", Problem: fmt.Sprintf("is %q, which is there already or no file", path), Remedy: "name a new file"}
	if _, err := os.Lstat(path); path == "" || err == nil {
		return taken
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part") // nobody else's to read, as the store is
	if err != nil {
		return fmt.Errorf("sqlite: back up to %s: %w", path, err)
	}
	part := f.Name()
	defer os.Remove(part) //nolint:errcheck // it may have been renamed
	if err = f.Close(); err == nil {
		err = copyTo(part)
	}
	if err == nil {
		err = flush(part)
	}
	if err == nil {
		err = place(part, path)
	}
	if errors.Is(err, fs.ErrExist) {
		return taken
	}
	if err != nil {
		return fmt.Errorf("sqlite: back up to %s: %w", path, err)
	}
	return flush(filepath.Dir(path))
}

// place gives a file its name. It returns fs.ErrExist where there is one of that
// name, which a rename would overwrite: so that is for file systems without links
// alone, and they have said first whether there is one.
func place(part, path string) error {
	err := os.Link(part, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Rename(part, path)
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
