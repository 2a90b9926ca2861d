//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd && !windows

package vault

import (
	"errors"
	"os"
)

// lockFile fails: two processes that write to one vault would lose keys.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("files cannot be locked on this system: keep the vault in another Storage")
}
