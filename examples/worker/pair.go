package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/worker"
)

// pinned returns whose PRIVATE jobs the worker runs, after a pairing and with a
// pin where they were asked for.
func (o *options) pinned(ctx context.Context, c worker.Config) (map[string]bool, error) {
	path := filepath.Join(o.dir, "pins")
	pins, err := readPins(path)
	if err != nil {
		return nil, err
	}
	pin := o.pin
	if o.pair != "" {
		if pin, err = o.claim(ctx, c); err != nil {
			return nil, err
		}
	}
	if pin == "" {
		return pins, nil
	}
	return pins, addPin(path, pins, pin)
}

// claim claims a pairing code, and returns the fingerprint of the submitter
// whom a person recognised.
func (o *options) claim(ctx context.Context, c worker.Config) (string, error) {
	if o.pin == "" && !cli.IsTerminal(os.Stdin) {
		return "", cli.FieldError("pin", "is empty, and nobody can be asked", "give the fingerprint that the submitter's owner told you")
	}
	session, err := register(ctx, c)
	if err != nil {
		return "", err
	}
	if closer, ok := session.(io.Closer); ok {
		defer func() { _ = closer.Close() }() // nothing is under way
	}
	pairing, err := session.ClaimPairing(ctx, o.pair)
	if err != nil {
		return "", err
	}
	found := pairing.SubmitterFingerprint
	fmt.Printf("submitter %s\n", cli.Printable(found))
	switch {
	case o.pin == found:
		return found, nil
	case o.pin != "":
		return "", &consign.FieldError{Field: "-pin", Problem: "is not the fingerprint of who made the code", Remedy: "ask the submitter's owner by another way than the queue; do not go on if it stays so"}
	}
	fmt.Print("Is that the fingerprint that the submitter's owner told you, by another way than this queue? Type yes: ")
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // nothing is no yes
	if strings.TrimSpace(answer) != "yes" {
		return "", &consign.FieldError{Field: "-pair", Problem: "was not confirmed", Remedy: "nothing was pinned: ask for a new code, and compare"}
	}
	return found, nil
}

// register opens a session for the pairing alone. The worker's own comes after
// it, and takes its place.
func register(ctx context.Context, c worker.Config) (consign.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	challenge, err := c.API.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	key := c.Identity.Public()
	now := time.Now()
	envelope, err := seal.SignBundle(c.Identity, seal.Bundle{Worker: key.ID(), Seq: now.UnixMicro(),
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), Keys: []seal.PublicKey{c.EncryptionKeys[0].Public()}})
	if err != nil {
		return nil, err
	}
	bundle, err := json.Marshal(envelope)
	if err != nil {
		return nil, err
	}
	r := consign.Registration{Algorithm: key.Algorithm(), PublicKey: key.Bytes(), Nonce: challenge.Nonce, KeyBundle: bundle, Capabilities: c.Capabilities}
	r.Origin = c.API.(interface{ Origin() string }).Origin() // as every dialer's
	r.Capabilities.Kinds, r.Capabilities.Slots = []string{consign.KindTask}, c.Slots
	if r.Signature, err = c.Identity.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, bundle)); err != nil {
		return nil, err
	}
	return c.API.Register(ctx, r)
}
