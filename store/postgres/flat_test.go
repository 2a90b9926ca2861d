package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
)

// BenchmarkFlat is claim and complete of 20,000 jobs, with others that wait
// behind them and others that have ended. CONSIGN_ROWS and CONSIGN_ENDED make
// these other than 100,000 and a million.
func BenchmarkFlat(b *testing.B) {
	for _, c := range []struct{ waiting, ended int }{
		{1000, 0}, {rowsWanted(b, "CONSIGN_ROWS", 100_000), 0}, {1000, rowsWanted(b, "CONSIGN_ENDED", 1_000_000)},
	} {
		b.Run(fmt.Sprintf("waiting=%d/ended=%d", c.waiting, c.ended), func(b *testing.B) { flat(b, c.waiting, c.ended) })
	}
}

func rowsWanted(b *testing.B, variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(variable, err)
	}
	return n
}

func flat(b *testing.B, waiting, ended int) {
	const jobs, workers, slots = 20_000, 64, 8
	pool, meter := benchPool(b)
	schema := newSchema(b, pool)
	config := consign.Config{Store: openIn(b, pool, schema), NoReceipts: true, Identity: identity(1 << 32)}
	q, stop := startQueue(b, config)
	seeAJobThrough(b, q) // that the others are copied from
	stop()
	began := time.Now()
	load(b, pool, schema, waiting, ended)
	loaded := time.Since(began)
	round := func() {
		config.Store = openIn(b, pool, schema)
		q, stop := startQueue(b, config)
		sessions := staff(b, []*consign.Queue{q}, workers, slots)
		submitAll(b, q, requests(jobs))
		meter.start(b)
		b.StartTimer()
		work(b, sessions, jobs, slots)
		b.StopTimer()
		meter.stop(b)
		stop()
	}
	round() // caches are filled, and pages that are logged whole after a checkpoint have been
	meter.wal, meter.ours, meter.theirs = 0, 0, 0
	b.StartTimer() // the first b.Loop resets it
	for b.Loop() {
		b.StopTimer()
		round()
		b.StartTimer()
	}
	meter.report(b, b.N*jobs)
	b.ReportMetric(loaded.Seconds(), "load-s")
}

func seeAJobThrough(b *testing.B, q *consign.Queue) {
	submitAll(b, q, requests(2))
	work(b, staff(b, []*consign.Queue{q}, 1, 1), 1, 1)
}

// load adds jobs that wait behind all others, and jobs that have ended with
// their specs and results, by SQL and with their indexes made afterwards, since
// they are many.
func load(b *testing.B, pool *pgxpool.Pool, schema string, waiting, ended int) {
	b.Helper()
	ctx := context.Background()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	do := func(sql string) {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			b.Fatalf("%s: %v", sql, err)
		}
	}
	do("SET search_path = " + pgx.Identifier{schema}.Sanitize())
	do("SET synchronous_commit = off")
	do("SET maintenance_work_mem = '512MB'")
	do(`CREATE TEMP TABLE added AS SELECT gen_random_uuid() AS id, i, i > ` + strconv.Itoa(waiting) + ` AS ended
		FROM generate_series(1, ` + strconv.Itoa(waiting+ended) + `) i`)
	indexes, err := conn.Query(ctx, `SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = 'jobs' AND indexname LIKE 'jobs_%' AND indexname <> 'jobs_pkey'`, schema)
	if err != nil {
		b.Fatal(err)
	}
	defs, err := pgx.CollectRows(indexes, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	do("DROP INDEX jobs_queued, jobs_running, jobs_due")
	for _, t := range []struct{ table, rows string }{{"jobs", "true"}, {"specs", "true"}, {"done", "ended"}} {
		do("ALTER TABLE " + t.table + " DROP CONSTRAINT " + t.table + "_pkey")
		do(fmt.Sprintf("INSERT INTO %s SELECT %s FROM added a WHERE %s", t.table, copied(b, conn, schema, t.table), t.rows))
		do("ALTER TABLE " + t.table + " ADD PRIMARY KEY (id)")
	}
	for _, def := range defs {
		do(def)
	}
	do("DROP TABLE added")
	do("VACUUM ANALYZE jobs, specs, done")
	do("CHECKPOINT")
	do("RESET ALL")
}

// copied lists the values of a new row: those of the one that has ended, but for
// what tells the rows apart.
func copied(b *testing.B, conn *pgxpool.Conn, schema, table string) string {
	own := map[string]string{"id": "a.id"}
	if table == "jobs" {
		own["state"] = "CASE WHEN a.ended THEN 5 ELSE 2 END"
		own["key"] = "CASE WHEN a.ended THEN 0 ELSE 4000000000000000 + a.i END"
		own["due_at"] = "4000000000000000 + a.i"
	}
	rows, err := conn.Query(context.Background(), "SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position", schema, table)
	if err != nil {
		b.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatal(err)
	}
	for i, c := range columns {
		if columns[i] = own[c]; own[c] == "" {
			columns[i] = fmt.Sprintf("(SELECT %q FROM %s WHERE id = (SELECT id FROM done LIMIT 1))", c, table)
		}
	}
	return strings.Join(columns, ", ")
}
