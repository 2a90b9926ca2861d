package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/sqlite"
)

// openStore opens what -store names, and counts what is done to it.
func openStore(ctx context.Context, name string, m *metrics, log *slog.Logger) (store consign.Store, close func(), err error) {
	kind, where, _ := strings.Cut(name, ":")
	switch {
	case name == "memdb":
		return &counted{memdb.New(), m}, func() {}, nil
	case kind == "sqlite" && where != "":
		s, err := sqlite.Open(ctx, sqlite.Config{Path: where, Logger: log})
		if err != nil {
			return nil, nil, err
		}
		return &counted{s, m}, func() { complain(log, "store", s.Close()) }, nil
	case kind == "postgres" && where != "":
		pool, err := pgxpool.New(ctx, where)
		if err != nil {
			return nil, nil, err
		}
		s, err := postgres.New(ctx, pool, postgres.Config{})
		if err != nil {
			pool.Close()
			return nil, nil, err
		}
		return &countedShared{counted{s, m}, s}, pool.Close, nil
	}
	return nil, nil, cli.FieldError("store", "is "+storeKind(name), "say memdb, sqlite:PATH or postgres:DSN, as in postgres:postgres://user@host/database")
}

// storeKind is the part of -store that is no secret.
func storeKind(name string) string {
	kind, _, _ := strings.Cut(name, ":")
	return kind
}
