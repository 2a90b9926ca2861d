package sign

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/consignq/consign/internal/keyfile"
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
		if err := keyfile.SyncDir(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
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
	data, err := keyfile.Read(path, maxKeyFile)
	if refused, ok := errors.AsType[keyfile.Refused](err); ok {
		return nil, keyError("%s", refused)
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	id, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return id, nil
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
	data := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
	if err := keyfile.Write(filepath.Dir(path), path, data, os.Link); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}
