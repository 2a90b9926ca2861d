package postgres

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit/pgtest"
)

// No statement reads a table from one end to the other, whatever it holds: not
// with the plan that is kept for all parameters, made while the tables were
// empty.
func TestPlans(t *testing.T) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, pgtest.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	schema := "plans " + consign.NewJobID().String()[:8]
	if err := migrateQueue(ctx, pool, schema); err != nil {
		t.Fatal(err)
	}
	defer pool.Exec(ctx, "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize()+" CASCADE") //nolint:errcheck
	conn, err := pool.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	v := reflect.ValueOf(newStatements(schema))
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "channel" || strings.HasPrefix(name, "copy") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			plan := explainPlan(t, conn.Conn(), v.Field(i).String(), strings.Contains(" write insist start finish lockEffects dropEffects updateDocs deleteDocs setCounters renew ", " "+name+" "))
			if strings.Contains(plan, "Seq Scan") {
				t.Errorf("%s reads a whole table:\n%s", name, plan)
			}
			if t.Failed() || testing.Verbose() {
				t.Log(plan)
			}
		})
	}
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// explainPlan returns the plan of a statement for whatever parameters.
func explainPlan(t *testing.T, conn *pgx.Conn, sql string, joins bool) string {
	t.Helper()
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck
	settings := readPlan
	if joins {
		settings = writePlan
	}
	count := 0
	for _, m := range parameter.FindAllStringSubmatch(sql, -1) {
		var n int
		fmt.Sscan(m[1], &n)
		count = max(count, n)
	}
	args := ""
	if count > 0 {
		args = "(NULL" + strings.Repeat(", NULL", count-1) + ")"
	}
	for _, s := range []string{settings, "PREPARE explained AS " + sql} {
		if _, err := tx.Conn().PgConn().Exec(ctx, s).ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	defer conn.Exec(ctx, "DEALLOCATE explained") //nolint:errcheck
	rows, err := tx.Query(ctx, "EXPLAIN EXECUTE explained"+args, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
