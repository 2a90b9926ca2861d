package client

import "errors"

// What is refused before anything is sent, or believed; test with errors.Is.
// Others are of packages consign and seal.
var (
	// ErrNotPinned: the queue names no worker that was pinned. Compare the
	// fingerprint that the error names with the worker's owner, and call
	// Keyring.Pin.
	ErrNotPinned = errors.New("client: no worker is pinned")
	// ErrNoIdentity: a PRIVATE job needs a submitter that workers know. Set
	// Config.Identity.
	ErrNoIdentity = errors.New("client: no identity to sign a PRIVATE job with")
	// ErrVaultChanged: the queue names another key of its vault than before.
	ErrVaultChanged = errors.New("client: the vault's key has changed")
	// ErrOtherQueue: who answers is another queue than Config.QueueKey's.
	ErrOtherQueue = errors.New("client: another queue answers")
	// ErrNoKeys: the keyring has no keys of the job: it was sealed with another
	// keyring, has been acknowledged, or was not sealed by a Client at all.
	ErrNoKeys = errors.New("client: no keys of the job")
	// ErrKeyring: the keyring, or something in it, is refused.
	ErrKeyring = errors.New("client: bad keyring")
)
