// Package cli is what coordinator, worker and submit have in common: flags that
// the environment may set, folders of keys, and what a terminal is shown.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/consignq/consign"
)

// Main runs a program and exits: with 0 where it returns nil, 2 where it was
// called wrongly, else 1. ctx is done at the first SIGINT or SIGTERM; the
// second one kills.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case errors.Is(err, errUsage): // has been told
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, Printable(err.Error()))
	if _, wrong := errors.AsType[*usageError](err); wrong {
		os.Exit(2)
	}
	os.Exit(1)
}

var errUsage = errors.New("cli: wrong use")

// usageError is of what the program was given, before it has done anything.
type usageError struct{ error }

func (u *usageError) Unwrap() error { return u.error }

// Usage marks an error as one of wrong use, for which Main exits with 2.
func Usage(err error) error { return &usageError{err} }

// Flags is a flag.FlagSet, each flag of which the environment may set, too.
type Flags struct {
	*flag.FlagSet
	help bool // was asked for
}

// NewFlags returns an empty set. The text says what the program does, and is
// the beginning of its help.
func NewFlags(name, text string) *Flags {
	f := &Flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.Usage = func() {
		if !f.help { // an error is told in a line
			return
		}
		fmt.Fprintf(os.Stdout, "%s\n\nFlags, each of which the environment may set as well (-%s as %s):\n", strings.TrimSpace(text), "dir", Env("dir"))
		f.SetOutput(os.Stdout)
		f.PrintDefaults()
	}
	return f
}

// Env is the environment variable that sets a flag.
func Env(flag string) string {
	return "CONSIGN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Parse reads the environment and then the arguments, so that these win. What
// is wrong it tells itself. It returns flag.ErrHelp for -h.
func (f *Flags) Parse(args []string) error {
	f.SetOutput(io.Discard)
	f.help = slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" })
	var bad error
	f.VisitAll(func(one *flag.Flag) {
		if value, ok := os.LookupEnv(Env(one.Name)); ok && bad == nil {
			if err := f.Set(one.Name, value); err != nil {
				bad = fmt.Errorf("invalid value %q of %s: %w", value, Env(one.Name), err)
			}
		}
	})
	if bad == nil {
		bad = f.FlagSet.Parse(args)
	}
	if bad == nil || errors.Is(bad, flag.ErrHelp) {
		return bad
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n%s -h lists the flags.\n", f.Name(), bad, f.Name())
	return errUsage
}

// FieldError says what is wrong with a flag, and what would be right. It is
// wrong use, and a *consign.FieldError.
func FieldError(flag, problem, remedy string) error {
	return Usage(&consign.FieldError{Field: "-" + flag, Problem: problem, Remedy: remedy})
}

// ReadFile reads the file that a flag names, "-" for stdin.
func ReadFile(flag, path string) (data []byte, err error) {
	if path == "-" {
		data, err = io.ReadAll(os.Stdin)
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, FieldError(flag, "cannot be read: "+err.Error(), "name a file that you may read")
	}
	return data, nil
}

// Dir is the flag of the folder in which a program keeps what it must not lose.
func (f *Flags) Dir(what string) *string {
	dir := ""
	if config, err := os.UserConfigDir(); err == nil {
		dir = filepath.Join(config, "consign", f.Name())
	}
	return f.String("dir", dir, "`FOLDER` of "+what+"; made on the first run, for you alone to read")
}

// OpenDir makes a folder if there is none, and keeps other processes out of it
// until close. It returns a *consign.FieldError for one that is in use.
func OpenDir(dir string) (close func() error, err error) {
	if dir == "" {
		return nil, FieldError("dir", "is empty", "name a folder")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, err
	case !locked:
		return nil, &consign.FieldError{Field: "-dir", Problem: "is in use by another process: " + dir, Remedy: "give each process a folder of its own"}
	}
	return lock.Close, nil
}

// Log is the flag of the log's form. Call what it returns once flags are parsed.
func (f *Flags) Log() func() (*slog.Logger, error) {
	form := f.String("log", "text", "form of the log on stderr: `text` or json")
	return func() (*slog.Logger, error) {
		switch *form {
		case "text":
			return slog.New(slog.NewTextHandler(os.Stderr, nil)), nil
		case "json":
			return slog.New(slog.NewJSONHandler(os.Stderr, nil)), nil
		}
		return nil, FieldError("log", fmt.Sprintf("is %q", *form), "say text or json")
	}
}

// List is a flag that may be given several times, or once with commas.
type List []string

// String implements flag.Value.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *List) Set(text string) error {
	*l = append(*l, strings.Split(text, ",")...)
	return nil
}

// NoArgs refuses arguments that are no flags.
func (f *Flags) NoArgs() error {
	if f.NArg() == 0 {
		return nil
	}
	return Usage(&consign.FieldError{Field: "arguments", Problem: fmt.Sprintf("hold %.80q, which is no flag", f.Arg(0)), Remedy: "see -h"})
}
