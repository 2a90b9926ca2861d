package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/sqlite"
)

// A queue in a file. What it has acknowledged is there when it is opened again,
// by a queue with the same identity.
func Example() {
	dir, err := os.MkdirTemp("", "queue")
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()

	job := consign.NewJobID()
	for _, life := range []string{"first", "second"} {
		identity, err := sign.LoadOrCreate(filepath.Join(dir, "queue.key"))
		check(err)
		store, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "queue.db")})
		check(err)
		queue, err := consign.New(consign.Config{Store: store, Identity: identity})
		check(err)
		running, stop := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- queue.Run(running) }()

		acme := queue.Submitter("acme")
		if life == "first" {
			_, err = acme.Submit(ctx, consign.SubmitRequest{ID: job, Kind: consign.KindTask, Payload: []byte("hello"), Custody: consign.CustodyPlain})
			check(err)
		}
		info, err := acme.Get(ctx, job)
		check(err)
		fmt.Println(life, "life:", info.State)

		stop() // and close the store once the queue has ended
		<-ended
		check(store.Close())
	}
	// Output:
	// first life: queued
	// second life: queued
}
