package sign

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// A key file is a few kilobytes at most; what is longer is something else.
const maxKeyFile = 64 << 10

const pemType = "PRIVATE KEY"

// LoadOrCreate returns the identity in the file at path. On the first run,
// when there is no file, it makes an ed25519 identity and saves it there.
// Processes that race end up with one identity. For an RSA identity, Save one
// first.
//
// It returns what Load and Save return.
func LoadOrCreate(path string) (*Identity, error) {
	id, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	id = Generate()
	err = Save(path, id)
	if errors.Is(err, fs.ErrExist) {
		// Another process was first, and may not have come to the point where
		// its file outlives a crash of the machine.
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, err
		}
		return Load(path)
	}
	if err != nil {
		return nil, err
	}
	return id, nil
}

// Load returns the identity in the file at path: one PKCS#8 private key in PEM.
// It wraps fs.ErrNotExist if there is no file, and ErrKey if the file is not
// regular, is readable by anyone but its owner, or holds anything else. On
// Windows, where a mode says nothing, the owner has to see to the file's
// access list.
//
// A symbolic link is followed, as mounted secrets are links; what is checked is
// the file that was opened.
func Load(path string) (*Identity, error) {
	// Asked before the file is opened, for to open a named pipe is to wait.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := checkKeyFile(path, info); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	defer f.Close()
	// Asked again of what was opened, which may not be what was there before.
	if info, err = f.Stat(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if err := checkKeyFile(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	id, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return id, nil
}

func checkKeyFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return keyError("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return keyError("%s is open to other users (mode %04o); run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

func parsePEM(data []byte) (*Identity, error) {
	if len(data) > maxKeyFile {
		return nil, keyError("the file is too long for a key")
	}
	data = bytes.TrimSpace(data)
	block, rest := pem.Decode(data)
	if block == nil || len(rest) != 0 || len(block.Headers) != 0 || !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		return nil, keyError("the file does not hold one PEM block and nothing else")
	}
	if block.Type != pemType {
		return nil, keyError("the file holds a %.40q, not an unencrypted PKCS#8 %q", block.Type, pemType)
	}
	return ParseIdentity(block.Bytes)
}

// Save writes the identity to a new file at path, readable by its owner alone.
// The file appears whole or not at all, and outlives a crash of the machine
// once Save has returned. It never replaces a file: it wraps fs.ErrExist if
// there is one, or a symbolic link, dangling or not.
func Save(path string, id *Identity) error {
	der, err := id.Bytes()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	temp, err := writeTemp(dir, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	defer os.Remove(temp)
	// A link, unlike a rename, fails where a file is.
	if err := os.Link(temp, path); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return syncDir(dir)
}

// writeTemp writes a file of mode 0600 in dir, on the disk when it returns.
func writeTemp(dir string, data []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".identity-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// syncDir makes a new name in dir outlive a crash. Windows neither needs it
// nor knows how.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}
