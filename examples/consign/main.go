// Consign looks after a queue's store from a shell: it lists jobs, says why one
// waits, cancels, retries, exports. What it changes it changes as a queue does,
// by a queue of its own on the same store.
//
//	go run ./examples/consign -store sqlite:queue.db list -state failed
//	go run ./examples/consign -store postgres://host/db explain JOB
//
// Read it from here: open.go has the stores, read.go what only reads, act.go
// what changes, workers.go what is about workers, print.go the printing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/consignq/consign"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv("CONSIGN_STORE"), os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "consign:", err)
		os.Exit(1)
	}
}

// tool is one call of the program.
type tool struct {
	store consign.Store
	out   io.Writer

	target, schema string // what -store and -schema say
	json           bool
	account, state string
	most           int
	identity       string
	reason         string
	jobs           []consign.JobID    // the arguments
	whom           []consign.WorkerID // instead, of a command about workers
	file           string             // likewise, of one that takes a file
}

// command is something that the tool does.
type command struct {
	name, args, does string
	run              func(*tool, context.Context) error
}

func commands() []command {
	return []command{
		{name: "migrate", does: "make the store, or bring it up to date with this program", run: (*tool).migrate},
		{name: "list", does: "list jobs, by ID; -account, -state and -n choose", run: (*tool).list},
		{name: "explain", args: "JOB", does: "say why a job is in its state, what it needs, and what happened to it", run: (*tool).explain},
		{name: "cancel", args: "JOB...", does: "end jobs that have no result yet; -reason says why, to their submitters", run: (*tool).cancel},
		{name: "retry", args: "JOB...", does: "submit jobs that failed, expired or were cancelled once more, each under a new ID", run: (*tool).retry},
		{name: "workers", does: "list workers, and what is held against them", run: (*tool).workers},
		{name: "remove", args: "WORKER...", does: "give workers no more jobs; -reason says why, to them", run: (*tool).remove},
		{name: "clear", args: "WORKER...", does: "let workers take jobs that were removed or flagged", run: (*tool).clear},
		{name: "purge", does: "forget what is past its retention, and do what else is due, as a running queue does", run: (*tool).purge},
		{name: "disown", does: "forget which queue the store belongs to, where the identity.pem of that one is lost; stop its coordinators first", run: (*tool).disown},
		{name: "backup", args: "FILE", does: "copy the queue in an SQLite file, with its coordinator at work, to a new file", run: (*tool).backup},
		{name: "export", args: "JOB...", does: "print all that the store has of jobs, payload and result too, as JSON", run: (*tool).export},
	}
}

const help = `consign looks after the jobs of a queue.

usage: consign -store STORE COMMAND [JOB... | WORKER... | FILE]

A STORE is sqlite:PATH, or postgres:DSN with what pgx takes for one, such as
postgres://user@host/database. Without -store it is in CONSIGN_STORE, where a
password is not for everybody to see.

A file serves one process at a time: stop its coordinator first, but for backup.
A database serves many.

Commands that change something run a queue for a moment, with the default
settings: what falls due in that moment is done by those.

A JOB is an ID as list shows it, a WORKER one as workers does. Flags may also follow the command.

commands:
`

func run(ctx context.Context, args []string, store string, out io.Writer) error {
	t := &tool{out: out}
	flags := flag.NewFlagSet("consign", flag.ContinueOnError)
	flags.SetOutput(out)
	t.target = store // and not the flag's default, which the help shows
	flags.Func("store", "the `STORE`", func(text string) error { t.target = text; return nil })
	flags.StringVar(&t.schema, "schema", "consign", "the `schema` of the queue in a database")
	flags.BoolVar(&t.json, "json", false, "print JSON, for programs")
	flags.StringVar(&t.account, "account", "", "list: only jobs of this `account`")
	flags.StringVar(&t.state, "state", "", "list: only jobs in this `state`, such as queued or failed")
	flags.IntVar(&t.most, "n", 100, "list: at most so `many`")
	flags.StringVar(&t.identity, "identity", "", "export: the `file` of the queue's identity, identity.pem in the coordinator's -dir")
	flags.StringVar(&t.reason, "reason", "", "cancel, remove: `why`, in words for the submitters, or the workers")
	flags.Usage = func() { usage(out, flags) }
	if err := flags.Parse(args); err != nil {
		return err
	}
	name := flags.Arg(0)
	if name == "" {
		flags.Usage()
		return flag.ErrHelp
	}
	for _, c := range commands() {
		if c.name == name {
			return t.do(ctx, c, flags)
		}
	}
	return fmt.Errorf("there is no command %q: consign -h lists them", name)
}

func usage(out io.Writer, flags *flag.FlagSet) {
	fmt.Fprint(out, help)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s %s\t%s\n", c.name, c.args, c.does)
	}
	_ = w.Flush()
	fmt.Fprint(out, "\nflags:\n")
	flags.PrintDefaults()
}

// do carries out a command on the store that it opens.
func (t *tool) do(ctx context.Context, c command, flags *flag.FlagSet) error {
	for args := flags.Args()[1:]; len(args) > 0; { // jobs and flags, in any order
		if err := flags.Parse(args); err != nil {
			return err
		}
		if args = flags.Args(); len(args) > 0 {
			if err := t.argument(c, args[0]); err != nil {
				return err
			}
			args = args[1:]
		}
	}
	switch n := len(t.jobs) + len(t.whom); {
	case c.args == "FILE" && t.file != "" && n == 0:
		return c.run(t, ctx) // without the lock that a store has
	case c.args == "" && n > 0:
		return fmt.Errorf("%s takes no job: consign -h", c.name)
	case c.args == "FILE":
		return fmt.Errorf("usage: consign -store STORE %s %s: name one new file", c.name, c.args)
	case c.args == "WORKER..." && n == 0:
		return fmt.Errorf("usage: consign -store STORE %s %s: consign workers shows the IDs", c.name, c.args)
	case c.args != "" && n == 0, c.args == "JOB" && n > 1:
		return fmt.Errorf("usage: consign -store STORE %s %s: consign list shows the IDs", c.name, c.args)
	}
	store, end, err := open(ctx, t.target, t.schema, c.name == "migrate")
	if err != nil {
		return err
	}
	t.store = store
	return errors.Join(c.run(t, ctx), end())
}

// argument takes one argument of a command.
func (t *tool) argument(c command, text string) error {
	if c.args == "FILE" && t.file == "" {
		t.file = text
		return nil
	}
	if c.args == "WORKER..." {
		var id consign.WorkerID
		t.whom = append(t.whom, id)
		return t.whom[len(t.whom)-1].UnmarshalText([]byte(text))
	}
	id, err := consign.ParseJobID(text)
	t.jobs = append(t.jobs, id)
	return err
}

// each does something to each of the jobs, and goes on after one that fails.
func (t *tool) each(ctx context.Context, do func(*consign.Job) error) error {
	jobs, err := t.store.Jobs(ctx, t.jobs)
	if err != nil {
		return err
	}
	var failed []error
	for i, job := range jobs {
		if job == nil {
			err = errors.New("is not in this store")
		} else if err = ctx.Err(); err == nil {
			err = do(job)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("job %s: %w", t.jobs[i], err))
		}
	}
	return errors.Join(failed...)
}

func parseState(text string) (consign.State, error) {
	var names []string
	for s := consign.StateBlocked; s <= consign.StateExpired; s++ {
		if s.String() == text {
			return s, nil
		}
		names = append(names, s.String())
	}
	if text == "" {
		return consign.StateNone, nil
	}
	return 0, fmt.Errorf("there is no state %q: use one of %s", text, strings.Join(names, ", "))
}
