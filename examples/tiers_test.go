package examples_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
)

var promptsFile = filepath.Join("..", "..", "shared", "data", "prompts", "tiered_prompts.jsonl.gz")

// Real prompts of every length, sealed, through a deployment whose workers take
// prompts up to a tier of their own: all complete, and none is given, in any
// attempt, to a worker that it is too long for.
func TestDeploymentTiers(t *testing.T) {
	prompts := readPrompts(t)
	d := newDeployment(t, "memdb")
	d.coordinator("-lease", "30s")
	max := map[consign.WorkerID]consign.Tier{}
	for tier := consign.Tier(1); tier <= consign.MaxTier; tier++ {
		name := fmt.Sprintf("worker-%d", tier)
		max[d.identity(name).ID()] = tier
		d.worker(name, "-max-tier", fmt.Sprint(tier), "-slots", "2", "-transport", []string{"ws", "http"}[tier%2])
	}
	c := d.client()
	type run struct{ tier, worker consign.Tier }
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		runs  = map[run]int{}
		next  = make(chan string)
	)
	for range 16 {
		group.Go(func() {
			for prompt := range next {
				r, tried, err := classify(t, c, prompt)
				if err != nil {
					t.Errorf("a prompt of %d characters: %v", utf8.RuneCountInString(prompt), err)
					continue
				}
				for _, w := range tried {
					if r.Tier > max[w] {
						t.Errorf("job %s of tier %s was given to a worker of tier %s", r.ID, r.Tier, max[w])
					}
				}
				if len(tried) == 0 || tried[len(tried)-1] != r.Record.WorkerID {
					t.Errorf("job %s was given to %v, and %s has signed it", r.ID, tried, r.Record.WorkerID)
				}
				mu.Lock()
				runs[run{r.Tier, max[r.Record.WorkerID]}]++
				mu.Unlock()
			}
		})
	}
	for _, p := range prompts {
		next <- p
	}
	close(next)
	group.Wait()

	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ntier\tjobs\tby worker 1\t2\t3\t4")
	total := 0
	for tier := consign.Tier(1); tier <= consign.MaxTier; tier++ {
		var by [consign.MaxTier + 1]int
		for worker := consign.Tier(1); worker <= consign.MaxTier; worker++ {
			by[worker] = runs[run{tier, worker}]
			by[0] += by[worker]
		}
		total += by[0]
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\n", tier, by[0], by[1], by[2], by[3], by[4])
		if by[0] == 0 {
			t.Errorf("no job was of tier %d", tier)
		}
	}
	_ = w.Flush()
	t.Log(table.String())
	if total != len(prompts) {
		t.Errorf("%d of %d jobs were completed", total, len(prompts))
	}
}

// classify runs a task on the prompt, and checks that its tier is that of its
// payload's length. It returns who was given the job, in turn.
func classify(t *testing.T, c *client.Client, prompt string) (r client.Result, tried []consign.WorkerID, err error) {
	payload, err := json.Marshal(map[string]string{"task": "classify", "by": "language", "text": prompt})
	if err != nil {
		return r, nil, err
	}
	if r, err = c.Run(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: payload}); err != nil {
		return r, nil, err
	}
	if want := consign.DefaultTierBounds.Tier(uint32(utf8.RuneCount(payload))); r.Tier != want {
		return r, nil, fmt.Errorf("it is of tier %s, not %s", r.Tier, want)
	}
	for e, err := range c.Events(t.Context(), r.ID, 0) {
		if err != nil {
			return r, nil, err
		}
		if e.Event == consign.EventClaim {
			tried = append(tried, e.Worker)
		}
	}
	return r, tried, c.Acknowledge(t.Context(), r.ID)
}

func readPrompts(t *testing.T) (prompts []string) {
	t.Helper()
	f, err := os.Open(promptsFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there: the shared folder belongs beside the repository", promptsFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var row struct{ Prompt string }
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		prompts = append(prompts, row.Prompt)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return prompts
}
