// Coordinator serves a queue over HTTP and WebSocket to workers and submitters
// elsewhere.
//
//	go run ./examples/coordinator -h
//
// Read it from here: main.go is the story, store.go and serve.go what it stands
// on, access.go who may come in, kek.go what makes the vault forget, metrics.go
// what it tells of itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/webhook"
)

const help = `coordinator serves a queue of AI jobs over HTTP and WebSocket, on one port: submitters send jobs, workers get
them.

  coordinator                                       a queue in memory, for this machine alone
  coordinator -store sqlite:queue.db                one that survives a restart
  coordinator -store postgres://host/db             one that others with the same identity.pem and vault.kek can serve as well
  coordinator -listen :8443 -tokens tokens -tls-cert cert.pem -tls-key key.pem -origin https://queue.example.com:8443

It prints its public key: submitters need it to verify what they get. SIGTERM makes it take in no more, wait for what
is under way, and end. SIGHUP makes it read -tokens, -tls-cert and -tls-key again, and vault.kek, which several coordinators
need to rotate it.`

type options struct {
	listen, store, dir, tokens, cert, key, metrics string
	lease, rotateKEK                               time.Duration
	rate                                           float64
	burst                                          int
	webhooks, anywhere, foreign                    bool
	origins, proxies                               cli.List
	log                                            *slog.Logger
	reread                                         <-chan os.Signal // SIGHUP
	access                                         *access
}

func main() { cli.Main("coordinator", run) }

func run(ctx context.Context, args []string) error {
	reread := make(chan os.Signal, 1) // before anything that takes long: by default a SIGHUP ends the process
	signal.Notify(reread, syscall.SIGHUP)
	defer signal.Stop(reread)
	o, err := parse(args)
	if err != nil {
		return err
	}
	o.reread = reread
	if err := o.checkAccess(); err != nil {
		return err
	}
	if o.access, err = o.openAccess(); err != nil {
		return err
	}
	closeDir, err := cli.OpenDir(o.dir)
	if err != nil {
		return err
	}
	defer func() { _ = closeDir() }()
	identity, err := sign.LoadOrCreate(filepath.Join(o.dir, "identity.pem"))
	if err != nil {
		return err
	}
	m := newMetrics()
	db, err := openStore(ctx, o.store, m, o.log)
	if err != nil {
		return err
	}
	defer db.close()
	keys, err := openVault(ctx, db, o.dir, o.log)
	if err != nil {
		return err
	}
	defer func() { complain(o.log, "vault", keys.Close()) }()
	queue, err := consign.New(consign.Config{Store: db.store, Identity: identity, Vault: keys, Webhooks: o.webhooks, Lease: o.lease, Logger: o.log})
	if err != nil {
		return err
	}
	sender, err := o.sender(db.store, identity, keys)
	if err != nil {
		return err
	}
	return o.work(ctx, queue, identity, keys, sender, m)
}

// sender returns what delivers webhooks, nil for nothing.
func (o *options) sender(store consign.Store, identity *sign.Identity, keys *vault.Vault) (*webhook.Sender, error) {
	switch {
	case !o.webhooks && o.anywhere:
		return nil, cli.FieldError("webhooks-anywhere", "is there, and -webhooks is not", "give both, or none")
	case !o.webhooks:
		return nil, nil
	}
	seed := func() []byte { return keys.Secret("webhook") }
	return webhook.New(webhook.Config{Store: store, Identity: identity, Seed: seed, AnyAddress: o.anywhere, Logger: o.log})
}

func parse(args []string) (o options, err error) {
	flags := cli.NewFlags("coordinator", help)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`ADDRESS` to serve; another than this machine's own needs -tokens")
	flags.StringVar(&o.store, "store", "memdb", "where the jobs are: memdb (gone with the process), sqlite:`PATH`, postgres://USER@HOST/DATABASE, or postgres: and another DSN")
	dir := flags.Dir("the identity and the vault")
	flags.StringVar(&o.tokens, "tokens", "", "`FILE` of accounts and the SHA-256 of their tokens; without it there is one account for everybody on this machine")
	flags.StringVar(&o.cert, "tls-cert", "", "`FILE` of the certificate; with -tls-key it is HTTPS")
	flags.StringVar(&o.key, "tls-key", "", "`FILE` of the certificate's key")
	flags.StringVar(&o.metrics, "metrics", "", "`ADDRESS` of a listener for Prometheus, at /metrics; none without it")
	flags.DurationVar(&o.lease, "lease", 30*time.Second, "how long a worker may be silent before its jobs go to another")
	flags.DurationVar(&o.rotateKEK, "rotate-kek", 0, "rotate the vault's key-encryption key when it starts and then so often, as in 24h, where no other coordinator has the vault; 0: never. Until then logs and backups of a database keep the keys that were destroyed")
	flags.Float64Var(&o.rate, "rate", 0, "how many requests a second each account may make; 0: as many as it likes")
	flags.IntVar(&o.burst, "burst", 20, "how many requests an account may make at once, under -rate")
	flags.BoolVar(&o.webhooks, "webhooks", false, "tell submitters of ended jobs at the URLs that they name, on public addresses")
	flags.BoolVar(&o.anywhere, "webhooks-anywhere", false, "call webhooks on private addresses, too: whoever may submit can then make this machine call anything that it can reach")
	flags.Var(&o.origins, "origin", "`URL` by which workers dial, as in https://queue.example.com; may be given several times; without it any is believed")
	flags.Var(&o.proxies, "proxy", "`ADDRESS` or network of a reverse proxy whose X-Forwarded-For is believed; may be given several times")
	flags.BoolVar(&o.foreign, "foreign", false, "let workers in that speak only the first protocol; they get jobs alone that anybody may read")
	logger := flags.Log()
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if err := flags.NoArgs(); err != nil {
		return o, err
	}
	if o.rotateKEK < 0 {
		return o, cli.FieldError("rotate-kek", "is negative", "give how often, as in 24h, or 0 for never")
	}
	o.dir = *dir
	o.log, err = logger()
	return o, err
}

// work runs all that the coordinator does, until ctx is done. The queue then
// drains, and what hands in results has to be served meanwhile: so the servers
// end after it.
func (o *options) work(ctx context.Context, queue *consign.Queue, identity *sign.Identity, keys *vault.Vault, sender *webhook.Sender, m *metrics) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var serves atomic.Bool
	ready := func() error {
		if !serves.Load() {
			return errors.New("it starts")
		}
		return ctx.Err()
	}
	handler, ws, err := o.handlers(ready, queue, identity, sender)
	if err != nil {
		return err
	}
	s, err := o.listenAll(handler, ws, m)
	if err != nil {
		return err
	}
	var servers, helpers sync.WaitGroup
	servers.Go(func() { cancel(s.serve()) })
	helpers.Go(func() { _ = keys.Run(ctx) }) // ends with ctx alone
	kek := make(chan struct{}, 1)
	helpers.Go(func() { o.access.tend(ctx, kek) })
	helpers.Go(func() {
		// A queue whose store turns out to be another's ends before it answers this.
		if _, err := queue.Submitter("").Explain(ctx, consign.JobID{}); errors.Is(err, consign.ErrClosed) || ctx.Err() != nil {
			return
		}
		serves.Store(true)
		o.greet(s, identity)
		o.tendKEK(ctx, kek, keys)
	})
	if sender != nil {
		helpers.Go(func() { _ = sender.Run(ctx) }) // likewise
	}
	helpers.Go(func() { <-ctx.Done(); o.log.Info("draining") })
	err = queue.Run(ctx)
	cancel(err)
	s.shutdown()
	servers.Wait()
	helpers.Wait()
	o.log.Info("ended")
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// greet tells what others have to know of this coordinator.
func (o *options) greet(s *servers, identity *sign.Identity) {
	o.log.Info("serving", "url", s.url(), "metrics", s.metricsURL(), "store", storeKind(o.store), "queue_key", identity.Public().String(), "fingerprint", identity.Public().Fingerprint())
	if o.tokens == "" {
		o.log.Warn("no -tokens: everybody on this machine is one account, and nobody else is let in")
	}
	if o.anywhere {
		o.log.Warn("-webhooks-anywhere: whoever may submit can make this machine call anything that it can reach")
	}
	if o.store == "memdb" {
		o.log.Warn("-store memdb: the jobs are gone when this process ends")
	}
	fmt.Printf("url %s\nqueue-key %s\n", s.url(), identity.Public())
	if s.lnm != nil {
		fmt.Printf("metrics %s\n", s.metricsURL())
	}
}

func complain(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Error("cannot close", "what", what, "error", err)
	}
}
