package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// journal is the worker's own copy of the records that it has signed, a line
// each, and how it knows after a restart which number was the last. All lines
// but the last may be moved elsewhere while the worker does not run.
type journal struct {
	*os.File
	sync func() error
	seq  int64 // of the last record
	end  int64 // where its line ends
}

type journalLine struct {
	Seq    int64           `json:"seq"`
	Record json.RawMessage `json:"record"` // a DSSE envelope
}

// openJournal reads the last line. One that a crash left without its end was
// never sent, and is cut off.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{File: f, sync: f.Sync}
	if err := j.recover(); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

// maxLine bounds a record and its number: many times what one has.
const maxLine = 1 << 20

func (j *journal) recover() error {
	size, err := j.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := make([]byte, min(size, 2*maxLine))
	if _, err := j.ReadAt(tail, size-int64(len(tail))); err != nil {
		return err
	}
	whole := tail[:bytes.LastIndexByte(tail, '\n')+1]
	j.end = size - int64(len(tail)-len(whole))
	if err := j.Truncate(j.end); err != nil || len(whole) == 0 {
		return err
	}
	last := whole[bytes.LastIndexByte(whole[:len(whole)-1], '\n')+1:]
	var line journalLine
	if err := json.Unmarshal(last, &line); err != nil || line.Seq < 1 {
		return fmt.Errorf("the last line is not a record and its number (%v): restore the file, or give the worker a new folder, and so a new identity", err)
	}
	j.seq = line.Seq
	return nil
}

// add writes a line, which is on the disk when it returns. After an error there
// is nothing of it in the file, and the next one takes its place.
func (j *journal) add(seq int64, record []byte) error {
	line, err := json.Marshal(journalLine{seq, record})
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := j.write(line); err != nil {
		return errors.Join(err, j.Truncate(j.end)) // should that fail, the next one begins with it
	}
	j.seq, j.end = seq, j.end+int64(len(line))
	return nil
}

func (j *journal) write(line []byte) error {
	if err := j.Truncate(j.end); err != nil {
		return err
	}
	if _, err := j.WriteAt(line, j.end); err != nil {
		return err
	}
	return j.sync()
}
