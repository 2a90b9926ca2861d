package sqlite

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// Vault is a vault.Storage in an SQLite file of its own, apart from the queue's.
// Make one with OpenVault.
//
// What was deleted is not in the file, nor beside it: a record is overwritten
// where it stands, and the WAL, which has older versions of every page, is moved
// into the file and then overwritten too, before Delete returns. So nothing is
// left in the blocks that a file gives back, either. As with every medium, a
// snapshot of the file system or a copy has what it had: see RotateKEK of
// package vault.
type Vault struct {
	path string
	lock *sqlite.Conn // holds PATH.lock
	pool pool         // of one connection

	mu      sync.Mutex
	waiting []*vaultWrite // for the connection

	remembers bool             // the WAL may have what is deleted; with the connection
	retired   map[[8]byte]bool // the keys that nothing is kept under; likewise
	closed    func() error
}

var _ vault.Storage = (*Vault)(nil)

// vaultWrite is a write that shares a transaction with those that come while
// another is under way. Its results belong to who holds the connection.
type vaultWrite struct {
	do      func(*sqlite.Conn) error // vault.ErrFull and vault.ErrRetired are its own outcome; any other error is everybody's
	forgets bool
	done    bool
	err     error
}

//go:embed vault.sql
var vaultSchema string

// vaultID marks a file as a vault: "Cnsv".
const vaultID = 0x436e7376

// OpenVault opens the keys in a file, or makes it. Give it to vault.New. Nobody
// else can read the file meanwhile, not even with SQLite. It returns what Open
// returns.
func OpenVault(ctx context.Context, path string) (*Vault, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	conn, err := openFile(path)
	if err != nil {
		_ = lock.Close()
		return nil, explain(fmt.Errorf("sqlite: open %s: %w", path, err))
	}
	v := &Vault{path: path, lock: lock, pool: make(pool, 1), remembers: true, retired: make(map[[8]byte]bool)}
	v.closed = sync.OnceValue(v.close)
	if err = v.setUp(conn); err == nil {
		err = v.forget(conn) // what a crash has left
	}
	if err != nil {
		_, _ = conn.Close(), lock.Close()
		return nil, explain(fmt.Errorf("sqlite: open %s: %w", path, err))
	}
	v.pool <- conn
	return v, nil
}

func (v *Vault) setUp(conn *sqlite.Conn) error {
	conn.SetBusyTimeout(busyTimeout)
	if err := pragma(conn, "PRAGMA locking_mode = EXCLUSIVE"); err != nil {
		return err
	}
	if err := recognise(conn, vaultID); err != nil {
		return err
	}
	for _, p := range []string{
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL",
		"PRAGMA secure_delete = ON",
		"PRAGMA temp_store = MEMORY",
		"PRAGMA wal_autocheckpoint = 64", // 256 KiB: all of it is overwritten when a record is deleted
	} {
		if err := pragma(conn, p); err != nil {
			return err
		}
	}
	return upgrade(conn, vaultID, []string{vaultSchema})
}

// Close ends the storage, when calls that are under way have ended. Later calls
// return ErrClosed. Closing twice gives the first answer.
func (v *Vault) Close() error { return v.closed() }

func (v *Vault) close() error {
	conn := <-v.pool
	err := v.forget(conn) // before SQLite deletes the WAL
	v.pool <- conn
	return cmp.Or(explain(err), v.pool.close(), v.lock.Close())
}

// write carries out a write, durably. Whoever gets the connection first does so
// for all that wait.
func (v *Vault) write(ctx context.Context, w *vaultWrite) error {
	v.mu.Lock()
	v.waiting = append(v.waiting, w)
	v.mu.Unlock()
	conn, err := v.pool.take(ctx)
	if err != nil {
		return err // w may be carried out yet, with the next
	}
	defer func() { v.pool <- conn }()
	if !w.done {
		v.writeAll(conn)
	}
	return w.err
}

func (v *Vault) writeAll(conn *sqlite.Conn) {
	v.mu.Lock()
	all := v.waiting
	v.waiting = nil
	v.mu.Unlock()
	err := v.transact(conn, all)
	var forgotten error
	for _, w := range all {
		if err == nil && forgotten == nil && w.forgets {
			forgotten = v.forget(conn)
		}
	}
	for _, w := range all {
		w.done = true
		if err != nil {
			w.err = explain(err)
		} else if w.forgets {
			w.err = cmp.Or(w.err, explain(forgotten))
		}
	}
}

func (v *Vault) transact(conn *sqlite.Conn, all []*vaultWrite) error {
	if _, err := run(conn, "BEGIN IMMEDIATE", nil); err != nil {
		return err
	}
	defer rollback(conn)
	v.remembers = true // a rollback leaves bytes as well
	for _, w := range all {
		if w.err = w.do(conn); w.err != nil && !errors.Is(w.err, vault.ErrFull) && !errors.Is(w.err, vault.ErrRetired) {
			return w.err
		}
	}
	_, err := run(conn, "COMMIT", nil)
	return err
}

// Put implements vault.Storage.
func (v *Vault) Put(ctx context.Context, r vault.Record) error {
	if err := fits(r); err != nil {
		return err
	}
	return v.write(ctx, &vaultWrite{do: func(conn *sqlite.Conn) error {
		if v.retired[r.KEK()] {
			return vault.ErrRetired
		}
		return put(conn, r)
	}})
}

func fits(r vault.Record) error {
	if len(r.Sealed) > vault.MaxSealed {
		return fmt.Errorf("sqlite: a record has %d bytes, more than %d", len(r.Sealed), vault.MaxSealed)
	}
	return nil
}

const (
	selectSlot   = `SELECT slot FROM records WHERE used = 1 AND job = ? AND header = ?`
	countHeaders = `SELECT count(*) FROM records WHERE used = 1 AND job = ?`
	selectFree   = `SELECT slot FROM records WHERE used = 0 LIMIT 1`
	insertRecord = `INSERT INTO records (used, job, header, at, sealed) VALUES (1, ?, ?, ?, ?)`
	updateSlot   = `UPDATE records SET used = 1, job = ?, header = ?, at = ?, sealed = ? WHERE slot = ?`
	replace      = `UPDATE records SET sealed = ? WHERE used = 1 AND job = ? AND header = ? AND at = ?`
	erase        = `UPDATE records SET used = 0, job = zeroblob(16), header = zeroblob(32), at = zeroblob(8), sealed = zeroblob(191)
		WHERE used = 1 AND job = ? AND header = ? AND at = ?`
	selectJob = `SELECT slot, job, header, at, sealed FROM records WHERE used = 1 AND job = ?`
	selectAll = `SELECT slot, job, header, at, sealed FROM records WHERE used = 1 AND slot > ? ORDER BY slot LIMIT 256`
)

// put writes a record to its slot, a free one, or a new one at the end.
func put(conn *sqlite.Conn, r vault.Record) error {
	first := func(query string, bind func(*args)) (n int64, err error) {
		err = each(conn, query, bind, func(r *row) bool { n = r.int(); return false })
		return n, err
	}
	slot, err := first(selectSlot, func(a *args) { a.blob(r.Job[:]); a.blob(r.Header[:]) })
	if err != nil {
		return err
	}
	if slot == 0 {
		headers, err := first(countHeaders, func(a *args) { a.blob(r.Job[:]) })
		if err != nil {
			return err
		}
		if headers >= vault.MaxHeaders {
			return vault.ErrFull
		}
		if slot, err = first(selectFree, nil); err != nil {
			return err
		}
	}
	bind := func(a *args) { a.name(r); a.blob(padded(r)) }
	if slot == 0 {
		_, err = run(conn, insertRecord, bind)
	} else {
		_, err = run(conn, updateSlot, func(a *args) { bind(a); a.int(slot) })
	}
	return err
}

// name binds a record's job, header and time.
func (a *args) name(r vault.Record) {
	a.blob(r.Job[:])
	a.blob(r.Header[:])
	a.blob(binary.BigEndian.AppendUint64(nil, uint64(r.At))) //nolint:gosec // the bits are kept
}

// padded is what is sealed, in its fixed length.
func padded(r vault.Record) []byte {
	b := make([]byte, 1+vault.MaxSealed)
	b[0] = byte(len(r.Sealed))
	copy(b[1:], r.Sealed)
	return b
}

// Replace implements vault.Storage.
func (v *Vault) Replace(ctx context.Context, rs []vault.Record) error {
	for _, r := range rs {
		if err := fits(r); err != nil {
			return err
		}
	}
	return v.write(ctx, &vaultWrite{forgets: true, do: func(conn *sqlite.Conn) error {
		if slices.ContainsFunc(rs, func(r vault.Record) bool { return v.retired[r.KEK()] }) {
			return vault.ErrRetired
		}
		for _, r := range rs {
			if _, err := run(conn, replace, func(a *args) { a.blob(padded(r)); a.name(r) }); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Delete implements vault.Storage.
func (v *Vault) Delete(ctx context.Context, rs []vault.Record) error {
	return v.write(ctx, &vaultWrite{forgets: true, do: func(conn *sqlite.Conn) error {
		for _, r := range rs {
			if _, err := run(conn, erase, func(a *args) { a.name(r) }); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Get implements vault.Storage. It returns a *CorruptError.
func (v *Vault) Get(ctx context.Context, job consign.JobID) ([]vault.Record, error) {
	rs, _, err := v.read(ctx, selectJob, func(a *args) { a.blob(job[:]) })
	return rs, err
}

// All implements vault.Storage. It yields a *CorruptError.
func (v *Vault) All(ctx context.Context) iter.Seq2[vault.Record, error] {
	return func(yield func(vault.Record, error) bool) {
		for last := int64(0); ; { // a record stays in its slot
			rs, next, err := v.read(ctx, selectAll, func(a *args) { a.int(last) })
			if err != nil {
				yield(vault.Record{}, err)
				return
			}
			for _, r := range rs {
				if !yield(r, nil) {
					return
				}
			}
			if len(rs) == 0 {
				return
			}
			last = next
		}
	}
}

// Retire implements vault.Storage. The file has no memory of it, and needs none:
// what a process had begun ends with it.
func (v *Vault) Retire(ctx context.Context, old [][8]byte, present [8]byte) error {
	conn, err := v.pool.take(ctx)
	if err != nil {
		return err
	}
	defer func() { v.pool <- conn }()
	for _, id := range old {
		v.retired[id] = true
	}
	delete(v.retired, present)
	return nil
}

// read returns records, and the slot of the last one.
func (v *Vault) read(ctx context.Context, query string, bind func(*args)) (rs []vault.Record, last int64, err error) {
	conn, err := v.pool.take(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { v.pool <- conn }()
	var bad error
	err = each(conn, query, bind, func(r *row) bool {
		last = r.int()
		rs = append(rs, r.record())
		bad = r.corrupt("records", last)
		return bad == nil
	})
	return rs, last, cmp.Or(explain(err), bad)
}

// record reads what put wrote.
func (r *row) record() (rec vault.Record) {
	r.hash(rec.Job[:])
	r.hash(rec.Header[:])
	var at [8]byte
	r.hash(at[:])
	rec.At = consign.Instant(binary.BigEndian.Uint64(at[:])) //nolint:gosec // the bits are kept
	if sealed := r.blob(); len(sealed) > 0 && int(sealed[0]) < len(sealed) {
		rec.Sealed = sealed[1 : 1+int(sealed[0])]
	} else {
		r.fail(r.next-1, "is cut short")
	}
	return rec
}
