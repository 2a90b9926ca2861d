package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/examples/internal/pg"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/store/postgres"
	"github.com/consignq/consign/store/sqlite"
	"github.com/consignq/consign/vault"
)

// database is what -store names. Where several coordinators may share it, it
// has the vault's keys as well.
type database struct {
	store consign.Store
	keys  vault.Storage // nil: the keys are in a folder of this coordinator's own
	close func()
}

// openStore opens what -store names, and counts what is done to it.
func openStore(ctx context.Context, name string, m *metrics, log *slog.Logger) (*database, error) {
	kind, where, _ := strings.Cut(name, ":")
	switch {
	case name == "memdb":
		return &database{store: &counted{memdb.New(), m}, close: func() {}}, nil
	case kind == "sqlite" && where != "":
		s, err := sqlite.Open(ctx, sqlite.Config{Path: where, Logger: log})
		if err != nil {
			return nil, err
		}
		return &database{store: &counted{s, m}, close: func() { complain(log, "store", s.Close()) }}, nil
	}
	pool, ok, err := pg.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, cli.FieldError("store", "is "+storeKind(name), "say memdb, sqlite:PATH or postgres:DSN, as in postgres://user@host/database")
	}
	s, err := postgres.New(ctx, pool, postgres.Config{Logger: log})
	if err != nil {
		pool.Close()
		return nil, err
	}
	keys, err := postgres.NewVault(ctx, pool, postgres.Config{})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &database{store: &countedShared{counted{s, m}, s, s}, keys: keys, close: pool.Close}, nil
}

// openVault opens the vault beside the store, with the key in the folder dir.
func openVault(ctx context.Context, db *database, dir string, log *slog.Logger) (*vault.Vault, error) {
	path := kekFile(dir)
	kek, err := vault.KEKFromFile(path)
	if err != nil {
		return nil, err
	}
	c := vault.Config{Store: db.store, Logger: log}
	if db.keys == nil {
		return vault.Open(filepath.Join(dir, "vault"), kek, c)
	}
	keys, err := vault.New(ctx, db.keys, kek, c)
	if errors.Is(err, vault.ErrKEK) {
		return nil, fmt.Errorf("%s is not the key of the vault in -store: copy vault.kek and identity.pem from the -dir of the coordinator that was there first: %w", path, err)
	}
	return keys, err
}

// storeKind is the part of -store that is no secret.
func storeKind(name string) string {
	kind, _, _ := strings.Cut(name, ":")
	return kind
}
