package consign_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/consignq/consign/internal/testkit/queuetest"
)

// othersFaults are the faults that other queues shipped and that this one has
// tests for, as docs/reliability.md names them, with the start of its tests'
// names after "Test" or "TestOthers/".
var othersFaults = []struct{ where, tests string }{
	{"River #1302", "River1302_"}, {"River #1318", "River1318_"}, {"River #1287, #1125, #1331", "River1287_1125_1331_"},
	{"River #1324", "River1324_"}, {"River #199, #217", "River199_217_"}, {"River 0.44-0.51", "River_"},
	{"NATS #4786", "NATS4786_"}, {"NATS 2.12", "NATS212_"}, {"Bull #1416", "Bull1416_"}, {"silo #399", "Silo399_"},
	{"goqite", "Goqite_"}, {"hatchet #1796", "Hatchet1796_"}, {"hatchet #2604", "Hatchet2604_"},
	{"AI-Horde #161, #539", "AIHorde161_539_"}, {"Bacalhau #3861, #4114, SkyPilot #7117", "Bacalhau3861_4114_SkyPilot7117_"},
	{"AI-Horde-Worker #69, BOINC #361", "AIHordeWorker69_BOINC361_"}, {"BOINC #1005", "BOINC1005_"},
	{"horde-worker-reGen #336", "HordeWorkerReGen336_"}, {"cosign CVE-2022-35929", "CosignCVE202235929_"},
}

// TestReliabilityPage: every fault has its row, every row has its tests, and
// every test that the page names is there. Those that run on each store do.
func TestReliabilityPage(t *testing.T) {
	page, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, complaint := range checkPage(string(page), testNames(t)) {
		t.Error(complaint)
	}
	for _, dir := range []string{".", "store/sqlite", "store/postgres"} {
		if !declares(t, dir, "TestOthers") {
			t.Errorf("%s does not run queuetest's Others", dir)
		}
	}
}

// declares reports whether a folder's tests have one of that name.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(text), "\nfunc "+name+"(")
	})
}

// A page that has lost a row, or names a test that is gone, is found out.
func TestReliabilityPageCanFail(t *testing.T) {
	page, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	names := testNames(t)
	for what, text := range map[string]string{
		"a row that is missing":      regexp.MustCompile(`(?m)^\| River #1318 .*\n`).ReplaceAllString(string(page), ""),
		"a row that nobody expects":  strings.Replace(string(page), "| River #1302 |", "| River #13020 |", 1),
		"a test that is gone":        strings.ReplaceAll(string(page), "`TestRiver_Cancel", "`TestRiver_FormerCancel"),
		"a case that is gone":        strings.ReplaceAll(string(page), "`TestOthers/Silo399_", "`TestOthers/Silo399_Former"),
		"a case without a row":       strings.ReplaceAll(string(page), "`TestOthers/River1318_StuckLeasesStarveNobody`", ""),
		"a row without a test of it": regexp.MustCompile("`TestOthers/Goqite_[A-Za-z]*`").ReplaceAllString(string(page), "`TestQueueModel`"),
		"a row that runs nowhere":    strings.Replace(string(page), "| each store |", "| |", 1),
	} {
		if text == string(page) || len(checkPage(text, names)) == 0 {
			t.Errorf("%s is not noticed", what)
		}
	}
}

// checkPage compares the page with the faults and the tests.
func checkPage(page string, names map[string]bool) (complaints []string) {
	_, table, ok := strings.Cut(page, "\n## Faults that other queues shipped\n")
	if !ok {
		return []string{"the page has no section \"Faults that other queues shipped\""}
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var rows []string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		where := strings.TrimSpace(cells[0])
		if len(cells) != 4 || where == "where" || strings.HasPrefix(where, "---") {
			continue
		}
		rows = append(rows, where)
		i := slices.IndexFunc(othersFaults, func(f struct{ where, tests string }) bool { return f.where == where })
		if i < 0 {
			complaints = append(complaints, "nobody expects the row "+where)
			continue
		}
		onStores := strings.Contains(cells[2], "`TestOthers/"+othersFaults[i].tests)
		if !onStores && !strings.Contains(cells[2], "`Test"+othersFaults[i].tests) {
			complaints = append(complaints, where+" has no test "+othersFaults[i].tests+"...")
		}
		if runs := strings.TrimSpace(cells[3]); runs == "" || onStores != strings.HasPrefix(runs, "each store") {
			complaints = append(complaints, where+" does not say where it runs")
		}
	}
	for _, f := range othersFaults {
		if !slices.Contains(rows, f.where) {
			complaints = append(complaints, "there is no row "+f.where)
		}
	}
	for _, name := range queuetest.Others() {
		if !strings.Contains(table, "`TestOthers/"+name+"`") {
			complaints = append(complaints, "no row has "+name)
		}
	}
	for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9_/]+)`").FindAllStringSubmatch(page, -1) {
		if !names[m[1]] {
			complaints = append(complaints, "there is no test "+m[1])
		}
	}
	return complaints
}

// testNames are the names of all tests, of every module, and of the cases that
// run on each store.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, name := range queuetest.Others() {
		names["TestOthers/"+name] = true
	}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]*)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(names) < 100 {
		t.Fatalf("%d tests are found: %v", len(names), err)
	}
	return names
}
