package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

const bundleScheme = "bundle:"

// bundled is a bundle with the folder that it was unpacked to.
type bundled struct {
	*host.Bundle
	dir string
}

func (b bundled) Close() error { return errors.Join(b.Bundle.Close(), os.RemoveAll(b.dir)) }

func openBundle(ctx context.Context, file string, w *work) (openedHost, string, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, "", err
	}
	dir, err := w.config.Store.WorkDir("bundle")
	if err != nil {
		return nil, "", err
	}
	b, err := host.OpenBundle(ctx, abs, dir)
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	return bundled{b, dir}, bundleScheme + abs, nil
}

// asBundled adds the patterns that a bundle was made with, for this snapshot alone: what
// it was told to leave behind isn't in it, and what it was told to keep is meant to come
// along. They are the bundle's words and no answers of anybody here, so they aren't to be
// saved. Other hosts have none.
func asBundled(g *globals, h openedHost, w *work, keep, drop []string) ([]string, []string, error) {
	b, ok := h.(bundled)
	if !ok {
		return keep, drop, nil
	}
	for _, p := range keep {
		if !slices.Contains(b.Header.Keep, p) {
			return nil, nil, &hintError{fmt.Errorf("reading the bundle: it was made without --keep '%s'", p),
				"make it again on the host, with that"}
		}
	}
	same, err := scrub.New(b.Header.Keep, b.Header.Drop)
	if err == nil && same.Version() != b.Header.Rules {
		w.config.Progress.Note("reading", "the bundle was made under the rules of another version of stead: both apply")
	}
	theirs := without(without(b.Header.Keep, keep), drop) // an answer from here wins
	if len(theirs) > 0 {
		fmt.Fprintf(g.stderr, "the bundle was made to keep %s: that holds for this snapshot, and isn't saved\n",
			clean("'"+strings.Join(theirs, "', '")+"'"))
	}
	return union(keep, theirs), union(drop, b.Header.Drop), err
}

// runBundle writes what a snapshot needs of a host to a file.
func runBundle(ctx context.Context, g *globals, f snapshotFlags, address, file string) (err error) {
	if f.reach.dryRun && isFolder(address) { // which is read without sudo
		fmt.Fprintf(g.stdout, noCommand, clean(address))
		return nil
	}
	if f.reach.dryRun {
		return dryRun(g, address)
	}
	rules, err := rulesAt(f.take, f.keep, f.drop)
	if err != nil {
		return err
	}
	h, progress, done, err := openToBundle(ctx, g, f.reach.limit, address, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	plan, err := host.PlanBundle(ctx, h, host.BundleOptions{Readers: pkgdb.Readers, Rules: rules, Keep: f.keep, Drop: f.drop,
		With: f.with, Maker: "stead " + thisVersion(), Progress: progress.event})
	if err != nil {
		return err
	}
	progress.close()
	for _, s := range plan.Sums() {
		fmt.Fprintf(g.stderr, "%7s in %5d files: %s\n", envs.Bytes(s.Bytes), s.Files, clean(s.Reason))
	}
	if !f.yes {
		if err := askToBundle(g); err != nil {
			return err
		}
	}
	sum, err := plan.WriteFile(ctx, file, g.stdout)
	progress.close()
	if err != nil {
		return err
	}
	if f.asJSON && file != "-" {
		return g.printJSON(sum)
	}
	for _, l := range sum.Withheld {
		fmt.Fprintf(g.stderr, "left behind /%s: %s\n", clean(l.Path), clean(l.Reason))
	}
	fmt.Fprintf(g.stderr, "%d paths listed; %s in %d files went in; %d stayed for what is in them; %d could not be read\n",
		sum.Listed, envs.Bytes(sum.Bytes), sum.Files, len(sum.Withheld), len(sum.Unreadable))
	return nil
}

// openToBundle opens a host. A folder needs neither fleet nor store: there are none
// where a bundle is made.
func openToBundle(ctx context.Context, g *globals, limit, address, file string) (openedHost, *meter, func() error, error) {
	if isFolder(address) {
		h, err := host.Folder(address, file, file+host.PartialBundle)
		if err != nil {
			return nil, nil, nil, err
		}
		m := newMeter(g.stderr, g.progress)
		return h, m, func() error { m.close(); return h.Close() }, nil
	}
	w, err := g.open(true)
	if err != nil {
		return nil, nil, nil, err
	}
	w.limit = limit
	h, _, err := openHost(ctx, address, w)
	if err != nil {
		return nil, nil, nil, errors.Join(err, w.close())
	}
	return h, w.meter, func() error { return errors.Join(h.Close(), w.close()) }, nil
}

// isFolder reports whether an address is the folder of a root.
func isFolder(address string) bool {
	scheme, _, ok := strings.Cut(address, ":")
	return !ok || schemes[scheme] == nil
}

func askToBundle(g *globals) error {
	if !isTerminal(os.Stdin) || !isTerminal(g.stderr) {
		return &hintError{errors.New("making a bundle: nobody is there to look at what would leave the host"),
			"--yes accepts it; stead-bundle --list shows it"}
	}
	fmt.Fprint(g.stderr, "Put these into the bundle? [y/N] ")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New("making a bundle: not accepted, and nothing was written")
	}
	return nil
}
