package sqlite

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
)

// checkpointer moves what is in the WAL into the file, on a connection of its
// own: a commit that did it would make all wait that come behind it.
//
// SQLite begins a WAL anew when all of it has been moved. Where commits keep
// coming that is never so, unless they stop for a moment: for the last few pages
// the writer's connection is taken.
type checkpointer struct {
	conn *sqlite.Conn
	shm  *os.File     // to see how long the WAL is; closed after every connection
	last atomic.Int64 // how long the WAL was when it was last moved; 0: it was begun anew since
	wake chan struct{}
	done chan struct{}
}

const (
	walPages  = 8192 // 32 MiB: a page that is written often is moved once
	lastPages = 256  // so few are moved while the writer waits
	passes    = 4    // at most, until so few are left
)

// walLength returns how many pages the WAL has, from where SQLite documents it
// to be (walformat.html, "WAL-Index Header"): mxFrame, in the machine's order.
func (c *checkpointer) walLength() int64 {
	var b [4]byte
	if _, err := c.shm.ReadAt(b[:], 16); err != nil {
		return 0
	}
	return int64(binary.NativeEndian.Uint32(b[:]))
}

// startCheckpoints begins to move the WAL when committed says that it is long.
func (s *Store) startCheckpoints() (err error) {
	c := &s.checkpoints
	c.wake, c.done = make(chan struct{}, 1), make(chan struct{})
	if c.conn, err = s.connect(s.reader); err != nil {
		return err
	}
	if c.shm, err = os.Open(s.config.Path + "-shm"); err != nil {
		_ = c.conn.Close()
		return fmt.Errorf("sqlite: %w", err)
	}
	go func() {
		defer close(c.done)
		for range c.wake {
			s.checkpoint()
		}
	}()
	return nil
}

// close ends it, when nothing is committed any more.
func (c *checkpointer) close() error {
	close(c.wake)
	<-c.done
	return cmp.Or(c.conn.Close(), c.shm.Close())
}

// committed has the WAL moved if it is long. It is called with the writer's
// connection in hand.
func (c *checkpointer) committed() {
	length, last := c.walLength(), c.last.Load()
	if length < last {
		c.last.CompareAndSwap(last, 0)
		last = 0
	}
	if length < last+walPages {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// checkpoint moves the WAL. What keeps it from that is in the way of nobody
// else: it tries again when the WAL has grown.
func (s *Store) checkpoint() {
	c := &s.checkpoints
	left, err := move(c.conn)
	for i := 1; i < passes && err == nil && left > lastPages; i++ {
		left, err = move(c.conn)
	}
	if err == nil {
		if conn, open := <-s.writer; open {
			_, err = move(conn)
			s.writer <- conn
		}
	}
	if err != nil {
		s.config.Logger.Error("the WAL cannot be moved into the file", "file", s.config.Path, "error", explain(err))
	}
	c.last.Store(c.walLength())
}

// move moves as much of the WAL as nobody reads any more, and returns how many
// pages are left.
func move(conn *sqlite.Conn) (left int64, err error) {
	err = each(conn, "PRAGMA wal_checkpoint(PASSIVE)", nil, func(r *row) bool {
		_, length, moved := r.int(), r.int(), r.int()
		left = length - moved
		return false
	})
	return left, err
}
