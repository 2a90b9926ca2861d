package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/sqlite"
)

// open opens a store, which has to be there already unless it is to be made:
// a name with a typing error is not an empty queue.
func open(ctx context.Context, target, schema string, create bool) (consign.Store, func() error, error) {
	kind, name, _ := strings.Cut(target, ":")
	switch {
	case kind == "sqlite" && name != "":
		return openSQLite(ctx, name, create)
	case kind == "postgres" || kind == "postgresql":
		if strings.HasPrefix(name, "//") {
			name = target
		}
		return openPostgres(ctx, name, schema, create)
	case target == "":
		return nil, nil, errors.New("which store? give -store sqlite:PATH or -store postgres:DSN, or set CONSIGN_STORE")
	}
	return nil, nil, fmt.Errorf("-store does not begin with sqlite: or postgres: give sqlite:PATH or postgres:DSN")
}

func openSQLite(ctx context.Context, path string, create bool) (consign.Store, func() error, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil, fmt.Errorf("there is no file %s: name the queue's file, or make one with consign migrate", path)
	}
	store, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if errors.Is(err, sqlite.ErrInUse) {
		return nil, nil, fmt.Errorf("a coordinator, or another consign, has %s open, and a file serves one process at a time: stop it first, or read the file with sqlite3: %w", path, err)
	}
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

func openPostgres(ctx context.Context, dsn, schema string, create bool) (consign.Store, func() error, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	there := create
	if !create {
		err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'jobs')", schema).Scan(&there)
	}
	if err == nil && !there {
		err = fmt.Errorf("there is no queue in the schema %q: name it with -schema, or make one with consign migrate", schema)
	}
	var store *postgres.Store
	if err == nil {
		store, err = postgres.New(ctx, pool, postgres.Config{Schema: schema})
	}
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return store, func() error { pool.Close(); return nil }, nil
}
