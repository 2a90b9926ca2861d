package consign_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"pgregory.net/rapid"
)

// The invariants that need a whole queue. Each test checks what is drawn, and
// then that it sees every bug that is planted against the invariant.

// fates are how an attempt comes to nothing.
var fates = []func(t *testing.T, s consign.Session, a consign.Assignment){
	func(t *testing.T, s consign.Session, a consign.Assignment) {
		check(t, s.Fail(t.Context(), consign.Failure{Claim: claimOf(a), Kind: consign.FailTransient}))
	},
	func(t *testing.T, s consign.Session, a consign.Assignment) {
		check(t, s.Fail(t.Context(), consign.Failure{Claim: claimOf(a), Kind: consign.FailRefused}))
	},
	func(t *testing.T, s consign.Session, a consign.Assignment) {
		check(t, s.Release(t.Context(), consign.Release{Claim: claimOf(a)}))
	},
	func(t *testing.T, s consign.Session, a consign.Assignment) {
		if err := s.Complete(t.Context(), consign.Completion{Claim: claimOf(a), Record: []byte("{}")}); !errors.Is(err, consign.ErrBadResult) {
			t.Error(err)
		}
	},
	func(*testing.T, consign.Session, consign.Assignment) { time.Sleep(time.Minute) }, // the lease ends
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// past is what happened to a job before the attempt that is looked at.
type past struct {
	account string
	wait    time.Duration // in the queue, before each attempt
	fates   []int
}

// assignmentAfter submits a job and returns what the worker is told that gets
// it after that past, and the job as it then is.
func assignmentAfter(t *testing.T, r consign.SubmitRequest, p past) (consign.Assignment, consign.JobInfo) {
	q, stop := startQueueStop(t, consign.Config{Identity: seededIdentity(0), AttemptLimit: 20 * time.Minute, MaxAttempts: 100, BackoffMax: time.Second})
	defer stop()
	sub := q.Submitter(p.account)
	for _, id := range workersOfAttempts() {
		check(t, q.Pair(t.Context(), consign.Pairing{Account: p.account, Worker: id}))
	}
	job, err := sub.Submit(t.Context(), r)
	check(t, err)
	caps := consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Encryption: true, Slots: 1, Labels: r.Labels}
	for n := 0; ; n++ {
		time.Sleep(p.wait)
		s := openSession(t, q, seededIdentity(uint64(n+1)), caps) // a worker that has not seen the job
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		a, err := s.Claim(ctx)
		cancel()
		check(t, err)
		if n == len(p.fates) {
			job, err = sub.Get(t.Context(), job.ID)
			check(t, err)
			return a, job
		}
		fates[p.fates[n]](t, s, a)
	}
}

// workersOfAttempts are those that assignmentAfter lets claim.
func workersOfAttempts() (ids []consign.WorkerID) {
	for n := range 6 {
		ids = append(ids, seededIdentity(uint64(n+1)).Public().ID())
	}
	return ids
}

// leaks are ways to tell a worker what it must not know: of the job as it was
// submitted, or of the attempt.
var leaks = []struct {
	name string
	tell func(a *consign.Assignment, p past, deadline time.Duration)
}{
	{"how many attempts there were", func(a *consign.Assignment, p past, _ time.Duration) { a.Lease -= time.Duration(len(p.fates)) }},
	{"how old the job is", func(a *consign.Assignment, p past, _ time.Duration) { a.Limit -= p.wait }},
	{"what is left until the deadline", func(a *consign.Assignment, p past, deadline time.Duration) {
		if left := deadline - p.wait*time.Duration(len(p.fates)+1); deadline > 0 {
			a.Limit = min(a.Limit, left)
		}
	}},
	{"whose job it is", func(a *consign.Assignment, p past, _ time.Duration) { a.ClientKey = []byte(p.account) }},
	{"that it is a retry", func(a *consign.Assignment, p past, _ time.Duration) {
		if len(p.fates) > 0 {
			a.Comparator = consign.ComparatorNone
		}
	}},
}

// 11. Nothing in an assignment tells a replica, a retry or a probe from a
// first run: no ordinal, age, deadline or account. (That a replica goes to a
// worker of another operator has no code yet: the queue does not draw.)
func TestInvariant11_AssignmentsTellNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := consign.SubmitRequest{Kind: consign.KindTask,
			Payload:  []byte(rapid.StringN(1, 40, -1).Draw(rt, "payload")),
			Custody:  consign.CustodyPlain,
			Priority: consign.Priority(rapid.IntRange(0, 2).Draw(rt, "priority")),
			Labels:   map[string]string{"region": rapid.SampledFrom([]string{"eu", "us"}).Draw(rt, "region")},
			Deadline: time.Duration(rapid.SampledFrom([]int{0, 0, 15, 60, 600}).Draw(rt, "deadline")) * time.Minute,
			Delay:    time.Duration(rapid.IntRange(0, 5).Draw(rt, "delay")) * time.Second,
		}
		if rapid.Bool().Draw(rt, "sealed") {
			r.ID, r.Custody, r.Chars, r.PromptBytes = consign.JobID{1}, consign.CustodySealed, 1, 1
			consign.SealFor(&consign.Config{Identity: seededIdentity(0)}, seededIdentity(20), &r, 0, workersOfAttempts()...)
			for i := range r.Wraps {
				r.Wraps[i].Wrap = []byte("the key, which each gets in its own wrap")
			}
		}
		first := past{account: "acme", wait: 10 * time.Second}
		later := past{
			account: rapid.SampledFrom([]string{"acme", "other"}).Draw(rt, "account"),
			wait:    time.Duration(rapid.IntRange(10, 60).Draw(rt, "wait")) * time.Second,
			fates:   rapid.SliceOfN(rapid.IntRange(0, len(fates)-1), 0, 4).Draw(rt, "fates"),
		}
		var a, b consign.Assignment
		synctest.Test(t, func(t *testing.T) {
			var job consign.JobInfo
			a, _ = assignmentAfter(t, r, first)
			b, job = assignmentAfter(t, r, later)
			if job.Attempts != len(later.fates)+1 {
				t.Errorf("the second assignment is of attempt %d after %d", job.Attempts, len(later.fates))
			}
		})
		if why := told(a, b); why != "" {
			rt.Fatal(why)
		}
	})
	caught := 0
	for _, leak := range leaks {
		a := consign.Assignment{Lease: 30 * time.Second, Limit: 20 * time.Minute, Comparator: "exact"}
		b := a
		leak.tell(&a, past{account: "acme", wait: 10 * time.Second}, 15*time.Minute)
		leak.tell(&b, past{account: "other", wait: 30 * time.Second, fates: []int{0}}, 15*time.Minute)
		if told(a, b) != "" {
			caught++
		} else {
			t.Errorf("survived: an assignment tells %s", leak.name)
		}
	}
	t.Logf("%d of %d caught", caught, len(leaks))
}

// told says by what two assignments of like jobs can be told apart, other than
// by their random names.
func told(a, b consign.Assignment) string {
	a.Job, a.Claim, b.Job, b.Claim = consign.JobID{}, consign.ClaimID{}, consign.JobID{}, consign.ClaimID{}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			return fmt.Sprintf("a first run has the %s %v, a later one %v", x.Type().Field(i).Name, x.Field(i), y.Field(i))
		}
	}
	return ""
}

// 15. Storing plaintext is an explicit choice: a request that does not say who
// may read the payload is refused, and nothing of it is stored.
func TestInvariant15_PlainIsExplicit(t *testing.T) {
	t.Parallel()
	submit := func(r consign.SubmitRequest) (stored int, err error) {
		synctest.Test(t, func(t *testing.T) {
			q, stop := startQueueStop(t, consign.Config{})
			defer stop()
			_, err = q.Submitter("acme").Submit(t.Context(), r)
			jobs, listed := q.Jobs(t.Context(), consign.Filter{}, consign.JobID{}, 10)
			check(t, listed)
			stored = len(jobs)
		})
		return stored, err
	}
	bugs := []func(*consign.SubmitRequest){
		func(r *consign.SubmitRequest) { r.Custody = consign.CustodyPlain }, // what is not said is taken for consent
		func(r *consign.SubmitRequest) {
			if r.Custody == "" {
				r.Custody = consign.CustodyPlain
			}
		},
	}
	broken := func(r consign.SubmitRequest, bug func(*consign.SubmitRequest)) bool {
		said := r.Custody == consign.CustodyPlain
		bug(&r)
		stored, err := submit(r)
		field, is := errors.AsType[*consign.FieldError](err)
		refused := stored == 0 && is && field.Remedy != ""
		return said == refused
	}
	custodies := []consign.Custody{"", "plain", "Plain", "plain ", "none", "escrow", "transit", "sealed"}
	someBroken := func(bug func(*consign.SubmitRequest)) bool {
		return slices.ContainsFunc(custodies, func(c consign.Custody) bool {
			return broken(consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("text"), Custody: c}, bug)
		})
	}
	if someBroken(func(*consign.SubmitRequest) {}) {
		t.Error("a bare payload is stored unasked, or refused where it was allowed")
	}
	caught := 0
	for i, bug := range bugs {
		if someBroken(bug) {
			caught++
		} else {
			t.Errorf("survived: bug %d", i)
		}
	}
	t.Logf("%d of %d caught", caught, len(bugs))
}
