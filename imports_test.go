package consign_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// Imports point inwards: who may import what, of the packages of this module.
// A package that is not here may import whatever is inside this module but
// programs, and whatever go.mod requires.
const module = "github.com/consignq/consign"

// importRule bounds what packages that match a pattern (path.Match, below the
// module) may import. Tests are free.
type importRule struct {
	pattern string
	inside  []string // patterns of packages of this module
	outside []string // packages of other modules
	why     string
}

var importRules = []importRule{
	{".", []string{"crypto/sign", "internal/*"}, nil,
		"the root is rules, engine and shell: the standard library and our own packages that need no more"},
	{"crypto/seal", []string{"crypto/sign", "internal/*"}, []string{"golang.org/x/crypto/chacha20poly1305"}, "a leaf that the root does not import"},
	{"webhook", []string{".", "crypto/sign"}, []string{"code.dny.dev/ssrf"}, "it sees the store, and calls whom submitters name"},
	{"crypto/*", []string{"internal/*"}, nil, "a leaf on the standard library"},
	{"internal/lp", nil, nil, "the root imports it"},
	{"internal/keyfile", nil, nil, "the root imports it"},
	{"internal/strictjson", nil, nil, "the root imports it"},
	{"internal/compare", nil, nil, "a leaf of client and worker"},
	{"internal/retry", []string{"."}, []string{"github.com/cenkalti/backoff/v4"}, "a leaf of client and worker"},
	{"internal/testkit", []string{".", "crypto/*", "internal/*", "store/memdb"}, nil, "it knows interfaces, not adapters"},
	{"internal/testkit/queuetest", []string{".", "crypto/sign", "internal/testkit"}, []string{"pgregory.net/rapid"}, "a suite knows interfaces, what fails in front of them, and what draws its cases"},
	{"internal/testkit/pgtest", nil, nil, "it starts PostgreSQL, and knows nothing of what works on it"},
	{"client", []string{".", "crypto/*", "internal/*"}, nil, "it knows a queue as its interface, not where it is"},
	{"worker", []string{".", "crypto/*", "internal/*"}, nil, "it knows a queue as its interface, not where it is"},
	{"store/memdb", []string{".", "internal/*"}, []string{"github.com/hashicorp/go-memdb"}, "an adapter knows the root and its own database"},
	{"store/storetest", []string{"."}, []string{"pgregory.net/rapid"}, "a suite knows the contract, and what draws its cases"},
	{"store/*", []string{"."}, nil, "an adapter knows the root"},
	{"vault", []string{".", "crypto/*", "internal/keyfile", "internal/lp"}, []string{"golang.org/x/crypto/chacha20poly1305"}, "a vault knows the root, the cryptography, and no driver"},
	{"vault/vaulttest", []string{".", "crypto/*", "vault"}, nil, "a suite knows the contracts"},
	{"transport/transporttest", []string{".", "crypto/*", "internal/*", "client", "worker", "store/memdb"}, nil, "a suite runs a whole queue"},
	{"transport/internal/wire", []string{"."}, []string{"github.com/vmihailenco/msgpack/v5"}, "it knows what crosses the wire, not how"},
	{"transport/internal/peer", []string{".", "crypto/sign"}, nil, "it knows who is at the other end, by address and by key"},
	{"transport/longpoll", []string{".", "crypto/sign", "internal/*", "transport/internal/*"}, []string{"golang.org/x/time/rate"}, "an adapter knows the root and the wire"},
	{"transport/websocket", []string{".", "crypto/sign", "transport/internal/*"}, []string{"github.com/coder/websocket"}, "an adapter knows the root and the wire"},
	{"transport/*", []string{".", "crypto/*", "internal/*", "transport/internal/wire"}, nil, "an adapter knows the root and the wire"},
}

// listed is what `go list` says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
	Module     *struct{ Path string }
}

func TestImports(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 8 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, p := range packages {
		name := inModule(p.ImportPath)
		i := slices.IndexFunc(importRules, func(r importRule) bool { return matches(r.pattern, name) })
		if i < 0 {
			t.Errorf("%s: no rule says what it may import: add one to importRules", name)
			continue
		}
		for _, bad := range importRules[i].broken(p.Imports) {
			t.Errorf("%s imports %s: %s", name, bad, importRules[i].why)
		}
	}
}

// TestRootNeedsOnlyTheStandardLibrary follows the root's imports to their end.
func TestRootNeedsOnlyTheStandardLibrary(t *testing.T) {
	for _, p := range list(t, "-deps", ".") {
		if !p.Standard && (p.Module == nil || p.Module.Path != module) {
			t.Errorf("the root depends on %s", p.ImportPath)
		}
	}
}

// TestTestHelpersStayInTests: no package that a program links imports them.
func TestTestHelpersStayInTests(t *testing.T) {
	helpers := []string{"internal/testkit", "internal/testkit/pgtest", "internal/testkit/queuetest", "store/storetest", "transport/transporttest", "vault/vaulttest"}
	for _, p := range list(t, "./...") {
		if slices.Contains(helpers, inModule(p.ImportPath)) {
			continue
		}
		for _, dep := range p.Deps {
			if slices.Contains(helpers, inModule(dep)) || dep == "testing" {
				t.Errorf("%s depends on %s", p.ImportPath, dep)
			}
		}
	}
}

// TestImportRulesCanFail plants imports that the rules are there to refuse.
func TestImportRulesCanFail(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{".", "github.com/hashicorp/go-memdb"}, {".", module + "/store/memdb"}, {"crypto/sign", module},
		{"worker", module + "/store/memdb"}, {"store/memdb", module + "/worker"}, {"client", "github.com/cenkalti/backoff/v4"},
		{"vault", module + "/store/memdb"}, {"vault/vaulttest", module + "/client"},
	} {
		i := slices.IndexFunc(importRules, func(r importRule) bool { return matches(r.pattern, c.from) })
		if broken := importRules[i].broken([]string{"fmt", c.to}); len(broken) != 1 {
			t.Errorf("%s may import %s", c.from, c.to)
		}
	}
}

// broken returns the imports that the rule does not allow.
func (r importRule) broken(imports []string) (bad []string) {
	for _, imp := range imports {
		standard := !strings.Contains(strings.Split(imp, "/")[0], ".")
		ours := imp == module || strings.HasPrefix(imp, module+"/")
		allowed := standard || slices.Contains(r.outside, imp) ||
			ours && slices.ContainsFunc(r.inside, func(pattern string) bool { return matches(pattern, inModule(imp)) })
		if !allowed {
			bad = append(bad, imp)
		}
	}
	return bad
}

// inModule is a package's path below the module, "." for the root.
func inModule(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command, so imports were not checked")
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports,Deps,Module"}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
