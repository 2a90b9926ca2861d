package sqlite

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// A job's log is in three places. What a transition logs comes with a write of
// the job's own row, and is added to its column log at next to no cost; if it
// comes with a result it is added to the column log of that, so that the job's
// row stays short. What workers report, and what comes without the job, is in
// the table entries.
//
// The columns hold JSON arrays, each followed by a comma and a new line:
//
//	[seq, at, event, state, attempt, "worker", "reason"]

// packedVersions bounds the columns: a job that is written more often than any
// that behaves has its later entries in the table.
const packedVersions = 64

// packs reports whether the entry may go into the column of the job that the
// change writes, after the number.
func packs(c *consign.Change, e *consign.LogEntry, after consign.Seq) bool {
	return c.Job != nil && !c.Delete && !c.Forget && e.Job == c.Job.ID && e.Seq > after &&
		(uint64(e.Seq>>32) == c.Job.Version || c.Done != nil && e.Seq>>32 > packedVersions) && c.Job.Version <= packedVersions &&
		e.Report == 0 && e.Data == nil
}

// pack returns the change's entries for a column, that of its Done if it has
// one, and the others.
func pack(c *consign.Change) (packed string, loose []*consign.LogEntry) {
	text := make([]byte, 0, 256) // two entries
	var last consign.Seq
	for i := range c.Log {
		e := &c.Log[i]
		if !packs(c, e, last) {
			loose = append(loose, e)
			continue
		}
		text = appendEntry(text, e)
		last = e.Seq
	}
	return string(text), loose
}

func appendEntry(text []byte, e *consign.LogEntry) []byte {
	text = append(text, '[')
	for _, n := range [...]int64{int64(e.Seq), int64(e.At), int64(e.Event), int64(e.State), int64(e.Attempt)} {
		text = strconv.AppendInt(text, n, 10)
		text = append(text, ',')
	}
	text = append(text, '"')
	if !e.Worker.IsZero() {
		text = hex.AppendEncode(text, e.Worker[:])
	}
	text = append(text, `",`...)
	if e.Reason == "" { // as it mostly is
		return append(text, `""],`+"\n"...)
	}
	reason, err := json.Marshal(e.Reason)
	if err != nil {
		panic(err) // a string is always JSON
	}
	text = append(text, reason...)
	return append(text, "],\n"...)
}

// unpack reads the column. The error is about the lines that it leaves out.
func unpack(id consign.JobID, text string) (log []consign.LogEntry, bad error) {
	for line := range strings.Lines(text) {
		e := consign.LogEntry{Job: id}
		var worker string
		fields := [...]any{&e.Seq, &e.At, &e.Event, &e.State, &e.Attempt, &worker, &e.Reason}
		err := json.Unmarshal([]byte(strings.TrimSuffix(line, ",\n")), &fields)
		if err == nil && worker != "" {
			err = e.Worker.UnmarshalText([]byte(worker))
		}
		if err != nil {
			bad = fmt.Errorf("has a line that is not an entry (%w)", err)
			continue
		}
		log = append(log, e)
	}
	return log, bad
}

const (
	selectLog     = `SELECT j.n, j.log, coalesce(d.log, '') AS log FROM jobs j LEFT JOIN done d USING (n) WHERE j.id = ?`
	selectEntries = `SELECT seq, at, event, state, attempt, worker, reason, report, data FROM entries WHERE n = ? AND seq > ? ORDER BY seq`
)

// insertEntry keeps the entry unless its job is not there or was forgotten, or
// its number is taken. The number stands in a column as it was packed, which no
// text can look like: a quotation mark in one is escaped.
const insertEntry = `INSERT INTO entries (n, seq, at, event, state, attempt, worker, reason, report, data)
	SELECT n, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM jobs
	WHERE n = ?1 AND NOT forgotten AND instr(char(10) || log, char(10) || '[' || ?2 || ',') = 0
		AND NOT EXISTS (SELECT 1 FROM done d WHERE d.n = ?1 AND instr(char(10) || d.log, char(10) || '[' || ?2 || ',') <> 0)
	ON CONFLICT DO NOTHING`

func (b *batch) writeEntry(e *consign.LogEntry) error {
	n, err := b.row(e.Job)
	if err != nil || n == 0 {
		return err
	}
	_, err = run(b.conn, insertEntry, func(a *args) {
		a.int(n)
		a.int(int64(e.Seq))
		a.time(e.At)
		a.int(int64(e.Event))
		a.int(int64(e.State))
		a.int(int64(e.Attempt))
		a.hash(e.Worker[:])
		a.text(e.Reason)
		a.int(int64(e.Report))
		a.blob(e.Data)
	})
	return err
}

// log returns the entries after a number, but for those that cannot be read. Of
// two with one number, which comes about when an entry of a version arrives
// before the version does, the one in the table was first.
func (s *Store) log(conn *sqlite.Conn, id consign.JobID, after consign.Seq, most int) (log []consign.LogEntry, err error) {
	var n int64
	var packed []consign.LogEntry
	err = each(conn, selectLog, func(a *args) { a.blob(id[:]) }, func(r *row) bool {
		n = r.int()
		for i, table := range [...]string{"jobs", "done"} {
			entries, bad := unpack(id, r.text())
			if bad != nil {
				r.fail(1+i, bad.Error())
			}
			s.report(r.corrupt(table, n))
			packed, r.bad = append(packed, entries...), nil
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	err = each(conn, selectEntries,
		func(a *args) { a.int(n); a.int(int64(after)) },
		func(r *row) bool {
			if len(log) >= most {
				return false
			}
			e := r.entry(id)
			if bad := r.corrupt("entries", n); bad == nil {
				log = append(log, e)
			} else {
				s.report(bad)
			}
			return true
		})
	if err != nil {
		return nil, err
	}
	for _, e := range packed {
		if e.Seq > after {
			log = append(log, e) // behind the table's
		}
	}
	slices.SortStableFunc(log, func(a, b consign.LogEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	log = slices.CompactFunc(log, func(a, b consign.LogEntry) bool { return a.Seq == b.Seq })
	return log[:max(0, min(len(log), most))], nil
}

func (r *row) entry(id consign.JobID) consign.LogEntry {
	e := consign.LogEntry{Job: id}
	e.Seq = consign.Seq(r.int())
	e.At = r.time()
	e.Event = small[consign.EventKind](r)
	e.State = small[consign.State](r)
	e.Attempt = small[int](r)
	r.hash(e.Worker[:])
	e.Reason = r.text()
	e.Report = small[consign.ReportKind](r)
	e.Data = r.blob()
	return e
}
