package seal

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/consignq/consign/internal/lp"
)

func testPurposes() map[string]Purpose {
	return map[string]Purpose{
		"vault":  VaultWrap{Job: fill16(1), Header: fill32(2)},
		"claim":  ClaimWrap{Job: fill16(1), Worker: fill32(3), Claim: fill16(4), Header: fill32(2)},
		"direct": DirectWrap{Job: fill16(1), Worker: fill32(3), Header: fill32(2)},
	}
}

func TestWrap(t *testing.T) {
	cek := NewCEK()
	all := []*PrivateKey{nil, {}, testKeys()[RSAOAEP], testKeys()[X25519], testKeys()[MLKEM768X25519]}
	for kem, key := range testKeys() {
		for name, purpose := range testPurposes() {
			wrap, err := Wrap(key.Public(), purpose, cek)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := Unwrap(purpose, wrap, all...); err != nil || got != cek {
				t.Errorf("%v %s: %v", kem, name, err)
			}
			for other, purpose := range testPurposes() {
				if _, err := Unwrap(purpose, wrap, key); other != name && !errors.Is(err, ErrUnwrap) {
					t.Errorf("%v: a %s wrap as a %s wrap: %v", kem, name, other, err)
				}
			}
		}
	}
}

// A wrap opens for the very job, worker, claim and header, and nothing else.
func TestWrapIsBound(t *testing.T) {
	for kem, key := range testKeys() {
		wrap := func(p Purpose) []byte {
			b, err := Wrap(key.Public(), p, NewCEK())
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		v := VaultWrap{Job: fill16(1), Header: fill32(2)}
		c := ClaimWrap{Job: fill16(1), Worker: fill32(3), Claim: fill16(4), Header: fill32(2)}
		d := DirectWrap{Job: fill16(1), Worker: fill32(3), Header: fill32(2)}
		for name, tc := range map[string]struct {
			made   Purpose
			opened Purpose
		}{
			"vault job":     {v, VaultWrap{Job: fill16(9), Header: v.Header}},
			"vault header":  {v, VaultWrap{Job: v.Job, Header: fill32(9)}},
			"claim job":     {c, ClaimWrap{Job: fill16(9), Worker: c.Worker, Claim: c.Claim, Header: c.Header}},
			"claim worker":  {c, ClaimWrap{Job: c.Job, Worker: fill32(9), Claim: c.Claim, Header: c.Header}},
			"claim claim":   {c, ClaimWrap{Job: c.Job, Worker: c.Worker, Claim: fill16(9), Header: c.Header}},
			"claim header":  {c, ClaimWrap{Job: c.Job, Worker: c.Worker, Claim: c.Claim, Header: fill32(9)}},
			"claim swapped": {c, ClaimWrap{Job: c.Claim, Worker: c.Worker, Claim: c.Job, Header: c.Header}},
			"direct job":    {d, DirectWrap{Job: fill16(9), Worker: d.Worker, Header: d.Header}},
			"direct worker": {d, DirectWrap{Job: d.Job, Worker: fill32(9), Header: d.Header}},
			"direct header": {d, DirectWrap{Job: d.Job, Worker: d.Worker, Header: fill32(9)}},
		} {
			if _, err := Unwrap(tc.opened, wrap(tc.made), key); !errors.Is(err, ErrUnwrap) {
				t.Errorf("%v, another %s: %v", kem, name, err)
			}
		}
	}
}

func TestUnwrapRefuses(t *testing.T) {
	cek, purpose := NewCEK(), testPurposes()["claim"]
	for kem, key := range testKeys() {
		good, err := Wrap(key.Public(), purpose, cek)
		if err != nil {
			t.Fatal(err)
		}
		fields := fieldsOf(t, good)
		with := func(i int, field []byte) []byte {
			changed := slices.Clone(fields)
			changed[i] = field
			return lp.Append(nil, changed...)
		}
		flip := func(b []byte) []byte {
			b = slices.Clone(b)
			b[len(b)/2] ^= 1
			return b
		}
		encError := ErrUnwrap
		if kem == RSAOAEP {
			encError = ErrWrap
		}
		emptyID := PublicKey{}.ID()
		for name, tc := range map[string]struct {
			wrap []byte
			want error
		}{
			"nothing":             {nil, ErrWrap},
			"another label":       {with(0, []byte("consign/wrap/v2")), ErrWrap},
			"long KEM":            {with(1, []byte{0, 0, 0x20}), ErrWrap},
			"short key ID":        {with(2, fields[2][1:]), ErrWrap},
			"a byte after":        {append(slices.Clone(good), 0), ErrWrap},
			"a field after":       {lp.Append(slices.Clone(good), nil), ErrWrap},
			"unknown KEM":         {with(1, []byte{0, 0}), ErrKeyUnknown},
			"another KEM":         {with(1, []byte{0, 0x10}), ErrKeyUnknown},
			"unknown key":         {with(2, flip(fields[2])), ErrKeyUnknown},
			"the empty key":       {lp.Append(nil, fields[0], []byte{0, 0}, emptyID[:], nil, nil), ErrKeyUnknown},
			"another enc":         {nil, ErrUnwrap},
			"a long enc":          {with(3, append(slices.Clone(fields[3]), 0)), encError},
			"a changed ct":        {with(4, flip(fields[4])), ErrUnwrap},
			"a short ct":          {with(4, fields[4][1:]), ErrUnwrap},
			"no ct":               {with(4, nil), ErrUnwrap},
			"the ct of zeros":     {sealRaw(t, key.Public(), purpose, make([]byte, 32)), ErrUnwrap},
			"the ct of 31 bytes":  {sealRaw(t, key.Public(), purpose, bytes.Repeat([]byte{1}, 31)), ErrUnwrap},
			"the ct of something": {sealRaw(t, key.Public(), purpose, bytes.Repeat([]byte{1}, 33)), ErrUnwrap},
		} {
			if name == "another enc" {
				if kem == RSAOAEP {
					continue
				}
				tc.wrap = with(3, flip(fields[3])) // RSA's is empty
			}
			if got, err := Unwrap(purpose, tc.wrap, nil, &PrivateKey{}, key); !errors.Is(err, tc.want) || got != (CEK{}) {
				t.Errorf("%v, %s: %v, want %v", kem, name, err, tc.want)
			}
		}
		for n := range good {
			if _, err := Unwrap(purpose, good[:n], key); !errors.Is(err, ErrWrap) {
				t.Fatalf("%v, %d bytes: %v", kem, n, err)
			}
		}
		if _, err := Unwrap(purpose, good); !errors.Is(err, ErrKeyUnknown) {
			t.Errorf("%v, no key at hand: %v", kem, err)
		}
		fresh, err := GenerateKey(X25519)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unwrap(purpose, good, fresh); !errors.Is(err, ErrKeyUnknown) {
			t.Errorf("%v, after a rotation: %v", kem, err)
		}
	}
	if _, err := Wrap(PublicKey{}, purpose, cek); !errors.Is(err, ErrKey) {
		t.Errorf("to no key: %v", err)
	}
	if _, err := Wrap(testKeys()[X25519].Public(), purpose, CEK{}); !errors.Is(err, ErrKey) {
		t.Errorf("of no key: %v", err)
	}
}

// sealRaw wraps what is no content key.
func sealRaw(t *testing.T, to PublicKey, purpose Purpose, secret []byte) []byte {
	t.Helper()
	keyID := to.ID()
	enc, ct, err := to.encrypt(purpose.info(keyID), secret)
	if err != nil {
		t.Fatal(err)
	}
	return encodeWrap(to, enc, ct)
}

func FuzzUnwrap(f *testing.F) {
	keys := []*PrivateKey{testKeys()[X25519], testKeys()[MLKEM768X25519]} // an RSA operation is too slow to fuzz
	for _, key := range testKeys() {
		b, err := Wrap(key.Public(), VaultWrap{}, NewCEK())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := Unwrap(VaultWrap{}, b, keys...); err != nil &&
			!errors.Is(err, ErrWrap) && !errors.Is(err, ErrKeyUnknown) && !errors.Is(err, ErrUnwrap) {
			t.Errorf("%v", err)
		}
	})
}
