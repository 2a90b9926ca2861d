package client_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// A whole program: a queue and a vault in memory, a worker, and a submitter. The
// payload is sealed before it leaves the submitter, and the result when it comes
// back: the queue has ciphertext. Between processes only the two API fields
// differ.
func Example() {
	keys, err := vault.NewMemory(vault.Config{})
	if err != nil {
		panic(err)
	}
	defer keys.Close()
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()

	identity := sign.Generate()
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity, Vault: keys})
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = queue.Run(ctx) })

	w, err := worker.New(worker.Config{
		API:      queue,
		Identity: sign.Generate(),
		Executors: map[string]worker.Executor{
			consign.KindTask: worker.ExecutorFunc(func(_ context.Context, t *worker.Task) (worker.Output, error) {
				return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
			}),
		},
	})
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = w.Run(ctx) })

	c, err := client.New(client.Config{API: queue.Submitter("acme"), QueueKey: identity.Public()})
	if err != nil {
		panic(err)
	}
	result, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("hello")})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, in custody %s, made by this worker: %t\n", result.Output, result.Acceptance.Custody, result.Record.WorkerID == w.ID())
	// Output: HELLO, in custody escrow, made by this worker: true
}

// shop is a queue in memory and a worker that is paired with the account acme
// and runs the PRIVATE jobs of one submitter.
type shop struct {
	queue    *consign.Queue
	queueKey sign.PublicKey
	worker   sign.PublicKey
	close    func()
}

func openShop(submitter *sign.Identity) *shop {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	s := &shop{close: func() { stop(); running.Wait() }}
	identity := sign.Generate()
	s.queueKey = identity.Public()
	workerIdentity := sign.Generate()
	s.worker = workerIdentity.Public()
	var err error
	if s.queue, err = consign.New(consign.Config{Store: memdb.New(), Identity: identity}); err != nil {
		panic(err)
	}
	running.Go(func() { _ = s.queue.Run(ctx) })
	w, err := worker.New(worker.Config{
		API:      s.queue,
		Identity: workerIdentity,
		Pinned:   func(key [32]byte) bool { return key == submitter.Public().ID() },
		Executors: map[string]worker.Executor{
			consign.KindTask: worker.ExecutorFunc(func(_ context.Context, t *worker.Task) (worker.Output, error) {
				t.Part([]byte("louder: "))
				return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
			}),
		},
	})
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = w.Run(ctx) })
	if err := s.queue.Pair(ctx, consign.Pairing{Account: "acme", Worker: w.ID()}); err != nil {
		panic(err)
	}
	for keys := (consign.Keys{}); len(keys.Workers) == 0; time.Sleep(time.Millisecond) { // until it has registered
		if keys, err = s.queue.Submitter("acme").Keys(ctx); err != nil {
			panic(err)
		}
	}
	return s
}

// A PRIVATE job is sealed to the workers that were pinned, so that neither the
// queue nor its owner can read it or what comes of it.
func ExampleClient_Run_private() {
	keyring := client.NewKeyring() // OpenKeyring keeps it on disk
	identity, err := keyring.Identity()
	if err != nil {
		panic(err)
	}
	s := openShop(identity)
	defer s.close()

	// The worker's owner read this out on the telephone.
	if err := keyring.Pin(s.worker.Fingerprint()); err != nil {
		panic(err)
	}
	c, err := client.New(client.Config{
		API: s.queue.Submitter("acme"), QueueKey: s.queueKey,
		Keyring: keyring, Identity: identity,
	})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	result, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("psst"), Privacy: consign.PrivacyPrivate})
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, custody %s; the queue has %d bytes of ciphertext\n", result.Output, result.Acceptance.Custody, len(result.Result))
	for piece, err := range c.Stream(ctx, result.ID) {
		fmt.Printf("%s: %s%v\n", piece.Kind, piece.Data, err)
	}
	// Output:
	// PSST, custody sealed; the queue has 1411 bytes of ciphertext
	// part: louder: <nil>
}

// What one process sealed, another one collects, with the keyring alone.
func ExampleClient_Collect() {
	home, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(home)
	open := func() *client.Keyring {
		keyring, err := client.OpenKeyring(filepath.Join(home, "keyring"))
		if err != nil {
			panic(err)
		}
		return keyring
	}
	first := open()
	identity, err := first.Identity()
	if err != nil {
		panic(err)
	}
	s := openShop(identity)
	defer s.close()
	ctx := context.Background()

	// One process submits, and ends.
	if err := first.Pin(s.worker.Fingerprint()); err != nil {
		panic(err)
	}
	c, err := client.New(client.Config{API: s.queue.Submitter("acme"), QueueKey: s.queueKey, Keyring: first, Identity: identity})
	if err != nil {
		panic(err)
	}
	if _, err := c.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("later"), Privacy: consign.PrivacyPrivate}); err != nil {
		panic(err)
	}

	// Another comes for what is open, and acknowledges it.
	second := open()
	c, err = client.New(client.Config{API: s.queue.Submitter("acme"), QueueKey: s.queueKey, Keyring: second, Acknowledge: true})
	if err != nil {
		panic(err)
	}
	jobs, err := second.Jobs()
	if err != nil {
		panic(err)
	}
	for _, id := range jobs {
		result, err := c.Collect(ctx, id)
		fmt.Printf("%s %v\n", result.Output, err)
	}
	jobs, err = second.Jobs()
	fmt.Println(len(jobs), "jobs left", err)
	// Output:
	// LATER <nil>
	// 0 jobs left <nil>
}
