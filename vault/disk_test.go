package vault

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
)

// disk is a medium that remembers in which order it was written to, so that it
// can be seen as a crash at any moment would have left it.
type disk struct {
	mu    sync.Mutex
	data  []byte
	ops   []diskOp
	lost  func(op diskOp) bool  // what it says it has done, and has not
	fault func(op diskOp) error // nil: none. What fails may have been half done.
}

// diskOp is a write or, without bytes, a sync.
type diskOp struct {
	at    int64
	bytes []byte
}

func newDisk() *disk {
	label := make([]byte, slotSize)
	copy(label, slotLabel)
	return &disk{data: label}
}

func (d *disk) do(op diskOp) error {
	if d.lost != nil && d.lost(op) {
		return nil
	}
	if d.fault != nil {
		if err := d.fault(op); err != nil {
			if op.bytes != nil {
				op.bytes = op.bytes[:len(op.bytes)/2]
				d.apply(op)
			}
			return err
		}
	}
	d.apply(op)
	return nil
}

func (d *disk) apply(op diskOp) {
	if op.bytes != nil {
		d.data = patch(d.data, op)
	}
	d.ops = append(d.ops, op)
}

func patch(data []byte, op diskOp) []byte {
	if n := int(op.at) + len(op.bytes) - len(data); n > 0 {
		data = append(data, make([]byte, n)...)
	}
	copy(data[op.at:], op.bytes)
	return data
}

func (d *disk) WriteAt(b []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.do(diskOp{at, bytes.Clone(b)}); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.do(diskOp{})
}

func (d *disk) ReadAt(b []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := copy(b, d.data[min(int(at), len(d.data)):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = d.data[:size:size]
	return nil
}

func (d *disk) Close() error { return nil }

// len returns how much happened so far, as a moment that crashed takes.
func (d *disk) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ops)
}

// image returns what is on the disk.
func (d *disk) image() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.data)
}

// crashed returns what a crash may leave: all that was synced before the moment,
// and of each write since then nothing, all, or a part from its front or end.
func (d *disk) crashed(moment int, rng *rand.Rand) []byte {
	return d.crashedFrom(newDisk().data, moment, rng)
}

// crashedFrom is crashed for a disk that was not empty at first.
func (d *disk) crashedFrom(data []byte, moment int, rng *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	data = bytes.Clone(data)
	synced := -1
	for i, op := range d.ops[:moment] {
		if op.bytes == nil {
			synced = i
		}
	}
	for i, op := range d.ops[:moment] {
		if op.bytes == nil {
			continue
		}
		if i > synced {
			cut := rng.IntN(len(op.bytes) + 1)
			switch rng.IntN(4) {
			case 0:
				continue
			case 1:
				op.bytes = op.bytes[:cut]
			case 2:
				op = diskOp{op.at + int64(cut), op.bytes[cut:]}
			}
		}
		data = patch(data, op)
	}
	return data
}

// written returns every form in which records under the KEK were ever written
// that hold the secret.
func (d *disk) written(k KEK, secret []byte) (sealed [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range d.ops {
		if len(op.bytes) != slotSize || zero(op.bytes) {
			continue
		}
		r, ok := decodeSlot(op.bytes)
		if !ok {
			continue
		}
		if s, err := k.open(r); err == nil && (bytes.Equal(s.cek.Bytes(), secret) || s.key != nil && bytes.Equal(s.key.Bytes()[2:], secret)) {
			sealed = append(sealed, r.Sealed[8:]) // behind the ID of the KEK, which all share
		}
	}
	return sealed
}

// traces counts what is left of a secret in an image: the secret itself, and
// eight bytes or more, in a row, of anything that the KEK decrypts to it.
func traces(image, secret []byte, sealed [][]byte) (n int) {
	image = bytes.TrimRight(image, "\x00")
	for _, whole := range slices.Concat([][]byte{secret}, sealed) {
		for i := range len(whole) - 7 {
			if bytes.Contains(image, whole[i:i+8]) {
				n++
			}
		}
	}
	return n
}

var errDisk = errors.New("the disk fails")
