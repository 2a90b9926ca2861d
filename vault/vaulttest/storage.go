package vaulttest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

var storageContract = []check[vault.Storage]{
	{"Put", "Put keeps a record, in the place of the one of its name if there is one, and returns once that is durable.", func(t tester, s vault.Storage) {
		empty := vault.Record{Job: jobID(9), Header: [32]byte{9}, At: 1, Sealed: []byte{}}
		long := vault.Record{Job: consign.JobID{}, Header: [32]byte{8}, At: -1, Sealed: bytes.Repeat([]byte{0xff}, vault.MaxSealed)}
		for _, r := range []vault.Record{record(1, 1, 1), record(1, 2, 1), record(2, 1, 1), empty, long} {
			ok(t, s.Put(t.Context(), r))
		}
		later := record(1, 1, 2)
		ok(t, s.Put(t.Context(), later))
		ok(t, s.Put(t.Context(), later))
		holds(t, s, jobID(1), later, record(1, 2, 1))
		holds(t, s, jobID(2), record(2, 1, 1))
		holds(t, s, empty.Job, empty)
		holds(t, s, long.Job, long)
		holds(t, s, jobID(3))
	}},

	{"Full", "It returns ErrFull, and keeps nothing, where the job has records of MaxHeaders other headers.", func(t tester, s vault.Storage) {
		var in []vault.Record
		for h := range byte(vault.MaxHeaders) {
			in = append(in, record(1, h, 1))
			ok(t, s.Put(t.Context(), in[h]))
		}
		if err := s.Put(t.Context(), record(1, vault.MaxHeaders, 1)); !errors.Is(err, vault.ErrFull) {
			t.Fatalf("the error is %v", err)
		}
		holds(t, s, jobID(1), in...)
		ok(t, s.Put(t.Context(), record(2, 0, 1)))
		in[0] = record(1, 0, 2)
		ok(t, s.Put(t.Context(), in[0]))
		ok(t, s.Delete(t.Context(), in[1:2]))
		in[1] = record(1, vault.MaxHeaders, 1)
		ok(t, s.Put(t.Context(), in[1]))
		holds(t, s, jobID(1), in...)
	}},

	{"Replace", "Replace writes each record in the place of the one of its name and time, of which nothing is left then, and leaves out those that are not there.", func(t tester, s vault.Storage) {
		for _, r := range []vault.Record{record(1, 1, 1), record(1, 2, 1), record(2, 1, 1)} {
			ok(t, s.Put(t.Context(), r))
		}
		there, moved, gone := record(1, 1, 1), record(1, 2, 0), record(3, 1, 1)
		there.Sealed, moved.Sealed = []byte("anew"), []byte("stale")
		ok(t, s.Replace(t.Context(), []vault.Record{there, moved, gone}))
		holds(t, s, jobID(1), there, record(1, 2, 1))
		holds(t, s, jobID(2), record(2, 1, 1))
		holds(t, s, jobID(3))
		ok(t, s.Replace(t.Context(), nil))
	}},

	{"All", "All yields the records that were there when it began, in any order, but for those that were replaced or deleted meanwhile.", func(t tester, s vault.Storage) {
		var in []vault.Record
		for job := range byte(100) {
			in = append(in, record(job+1, 0, 1), record(job+1, 1, 1))
		}
		for _, r := range in {
			ok(t, s.Put(t.Context(), r))
		}
		ok(t, s.Delete(t.Context(), in[100:]))
		equal(t, "what All yields", all(t, s), in[:100])
		for range s.All(t.Context()) {
			break // and nothing is held up by that
		}
		ok(t, s.Put(t.Context(), in[100]))
	}},

	{"Meanwhile", "The other methods may be called while it is ranged over.", func(t tester, s vault.Storage) {
		for job := range byte(20) {
			ok(t, s.Put(t.Context(), record(job+1, 1, 1)))
		}
		for r, err := range s.All(t.Context()) {
			ok(t, err)
			switch {
			case r.Job[0] == 200:
			case r.Job[0]%2 == 0:
				ok(t, s.Delete(t.Context(), []vault.Record{r}))
			default:
				r.Sealed = []byte("anew")
				ok(t, s.Replace(t.Context(), []vault.Record{r}))
				ok(t, s.Put(t.Context(), record(200, 1, 1)))
			}
		}
		if n := len(all(t, s)); n != 11 {
			t.Fatalf("%d records are left, not 11", n)
		}
	}},

	{"Delete", "Delete destroys those records that are there by their name and time.", func(t tester, s vault.Storage) {
		for _, r := range []vault.Record{record(1, 1, 1), record(1, 2, 1), record(2, 1, 1), record(3, 1, 1)} {
			ok(t, s.Put(t.Context(), r))
		}
		ok(t, s.Delete(t.Context(), []vault.Record{record(1, 1, 1), record(2, 1, 0), record(2, 2, 1), record(4, 1, 1), record(3, 1, 1)}))
		holds(t, s, jobID(1), record(1, 2, 1))
		holds(t, s, jobID(2), record(2, 1, 1))
		holds(t, s, jobID(3))
		ok(t, s.Delete(t.Context(), nil))
		holds(t, s, jobID(2), record(2, 1, 1))
	}},

	{"Deposited", "Delete destroys those records that are there by their name and time.", func(t tester, s vault.Storage) {
		seen := record(1, 1, 1)
		ok(t, s.Put(t.Context(), seen))
		again := record(1, 1, 2)
		ok(t, s.Put(t.Context(), again))
		ok(t, s.Delete(t.Context(), []vault.Record{seen}))
		holds(t, s, jobID(1), again)
	}},

	{"Retire", "Once it has returned nil, no Put and no Replace keeps anything under one of old", func(t tester, s vault.Storage) {
		one, two, other := under(record(1, 1, 1), 1), under(record(1, 2, 1), 2), under(record(2, 1, 1), 3)
		for _, r := range []vault.Record{one, two, other} {
			ok(t, s.Put(t.Context(), r))
		}
		ok(t, s.Retire(t.Context(), [][8]byte{one.KEK(), two.KEK()}, other.KEK()))
		for _, kek := range []byte{1, 2} {
			for _, r := range []vault.Record{record(1, 1, 1), record(1, 2, 2), record(3, 1, 1)} {
				isRetired(t, s.Put(t.Context(), under(r, kek)))
				isRetired(t, s.Replace(t.Context(), []vault.Record{under(other, 4), under(r, kek)}))
			}
		}
		equal(t, "what All yields", all(t, s), []vault.Record{one, two, other})
		one, two = under(one, 3), under(record(1, 2, 2), 3)
		ok(t, s.Replace(t.Context(), []vault.Record{one}))
		ok(t, s.Put(t.Context(), two))
		equal(t, "what All yields", all(t, s), []vault.Record{one, two, other})
	}},

	{"Present", "They return ErrRetired and keep nothing, until that key is present again.", func(t tester, s vault.Storage) {
		one, other := under(record(1, 1, 1), 1), under(record(2, 1, 1), 2)
		ok(t, s.Retire(t.Context(), [][8]byte{one.KEK(), other.KEK()}, under(one, 3).KEK()))
		ok(t, s.Retire(t.Context(), nil, one.KEK()))
		ok(t, s.Put(t.Context(), one))
		isRetired(t, s.Put(t.Context(), other))
		ok(t, s.Retire(t.Context(), [][8]byte{one.KEK()}, other.KEK()))
		isRetired(t, s.Put(t.Context(), one))
		ok(t, s.Put(t.Context(), other))
		equal(t, "what All yields", all(t, s), []vault.Record{one, other})
	}},

	{"Late", "what its caller gave up, or a process that was killed, may be carried out late.", func(t tester, s vault.Storage) {
		old := under(record(255, 1, 1), 1)
		ok(t, s.Put(t.Context(), old))
		cancelled, cancel := context.WithCancel(t.Context())
		defer cancel()
		errs := make([]error, 4*vault.MaxHeaders)
		var puts sync.WaitGroup
		for i := range errs {
			ctx := t.Context()
			if i%2 == 1 {
				ctx = cancelled
			}
			puts.Go(func() { errs[i] = s.Put(ctx, under(record(byte(i), 1, 1), 1)) })
		}
		cancel()
		_ = s.Put(cancelled, under(record(253, 1, 1), 1))
		_ = s.Replace(cancelled, []vault.Record{under(old, 1)})
		ok(t, s.Retire(t.Context(), [][8]byte{old.KEK()}, under(old, 2).KEK()))
		seen := all(t, s)
		puts.Wait()
		last := under(record(254, 1, 1), 2)
		ok(t, s.Put(t.Context(), last))
		ok(t, s.Delete(t.Context(), nil))
		equal(t, "what All yields later", all(t, s), append(slices.Clone(seen), last))
		for i := 0; i < len(errs); i += 2 {
			if slices.ContainsFunc(seen, func(r vault.Record) bool { return r.Job == jobID(byte(i)) }) {
				ok(t, errs[i])
			} else {
				isRetired(t, errs[i])
			}
		}
	}},

	{"Goroutines", "Methods may be called from many goroutines", func(t tester, s vault.Storage) {
		const n = 32
		errs := make([]error, n)
		var all sync.WaitGroup
		for i := range byte(n) {
			all.Go(func() {
				r := record(i, 1, 1)
				errs[i] = s.Put(t.Context(), r)
				if _, err := s.Get(t.Context(), r.Job); errs[i] == nil {
					errs[i] = err
				}
				if i%2 == 0 && errs[i] == nil {
					errs[i] = s.Delete(t.Context(), []vault.Record{r})
				}
			})
		}
		all.Wait()
		for i := range byte(n) {
			ok(t, errs[i])
			if i%2 == 0 {
				holds(t, s, jobID(i))
			} else {
				holds(t, s, jobID(i), record(i, 1, 1))
			}
		}
	}},

	{"Crowd", "It returns ErrFull, and keeps nothing, where the job has records of MaxHeaders other headers.", func(t tester, s vault.Storage) {
		errs := make([]error, 4*vault.MaxHeaders)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { errs[i] = s.Put(t.Context(), record(1, byte(i), 1)) })
		}
		all.Wait()
		var kept []vault.Record
		for i, err := range errs {
			if err == nil {
				kept = append(kept, record(1, byte(i), 1))
			} else if !errors.Is(err, vault.ErrFull) {
				t.Fatalf("the error is %v", err)
			}
		}
		if len(kept) != vault.MaxHeaders {
			t.Fatalf("%d records were taken in, not %d", len(kept), vault.MaxHeaders)
		}
		holds(t, s, jobID(1), kept...)
	}},
}

func jobID(n byte) consign.JobID { return consign.JobID{n, 1} }

func record(job, header byte, at consign.Instant) vault.Record {
	return vault.Record{Job: jobID(job), Header: [32]byte{header, 2}, At: at, Sealed: bytes.Repeat([]byte{job, header, byte(at)}, 30)}
}

// under returns the record as it is under a key of that number.
func under(r vault.Record, kek byte) vault.Record {
	r.Sealed = slices.Concat(bytes.Repeat([]byte{kek}, 8), r.Sealed[:60])
	return r
}

func isRetired(t tester, err error) {
	t.Helper()
	if !errors.Is(err, vault.ErrRetired) {
		t.Fatalf("the error is %v, not ErrRetired", err)
	}
}

// holds fails the check unless the job has exactly these records.
func holds(t tester, s vault.Storage, job consign.JobID, want ...vault.Record) {
	t.Helper()
	equal(t, "the records of job "+job.String(), must[[]vault.Record](t)(s.Get(t.Context(), job)), want)
}

func all(t tester, s vault.Storage) (rs []vault.Record) {
	t.Helper()
	for r, err := range s.All(t.Context()) {
		ok(t, err)
		rs = append(rs, r)
	}
	return rs
}

func equal(t tester, what string, got, want []vault.Record) {
	t.Helper()
	sorted := func(rs []vault.Record) []vault.Record {
		return slices.SortedFunc(slices.Values(rs), func(a, b vault.Record) int {
			return cmp.Or(bytes.Compare(a.Job[:], b.Job[:]), bytes.Compare(a.Header[:], b.Header[:]))
		})
	}
	if !slices.EqualFunc(sorted(got), sorted(want), func(a, b vault.Record) bool {
		return a.Job == b.Job && a.Header == b.Header && a.At == b.At && bytes.Equal(a.Sealed, b.Sealed)
	}) {
		t.Fatalf("%s:\n got %x\nwant %x", what, got, want)
	}
}
