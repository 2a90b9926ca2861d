// Package keyfile reads and writes files that hold secrets.
package keyfile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Refused says why a file is not read: it is not regular, or open to others. It
// names the file and the remedy.
type Refused string

func (r Refused) Error() string { return string(r) }

// Read returns the contents of a file, of which it reads one byte more than limit
// at the most. It returns Refused for one that is not regular, or that anyone but
// its owner can open; on Windows, where a mode says nothing, the owner has to see
// to its access list. Other errors are package os's.
//
// A symbolic link is followed, as mounted secrets are links; what is checked is
// the file that was opened.
func Read(path string, limit int64) ([]byte, error) {
	// Asked before the file is opened, for to open a named pipe is to wait.
	info, err := os.Stat(path)
	if err == nil {
		err = check(path, info)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Asked again of what was opened, which may not be what was there before.
	if info, err = f.Stat(); err == nil {
		err = check(path, info)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

func check(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return Refused(fmt.Sprintf("%s is not a regular file", path))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return Refused(fmt.Sprintf("%s is open to other users (mode %04o); run: chmod 600 %s", path, mode, path))
	}
	return nil
}

// Write puts a file with the data at path, readable by its owner alone. It appears
// whole or not at all, and outlives a crash of the machine once Write has
// returned. It is written as a draft in the folder dir, and then put into its
// place: by os.Rename, or by os.Link, which fails with fs.ErrExist where anything
// is. A crash may leave the draft.
func Write(dir, path string, data []byte, place func(draft, path string) error) error {
	f, err := os.CreateTemp(dir, ".draft-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what a folder lists outlive a crash of the machine. Windows
// neither needs it nor knows how.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
