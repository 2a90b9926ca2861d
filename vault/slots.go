package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/consignq/consign"
)

// The file of slots. The first slot holds a label, each other one a record or
// zeros:
//
//	sum(8) job(16) header(32) at(8) len(2) sealed, zeros up to the slot's end
//
// where sum is the start of the SHA-256 of the rest, all integers big-endian. A
// slot divides every sector and page size, so that a write of one is hardly ever
// torn; the sum tells when it was. The file never shrinks and no record moves
// without its old place being overwritten, so that each byte that was ever
// written is still in the file, or overwritten.
const (
	slotSize  = 256
	slotHead  = 8 + 16 + 32 + 8 + 2
	slotLabel = "consign/vault/slots/v1\n"
	slotGrow  = 1024 // slots that the file grows by
)

// medium is what slots need of a file.
type medium interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// slots is a Storage in a file. What is in the file is in memory too, so that
// only writes touch the disk.
//
// A write changes the image, marks the slot dirty, and waits until some commit
// has written all dirty slots and synced the file. What failed to be written
// stays dirty, so that it is tried again with the next commit.
type slots struct {
	disk   sync.Mutex // held by who commits; taken before mu
	medium medium

	mu     sync.Mutex
	jobs   map[consign.JobID][]placed
	image  [][]byte // of each slot; nil where it is free
	free   []int
	dirty  map[int]bool // slots that the file may not have as the image has them
	next   *commit      // that who comes now takes part in; nil: none waits
	closed bool
	retired
}

// commit is one write of all that is dirty, for all who wait for it.
type commit struct {
	done chan struct{} // closed when it is over
	err  error
}

// placed is a record and its slot.
type placed struct {
	Record
	slot int
}

var errClosed = fmt.Errorf("vault: the file is closed: %w", consign.ErrClosed)

// readSlots loads the file of the given size. It erases what a crash left torn
// and returns how many slots that was.
func readSlots(m medium, size int64) (s *slots, torn int, err error) {
	data := make([]byte, size/slotSize*slotSize)
	if _, err := m.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, fmt.Errorf("vault: %w", err)
	}
	if len(data) == 0 || !bytes.HasPrefix(data, []byte(slotLabel)) {
		return nil, 0, fmt.Errorf("vault: the file does not start with %q: it is none of a vault", slotLabel)
	}
	s = &slots{medium: m, jobs: make(map[consign.JobID][]placed), dirty: make(map[int]bool), image: make([][]byte, len(data)/slotSize)}
	s.image[0] = data[:slotSize]
	for i := len(s.image) - 1; i > 0; i-- {
		slot := data[i*slotSize : (i+1)*slotSize]
		if zero(slot) {
			s.free = append(s.free, i)
		} else if r, ok := decodeSlot(slot); ok {
			s.image[i] = slot
			s.jobs[r.Job] = append(s.jobs[r.Job], placed{r, i})
		} else {
			s.free = append(s.free, i)
			s.dirty[i] = true
			torn++
		}
	}
	return s, torn, s.commit()
}

func (s *slots) Put(ctx context.Context, r Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	err := s.check(r)
	if err == nil && s.others(r) >= MaxHeaders {
		err = ErrFull
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	old := slices.DeleteFunc(slices.Clone(s.jobs[r.Job]), func(p placed) bool { return !p.named(r) })
	err = s.add(r)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.supersede(old)
}

// others counts the other headers of r's job.
func (s *slots) others(r Record) int {
	headers := make(map[[32]byte]bool, MaxHeaders)
	for _, p := range s.jobs[r.Job] {
		if !p.named(r) {
			headers[p.Header] = true
		}
	}
	return len(headers)
}

func (s *slots) Replace(ctx context.Context, rs []Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if err := s.check(rs...); err != nil {
		s.mu.Unlock()
		return err
	}
	var old []placed
	for _, r := range rs {
		there := slices.DeleteFunc(slices.Clone(s.jobs[r.Job]), func(p placed) bool { return !p.same(r) })
		if len(there) == 0 {
			continue
		}
		if err := s.add(r); err != nil {
			s.mu.Unlock()
			return err
		}
		old = append(old, there...)
	}
	s.mu.Unlock()
	return s.supersede(old)
}

// supersede makes what was added durable, and only then erases what it takes the
// place of. Until then both are there, which is as good as one: they hold the
// same secret.
func (s *slots) supersede(old []placed) error {
	if err := s.commit(); err != nil || len(old) == 0 {
		return err
	}
	s.mu.Lock()
	for _, p := range old {
		s.remove(func(q placed) bool { return q.slot == p.slot && bytes.Equal(q.Sealed, p.Sealed) }, p.Job)
	}
	s.mu.Unlock()
	return s.commit()
}

func (s *slots) Get(ctx context.Context, job consign.JobID) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	var rs []Record
	for _, p := range s.jobs[job] {
		rs = append(rs, p.Record)
	}
	return rs, ctx.Err()
}

func (s *slots) All(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.mu.Lock()
		var all []Record
		for ps := range maps.Values(s.jobs) {
			for _, p := range ps {
				all = append(all, p.Record)
			}
		}
		s.mu.Unlock()
		each(ctx, all, yield)
	}
}

func (s *slots) Delete(ctx context.Context, rs []Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	for _, r := range rs {
		s.remove(func(p placed) bool { return p.same(r) }, r.Job)
	}
	s.mu.Unlock()
	return s.commit()
}

// Retire implements Storage. The file has no memory of it, and needs none: what a
// process had begun ends with it.
func (s *slots) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retire(old, present)
	return ctx.Err()
}

func (s *slots) Close() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.closed = true
	return s.medium.Close()
}

// add puts a record into a free slot of the image. The caller holds mu, and
// commits.
func (s *slots) add(r Record) error {
	if s.closed {
		return errClosed
	}
	if len(r.Sealed) > MaxSealed {
		return fmt.Errorf("vault: a record has %d bytes, more than %d", len(r.Sealed), MaxSealed)
	}
	if len(s.free) == 0 {
		if err := s.grow(); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.image[i] = encodeSlot(r)
	s.jobs[r.Job] = append(s.jobs[r.Job], placed{r, i})
	s.dirty[i] = true
	return nil
}

// remove takes a job's records for which gone is true out of the image. The
// caller holds mu, and commits.
func (s *slots) remove(gone func(placed) bool, job consign.JobID) {
	var kept []placed
	for _, p := range s.jobs[job] {
		if !gone(p) {
			kept = append(kept, p)
			continue
		}
		s.image[p.slot] = nil
		s.free = append(s.free, p.slot)
		s.dirty[p.slot] = true
	}
	if s.jobs[job] = kept; kept == nil {
		delete(s.jobs, job)
	}
}

// grow makes the file longer by free slots. They are written now, so that a
// disk that is full refuses a new record here, and never an erasure.
func (s *slots) grow() error {
	size := int64(len(s.image)) * slotSize
	_, err := s.medium.WriteAt(make([]byte, slotGrow*slotSize), size)
	if err == nil {
		err = s.medium.Sync()
	}
	if err != nil {
		return errors.Join(err, s.medium.Truncate(size))
	}
	for i := len(s.image) + slotGrow - 1; i >= len(s.image); i-- {
		s.free = append(s.free, i)
	}
	s.image = append(s.image, make([][]byte, slotGrow)...)
	return nil
}

// commit returns once every change of the image so far is in the file. Who comes
// while another commits shares the next commit with all who do: the first of
// them makes it.
func (s *slots) commit() error {
	s.mu.Lock()
	c, first := s.next, s.next == nil
	if first {
		c = &commit{done: make(chan struct{})}
		s.next = c
	}
	s.mu.Unlock()
	if first {
		s.disk.Lock()
		c.err = s.writeDirty()
		s.disk.Unlock()
		close(c.done)
	}
	<-c.done
	return c.err
}

// writeDirty writes what the file does not have, and lets the next commit begin.
// The caller holds disk.
func (s *slots) writeDirty() error {
	s.mu.Lock()
	s.next = nil
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	writes := make(map[int][]byte, len(s.dirty))
	for i := range s.dirty {
		writes[i] = s.image[i]
	}
	clear(s.dirty)
	s.mu.Unlock()
	err := s.write(writes)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range writes {
		s.dirty[i] = true
	}
	return fmt.Errorf("vault: %w", err)
}

// write writes slots in the order of the file, and syncs it.
func (s *slots) write(writes map[int][]byte) error {
	if len(writes) == 0 {
		return nil
	}
	empty := make([]byte, slotSize)
	for _, i := range slices.Sorted(maps.Keys(writes)) {
		b := writes[i]
		if b == nil {
			b = empty
		}
		if _, err := s.medium.WriteAt(b, int64(i)*slotSize); err != nil {
			return err
		}
	}
	return s.medium.Sync()
}

func encodeSlot(r Record) []byte {
	b := make([]byte, 8, slotSize)
	b = append(b, r.Job[:]...)
	b = append(b, r.Header[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.At))          //nolint:gosec // the bits are kept
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Sealed))) //nolint:gosec // bounded by MaxSealed
	b = append(b, r.Sealed...)[:slotSize]
	sum := sha256.Sum256(b[8:])
	copy(b, sum[:8])
	return b
}

// decodeSlot is false for a slot that is free or torn.
func decodeSlot(b []byte) (r Record, ok bool) {
	sum := sha256.Sum256(b[8:])
	n := int(binary.BigEndian.Uint16(b[slotHead-2:]))
	if !bytes.Equal(b[:8], sum[:8]) || n > MaxSealed {
		return Record{}, false
	}
	copy(r.Job[:], b[8:])
	copy(r.Header[:], b[24:])
	r.At = consign.Instant(binary.BigEndian.Uint64(b[56:])) //nolint:gosec // the bits are kept
	r.Sealed = b[slotHead : slotHead+n : slotHead+n]
	return r, true
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
