package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/transport/longpoll"
)

// queue is the coordinator, and what is known of it.
type queue struct {
	*client.Client
	keyring  *client.Keyring
	identity *sign.Identity
	key      sign.PublicKey
}

// open dials the coordinator and makes sure of its key.
func (o *options) open(ctx context.Context) (*queue, error) {
	token, err := o.token()
	if err != nil {
		return nil, err
	}
	api, _, err := longpoll.Dial(longpoll.DialConfig{URL: o.coordinator, Token: token, Client: reachable(o.coordinator)})
	if err != nil {
		return nil, cli.FieldError("coordinator", fmt.Sprintf("is %.200q", o.coordinator), "give a URL like https://queue.example.com, without a query or a password")
	}
	if o.dir == "" {
		return nil, cli.FieldError("dir", "is empty", "name a folder")
	}
	q := &queue{}
	if q.keyring, err = client.OpenKeyring(o.dir); err != nil {
		return nil, err
	}
	if q.identity, err = q.keyring.Identity(); err != nil {
		return nil, err
	}
	if q.key, err = o.queuePublicKey(ctx, api); err != nil {
		return nil, err
	}
	q.Client, err = client.New(client.Config{API: api, QueueKey: q.key, Keyring: q.keyring, Identity: q.identity})
	return q, err
}

func (o *options) token() (string, error) {
	if o.tokenFile == "" {
		return "", nil
	}
	data, err := cli.ReadFile("token-file", o.tokenFile)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, " \n\t") {
		return "", cli.FieldError("token-file", "does not hold one token", "put the token in it that the queue's owner gave you, and nothing else")
	}
	return token, nil
}

// queuePublicKey returns the key that was given, or else the one that answered
// at this address first. It returns a *consign.FieldError where another answers
// now.
func (o *options) queuePublicKey(ctx context.Context, api consign.SubmitterAPI) (key sign.PublicKey, err error) {
	if o.queueKey != "" {
		if err = key.UnmarshalText([]byte(o.queueKey)); err != nil {
			return key, cli.FieldError("queue-key", "is no key: "+err.Error(), "give what the coordinator printed as queue-key")
		}
		return key, nil
	}
	path := filepath.Join(o.dir, "queues", url.QueryEscape(strings.TrimSuffix(o.coordinator, "/")))
	pinned, err := os.ReadFile(path)
	if err == nil {
		if err = key.UnmarshalText([]byte(strings.TrimSpace(string(pinned)))); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
		if err != nil {
			return key, err
		}
		return key, sameKey(ctx, api, key, path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	keys, err := ask(ctx, api)
	if err != nil {
		return key, err
	}
	if err := key.UnmarshalText([]byte(keys.QueueKey)); err != nil {
		return key, fmt.Errorf("the queue's key: %w", err)
	}
	fmt.Fprintf(os.Stderr, "queue %s, seen for the first time, is trusted from now on; -queue-key takes the risk away\n", key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return key, err
	}
	return key, os.WriteFile(path, []byte(key.String()+"\n"), 0o600)
}

// ask waits for the coordinator as long as a Client does.
func ask(ctx context.Context, api consign.SubmitterAPI) (consign.Keys, error) {
	c, err := client.New(client.Config{API: api, Unverified: true})
	if err != nil {
		return consign.Keys{}, err
	}
	return c.Keys(ctx)
}

// sameKey refuses a queue that is not the one that was pinned.
func sameKey(ctx context.Context, api consign.SubmitterAPI, pinned sign.PublicKey, path string) error {
	keys, err := ask(ctx, api)
	if err != nil {
		return err
	}
	if keys.Queue != consign.QueueIDOf(pinned) {
		return &consign.FieldError{Field: "-coordinator", Problem: fmt.Sprintf("answers with the key %s, and was %s before", cli.Printable(keys.QueueKey), pinned),
			Remedy: "ask the queue's owner, by another way than the queue, whether that is so; then remove " + path}
	}
	return nil
}
