package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/lp"
)

// Keyring is what a submitter must not lose, and nobody else may have: the keys
// of its open jobs, whom it pinned, and the latest that it saw of each. Without
// the keys of a job its result cannot be opened, by anyone.
//
// On disk every fact is a file of its own that appears whole, and no two
// processes have to agree to change one: so there is no lock, several processes
// may use one keyring, and what a job costs does not grow with their number.
// The files are not encrypted, and a deleted one may be recovered from a disk.
//
// It may be used from many goroutines.
type Keyring struct{ shelf shelf }

// NewKeyring returns a keyring in memory: what is open when the process ends
// cannot be collected any more.
func NewKeyring() *Keyring { return &Keyring{&memory{m: make(map[string][]byte)}} }

// OpenKeyring returns the keyring in a folder, which it makes if there is none.
// It wraps ErrKeyring if other users can read it.
func OpenKeyring(dir string) (*Keyring, error) {
	s, err := openFolder(dir, "identity", "pins", "bundles", "vaults", "jobs")
	if err != nil {
		return nil, fmt.Errorf("client: keyring: %w", err)
	}
	return &Keyring{s}, nil
}

// The names of what is kept.
const identityName = "identity/key"

func pinName(fingerprint string) string { return "pins/" + fingerprint }
func bundleName(worker consign.WorkerID, seq int64) string {
	return fmt.Sprintf("bundles/%s-%d", worker, seq)
}
func vaultName(queue consign.QueueID) string { return "vaults/" + queue.String() }
func jobName(id consign.JobID) string        { return "jobs/" + id.String() }

// Identity returns the ed25519 identity of the keyring, by which workers know
// the submitter of PRIVATE jobs. It is made on the first call.
func (k *Keyring) Identity() (*sign.Identity, error) {
	id := sign.Generate()
	der, err := id.Bytes()
	if err == nil {
		err = k.shelf.create(identityName, der)
	}
	if errors.Is(err, fs.ErrExist) {
		if der, err = k.shelf.read(identityName); err == nil {
			id, err = sign.ParseIdentity(der)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("client: keyring: identity: %w", err)
	}
	return id, nil
}

var fingerprint = regexp.MustCompile(`^[A-Z2-7]{32}$`)

// Pin trusts the worker whose signing key has this fingerprint with what is
// sealed to it, from now on. Pin only what you compared with the worker's owner
// by another way than the queue; see sign.PublicKey.Fingerprint. It returns a
// *consign.FieldError for what is no fingerprint.
func (k *Keyring) Pin(fp string) error {
	if !fingerprint.MatchString(fp) {
		return &consign.FieldError{Field: "fingerprint", Problem: fmt.Sprintf("is %.80q", fp), Remedy: "give the 32 letters and digits that the worker's owner sees"}
	}
	if err := k.shelf.create(pinName(fp), nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("client: keyring: %w", err)
	}
	return nil
}

// Unpin ends that. What was sealed to the worker before stays so.
func (k *Keyring) Unpin(fp string) error {
	if !fingerprint.MatchString(fp) {
		return nil // none such was pinned
	}
	if err := k.shelf.remove(pinName(fp)); err != nil {
		return fmt.Errorf("client: keyring: %w", err)
	}
	return nil
}

// Pins returns the fingerprints that are pinned.
func (k *Keyring) Pins() ([]string, error) { return k.list("pins") }

func (k *Keyring) list(part string) ([]string, error) {
	names, err := k.shelf.list(part)
	if err != nil {
		return nil, fmt.Errorf("client: keyring: %w", err)
	}
	return names, nil
}

// highest returns the highest seq that was seen of a worker's key bundles, 0
// if none was.
func (k *Keyring) highest(worker consign.WorkerID) (int64, error) {
	names, err := k.list("bundles")
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, name := range names {
		id, number, _ := strings.Cut(name, "-")
		if id != worker.String() {
			continue
		}
		seq, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: bundles/%s does not end with a number", ErrKeyring, name)
		}
		highest = max(highest, seq)
	}
	return highest, nil
}

// saw notes a seq above the highest so far. The number is in the name: a
// process that comes late adds a lower one, and takes none back.
func (k *Keyring) saw(worker consign.WorkerID, seq, highest int64) error {
	err := k.shelf.create(bundleName(worker, seq), nil)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("client: keyring: %w", err)
	}
	if highest > 0 {
		_ = k.shelf.remove(bundleName(worker, highest)) // tidiness: the higher one holds
	}
	return nil
}

// PinVault trusts a key as that of a queue's vault, in the place of the one
// before. Without it the first key that the queue names is trusted.
func (k *Keyring) PinVault(queue consign.QueueID, key seal.PublicKey) error {
	text, err := key.MarshalText()
	if err == nil {
		err = k.shelf.replace(vaultName(queue), text)
	}
	if err != nil {
		return fmt.Errorf("client: keyring: vault: %w", err)
	}
	return nil
}

// trustVault checks the key that a queue names as its vault's. It wraps
// ErrVaultChanged.
func (k *Keyring) trustVault(queue consign.QueueID, key seal.PublicKey) error {
	name := vaultName(queue)
	text, err := k.shelf.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = k.shelf.create(name, []byte(key.String())); err == nil {
			return nil
		}
		if errors.Is(err, fs.ErrExist) { // another was first
			text, err = k.shelf.read(name)
		}
	}
	if err != nil {
		return fmt.Errorf("client: keyring: vault: %w", err)
	}
	var pinned seal.PublicKey
	if err := pinned.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrKeyring, name, err)
	}
	if !pinned.Equal(key) {
		return fmt.Errorf("%w: it was %s and is %s; ask the queue's owner, by another way than the queue, whether that is so, and then call Keyring.PinVault",
			ErrVaultChanged, pinned.Fingerprint(), key.Fingerprint())
	}
	return nil
}

// Jobs returns the jobs whose keys are here: sealed, and not acknowledged.
func (k *Keyring) Jobs() ([]consign.JobID, error) {
	names, err := k.list("jobs")
	if err != nil {
		return nil, err
	}
	ids := make([]consign.JobID, len(names))
	for i, name := range names {
		if ids[i], err = consign.ParseJobID(name); err != nil {
			return nil, fmt.Errorf("%w: jobs/%s: %w", ErrKeyring, name, err)
		}
	}
	return ids, nil
}

// Forget removes the keys of a job. Its result cannot be opened afterwards.
// Client.Acknowledge does it.
func (k *Keyring) Forget(id consign.JobID) error {
	if err := k.shelf.remove(jobName(id)); err != nil {
		return fmt.Errorf("client: keyring: %w", err)
	}
	return nil
}

// openJob is what it takes to collect a sealed job, and until the queue has
// admitted it, to submit it.
type openJob struct {
	Format    string
	Kind      string
	Model     string
	Custody   consign.Custody
	Header    []byte
	Input     []byte // consign.InputHash
	CEK       []byte
	ResultKey []byte // private, of this job alone
	Mark      []byte // of the payload in plain, see payloadMark
	// Workers are those that the key was wrapped to when sealed: nobody else can
	// have made the result.
	Workers []sign.PublicKey `json:",omitempty"`
	// Request is what to send, until the queue has admitted it. In a file its
	// payload follows the JSON.
	Request *consign.SubmitRequest `json:",omitempty"`

	// key is ResultKey parsed, where this process sealed the job: to parse it is
	// to compute its public half once more.
	key *seal.PrivateKey
}

// resultKey returns the key that opens the job's result. It wraps ErrKeyring.
func (j *openJob) resultKey(id consign.JobID) (*seal.PrivateKey, error) {
	if j.key != nil {
		return j.key, nil
	}
	key, err := seal.ParsePrivateKey(j.ResultKey)
	if err != nil {
		return nil, fmt.Errorf("%w: job %s: %w", ErrKeyring, id, err)
	}
	return key, nil
}

const jobFormat = "consign/keyring-job/v1"

// payloadMark tells whether two payloads under one key are the same.
func payloadMark(cek seal.CEK, payload []byte) []byte {
	sum := sha256.Sum256(lp.Append(nil, cek.Bytes(), payload))
	return sum[:]
}

func (j openJob) encode() ([]byte, error) {
	var payload []byte
	if j.Request != nil {
		r := *j.Request
		payload, r.Payload = r.Payload, nil
		j.Request = &r
	}
	head, err := json.Marshal(j)
	return append(append(head, '\n'), payload...), err
}

func decodeJob(data []byte) (*openJob, error) {
	head, payload, _ := bytes.Cut(data, []byte{'\n'})
	var j openJob
	if err := json.Unmarshal(head, &j); err != nil {
		return nil, err
	}
	if j.Format != jobFormat {
		return nil, fmt.Errorf("its format is %.80q, not %q", j.Format, jobFormat)
	}
	if len(j.Input) != sha256.Size {
		return nil, fmt.Errorf("its input hash has %d bytes", len(j.Input))
	}
	if j.Request != nil {
		j.Request.Payload = payload
	}
	return &j, nil
}

// add keeps a job's keys. It wraps fs.ErrExist if there are some.
func (k *Keyring) add(id consign.JobID, j *openJob) error {
	data, err := j.encode()
	if err == nil {
		err = k.shelf.create(jobName(id), data)
	}
	if err != nil {
		return fmt.Errorf("client: keyring: job %s: %w", id, err)
	}
	return nil
}

// submitted drops what was kept to submit the job.
func (k *Keyring) submitted(id consign.JobID, j *openJob) error {
	kept := *j
	kept.Request = nil
	data, err := kept.encode()
	if err == nil {
		err = k.shelf.replace(jobName(id), data)
	}
	if err != nil {
		return fmt.Errorf("client: keyring: job %s: %w", id, err)
	}
	return nil
}

// job returns the keys of a job. It wraps ErrNoKeys if there are none.
func (k *Keyring) job(id consign.JobID) (*openJob, error) {
	data, err := k.shelf.read(jobName(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: job %s: it was sealed elsewhere, acknowledged, or is plain, and then Wait and Verify get its result", ErrNoKeys, id)
	case err != nil:
		return nil, fmt.Errorf("client: keyring: job %s: %w", id, err)
	}
	j, err := decodeJob(data)
	if err != nil {
		return nil, fmt.Errorf("%w: job %s: %w", ErrKeyring, id, err)
	}
	return j, nil
}
