package sign

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "worker.pem")
	first, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := LoadOrCreate(path)
	if err != nil || !again.Public().Equal(first.Public()) {
		t.Errorf("the second run has %v, %v, want %v", again, err, first.Public())
	}
	onlyFile(t, path)
}

// Processes that race end up with one identity.
func TestLoadOrCreateRace(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "worker.pem")
		var keys [8]PublicKey
		var wg sync.WaitGroup
		for i := range keys {
			wg.Go(func() {
				id, err := LoadOrCreate(path)
				if err != nil {
					t.Error(err)
					return
				}
				keys[i] = id.Public()
			})
		}
		wg.Wait()
		for _, k := range keys {
			if !k.Equal(keys[0]) {
				t.Fatalf("two identities: %v and %v", k, keys[0])
			}
		}
		onlyFile(t, path)
	}
}

func TestSaveNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "worker.pem")
	if err := Save(path, testRSA()); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, Generate()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	id, err := LoadOrCreate(path)
	if err != nil || !id.Public().Equal(testRSA().Public()) {
		t.Errorf("the RSA identity came back as %v, %v", id, err)
	}
	dangling := filepath.Join(dir, "dangling.pem")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), dangling); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	if err := Save(dangling, Generate()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a dangling link: %v", err)
	}
	if _, err := LoadOrCreate(dangling); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadOrCreate of a dangling link: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was written through a link: %v", err)
	}
	link := filepath.Join(dir, "link.pem")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if id, err := Load(link); err != nil || !id.Public().Equal(testRSA().Public()) {
		t.Errorf("through a link: %v, %v", id, err)
	}
}

func TestLoadRefusesOpenFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a mode says nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "worker.pem")
	if _, err := LoadOrCreate(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreate(path)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(path); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}

func TestLoadRefusesOtherThings(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // so that its mode is no reason
		t.Fatal(err)
	}
	if _, err := LoadOrCreate(dir); !errors.Is(err, ErrKey) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := LoadOrCreate(filepath.Join(dir, "no", "folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	der, err := Generate().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	for name, text := range map[string]string{
		"empty":     "",
		"garbage":   "garbage",
		"two":       good + good,
		"leading":   "x\n" + good,
		"trailing":  good + "x",
		"headers":   string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der, Headers: map[string]string{"a": "b"}})),
		"encrypted": strings.ReplaceAll(good, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
		"public":    strings.ReplaceAll(good, "PRIVATE KEY", "PUBLIC KEY"),
		"cut DER":   string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der[:len(der)-1]})),
		"long":      good + strings.Repeat("\n", maxKeyFile),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreate(path); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	der, err := Generate().Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := parsePEM(data)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Errorf("%v does not wrap ErrKey", err)
			}
			return
		}
		sig, err := id.Sign(data)
		if err != nil || id.Public().Verify(data, sig) != nil {
			t.Errorf("an identity that was read does not sign: %v", err)
		}
	})
}

// onlyFile fails if anything but path is in its folder: a temporary file left
// behind would hold a private key.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("beside %s: %v, %v", path, entries, err)
	}
}
