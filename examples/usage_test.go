package examples_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// status is what a program that was called so ends with.
func status(t *testing.T, env []string, name string, args ...string) (code int, out, says string) {
	t.Helper()
	p := startIn(t, env, name, args...)
	out, err := p.wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, out, p.stderr.tail()
}

// What is wrong with a command line is told in a line that names the flag, and
// the exit status is 2.
func TestCommandLines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, batch, tokens, empty := file("text", "a text"), file("batch", `{"task":"sing","text":"a"}`), file("tokens", "acme"), file("empty", "")
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		says string // the flag, or what else is to be in stderr
		args []string
		env  []string
	}{
		{"-custody", []string{"submit", "-task", "classify", "-custody", "secret", text}, nil},
		{"-custody", []string{"submit", "-task", "classify", "-custody", "sealed", text}, nil},
		{"-task is missing", []string{"submit", text}, nil},
		{"-task is \"sing\"", []string{"submit", "-task", "sing", text}, nil},
		{"line 1: consign: -task is \"sing\"", []string{"submit", "-batch", batch}, nil},
		{"text is empty", []string{"submit", "-task", "classify", empty}, nil},
		{"do not name one file", []string{"submit"}, nil},
		{"do not name one file", []string{"submit", text, text}, nil},
		{"arguments hold", []string{"submit", "-batch", batch, text}, nil},
		{none, []string{"submit", "-task", "classify", none}, nil},
		{"-batch cannot be read", []string{"submit", "-batch", none}, nil},
		{"-token-file cannot be read", []string{"submit", "-task", "classify", "-token-file", none, text}, nil},
		{"-token-file does not hold", []string{"submit", "-task", "classify", "-token-file", empty, text}, nil},
		{"-queue-key", []string{"submit", "-task", "classify", "-queue-key", "x", text}, nil},
		{"-collect", []string{"submit", "-collect", "x"}, nil},
		{"-confirm", []string{"submit", "-pair"}, nil},
		{"-deadline", []string{"submit", "-deadline", "-1s", text}, nil},
		{"CONSIGN_DEADLINE", []string{"submit", text}, []string{"CONSIGN_DEADLINE=soon"}},
		{"-coordinator", []string{"submit", "-task", "classify", text}, []string{"CONSIGN_COORDINATOR=queue.example.com"}},
		{"-frob", []string{"submit", "-frob"}, nil},
		{"-transport", []string{"worker", "-transport", "smoke"}, nil},
		{"-slots", []string{"worker"}, []string{"CONSIGN_SLOTS=0"}},
		{"-max-tier", []string{"worker", "-max-tier", "5"}, nil},
		{"-log", []string{"worker", "-log", "xml"}, nil},
		{"arguments hold", []string{"worker", "now"}, nil},
		{"-origin is \"foo\"", []string{"coordinator", "-origin", "foo"}, nil},
		{"-origin", []string{"coordinator", "-origin", "https://queue.example.com/"}, nil},
		{"-listen", []string{"coordinator", "-listen", "foo"}, nil},
		{"-listen", []string{"coordinator"}, []string{"CONSIGN_LISTEN=:0"}},
		{"-proxy", []string{"coordinator", "-listen", "127.0.0.1:0", "-proxy", "me"}, nil},
		{"-tokens cannot be read", []string{"coordinator", "-listen", "127.0.0.1:0", "-tokens", none}, nil},
		{"-tokens cannot be read", []string{"coordinator", "-listen", "127.0.0.1:0", "-tokens", tokens}, nil},
		{"-tls-cert", []string{"coordinator", "-listen", "127.0.0.1:0", "-tls-cert", none, "-tls-key", none}, nil},
		{"-rotate-kek", []string{"coordinator", "-rotate-kek", "-1h"}, nil},
		{"-store is mysql", []string{"coordinator", "-store", "mysql:secret"}, nil},
		{"-store has no connection string", []string{"coordinator", "-store", "postgres:no equals sign"}, nil},
		{"-store has no connection string", []string{"coordinator"}, []string{"CONSIGN_STORE=postgres://host:port/db"}},
		{"-webhooks-anywhere", []string{"coordinator", "-listen", "127.0.0.1:0", "-webhooks-anywhere"}, nil},
	} {
		code, out, says := status(t, c.env, c.args[0], c.args[1:]...)
		if code != 2 || out != "" && c.args[0] != "coordinator" || !strings.Contains(says, c.says) || strings.Contains(says, "secret") && c.args[0] == "coordinator" {
			t.Errorf("%v %v: exit status %d, %q\n%s", c.env, c.args, code, out, says)
		}
	}
	if code, _, says := status(t, nil, "coordinator", "-listen", "127.0.0.1:0", "-metrics", "foo"); code != 1 || !strings.Contains(says, "-metrics: ") {
		t.Errorf("-metrics foo: exit status %d\n%s", code, says)
	}
}

// The help goes to stdout, names every flag and its variable's form, and shows
// nothing that the environment holds.
func TestHelp(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{
		"coordinator": {"-rotate-kek", "-store", "-origin", "SIGHUP", "CONSIGN_DIR"},
		"worker":      {"-identity", "-slots", "-pair", "CONSIGN_DIR"},
		"submit":      {"-webhook", "-deadline", "Exit status", "CONSIGN_DIR"},
		"consign":     {"backup FILE", "-store", "CONSIGN_STORE"},
	} {
		for _, flag := range []string{"-h", "--help"} {
			code, out, says := status(t, []string{"CONSIGN_STORE=postgres://u:hunter2@host/db", "CONSIGN_TOKEN_FILE=hunter2"}, name, flag)
			if code != 0 || says != "" || strings.Contains(out, "hunter2") {
				t.Errorf("%s %s: exit status %d, %q\n%s", name, flag, code, says, out)
			}
			for _, want := range flags {
				if !strings.Contains(out, want) {
					t.Errorf("%s %s does not say %q:\n%s", name, flag, want, out)
				}
			}
		}
	}
}

// A flag comes from the environment, and the command line wins.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := []string{"CONSIGN_LISTEN=127.0.0.1:0", "CONSIGN_METRICS=127.0.0.1:0", "CONSIGN_DIR=" + filepath.Join(dir, "c"), "CONSIGN_LOG=json", "CONSIGN_STORE=mysql:x"}
	c := startIn(t, env, "coordinator", "-store", "memdb")
	url := c.line("url ")
	c.line("metrics ")
	c.said(`"msg":"serving"`, 1)
	identity := filepath.Join(dir, "worker.pem")
	w := startIn(t, []string{"CONSIGN_COORDINATOR=" + url, "CONSIGN_DIR=" + filepath.Join(dir, "w"), "CONSIGN_IDENTITY=" + identity}, "worker")
	name := w.line("worker ")
	w.said("working", 1)
	if _, err := os.Stat(identity); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "w", "identity.pem")); err == nil {
		t.Error("the worker has two identities")
	}
	code, out, says := status(t, []string{"CONSIGN_COORDINATOR=" + url, "CONSIGN_TASK=sing"}, "submit", "-task", "classify", "../README.md")
	if code != 0 || !strings.HasPrefix(out, `{"task":"classify"`) || !strings.Contains(says, name) {
		t.Errorf("submit: exit status %d, %.200q\n%s", code, out, says)
	}
}

// A coordinator that listens everywhere says where it is dialled.
func TestURLOfEverywhere(t *testing.T) {
	t.Parallel()
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "coordinator", "-listen", ":0", "-tokens", tokens, "-origin", "https://queue.example.com:8443")
	if url := p.line("url "); url != "https://queue.example.com:8443" {
		t.Errorf("it is at %s", url)
	}
}

// The queue's own refusals end with 1, and name what this program calls it.
func TestSubmitRefused(t *testing.T) {
	t.Parallel()
	s := newSecured(t)
	s.coordinator("-tokens", s.tokens)
	for want, args := range map[string][]string{
		"-token-file":           {"-task", "classify", "../README.md"},
		"submit -pair":          {"-private", "-task", "classify", "-token-file", filepath.Join(s.dir, "acme.token"), "../README.md"},
		"this queue sends none": {"-webhook", "https://queue.example.com", "-task", "classify", "-token-file", filepath.Join(s.dir, "acme.token"), "../README.md"},
	} {
		p := s.submit(args...)
		if _, err := p.wait(); err == nil || p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(p.stderr.tail(), want) {
			t.Errorf("%v: %v\n%s", args, err, p.stderr.tail())
		}
	}
}

// A job that nobody takes has its reason told while it waits, and ends.
func TestSubmitQueued(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "memdb")
	d.coordinator()
	p := d.submit("-task", "classify", "-deadline", "8s", "../README.md")
	p.said("queued: no worker is registered", 1)
	if _, err := p.wait(); err == nil || p.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(p.stderr.tail(), "expired") {
		t.Errorf("it ended with %v\n%s", err, p.stderr.tail())
	}
}

// Who cannot reach the coordinator is told so, and goes on trying, unless no
// time heals it.
func TestSubmitReach(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + ln.Addr().String()
	_ = ln.Close()
	p := start(t, "submit", "-coordinator", url, "-task", "classify", "../README.md")
	p.said("waiting for "+url+": ", 1)

	s := newSecured(t)
	s.coordinator("-tokens", s.tokens, "-tls-cert", s.cert, "-tls-key", s.key)
	_, port, _ := net.SplitHostPort(s.gate.target.Load().(string))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	token := []string{"-task", "classify", "-token-file", filepath.Join(s.dir, "acme.token"), "../README.md"}
	for _, c := range []struct {
		url, says string
		env       []string
	}{
		{"https://127.0.0.1:" + port, "set SSL_CERT_FILE", nil},
		{"http://127.0.0.1:" + port, "say https://", nil},
		{"https://" + plain.Listener.Addr().String(), "speaks no TLS", nil},
		{"https://ip6-localhost:" + port, "by a name that is in its certificate", s.env},
	} {
		if c.env != nil {
			if _, err := net.LookupHost("ip6-localhost"); err != nil {
				continue // no other name of this machine
			}
		}
		code, _, says := status(t, c.env, "submit", append([]string{"-coordinator", c.url}, token...)...)
		if code != 1 || !strings.Contains(says, c.says) || strings.Contains(says, "waiting for") {
			t.Errorf("%s: exit status %d\n%s", c.url, code, says)
		}
	}
}
