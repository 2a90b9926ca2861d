package seal

import (
	"bytes"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/crypto/sign"
)

func TestKeys(t *testing.T) {
	for kem, key := range testKeys() {
		public := key.Public()
		if public.KEM() != kem {
			t.Errorf("%v: %v", kem, public.KEM())
		}
		back, err := ParsePublicKey(public.Bytes())
		if err != nil || !back.Equal(public) || back.ID() != public.ID() {
			t.Errorf("%v: %v", kem, err)
		}
		text, err := public.MarshalText()
		if err != nil || !strings.HasPrefix(string(text), kem.String()+":") {
			t.Errorf("%v: %.60q, %v", kem, text, err)
		}
		if err := back.UnmarshalText(text); err != nil || !back.Equal(public) {
			t.Errorf("%v: %v", kem, err)
		}
		if f := public.Fingerprint(); len(f) != 32 || f != Fingerprint(kem.String(), public.Bytes()[2:]) {
			t.Errorf("%v: fingerprint %q", kem, f)
		}
		private, err := ParsePrivateKey(key.Bytes())
		if err != nil || !private.Public().Equal(public) || !bytes.Equal(private.Bytes(), key.Bytes()) {
			t.Errorf("%v: %v", kem, err)
		}
	}
	if n := len(testKeys()[MLKEM768X25519].Public().Bytes()); n != 2+mlkem.EncapsulationKeySize768+32 {
		t.Errorf("%d bytes", n)
	}
	if (PublicKey{}).String() != "" || (PublicKey{}).Fingerprint() != "" || (PublicKey{}).KEM() != 0 || (&PrivateKey{}).Bytes() != nil {
		t.Error("a zero key is something")
	}
	if _, err := (PublicKey{}).MarshalText(); !errors.Is(err, ErrKey) {
		t.Errorf("the zero key as text: %v", err)
	}
	for _, kem := range []KEM{0, RSAOAEP, 0x0010} {
		if _, err := GenerateKey(kem); !errors.Is(err, ErrKey) {
			t.Errorf("generated %v: %v", kem, err)
		}
	}
	if key, err := GenerateRSA(3072); err != nil || key.Public().KEM() != RSAOAEP {
		t.Errorf("generated RSA: %v", err)
	}
	for _, n := range []int{2048, 3071, 8193, 1 << 40} {
		if _, err := GenerateRSA(n); !errors.Is(err, ErrKey) {
			t.Errorf("generated RSA %d: %v", n, err)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	hybrid, x, rsaKey := testKeys()[MLKEM768X25519].Public().Bytes(), testKeys()[X25519].Public().Bytes(), testKeys()[RSAOAEP].Public().Bytes()
	edit := func(b []byte, f func(b []byte) []byte) []byte { return f(slices.Clone(b)) }
	bad := map[string][]byte{
		"nothing":             nil,
		"one byte":            {0},
		"unknown KEM":         edit(x, func(b []byte) []byte { b[1]++; return b }),
		"P-256":               edit(x, func(b []byte) []byte { b[1] = 0x10; return b }),
		"X25519 short":        x[:len(x)-1],
		"X25519 long":         append(slices.Clone(x), 0),
		"X25519 top bit":      edit(x, func(b []byte) []byte { b[33] |= 0x80; return b }),
		"hybrid short":        hybrid[:len(hybrid)-1],
		"hybrid long":         append(slices.Clone(hybrid), 0),
		"hybrid top bit":      edit(hybrid, func(b []byte) []byte { b[len(b)-1] |= 0x80; return b }),
		"hybrid of low order": edit(hybrid, func(b []byte) []byte { clear(b[len(b)-32:]); return b }),
		"ML-KEM modulus":      edit(hybrid, func(b []byte) []byte { b[2], b[3] = 0xff, 0xff; return b }),
		"RSA cut":             rsaKey[:len(rsaKey)-1],
		"RSA with more":       append(slices.Clone(rsaKey), 0),
		"ed25519 as RSA":      append([]byte{0xff, 0x01}, bytes.Repeat([]byte{1}, 32)...),
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&weak.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	bad["RSA of 2048 bits"] = append([]byte{0xff, 0x01}, der...)
	for i, small := range smallOrder {
		bad["small order "+string(rune('0'+i))] = append([]byte{0, 0x20}, small...)
	}
	for i := byte(0xed); i != 0; i++ { // p to 2^255-1
		bad["not below p: "+string(rune(i))] = slices.Concat([]byte{0, 0x20, i}, bytes.Repeat([]byte{0xff}, 30), []byte{0x7f})
	}
	for name, b := range bad {
		if _, err := ParsePublicKey(b); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	almost := slices.Concat([]byte{0, 0x20, 0xff, 0xfe}, bytes.Repeat([]byte{0xff}, 29), []byte{0x7f})
	if _, err := ParsePublicKey(almost); err != nil {
		t.Errorf("a key just below p: %v", err)
	}

	sk := testKeys()[X25519].Bytes()
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"one byte":       {0},
		"unknown KEM":    edit(sk, func(b []byte) []byte { b[1]++; return b }),
		"short":          sk[:33],
		"not clamped":    edit(sk, func(b []byte) []byte { b[2] |= 1; return b }),
		"hybrid short":   append([]byte{0x64, 0x7a}, make([]byte, 31)...),
		"RSA, not PKCS8": append([]byte{0xff, 0x01}, make([]byte, 31)...),
	} {
		if _, err := ParsePrivateKey(b); !errors.Is(err, ErrKey) {
			t.Errorf("private, %s: %v", name, err)
		}
	}
	ed, err := sign.Generate().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePrivateKey(append([]byte{0xff, 0x01}, ed...)); !errors.Is(err, ErrKey) {
		t.Errorf("an ed25519 key: %v", err)
	}

	text := testKeys()[X25519].Public().String()
	for name, text := range map[string]string{
		"nothing": "", "no colon": "x25519", "unknown": "x448" + text[6:], "line break": text[:20] + "\n" + text[20:],
		"no padding": strings.TrimRight(text, "="), "bits after": strings.TrimSuffix(text, "=")[:len(text)-2] + "B=",
		"URL base64": "x25519:" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)),
		"more":       text + "=",
	} {
		var key PublicKey
		if err := key.UnmarshalText([]byte(text)); !errors.Is(err, ErrKey) && name != "bits after" {
			t.Errorf("text, %s: %v", name, err)
		} else if err == nil && key.String() != text {
			t.Errorf("text, %s: a second form", name)
		}
	}
}

func FuzzParsePublicKey(f *testing.F) {
	for _, key := range testKeys() {
		f.Add(key.Public().Bytes())
		f.Add([]byte(key.Public().String()))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePublicKey(b)
		if err == nil {
			if !bytes.Equal(key.Bytes(), b) {
				t.Errorf("%x came back as %x", b, key.Bytes())
			}
			if _, err := Wrap(key, VaultWrap{}, NewCEK()); err != nil {
				t.Errorf("a key that was parsed cannot be wrapped to: %v", err)
			}
		} else if !errors.Is(err, ErrKey) {
			t.Errorf("%v", err)
		}
		if err := key.UnmarshalText(b); err == nil && key.String() != string(b) {
			t.Errorf("%q came back as %q", b, key)
		}
	})
}

func FuzzParsePrivateKey(f *testing.F) {
	for _, key := range testKeys() {
		f.Add(key.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := ParsePrivateKey(b)
		if err == nil && !bytes.Equal(key.Bytes(), b) {
			t.Errorf("another private key came back")
		} else if err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%v", err)
		}
	})
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	old, now := testKeys()[X25519], testKeys()[MLKEM768X25519]
	for _, keys := range [][]*PrivateKey{{old}, {now, old}, {testKeys()[RSAOAEP], now}} {
		if err := Save(path, keys...); err != nil {
			t.Fatal(err)
		}
		back, err := Load(path)
		if err != nil || len(back) != len(keys) {
			t.Fatalf("%d keys, %v", len(back), err)
		}
		for i := range keys {
			if !back[i].Public().Equal(keys[i].Public()) {
				t.Errorf("key %d is another", i)
			}
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, keys := range [][]*PrivateKey{nil, {nil}, {{}}, slices.Repeat([]*PrivateKey{testKeys()[RSAOAEP]}, 50)} {
		if err := Save(path, keys...); !errors.Is(err, ErrKey) {
			t.Errorf("saved %d keys: %v", len(keys), err)
		}
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrKey) && runtime.GOOS != "windows" {
		t.Errorf("open to others: %v", err)
	}
	folder := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(folder); !errors.Is(err, ErrKey) {
		t.Errorf("a folder of ours alone: %v", err)
	}
	for name, data := range map[string]string{
		"empty":             "",
		"text in front":     "key\n" + string(good),
		"text after":        string(good) + "key\n",
		"text between":      strings.Replace(string(good), "-----END CONSIGN ENCRYPTION KEY-----\n", "-----END CONSIGN ENCRYPTION KEY-----\nkey\n", 1),
		"a broken block":    strings.Replace(string(good), "\n", "\n*", 1),
		"another type":      strings.ReplaceAll(string(good), "CONSIGN ENCRYPTION KEY", "PRIVATE KEY"),
		"a header":          strings.Replace(string(good), "KEY-----\n", "KEY-----\nA: b\n\n", 1),
		"a bad key":         string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte("key")})),
		"too long":          strings.Repeat(string(good), 40),
		"too long by air":   string(good) + strings.Repeat("\n", maxKeyFile),
		"a file of nothing": strings.Repeat("\n", 100),
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseKeyFile(f *testing.F) {
	f.Add(keyFile([]*PrivateKey{testKeys()[X25519], testKeys()[MLKEM768X25519]}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if keys, err := parseKeyFile(data); err == nil && !bytes.Equal(bytes.TrimSpace(keyFile(keys)), bytes.TrimSpace(data)) {
			t.Error("a second form of a key file")
		} else if err != nil && !errors.Is(err, ErrKey) {
			t.Errorf("%v", err)
		}
	})
}
