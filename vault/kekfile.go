package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/consignq/consign/internal/keyfile"
)

// A file of key-encryption keys: lines as ParseKEK reads them, the last of
// which encrypts. A retired key is overwritten with '#' where it stands, since a
// file that is replaced leaves its old blocks behind. Where that is the first
// line, the next key takes its place, and what then is behind it is cut off once
// it is retired: so the file does not grow. A crash may leave the last line
// short, without its end, and unused; or '#' in the first one, unused as well.
const (
	kekDigits  = 64
	maxKEKFile = 64 << 10
)

// KEKFromFile returns the keys in the file at path, which it makes, readable by
// its owner alone, if there is none. Keep it on another medium than the vault's,
// and out of the vault's backups: both together open everything. A file belongs
// to one vault.
//
// It wraps ErrKEK if the file is not regular, is open to others than its owner,
// or holds anything but keys and lines with a '#', which are skipped. On Windows, where a mode says nothing, the owner
// has to see to the file's access list.
func KEKFromFile(path string) (KEK, error) {
	k, err := readKEKFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := keyfile.Write(filepath.Dir(path), path, []byte(NewKEK().Text()), os.Link); err != nil && !errors.Is(err, fs.ErrExist) {
		return KEK{}, fmt.Errorf("vault: %w", err)
	}
	// Another process may have been first, and not have come to the point where
	// its file outlives a crash.
	if err := keyfile.SyncDir(filepath.Dir(path)); err != nil {
		return KEK{}, fmt.Errorf("vault: %w", err)
	}
	return readKEKFile(path)
}

// RotateKEK gives the file at path a new key, encrypts every record under it,
// and destroys the older keys: whatever was encrypted under those, in old blocks,
// logs, snapshots or backups of the vault, is then beyond reach. After an error,
// or a crash, all keys are still in the file, and it is to be called again: then
// it ends the earlier rotation before it begins another.
//
// It wraps ErrKEK if the vault's present key is not in that file, or if another
// program writes or replaces the file meanwhile, and what KEKFromFile and Rekey
// return.
func (v *Vault) RotateKEK(ctx context.Context, path string) error {
	v.rekeying.Lock()
	defer v.rekeying.Unlock()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	defer f.Close()
	k, _, err := parseKEKFile(f)
	if err != nil {
		return fmt.Errorf("%w (in %s)", err, path)
	}
	if !v.under(k) {
		return fmt.Errorf("%w: %s does not hold the key of this vault", ErrKEK, path)
	}
	if len(k.keys) > 1 { // were a key added by each try, the file would grow as long as they fail
		v.mu.RLock()
		present := KEK{[]kek{v.kek.current()}}
		v.mu.RUnlock()
		if err := v.moveTo(ctx, present, f, path); err != nil {
			return err
		}
	}
	return v.moveTo(ctx, NewKEK(), f, path)
}

// undoTime is how long a rotation that has to be undone has for it.
const undoTime = time.Minute

// moveTo makes a key the only one, of the vault and of the file f at path.
func (v *Vault) moveTo(ctx context.Context, key KEK, f *os.File, path string) error {
	held, err := ensureKEK(f, key)
	if err != nil {
		return fmt.Errorf("vault: rotate %s: %w", path, err)
	}
	v.mu.RLock()
	before := v.kek
	v.mu.RUnlock()
	err = v.rekey(ctx, key)
	there := standsAt(f, path) && !lacks(f, key)
	if there && err == nil {
		if err = retireKEKs(f, held, key); err != nil {
			err = fmt.Errorf("vault: rotate %s: %w", path, err)
		}
		there = standsAt(f, path)
	}
	if there {
		return err
	}
	// Nothing may be left under a key that is in no file.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err = fmt.Errorf("%w: another program wrote %s while it was rotated, so the key of before is used: leave the file to one of them", ErrKEK, path)
	if failed := v.rekey(undo, before); failed != nil {
		return fmt.Errorf("%w; but records are left under a key that is in this process alone: call it again before that ends: %w", err, failed)
	}
	return err
}

// standsAt reports whether f is the file at path.
func standsAt(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// lacks reports whether the file can be read and does not hold a key.
func lacks(f *os.File, key KEK) bool {
	k, _, err := parseKEKFile(f)
	return errors.Is(err, ErrKEK) || err == nil && !k.knows(key)
}

// RekeyFromFile is Rekey with the keys that are in the file at path now: so
// several processes that share a storage come to have a new key, in the order
// that ParseKEK describes.
//
// It wraps ErrKEK if the vault's present key is not in that file, and what
// KEKFromFile and Rekey return.
func (v *Vault) RekeyFromFile(ctx context.Context, path string) error {
	v.rekeying.Lock() // before it is read: RotateKEK changes it
	defer v.rekeying.Unlock()
	k, err := readKEKFile(path)
	if err != nil {
		return err
	}
	if !v.under(k) {
		return fmt.Errorf("%w: %s does not hold the key that this vault encrypts under: add a key first, and take the old one away last", ErrKEK, path)
	}
	return v.rekey(ctx, k)
}

func readKEKFile(path string) (KEK, error) {
	// Asked before the file is opened, for to open a named pipe is to wait.
	info, err := os.Stat(path)
	if err != nil {
		return KEK{}, fmt.Errorf("vault: %w", err)
	}
	if !info.Mode().IsRegular() {
		return KEK{}, fmt.Errorf("%w: %s is not a regular file", ErrKEK, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return KEK{}, fmt.Errorf("vault: %w", err)
	}
	defer f.Close()
	k, _, err := parseKEKFile(f)
	if err != nil {
		return KEK{}, fmt.Errorf("%w (in %s)", err, path)
	}
	return k, nil
}

// parseKEKFile returns the keys, and where the last whole line ends.
func parseKEKFile(f *os.File) (k KEK, end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return KEK{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return KEK{}, 0, fmt.Errorf("%w: it is not a regular file", ErrKEK)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return KEK{}, 0, fmt.Errorf("%w: it is open to other users (mode %04o); run chmod 600 on it", ErrKEK, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxKEKFile+1))
	if err != nil {
		return KEK{}, 0, err
	}
	if len(data) > maxKEKFile {
		return KEK{}, 0, fmt.Errorf("%w: the file is longer than %d bytes", ErrKEK, maxKEKFile)
	}
	whole, rest := data[:bytes.LastIndexByte(data, '\n')+1], data[bytes.LastIndexByte(data, '\n')+1:]
	if len(whole) == 0 || !torn(rest) {
		whole = data
	}
	var words []string
	for line := range strings.Lines(string(whole)) {
		if !strings.Contains(line, "#") {
			words = append(words, line)
		}
	}
	k, err = ParseKEK(strings.Join(words, "\n"))
	return k, int64(len(whole)), err
}

// torn reports whether a last line without an end is what a crash left of one.
func torn(rest []byte) bool {
	digits := bytes.TrimRight(rest, "\x00")
	short := len(digits) < kekDigits || len(digits) == kekDigits && len(digits) < len(rest)
	return len(rest) <= kekDigits+1 && short && len(bytes.Trim(digits, "0123456789abcdef")) == 0
}

// ensureKEK sees to it that a key has a line of its own, as retireKEKs needs it,
// and returns the keys of the file.
func ensureKEK(f *os.File, key KEK) (KEK, error) {
	k, end, err := parseKEKFile(f)
	if err != nil {
		return KEK{}, err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxKEKFile))
	if err != nil || lineOf(key, data) >= 0 {
		return k, err
	}
	if err := addKEK(f, end, key); err != nil {
		return KEK{}, err
	}
	k, _, err = parseKEKFile(f)
	return k, err
}

// lineOf returns where the line begins that is a key and nothing else, as Text
// spells it; -1 for nowhere.
func lineOf(key KEK, data []byte) int {
	line := key.Text()
	if bytes.HasPrefix(data, []byte(line)) {
		return 0
	}
	if at := bytes.Index(data, []byte("\n"+line)); at >= 0 {
		return at + 1
	}
	return -1
}

// addKEK writes a key into the first line, if that is of a retired one, or else
// behind the last whole line.
func addKEK(f *os.File, end int64, k KEK) error {
	line, at := k.Text(), end
	var first [kekDigits + 1]byte
	if n, err := f.ReadAt(first[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	} else if string(first[:n]) == strings.Repeat("#", kekDigits)+"\n" {
		at = 0
	}
	if at > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], at-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = "\n" + line
		}
	}
	if _, err := f.WriteAt([]byte(line), at); err != nil {
		return err
	}
	return f.Sync()
}

// retireKEKs overwrites all keys of the file but one, which has a line of its
// own. The file is to hold those that it held, and nothing else.
func retireKEKs(f *os.File, held, key KEK) error {
	k, _, err := parseKEKFile(f)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxKEKFile))
	if err != nil {
		return err
	}
	line, from := key.Text(), lineOf(key, data)
	if from < 0 || k.Text() != held.Text() {
		return fmt.Errorf("%w: the file was changed meanwhile: leave it to one process", ErrKEK)
	}
	for i := range data {
		if (i < from || i >= from+len(line)) && data[i] != '\n' {
			data[i] = '#'
		}
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Truncate(int64(from + len(line))); err != nil {
		return err
	}
	return f.Sync()
}
