package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign/internal/testkit/pgtest"
)

func hash(b []byte) [32]byte { return sha256.Sum256(b) }

// secured is a deployment over TLS whose accounts acme and bob have tokens.
type secured struct {
	*deployment
	cert, key, tokens string
	client            *http.Client
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{deployment: newDeployment(t, "memdb")}
	at := func(name string) string { return filepath.Join(s.dir, name) }
	s.cert, s.key, s.tokens = at("cert.pem"), at("key.pem"), at("tokens")
	pool := x509.NewCertPool()
	pool.AddCert(s.certify(1))
	tokens := fmt.Sprintf("acme %x\nbob %x\n", hash([]byte("token-of-acme")), hash([]byte("token-of-bob")))
	s.write(s.tokens, []byte(tokens))
	s.write(at("acme.token"), []byte("token-of-acme\n"))
	s.env = []string{"SSL_CERT_FILE=" + s.cert}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: patience}
	return s
}

func (s *secured) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// certify writes a new certificate, with its key, and returns it.
func (s *secured) certify(serial int64) *x509.Certificate {
	s.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "consign test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		s.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(s.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.write(s.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		s.t.Fatal(err)
	}
	return certificate
}

// ask makes a request of an account, and returns the answer.
func (s *secured) ask(account, method, path string, in []byte) (int, http.Header, []byte) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url()+path, bytes.NewReader(in))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if account != "" {
		r.Header.Set("Authorization", "Bearer token-of-"+account)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// commit submits a job of acme and returns its ID.
func (s *secured) commit(text string) string {
	s.t.Helper()
	in, err := json.Marshal(map[string]any{"job_type": "TASK", "payload": map[string]string{"task": "classify", "text": text}})
	if err != nil {
		s.t.Fatal(err)
	}
	status, _, body := s.ask("acme", http.MethodPost, "/v1/jobs/commit/cheap", in)
	var job struct {
		Job string `json:"job_id"`
	}
	if err := json.Unmarshal(body, &job); err != nil || status != http.StatusCreated {
		s.t.Fatalf("commit: %d %v: %.300s", status, err, body)
	}
	return job.Job
}

// Accounts see their own jobs alone, over TLS, and each has its own rate.
func TestTokensAndRates(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	const burst = 15
	s.coordinator("-tokens", s.tokens, "-tls-cert", s.cert, "-tls-key", s.key, "-rate", "0.0001", "-burst", strconv.Itoa(burst))
	s.address = "https://" + s.gate.target.Load().(string)
	s.worker("worker-1")
	id := s.commit("a text")
	for account, want := range map[string]int{"acme": http.StatusOK, "bob": http.StatusNotFound, "": http.StatusUnauthorized, "nobody": http.StatusUnauthorized} {
		if status, _, body := s.ask(account, http.MethodGet, "/v1/jobs/"+id+"?wait=60s", nil); status != want {
			t.Errorf("%q gets %d, not %d: %.200s", account, status, want, body)
		} else if account == "acme" && !bytes.Contains(body, []byte(`"completed"`)) {
			t.Errorf("the job is %.300s", body)
		}
	}
	for n := 3; ; n++ { // acme has made two
		status, header, body := s.ask("acme", http.MethodGet, "/v1/jobs/"+id, nil)
		if n <= burst && status == http.StatusOK {
			continue
		}
		if after, err := strconv.Atoi(header.Get("Retry-After")); n != burst+1 || status != http.StatusTooManyRequests || err != nil || after < 1 {
			t.Errorf("request %d of acme: %d, Retry-After %q: %.200s", n, status, header.Get("Retry-After"), body)
		}
		break
	}
	if status, _, _ := s.ask("bob", http.MethodGet, "/v1/quote?job_type=TASK&policy=AUTO", nil); status != http.StatusOK {
		t.Errorf("bob gets %d when acme has had its share", status)
	}
}

// A token that was taken out of the file, and a certificate that was replaced,
// are so after a SIGHUP; a file that cannot be read changes nothing.
func TestAccessIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	p := s.coordinator("-tokens", s.tokens, "-tls-cert", s.cert, "-tls-key", s.key)
	s.address = "https://" + s.gate.target.Load().(string)
	trusted := s.client.Transport.(*http.Transport).TLSClientConfig
	gets := func(account string, want int, serial int64) {
		t.Helper()
		s.client.CloseIdleConnections()
		if status, _, body := s.ask(account, http.MethodGet, "/v1/quote?job_type=TASK&policy=AUTO", nil); status != want {
			t.Errorf("%s gets %d, not %d: %.200s", account, status, want, body)
		}
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.address, "https://"), trusted)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Int64() != serial {
			t.Errorf("certificate %v is shown, not %d", got, serial)
		}
	}
	reread := func(says string) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.said(says, 1)
	}
	gets("bob", http.StatusOK, 1)
	s.write(s.tokens, fmt.Appendf(nil, "acme %x\n", hash([]byte("token-of-acme"))))
	trusted.RootCAs.AddCert(s.certify(2))
	reread("were read again, and are used")
	gets("bob", http.StatusUnauthorized, 2)
	gets("acme", http.StatusOK, 2)
	s.write(s.tokens, []byte("acme\n"))
	s.certify(3)
	reread("were read again, and are not used")
	gets("acme", http.StatusOK, 2)
}

// A coordinator that cannot know yet whether its store is its own is not ready,
// and does not say where it is.
func TestReadyOnceItServes(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "memdb")
	d.store = "postgres:" + pgtest.Private(t, "fsync = off").DSN
	_ = d.coordinator().stop(syscall.SIGTERM)
	db, err := pgx.Connect(t.Context(), strings.TrimPrefix(d.store, "postgres:"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	if _, err := db.Exec(t.Context(), "BEGIN; LOCK TABLE consign.docs IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, "coordinator", "-listen", at, "-store", d.store, "-dir", filepath.Join(d.dir, "coordinator"))
	ready := func() int {
		t.Helper()
		for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			resp, err := http.Get("http://" + at + "/readyz") //nolint:noctx
			if err == nil {
				_ = resp.Body.Close()
				return resp.StatusCode
			}
			if time.Now().After(limit) {
				t.Fatal(err)
			}
		}
	}
	if status := ready(); status != http.StatusServiceUnavailable || strings.Contains(p.stderr.all(), "serving") {
		t.Errorf("before the store has answered /readyz is %d:\n%s", status, p.stderr.tail())
	}
	if _, err := db.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	p.line("url ")
	if status := ready(); status != http.StatusOK {
		t.Errorf("after it /readyz is %d", status)
	}
}

// block returns the one block of a page in a language that has the text.
func block(t *testing.T, language, with string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllSubmatch(page, -1) {
		if bytes.Contains(m[1], []byte(with)) {
			found = append(found, string(m[1]))
		}
	}
	if len(found) != 1 {
		t.Fatalf("docs/deploy.md has %d blocks of %s with %q", len(found), language, with)
	}
	return found[0]
}

// put replaces each of the texts, which have to be there, by the one behind it.
func put(t *testing.T, in string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(in, pairs[i]) {
			t.Fatalf("docs/deploy.md: there is no %q in\n%s", pairs[i], in)
		}
		in = strings.ReplaceAll(in, pairs[i], pairs[i+1])
	}
	return in
}

// The page's configurations of reverse proxies let through all that there is:
// long polls, events as they happen, WebSocket, large bodies.
func TestReverseProxies(t *testing.T) {
	for name, configure := range map[string]func(s *secured, port, to string) (args []string){
		"nginx": func(s *secured, port, to string) []string {
			conf := put(t, block(t, "nginx", "server_name"), "443", port, "queue.example.com", "localhost", "/etc/ssl/queue.pem", s.cert, "/etc/ssl/queue.key", s.key, "127.0.0.1:8080", to)
			file := filepath.Join(s.dir, "nginx.conf")
			whole := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				whole += kind + "_temp_path " + filepath.Join(s.dir, kind) + ";\n"
			}
			if err := os.WriteFile(file, []byte(whole+conf+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"-p", s.dir, "-e", "stderr", "-c", file}
		},
		"caddy": func(s *secured, port, to string) []string {
			conf := put(t, block(t, "caddy", "reverse_proxy"), "queue.example.com {", "localhost:"+port+" {\n    tls "+s.cert+" "+s.key, "127.0.0.1:8080", to)
			file := filepath.Join(s.dir, "Caddyfile")
			if err := os.WriteFile(file, []byte("{\n    admin off\n    auto_https disable_redirects\n}\n"+conf), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"run", "--adapter", "caddyfile", "--config", file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skipf("there is no %s", name)
			}
			s := newSecured(t)
			port := freePort(t)
			s.address = "https://localhost:" + port
			s.coordinator("-tokens", s.tokens, "-origin", s.address, "-proxy", "127.0.0.1")
			args := configure(s, port, s.gate.target.Load().(string))
			startIn(t, nil, path, args...)
			s.through()
		})
	}
}

// freePort returns a port for a program that cannot choose one itself. It is
// below those that the system gives to whoever asks for any.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(20_000))
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(10_000 + int(n.Int64()))
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// through checks what a proxy has to let through.
func (s *secured) through() {
	t := s.t
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := s.client.Get(s.address + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Now().After(limit) {
			t.Fatalf("the proxy does not answer: %v, %v", resp, err)
		}
	}
	large := s.commit(strings.Repeat("A word. ", 400_000)) // 3.2 MB, more than a task may have: it is only to arrive
	if status, _, body := s.ask("acme", http.MethodDelete, "/v1/jobs/"+large, nil); status != http.StatusOK {
		t.Errorf("cancel: %d %.300s", status, body)
	}
	id := s.commit("a text")

	// The first event comes while the job waits, as no worker is there.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.address+"/v1/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token-of-acme")
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	for line := ""; line != "event: submit\n"; {
		if line, err = events.ReadString('\n'); err != nil {
			t.Fatalf("the first event does not come: %q, %v", line, err)
		}
	}

	// A worker by either way; a submitter's long poll.
	ws := s.worker("worker-ws")
	for _, worker := range []string{"ws", "http"} {
		if worker == "http" {
			if err := ws.stop(syscall.SIGTERM); err != nil {
				t.Errorf("a worker, told to end: %v", err)
			}
			s.worker("worker-http", "-transport", "http")
		}
		job := s.commit("a text for " + worker)
		if status, _, body := s.ask("acme", http.MethodGet, "/v1/jobs/"+job+"?wait=100s", nil); status != http.StatusOK || !bytes.Contains(body, []byte(`"completed"`)) {
			t.Errorf("by %s a job is %d %.300s", worker, status, body)
		}
	}
	if rest, err := io.ReadAll(events); err != nil || !bytes.Contains(rest, []byte("event: end")) {
		t.Errorf("the events end with %.300q, %v", rest, err)
	}
	p := s.submit("-token-file", filepath.Join(s.dir, "acme.token"), "-task", "classify", "../README.md")
	if out, err := p.wait(); err != nil || !strings.HasPrefix(out, `{"task":"classify"`) {
		t.Errorf("submit: %v: %.200s\n%s", err, out, p.stderr.tail())
	}
}

// The page's units are right, as far as systemd can tell.
func TestUnits(t *testing.T) {
	t.Parallel()
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"consign-coordinator.service": "coordinator", "consign-worker@1.service": "worker"} {
		unit := put(t, block(t, "ini", "/"+strings.ReplaceAll(name, "1", "")), "/usr/local/bin/"+program, filepath.Join(bin, program))
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), verify, "verify", "--recursive-errors=no", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
