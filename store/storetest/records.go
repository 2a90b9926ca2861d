package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/consignq/consign"
)

// id returns an ID of shard i%16. IDs sort as their numbers do.
func id(i int) consign.JobID {
	return consign.JobID{0: byte(i >> 8), 1: byte(i), 2: 1, 15: byte(i)}
}

func claim(i int) consign.ClaimID { return consign.ClaimID{0: 0xc1, 1: byte(i >> 8), 2: byte(i)} }

// queued is job i in its first version.
func queued(i int, lane string, key consign.Instant) *consign.Job {
	return &consign.Job{ID: id(i), Version: 1, State: consign.StateQueued, Account: "acme", Lane: lane, Key: key}
}

// in returns the job's next version, in the state.
func in(state consign.State, j *consign.Job) *consign.Job {
	next := *j
	next.Version++
	next.State = state
	next.LeaseFor, next.LeaseUntil = 0, 0
	return &next
}

// running returns the job's next version, under claim i.
func running(j *consign.Job, i int, lease time.Duration) *consign.Job {
	next := in(consign.StateRunning, j)
	next.Claim, next.LeaseFor = claim(i), lease
	return next
}

func insert(jobs ...*consign.Job) []consign.Change {
	changes := make([]consign.Change, len(jobs))
	for i, job := range jobs {
		changes[i].Job = job
	}
	return changes
}

func number(version uint64, i int) consign.Seq { return consign.Seq(version<<32) + consign.Seq(i) }

// entry is an entry of a job's log that can be told from others.
func entry(job consign.JobID, seq consign.Seq) consign.LogEntry {
	return consign.LogEntry{Job: job, Seq: seq, At: consign.Instant(seq>>32) + 1, Event: consign.EventReport, Reason: fmt.Sprint("entry ", seq)}
}

func effect(job consign.JobID, seq consign.Seq) consign.Effect {
	return consign.Effect{ID: consign.EffectID{Job: job, Seq: seq}, Kind: consign.EffectSettle, Target: "acme", Amount: 7, Reason: "done", At: 9}
}

func doc(key string, version uint64, body string) consign.Doc {
	d := consign.Doc{Kind: consign.DocWorker, Key: key, Version: version}
	if body != "" {
		d.Body = fmt.Appendf(nil, `{"body":%q}`, body)
	}
	return d
}

// compact returns the documents with their JSON in its shortest form: a
// database may keep it in its own.
func compact(docs ...consign.Doc) []consign.Doc {
	out := make([]consign.Doc, len(docs))
	for i, d := range docs {
		var v any
		if json.Unmarshal(d.Body, &v) == nil {
			d.Body, _ = json.Marshal(v)
		}
		out[i] = d
	}
	return out
}

// filled returns a record with a value in each of its fields, no two alike, so
// that one that a store forgets is noticed.
func filled[T any]() *T {
	v, n := new(T), 0
	fill(reflect.ValueOf(v).Elem(), &n)
	return v
}

func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Array, reflect.Slice:
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		}
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("%d: it's \"quoted\", 100%% _ \\ é 漢 🚚\n", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32:
		v.SetInt(int64(*n))
	case reflect.Int64:
		v.SetInt(int64(*n) * int64(time.Second)) // whole microseconds, above 32 bits
	case reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		panic("storetest: no value for a " + v.Kind().String())
	}
}

// state is all that the suite reads of a store. Two equal states cannot be
// told apart.
type state struct {
	Jobs     []consign.Job // all, by ID. LeaseUntil of a running job is left out
	Specs    []*consign.Spec
	Done     []*consign.Done
	Logs     [][]consign.LogEntry
	Lanes    []consign.LaneHead
	Queue    [][]consign.JobID // of each lane
	Due      []consign.JobID   // by ID: those of one instant come in any order
	Lapsed   []consign.JobID   // by ID
	Effects  []consign.Effect
	Docs     []consign.Doc
	Counters []int64
}

// many is more records than a check stores.
const many = 10_000

// The counters that checks use.
var counters = []string{"held/acme", "held/zenith"}

// never is the end of time.
const never = consign.Instant(1<<63 - 1)

// read reads all that there is.
func read(ctx context.Context, s consign.Store) (st state, err error) {
	var firstErr error
	note := func(err error) {
		if firstErr == nil {
			firstErr = err
		}
	}
	jobs, err := s.List(ctx, consign.Filter{}, consign.JobID{}, many)
	note(err)
	ids := make([]consign.JobID, len(jobs))
	for i, job := range jobs {
		ids[i] = job.ID
		st.Jobs = append(st.Jobs, still(job))
		done, err := s.Done(ctx, job.ID)
		note(err)
		log, err := s.Log(ctx, job.ID, 0, many)
		note(err)
		st.Done = append(st.Done, done)
		st.Logs = append(st.Logs, append([]consign.LogEntry(nil), log...))
	}
	st.Specs, err = s.Specs(ctx, ids)
	note(err)
	st.Specs = append([]*consign.Spec(nil), st.Specs...)
	st.Lanes, err = s.Lanes(ctx)
	note(err)
	for _, head := range st.Lanes {
		page, err := s.Page(ctx, head.Lane, consign.AllShards, consign.Place{}, many)
		note(err)
		st.Queue = append(st.Queue, idsOf(page))
	}
	due, _, err := s.Due(ctx, never, many)
	note(err)
	st.Due = sorted(idsOf(due))
	lapsed, err := s.Lapsed(ctx, many)
	note(err)
	st.Lapsed = sorted(idsOf(lapsed))
	st.Effects, err = s.Effects(ctx, many)
	note(err)
	docs, err := s.Docs(ctx, consign.DocWorker, "", many)
	note(err)
	st.Docs = compact(docs...)
	for _, name := range counters {
		value, err := s.Counter(ctx, name)
		note(err)
		st.Counters = append(st.Counters, value)
	}
	return st.tidy(), firstErr
}

// tidy makes empty slices nil.
func (st state) tidy() state {
	v := reflect.ValueOf(&st).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Len() == 0 {
			f.SetZero()
		}
	}
	return st
}

func (s *subject) state() state {
	s.Helper()
	return ok[state](s)(read(s.Context(), s.Store))
}

// still returns the job without what time and renewals change.
func still(job *consign.Job) consign.Job {
	j := *job
	if j.State == consign.StateRunning {
		j.LeaseUntil = 0
	}
	return j
}

func idsOf(jobs []*consign.Job) []consign.JobID {
	var ids []consign.JobID
	for _, job := range jobs {
		ids = append(ids, job.ID)
	}
	return ids
}

// same fails the check unless the store holds what it should. It says which
// part differs.
func same(s *subject, what string, got, want state) {
	s.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		part := strings.ToLower(g.Type().Field(i).Name)
		equal(s, what+"'s "+part, g.Field(i).Interface(), w.Field(i).Interface())
	}
}

func sorted(ids []consign.JobID) []consign.JobID {
	slices.SortFunc(ids, func(a, b consign.JobID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// show prints what a failure is about: what pointers point to, without fields
// that are zero.
func show(v any) string {
	var b strings.Builder
	print(&b, reflect.ValueOf(v))
	return b.String()
}

func print(b *strings.Builder, v reflect.Value) {
	switch {
	case !v.IsValid(), v.Kind() == reflect.Pointer && v.IsNil():
		b.WriteString("none")
	case v.Type().Implements(reflect.TypeFor[fmt.Stringer]()):
		fmt.Fprint(b, v)
	case v.Kind() == reflect.Pointer:
		print(b, v.Elem())
	case v.Kind() == reflect.Struct:
		b.WriteString("{")
		comma := ""
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				b.WriteString(comma + v.Type().Field(i).Name + ": ")
				print(b, v.Field(i))
				comma = ", "
			}
		}
		b.WriteString("}")
	case v.Type() == reflect.TypeFor[[]byte](), v.Kind() == reflect.String:
		fmt.Fprintf(b, "%q", v)
	case v.Kind() == reflect.Slice:
		b.WriteString("[")
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			print(b, v.Index(i))
		}
		b.WriteString("]")
	default:
		fmt.Fprint(b, v)
	}
}
