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
	"github.com/consignq/consign/examples/internal/pg"
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
	case target == "":
		return nil, nil, errors.New("which store? give -store sqlite:PATH or -store postgres:DSN, or set CONSIGN_STORE")
	}
	pool, ok, err := pg.Open(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, errors.New("-store does not begin with sqlite: or postgres: give sqlite:PATH or postgres:DSN")
	}
	return openPostgres(ctx, pool, schema, create)
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

func openPostgres(ctx context.Context, pool *pgxpool.Pool, schema string, create bool) (consign.Store, func() error, error) {
	c := postgres.Config{Schema: schema}
	there, err := postgres.Exists(ctx, pool, c)
	if err == nil && !there && !create {
		err = fmt.Errorf("there is no queue in the schema %q: name it with -schema, or make one with consign migrate", schema)
	}
	var store *postgres.Store
	if err == nil {
		store, err = postgres.New(ctx, pool, c)
	}
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return store, func() error { pool.Close(); return nil }, nil
}

// backup copies a file's queue, which a coordinator may have open meanwhile.
func backup(ctx context.Context, target, to string) error {
	kind, from, _ := strings.Cut(target, ":")
	if kind != "sqlite" || from == "" {
		return errors.New("backup is for -store sqlite:PATH: a database is backed up by its own means, such as pg_dump")
	}
	return sqlite.Backup(ctx, from, to)
}
