// Command stead-bundle writes what a snapshot needs of the host that it runs on to one
// file. It is for hosts that can't be reached: it needs no library and no network, and
// writes nothing but that file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

const usage = `usage: stead-bundle [OPTION]... [ROOT] FILE|-
       stead-bundle [OPTION]... --list [ROOT]

Writes what stead needs to take a snapshot of this host, or of the root file system in
the folder ROOT, to FILE; to standard output for "-". Nothing else is written. FILE is
compressed with gzip where its name ends in .gz, else with zstd. At home:
stead snapshot bundle:FILE TARGET

  --list            show what would go into the bundle and why, and write nothing
  --with PACKAGE    take all files of a package: one that no archive has
  --archived        take no package whole for not being named by any list of this host's
                    apt: all of them are in archives
  --keep PATTERN    take paths along that match
  --drop PATTERN    leave paths behind that match
  --quiet           say nothing but errors

The options but for the last three may be given several times.
`

// memory is what the collector works to stay under, in bytes.
const memory = 240 << 20

func main() {
	debug.SetMemoryLimit(memory)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

type options struct {
	with, keep, drop      []string
	archived, list, quiet bool
	root, file            string
}

var errUsage = errors.New("the command line makes no sense")

func parse(args []string) (*options, error) {
	o := &options{root: "/"}
	f := flag.NewFlagSet("stead-bundle", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	for name, to := range map[string]*[]string{"with": &o.with, "keep": &o.keep, "drop": &o.drop} {
		f.Func(name, "", func(v string) error { *to = append(*to, v); return nil })
	}
	f.BoolVar(&o.archived, "archived", false, "")
	f.BoolVar(&o.list, "list", false, "")
	f.BoolVar(&o.quiet, "quiet", false, "")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	rest := f.Args()
	if !o.list {
		if len(rest) == 0 {
			return nil, errUsage
		}
		o.file, rest = rest[len(rest)-1], rest[:len(rest)-1]
	}
	if len(rest) > 1 {
		return nil, errUsage
	}
	if len(rest) == 1 {
		o.root = rest[0]
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "error: %v\n%s", err, usage)
		return 2
	}
	if err := bundle(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "error: %s\n", clean(err.Error()))
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			fmt.Fprintf(stderr, "hint: %s\n", clean(hinted.Hint()))
		}
		return 1
	}
	return 0
}

func bundle(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	rules, err := scrub.New(o.keep, o.drop)
	if err != nil {
		return err
	}
	if o.quiet {
		stderr = io.Discard
	}
	h, err := host.Folder(o.root, o.file, o.file+host.PartialBundle)
	if err != nil {
		return err
	}
	defer h.Close() //nolint:errcheck // it was only read
	plan, err := host.PlanBundle(ctx, h, host.BundleOptions{Readers: pkgdb.Readers, Rules: rules, Keep: o.keep, Drop: o.drop,
		With: o.with, Archived: o.archived, Maker: "stead-bundle", Progress: notes(stderr)})
	if err != nil {
		return err
	}
	if o.list {
		return list(stdout, plan)
	}
	if err := sums(stderr, plan); err != nil {
		return err
	}
	sum, err := plan.WriteFile(ctx, o.file, stdout)
	if err != nil {
		return err
	}
	report(stderr, sum)
	return nil
}

// notes prints what a person should read.
func notes(w io.Writer) snapshot.Progress {
	return func(e snapshot.Event) {
		if e.Note != "" {
			fmt.Fprintln(w, clean(e.Note))
		}
	}
}

// list shows each file of a plan, then the sums.
func list(w io.Writer, plan *host.BundlePlan) error {
	for _, i := range plan.Items {
		if _, err := fmt.Fprintf(w, "%12d  /%s  %s\n", i.Size, clean(i.Path), clean(i.Reason)); err != nil {
			return err
		}
	}
	return sums(w, plan)
}

func sums(w io.Writer, plan *host.BundlePlan) error {
	for _, s := range plan.Sums() {
		if _, err := fmt.Fprintf(w, "%12d bytes in %5d files: %s\n", s.Bytes, s.Files, clean(s.Reason)); err != nil {
			return err
		}
	}
	if n := len(plan.Unlisted); n > 0 {
		fmt.Fprintf(w, "%d packages aren't named by any list of apt here; where archives have them, --archived leaves them out\n", n)
	}
	return nil
}

func report(w io.Writer, s *host.BundleSummary) {
	for _, l := range s.Withheld {
		fmt.Fprintf(w, "left behind /%s: %s\n", clean(l.Path), clean(l.Reason))
	}
	for i, l := range s.Unreadable {
		if i == 20 {
			fmt.Fprintf(w, "… and %d more\n", len(s.Unreadable)-i)
			break
		}
		fmt.Fprintf(w, "could not read /%s: %s\n", clean(l.Path), clean(l.Reason))
	}
	fmt.Fprintf(w, "%d paths listed; %d files of %d bytes went in; %d stayed for what is in them; %d could not be read\n",
		s.Listed, s.Files, s.Bytes, len(s.Withheld), len(s.Unreadable))
}

// clean is text of a host that does nothing to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
