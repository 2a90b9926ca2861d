package client

import (
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// workerKeys are the ed25519 keys that workers' IDs are. To see that an ID is a
// key takes a third of a verification, so those that were seen are remembered.
type workerKeys struct {
	mu   sync.Mutex
	seen map[consign.WorkerID]sign.PublicKey
}

// maxWorkerKeys bounds how many are remembered, at a hundred bytes each.
const maxWorkerKeys = 4096

// key returns the key that the ID is. It wraps sign.ErrKey if it is none.
func (w *workerKeys) key(id consign.WorkerID) (sign.PublicKey, error) {
	w.mu.Lock()
	key, ok := w.seen[id]
	w.mu.Unlock()
	if ok {
		return key, nil
	}
	key, err := sign.ParsePublicKey(sign.Ed25519, id[:])
	if err != nil {
		return key, err
	}
	w.remember(id, key)
	return key, nil
}

func (w *workerKeys) remember(id consign.WorkerID, key sign.PublicKey) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil || len(w.seen) >= maxWorkerKeys {
		w.seen = make(map[consign.WorkerID]sign.PublicKey)
	}
	w.seen[id] = key
}
