package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// What an operator can do something about says what, and what a caller has
// brought about himself is as it was.
func TestExplain(t *testing.T) {
	server := func(code string) error { return fmt.Errorf("read: %w", &pgconn.PgError{Code: code}) }
	for says, errs := range map[string][]error{
		"make room":                    {server("53100")},
		"default_query_exec_mode=exec": {server("42P05"), server("26000")},
		"goes on once it answers":      {server("57P01"), server("57P02"), server("57P03"), server("08P01")},
		"goes on once the server":      {io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: errors.New("connection reset")}},
		"":                             {server("40001"), context.Canceled, context.DeadlineExceeded, errors.New("another"), &CorruptError{}},
	} {
		for _, err := range errs {
			got := explain(err)
			if !errors.Is(got, err) || !strings.Contains(got.Error(), says) || says == "" && got.Error() != err.Error() {
				t.Errorf("%v is explained as %v, without %q", err, got, says)
			}
		}
	}
	if explain(nil) != nil {
		t.Error("nothing is an error")
	}
}
