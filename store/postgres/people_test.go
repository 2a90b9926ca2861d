package postgres_test

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/internal/testkit/queuetest"
)

// people is a pool for queries by hand in a schema, which give texts.
func people(t *testing.T, schema string) func(sql string) ([][]string, error) {
	config, err := pgxpool.ParseConfig(pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return func(sql string) (rows [][]string, err error) {
		conn, err := pool.Acquire(context.Background())
		if err != nil {
			return nil, err
		}
		defer conn.Release()
		results, err := conn.Conn().PgConn().Exec(context.Background(), sql).ReadAll()
		for _, r := range results {
			for _, row := range r.Rows {
				var texts []string
				for _, column := range row {
					texts = append(texts, string(column))
				}
				rows = append(rows, texts)
			}
		}
		return rows, err
	}
}

// The views show what a queue has left, in words, and the queries of
// docs/postgres.md give what they say.
func TestViews(t *testing.T) {
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	left := queuetest.Leave(t, openIn(t, pool, schema))
	query := people(t, schema)
	queuetest.Views(t, left, func(sql string) (column []string, err error) {
		rows, err := query(sql)
		for _, row := range rows {
			column = append(column, row[0])
		}
		return column, err
	})
	paired, pending := left.Paired.String(), left.Pending.String()
	queuetest.Page(t, "../../docs/postgres.md", left, []string{
		"cancelled|1\ncompleted|1\nqueued|1\nrunning|1\n",
		"completed|1|" + paired + "|0.0125|now\n",
		"now|report|log|half of it\n",
		paired + "|1\n",
		"acme|" + pending + "\n",
		"refund|1|now\nsettle|1|now\nwebhook|1|now\n",
	}, query)
}

// The words in the views are the root package's.
func TestViewsNameAll(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	s := openIn(t, pool, schema)
	job := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued}
	c := consign.Change{Job: job}
	for kind := consign.EventSubmit; kind <= consign.EventReport; kind++ {
		c.Log = append(c.Log, consign.LogEntry{Job: job.ID, Seq: consign.Seq(kind) << 33, Event: kind, State: consign.State(kind) % (consign.StateExpired + 1),
			Report: consign.ReportPart})
	}
	for kind := consign.EffectSettle; kind <= consign.EffectShred; kind++ {
		c.Effects = append(c.Effects, consign.Effect{ID: consign.EffectID{Job: job.ID, Seq: consign.Seq(kind)}, Kind: kind})
	}
	if outcomes, err := s.Apply(ctx, []consign.Change{{Job: job}, {Log: c.Log, Effects: c.Effects}}); err != nil || outcomes[1] != nil {
		t.Fatal(outcomes, err)
	}
	query := people(t, schema)
	rows, err := query("SELECT event, state, report FROM events ORDER BY seq")
	if err != nil || len(rows) != len(c.Log) {
		t.Fatalf("the events are %q (%v)", rows, err)
	}
	for i, e := range c.Log {
		report := map[bool]string{true: e.Report.String()}[e.Event == consign.EventReport]
		if got := rows[i]; got[0] != e.Event.String() || got[1] != e.State.String() || got[2] != report {
			t.Errorf("event %s to state %s is shown as %q", e.Event, e.State, got)
		}
	}
	rows, err = query("SELECT kind FROM outbox ORDER BY kind = 'shred', kind = 'strike', kind = 'refund'")
	if err != nil || len(rows) != len(c.Effects) {
		t.Fatalf("the outbox is %q (%v)", rows, err)
	}
	for i, e := range c.Effects {
		if rows[i][0] != e.Kind.String() {
			t.Errorf("the effect %s is shown as %q", e.Kind, rows[i])
		}
	}
}

// A schema of before is brought up to date under what others have built on it:
// no table is written, and what a view of theirs reads is still there.
func TestViewsOfAnOlderSchema(t *testing.T) {
	ctx := context.Background()
	pool := connect(t, pgtest.DSN(t))
	schema := newSchema(t, pool)
	first, err := os.ReadFile("migrations/001_queue.sql")
	if err != nil {
		t.Fatal(err)
	}
	in := pgx.Identifier{schema}.Sanitize()
	for _, sql := range []string{"CREATE SCHEMA " + in, strings.ReplaceAll(string(first), "@", in+"."),
		"CREATE TABLE " + in + ".migrations (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())",
		"INSERT INTO " + in + ".migrations VALUES (1)",
		"CREATE VIEW " + in + ".theirs AS SELECT * FROM " + in + ".job_list"} {
		if _, err := pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	query := people(t, schema)
	files := "SELECT c.relname, c.relfilenode FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '" + schema +
		"' AND c.relkind IN ('r', 'i') ORDER BY 1"
	before, err := query(files)
	if err != nil || len(before) < 7 {
		t.Fatal(before, err)
	}
	s := openIn(t, pool, schema)
	if after, err := query(files); err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("the tables' files are %v (%v), and were %v", after, err, before)
	}
	left := queuetest.Leave(t, s)
	if rows, err := query("SELECT status, price FROM theirs WHERE id = '" + left.Done.ID.String() + "'"); err != nil || len(rows) != 1 || rows[0][1] != "0.0125" {
		t.Errorf("their view shows %q (%v)", rows, err)
	}
	if rows, err := query("SELECT id FROM receipts"); err != nil || len(rows) != 1 {
		t.Errorf("the receipts are %q (%v)", rows, err)
	}
}
