package seal

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/consignq/consign/internal/keyfile"
)

// A file of keys is a few kilobytes for each; what is longer is something else.
const maxKeyFile = 64 << 10

const pemType = "CONSIGN ENCRYPTION KEY"

// Save writes private keys, one or more, to the file at path, readable by its
// owner alone, in the place of the file that was there: a worker that rotates
// its keys keeps the last ones until nothing wrapped to them is under way. The
// file changes whole or not at all, and outlives a crash of the machine once
// Save has returned.
func Save(path string, keys ...*PrivateKey) error {
	if len(keys) == 0 {
		return keyError("there is no key to save")
	}
	for _, key := range keys {
		if key == nil || key.public.bytes == "" {
			return keyError("a key to save is empty")
		}
	}
	data := keyFile(keys)
	if len(data) > maxKeyFile {
		return keyError("too many keys for one file")
	}
	if err := keyfile.Write(filepath.Dir(path), path, data, os.Rename); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// Load returns the private keys in the file at path, in Save's order. It wraps
// fs.ErrNotExist if there is no file, and ErrKey if the file is not regular, is
// readable by anyone but its owner, or holds anything else. On Windows, where a
// mode says nothing, the owner has to see to the file's access list.
func Load(path string) ([]*PrivateKey, error) {
	data, err := keyfile.Read(path, maxKeyFile)
	if refused, ok := errors.AsType[keyfile.Refused](err); ok {
		return nil, keyError("%s", refused)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	keys, err := parseKeyFile(data)
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, path)
	}
	return keys, nil
}

func keyFile(keys []*PrivateKey) (data []byte) {
	for _, key := range keys {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: key.Bytes()})...)
	}
	return data
}

// parseKeyFile writes the keys that it read again and compares, for pem.Decode
// skips what it does not like.
func parseKeyFile(data []byte) ([]*PrivateKey, error) {
	if len(data) > maxKeyFile {
		return nil, keyError("the file is too long for keys")
	}
	var keys []*PrivateKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		key, err := ParsePrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || !bytes.Equal(bytes.TrimSpace(keyFile(keys)), bytes.TrimSpace(data)) {
		return nil, keyError("the file does not hold one or more PEM blocks of type %q, and nothing else", pemType)
	}
	return keys, nil
}
