package vault_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
)

// A queue whose jobs' keys are in a file of their own, and the key that encrypts
// that file elsewhere.
func Example() {
	dir, err := os.MkdirTemp("", "vault")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	kek, err := vault.KEKFromFile(filepath.Join(dir, "kek")) // on another disk, if there is one
	if err != nil {
		log.Fatal(err)
	}
	store := memdb.New()
	keys, err := vault.Open(filepath.Join(dir, "vault"), kek, vault.Config{Store: store})
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()

	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	go keys.Run(ctx) // it sweeps
	queue, err := consign.New(consign.Config{Store: store, Vault: keys})
	if err != nil {
		log.Fatal(err)
	}
	go queue.Run(ctx)

	// What submitters wrap their jobs' keys to.
	key, err := keys.Key(ctx)
	if err != nil {
		log.Fatal(err)
	}
	to, err := seal.ParsePublicKey(key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(to.KEM())

	// Every now and then.
	if err := keys.RotateKEK(ctx, filepath.Join(dir, "kek")); err != nil {
		log.Fatal(err)
	}
	// Output: mlkem768-x25519
}
