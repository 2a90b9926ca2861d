package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/examples/internal/cli"
)

// encryptionKeys returns the keys in a file, which it makes, with one, if there
// is none.
func encryptionKeys(path string) ([]*seal.PrivateKey, error) {
	keys, err := seal.Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	key, err := seal.GenerateKey(seal.MLKEM768X25519)
	if err != nil {
		return nil, err
	}
	return []*seal.PrivateKey{key}, seal.Save(path, key)
}

var fingerprint = regexp.MustCompile(`^[A-Z2-7]{32}$`)

// readPins reads a file of submitters' fingerprints, one a line.
func readPins(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	pins := map[string]bool{}
	for _, line := range strings.Fields(string(data)) {
		if !fingerprint.MatchString(line) {
			return nil, fmt.Errorf("%s holds %.80q, which is no fingerprint: take the line out", path, line)
		}
		pins[line] = true
	}
	return pins, nil
}

// addPin adds one to the file. It returns a *consign.FieldError for what is no
// fingerprint.
func addPin(path string, pins map[string]bool, pin string) error {
	if !fingerprint.MatchString(pin) {
		return cli.FieldError("pin", fmt.Sprintf("is %.80q", pin), "give the 32 letters and digits that the submitter's owner sees")
	}
	if pins[pin] {
		return nil
	}
	pins[pin] = true
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, pin)
	return errors.Join(err, f.Sync(), f.Close())
}
