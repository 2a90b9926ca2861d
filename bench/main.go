// Command bench does the same work on Consign and on other job queues, side by
// side on one machine in one run, and prints what each did:
//
//	go run . -rounds 5 -time 1s
//
// In every round each system does each workload once, in another order than in
// the round before, on storage that is empty at first. A first round, which
// counts for nothing, finds how many jobs fill the time. Every job is followed:
// a system that loses one, or runs one twice, ends the run with an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.Fatal(err) //nolint:gocritic // the signals are the process's
	}
}

// options is the command line.
type options struct {
	rounds        int
	span          time.Duration
	systems       []system
	workloads     []workload
	markdown, svg string
	profile       string
	command       string
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 5, "rounds that count")
	flags.DurationVar(&o.span, "time", time.Second, "about how long each workload takes each system, each round")
	flags.StringVar(&o.markdown, "markdown", "", "write the tables to this `file`, too")
	flags.StringVar(&o.svg, "svg", "", "draw the tables into this `file`")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a profile of this program to this `file`: choose one system and one workload")
	chosen := flags.String("systems", "all", "these systems, by `name,name`: "+names(systems(), func(s system) string { return s.name }))
	doing := flags.String("workloads", "all", "these workloads, by `name,name`: "+names(workloads(), func(w workload) string { return w.name }))
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = strings.Join(append([]string{"go run ."}, args...), " ")
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag: see -help", flags.Arg(0))
	}
	if o.rounds < 1 || o.span <= 0 {
		return o, errors.New("-rounds and -time: give more than nothing")
	}
	if o.systems, err = choose("-systems", *chosen, systems(), func(s system) string { return s.name }); err != nil {
		return o, err
	}
	o.workloads, err = choose("-workloads", *doing, workloads(), func(w workload) string { return w.name })
	return o, err
}

func names[T any](all []T, name func(T) string) string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = name(one)
	}
	return strings.Join(list, ", ")
}

func choose[T any](flag, list string, all []T, name func(T) string) ([]T, error) {
	if list == "all" {
		return all, nil
	}
	var chosen []T
	for want := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(one T) bool { return name(one) == want })
		if i < 0 {
			return nil, fmt.Errorf("%s: there is no %q: choose of %s", flag, want, names(all, name))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func compare(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	p, err := newPlace(ctx, o.systems)
	if err != nil {
		return err
	}
	defer p.close()
	about, err := p.describe(ctx)
	if err != nil {
		return err
	}
	var res *results
	if err := profiled(o.profile, func() (err error) { res, err = rounds(ctx, p, o); return err }); err != nil {
		return err
	}
	if p.pg != nil {
		after, err := p.syncTime()
		if err != nil {
			return err
		}
		about = append(about, fact{"one fdatasync of 8 kB afterwards, by pg_test_fsync", after})
	}
	if err := writeFile(o.svg, func(w io.Writer) error { return draw(w, res) }); err != nil {
		return err
	}
	page := func(w io.Writer) error { return markdown(w, o, about, res) }
	if err := writeFile(o.markdown, page); err != nil {
		return err
	}
	return page(os.Stdout)
}

// profiled does something under the processor's profiler, if there is a file
// for what that says.
func profiled(path string, do func() error) error {
	if path == "" {
		return do()
	}
	return writeFile(path, func(w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
		return do()
	})
}

func writeFile(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// rounds does all workloads on all systems, time and again.
func rounds(ctx context.Context, p *place, o options) (*results, error) {
	res := newResults(o)
	type pair struct{ workload, system string }
	sizes := map[pair]int{}
	for round := range 1 + o.rounds {
		for _, w := range o.workloads {
			for i := range o.systems {
				s := o.systems[(i+round)%len(o.systems)]
				key := pair{w.name, s.name}
				n := max(leastJobs, leastASlot*s.slots, sizes[key])
				if w.size != nil {
					n = max(1, w.size(o.span))
				}
				ms, err := once(ctx, p, s, w, n)
				if err != nil {
					return nil, fmt.Errorf("%s: %s of %d jobs: %w", s.name, w.name, n, err)
				}
				last := ms[len(ms)-1] // the one that takes longest
				sizes[key] = min(maxJobs, int(last.rate()*o.span.Seconds()))
				if round == 0 {
					continue
				}
				for i, f := range w.figures {
					log.Printf("round %d: %s: %s: %d jobs in %v", round, f.name, s.name, ms[i].jobs, ms[i].took.Round(time.Millisecond))
					res.add(f, s, ms[i])
				}
			}
		}
	}
	return res, nil
}
