package client_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

const promptsFile = "../../shared/data/prompts/tiered_prompts.jsonl.gz"

// readPrompts reads the real prompts beside the repository.
func readPrompts(t *testing.T) (prompts []string) {
	t.Helper()
	f, err := os.Open(promptsFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there: the shared folder belongs beside the repository", promptsFile)
	}
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct{ Prompt string }
		check(t, json.Unmarshal(lines.Bytes(), &row))
		prompts = append(prompts, row.Prompt)
	}
	check(t, lines.Err())
	return prompts
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// watchedStore keeps a copy of every byte and text that is written to a store.
type watchedStore struct {
	consign.Store
	mu      sync.Mutex
	written bytes.Buffer
}

func (s *watchedStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	s.mu.Lock()
	gather(&s.written, reflect.ValueOf(changes))
	s.mu.Unlock()
	return s.Store.Apply(ctx, changes)
}

func (s *watchedStore) text() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.written.Bytes())
}

// gather writes what is text or bytes in a value.
func gather(b *bytes.Buffer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			gather(b, v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			gather(b, v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			for i := range v.Len() {
				b.WriteByte(byte(v.Index(i).Uint()))
			}
			b.WriteByte(0)
			return
		}
		for i := range v.Len() {
			gather(b, v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			gather(b, k)
			gather(b, v.MapIndex(k))
		}
	case reflect.String:
		b.WriteString(v.String())
		b.WriteByte(0)
	}
}

// window is as much of a prompt as cannot be anywhere by chance.
const window = 16

// traces finds prompts in what they must not be in: any 31 bytes of one in a
// row hold one of these windows.
type traces map[[window]byte]bool

func tracesOf(prompts []string) traces {
	all := traces{}
	for _, p := range prompts {
		for i := 0; i+window <= len(p); i += window {
			w := [window]byte([]byte(p[i : i+window]))
			if distinct(w) >= 8 { // not a ruler, which a log may draw too
				all[w] = true
			}
		}
	}
	return all
}

func distinct(w [window]byte) int {
	seen := map[byte]bool{}
	for _, b := range w {
		seen[b] = true
	}
	return len(seen)
}

// in returns the first trace that is in b, "" if there is none.
func (t traces) in(b []byte) string {
	for i := 0; i+window <= len(b); i++ {
		if t[[window]byte(b[i:i+window])] {
			return string(b[i : i+window])
		}
	}
	return ""
}

// promptWorld is a queue, its vault, a worker and a client, all of whose files
// are in one folder.
type promptWorld struct {
	dir    string
	store  *watchedStore
	log    lockedBuffer
	client *client.Client
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.Buffer.Bytes())
}

func newPromptWorld(t *testing.T) *promptWorld {
	w := &promptWorld{dir: t.TempDir(), store: &watchedStore{Store: memdb.New()}}
	t.Setenv("TMPDIR", w.dir)
	logger := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keys, err := vault.Open(filepath.Join(w.dir, "vault"), vault.NewKEK(), vault.Config{})
	check(t, err)
	t.Cleanup(func() { check(t, keys.Close()) })
	identity := sign.Generate()
	q, err := consign.New(consign.Config{Store: w.store, Vault: keys, Identity: identity, Logger: logger})
	check(t, err)
	runner, err := worker.New(worker.Config{API: q, Identity: sign.Generate(), Slots: 4, Logger: logger,
		Executors:    map[string]worker.Executor{consign.KindInference: worker.ExecutorFunc(hashInput)},
		Capabilities: consign.Capabilities{Models: []string{"*"}}})
	check(t, err)
	ring, err := client.OpenKeyring(filepath.Join(w.dir, "keyring"))
	check(t, err)
	w.client, err = client.New(client.Config{API: q.Submitter("acme"), QueueKey: identity.Public(), Keyring: ring})
	check(t, err)
	queueing, stopQueue := context.WithCancel(context.Background())
	working, stopWorker := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = q.Run(queueing) })
	worked := make(chan struct{})
	go func() { _ = runner.Run(working); close(worked) }()
	t.Cleanup(func() {
		stopWorker()
		<-worked
		stopQueue()
		running.Wait()
	})
	return w
}

const refuseThis = "This prompt is refused, and by no means to be read in a reason: "

// hashInput says the prompt aloud wherever an executor may say something.
func hashInput(_ context.Context, t *worker.Task) (worker.Output, error) {
	t.Log(string(t.Payload))
	t.Part(t.Payload[:len(t.Payload)/2])
	t.Progress(string(t.Payload))
	if bytes.HasPrefix(t.Payload, []byte(refuseThis)) {
		return worker.Output{}, fmt.Errorf("%w: %s", worker.ErrPayload, t.Payload)
	}
	sum := sha256.Sum256(t.Payload)
	return worker.Output{Result: []byte(hex.EncodeToString(sum[:]) + string(t.Payload))}, nil
}

func (w *promptWorld) request(prompt string) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: consign.KindInference, Model: "m", Payload: []byte(prompt), Comparator: "exact"}
}

// places are all that the prompts must not be in.
func (w *promptWorld) places(t *testing.T) map[string][]byte {
	t.Helper()
	places := map[string][]byte{"the store": w.store.text(), "the log": w.log.text()}
	read := func(path string) {
		data, err := os.ReadFile(path)
		check(t, err)
		places[path] = data
	}
	check(t, filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			read(path)
		}
		return err
	}))
	// And whatever file this process has open elsewhere, where the system says.
	open, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range open {
		info, err := os.Stat(fd)
		if target, _ := os.Readlink(fd); err == nil && info.Mode().IsRegular() && filepath.IsAbs(target) && !strings.HasPrefix(target, w.dir) {
			read(fd)
		}
	}
	return places
}

// Every real prompt, sealed, run and opened: each in its tier, and none of them
// in the store, the log, or any file, although the executor repeats them in all
// that it says.
func TestRealPromptsSealed(t *testing.T) {
	prompts := readPrompts(t)
	w := newPromptWorld(t)
	var tiers [consign.MaxTier + 1]int
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, prompt := range prompts {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			res, err := w.client.Run(t.Context(), w.request(prompt))
			sum := sha256.Sum256([]byte(prompt))
			if err != nil || string(res.Output) != hex.EncodeToString(sum[:])+prompt {
				t.Errorf("%.40q came back as %.40q: %v", prompt, res.Output, err)
			}
			mu.Lock()
			tiers[res.Tier]++
			mu.Unlock()
		})
	}
	all.Wait()
	refused := refuseThis + strings.Repeat("a word and another, ", 10)
	var failed *client.JobError
	if _, err := w.client.Run(t.Context(), w.request(refused)); !errors.As(err, &failed) {
		t.Errorf("a prompt that is refused: %v", err)
	}
	if want := [...]int{0, 1883, 285, 167, 42}; tiers != want {
		t.Errorf("tiers are %v, want %v", tiers, want)
	}
	find := tracesOf(append(prompts, refused))
	searched := 0
	for place, data := range w.places(t) {
		searched += len(data)
		if found := find.in(data); found != "" {
			t.Errorf("%q is in %s", found, place)
		}
	}
	t.Logf("%d prompts, %d traces of them, looked for in %d bytes", len(prompts), len(find), searched)
}

// The search finds what it looks for: a job in plain is in the store, and what
// is written to a log or to a file is in there.
func TestRealPromptsAreFound(t *testing.T) {
	prompts := readPrompts(t)
	prompt := prompts[len(prompts)/2]
	find := tracesOf(prompts)
	for place, leak := range map[string]func(*promptWorld){
		"the store": func(w *promptWorld) {
			r := w.request(prompt)
			r.Custody = consign.CustodyPlain
			_, err := w.client.Run(t.Context(), r)
			check(t, err)
		},
		"the log": func(w *promptWorld) { slog.New(slog.NewTextHandler(&w.log, nil)).Info(prompt[20:60]) },
		"a file": func(w *promptWorld) {
			check(t, os.WriteFile(filepath.Join(w.dir, "leak"), []byte("x"+prompt[7:40]), 0o600))
		},
	} {
		t.Run(place, func(t *testing.T) {
			w := newPromptWorld(t)
			leak(w)
			found := 0
			for at, data := range w.places(t) {
				if find.in(data) != "" {
					t.Logf("found in %s", filepath.Base(at))
					found++
				}
			}
			if found != 1 {
				t.Errorf("found in %d places", found)
			}
		})
	}
}
