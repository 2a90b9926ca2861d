package queuetest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
)

// Left is what Leave has left in a store for people to look at.
type Left struct {
	// Done has a receipt, a line of its worker, a price that is not settled,
	// and a webhook that is not told. Running and Waiting are so; Cancelled had
	// a result that was rejected.
	Done, Running, Waiting, Cancelled consign.JobInfo
	// Paired is confirmed; Pending is not, and had its result rejected.
	Paired, Pending consign.WorkerID
}

// Leave runs a queue on the store until all of that is in it.
func Leave(t *testing.T, store consign.Store) (l Left) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stuck := errors.New("the account is not to be had")
	faulty := &testkit.FaultStore{Store: store, Refuse: func(c *consign.Change) error {
		if slices.ContainsFunc(c.Counters, func(d consign.Delta) bool { return strings.HasPrefix(d.Counter, "credit/held/") }) && len(c.Drop) > 0 {
			return stuck
		}
		return nil
	}}
	q, stop := testkit.Start(t, consign.Config{Store: faulty, Identity: identity(0), Prices: consign.PriceTable{{Price: 12_500}}, Webhooks: true,
		Lease: time.Hour, DrainTimeout: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	defer stop()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(q.AddCredit(ctx, "acme", 1_000_000, "1"))
	sub := q.Submitter("acme")
	submit := func(webhook string) consign.JobInfo {
		t.Helper()
		info, err := sub.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("a prompt"), Custody: consign.CustodyPlain, Webhook: webhook})
		must(err)
		return info
	}
	sessions := map[byte]consign.Session{}
	claim := func(n byte) consign.Assignment {
		t.Helper()
		a, err := sessions[n].Claim(ctx)
		must(err)
		return a
	}

	for n, id := range map[byte]*consign.WorkerID{1: &l.Paired, 2: &l.Pending} {
		s, err := session(ctx, q, identity(n))
		must(err)
		code, err := sub.NewPairing(ctx, identity(9).Public().Bytes())
		must(err)
		p, err := s.ClaimPairing(ctx, code.Code)
		must(err)
		if sessions[n], *id = s, p.Worker; n == 1 {
			_, err := sub.ConfirmPairing(ctx, p.Worker, p.WorkerFingerprint)
			must(err)
		}
	}
	_, err := sub.NewPairing(ctx, identity(9).Public().Bytes()) // which nobody claims
	must(err)

	l.Cancelled = submit("")
	a := claim(2)
	if err := sessions[2].Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Record: []byte("{}")}); !errors.Is(err, consign.ErrBadResult) {
		t.Fatal("a bad record: ", err)
	}
	l.Cancelled, err = sub.Cancel(ctx, a.Job)
	must(err)

	l.Done = submit("https://example.com/told")
	a = claim(1)
	c := consign.Claim{Job: a.Job, Claim: a.Claim}
	must(sessions[1].Report(ctx, consign.Report{Claim: c, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("half of it")}}}))
	record, err := record(identity(1), &a, []byte("the answer"))
	must(err)
	must(sessions[1].Complete(ctx, consign.Completion{Claim: c, Result: []byte("the answer"), Record: record}))
	l.Done, err = sub.Get(ctx, a.Job)
	must(err)

	l.Running = submit("")
	claim(1)
	l.Running, err = sub.Get(ctx, l.Running.ID)
	must(err)
	l.Waiting = submit("")
	must(awaitStrike(ctx, store, l.Pending))
	return l
}

// awaitStrike waits until the queue has counted a rejected result of the worker,
// which it does in its own time.
func awaitStrike(ctx context.Context, store consign.Store, id consign.WorkerID) error {
	for {
		doc, err := store.Doc(ctx, consign.DocWorker, id.String())
		if err != nil {
			return err
		}
		var w consign.WorkerRecord
		if err := json.Unmarshal(doc.Body, &w); err != nil || w.Standing.Strikes > 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// record is an honest worker's.
func record(id *sign.Identity, a *consign.Assignment, result []byte) ([]byte, error) {
	now := time.Now().UnixMicro()
	envelope, err := consign.SignRecord(id, consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model,
		Model: a.Model, HHash: sha256.Sum256(a.Header), InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result),
		Comparator: a.Comparator, Seq: 1, StartedAt: now, FinishedAt: now})
	if err != nil {
		return nil, err
	}
	return envelope.MarshalJSON()
}

// Views compares what the views of an SQL store show with what Leave has left.
// rows carries out a query of one column of texts.
func Views(t *testing.T, l Left, rows func(sql string) ([]string, error)) {
	t.Helper()
	text := func(columns ...string) string {
		for i, c := range columns {
			columns[i] = "coalesce(CAST(" + c + " AS text), '-')"
		}
		return strings.Join(columns, " || '|' || ")
	}
	truth := func(column string) string { return "CASE WHEN " + column + " THEN 'yes' ELSE 'no' END" }
	set := func(column string) string { return truth(column + " IS NOT NULL") }
	// soon: in the minute of the first job, or the next.
	began := l.Cancelled.CreatedAt.UTC()
	soon := func(column string) string {
		return truth(fmt.Sprintf("substr(CAST(%s AS text), 1, 16) IN ('%s', '%s')", column,
			began.Format("2006-01-02 15:04"), began.Add(time.Minute).Format("2006-01-02 15:04")))
	}
	done, running, waiting, cancelled := l.Done.ID.String(), l.Running.ID.String(), l.Waiting.ID.String(), l.Cancelled.ID.String()
	paired, pending := l.Paired.String(), l.Pending.String()
	for _, c := range []struct {
		sql  string
		want []string
	}{
		{"SELECT " + text("id", "type", "tier", "policy", "privacy_class", "user_id", "attempt", "worker_pubkey", "price", set("claimed_at"), set("completed_at"), set("acknowledged_at")) +
			" FROM job_list WHERE status = 'completed'",
			[]string{done + "|TASK|1|CHEAP|PUBLIC|acme|1|" + paired + "|0.0125|yes|yes|no"}},
		{"SELECT " + text("id", "status", "worker_pubkey", set("claimed_at"), set("completed_at")) + " FROM job_list WHERE status <> 'completed' ORDER BY status",
			[]string{cancelled + "|cancelled|-|no|yes", waiting + "|queued|-|no|no", running + "|running|" + paired + "|yes|no"}},
		{"SELECT " + text(soon("created_at")) + " FROM job_list", []string{"yes", "yes", "yes", "yes"}},
		{"SELECT " + text("job_id", "claim_id", "provider_pubkey", "exit_status", "verification", truth("verified"), "length(id)", soon("created_at")) + " FROM receipts",
			[]string{done + "|" + l.Done.Claim.String() + "|" + paired + "|0|verified|yes|64|yes"}},
		{"SELECT " + text("job_id", "event", "state", "attempt", "worker", "report", "length(data)", soon("at")) + " FROM events WHERE report IS NOT NULL",
			[]string{done + "|report|running|1|" + paired + "|log|10|yes"}},
		{"SELECT " + text("job_id", "attempt", "worker", soon("claimed_at")) + " FROM attempts WHERE job_id IN ('" + done + "', '" + running + "') ORDER BY claimed_at",
			[]string{done + "|1|" + paired + "|yes", running + "|1|" + paired + "|yes"}},
		{"SELECT " + text("job_id", "kind", "target", "amount", "reason", soon("at"), soon("due_at"), "tries") + " FROM outbox ORDER BY kind",
			[]string{cancelled + "|refund|acme|0.0125|cancelled by its submitter|yes|no|-", done + "|settle|acme|0.0125||yes|no|-", done + "|webhook|https://example.com/told|-|completed|yes|yes|0"}},
		{"SELECT " + text("id", "algorithm", "operator", "strikes", truth("reason <> ''"), soon("first_seen")) + " FROM workers ORDER BY strikes",
			[]string{paired + "|ed25519|-|0|no|yes", pending + "|ed25519|-|1|yes|yes"}},
		{"SELECT " + text("user_id", "provider_pubkey", truth("claimed"), truth("confirmed"), set("expires_at")) + " FROM trust_pairings ORDER BY claimed, confirmed",
			[]string{"acme|-|no|no|yes", "acme|" + pending + "|yes|no|no", "acme|" + paired + "|yes|yes|no"}},
	} {
		if got, err := rows(c.sql); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s\ngives %q (%v), want %q", c.sql, got, err, c.want)
		}
	}
}

// Page carries out the queries of a page of the documents, in which some job's
// ID stands for that of l.Done, and compares what they give: rows as lines,
// columns divided by bars, "now" for times.
func Page(t *testing.T, page string, l Left, want []string, query func(sql string) ([][]string, error)) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?);\n```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != len(want) {
		t.Fatalf("the page has %d queries, and this test knows what %d of them give", len(blocks), len(want))
	}
	for i, block := range blocks {
		sql := regexp.MustCompile(`'[0-9a-f-]{36}'`).ReplaceAllString(block[1], "'"+l.Done.ID.String()+"'")
		rows, err := query(sql)
		var got strings.Builder
		for _, row := range rows {
			got.WriteString(strings.Join(row, "|") + "\n")
		}
		now := regexp.MustCompile(`\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\d[.0-9]*(\+00)?`).ReplaceAllString(got.String(), "now")
		if err != nil || now != want[i] {
			t.Errorf("%s\ngives %q (%v), want %q", sql, now, err, want[i])
		}
	}
}
