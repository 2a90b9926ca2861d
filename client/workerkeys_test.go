package client

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

func TestWorkerKeys(t *testing.T) {
	var w workerKeys
	for i := range byte(3) {
		seed := [32]byte{i}
		want := sign.FromEd25519Seed(seed).Public()
		for range 2 { // the second time it is remembered
			if key, err := w.key(consign.WorkerID(want.ID())); err != nil || !key.Equal(want) {
				t.Fatalf("worker %d: %v, %v, want %v", i, key, err, want)
			}
		}
	}
	for range 2 {
		if key, err := w.key(consign.WorkerID{1}); !errors.Is(err, sign.ErrKey) { // a point of small order
			t.Errorf("a key that is none: %v, %v", key, err)
		}
	}
	w.seen = nil
	for i := range uint64(maxWorkerKeys + 1) {
		var id consign.WorkerID
		binary.BigEndian.PutUint64(id[:], i)
		w.remember(id, sign.PublicKey{})
	}
	if len(w.seen) > maxWorkerKeys {
		t.Errorf("%d keys are remembered, more than %d", len(w.seen), maxWorkerKeys)
	}
}
