package postgres_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/postgres"
)

// A coordinator on a database. Others may run beside it, on the same schema and
// with the same identity.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://consign@db.example.com/consign")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := postgres.New(ctx, pool, postgres.Config{})
	if err != nil {
		log.Fatal(err)
	}
	identity, err := sign.LoadOrCreate("queue.key")
	if err != nil {
		log.Fatal(err)
	}
	queue, err := consign.New(consign.Config{Store: store, Identity: identity})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(queue.Run(ctx))
}
