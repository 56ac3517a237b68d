package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

type snapshotFlags struct {
	yes, asJSON bool
	keep, drop  []string
	note, title string
	pools       []string
	list        listFlags
	with        []string
	reach       reachFlags
}

func newSnapshot(g *globals) *cobra.Command {
	var f snapshotFlags
	cmd := &cobra.Command{
		Use:   "snapshot [HOST] TARGET",
		Short: "Take a snapshot of a host as the next release of a target",
		Long: "snapshot reads a host, finds each of its packages in the archives, and adds a release to the fleet:\n" +
			"a lock, and as a delta what the host has beyond its packages. HOST is / or the folder of a root,\n" +
			"ssh://[user@]host[:port] for what the machine's own ssh reaches, read by a few commands there, or\n" +
			"image:FILE for an OCI layout or what docker save writes (image:FILE#TAG, #linux/arm64 or #DIGEST for\n" +
			"one of several images in it), bundle:FILE for what stead-bundle wrote on a host that can't be reached,\n" +
			"or list:FILE for what dpkg -l or dpkg-query -W wrote, of which the packages are installed in a\n" +
			"container here; the one of the last snapshot when left out. In the place of TARGET, bundle:FILE writes\n" +
			"such a file instead of a release. Nothing is written to the host. A host that didn't change makes no\n" +
			"release.",
		Example: "  stead snapshot / acme\n  stead snapshot /srv/acme-root acme --yes --drop '/opt/licenses/**'\n" +
			"  stead snapshot ssh://root@prod-7.acme.example acme --limit-rate 2M\n" +
			"  stead snapshot image:acme.tar#1.2 acme",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return runSnapshot(cmd.Context(), g, f, args) },
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.yes, "yes", "y", false, "accept what would leave the host without asking")
	flags.StringArrayVar(&f.keep, "keep", nil, "take paths along that match this pattern; kept in target.toml")
	flags.StringArrayVar(&f.drop, "drop", nil, "leave paths behind that match this pattern; kept in target.toml")
	flags.StringArrayVar(&f.pools, "pool", nil, "a folder or web address that offers package files before the archives are asked")
	f.list.add(flags)
	flags.StringArrayVar(&f.with, "with", nil, "put all files of this package into a bundle")
	f.reach.add(flags)
	flags.StringVar(&f.note, "note", "", "a note on this release, kept in target.toml")
	flags.StringVar(&f.title, "title", "", "what the target is, kept in target.toml")
	flags.BoolVar(&f.asJSON, "json", false, "answer as JSON")
	return cmd
}

func runSnapshot(ctx context.Context, g *globals, f snapshotFlags, args []string) (err error) {
	target := args[len(args)-1]
	if file, ok := strings.CutPrefix(target, bundleScheme); ok && len(args) == 2 {
		return runBundle(ctx, g, f, args[0], file)
	}
	if err := envs.CheckName(target); err != nil {
		return asUsage(err)
	}
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	known, err := w.fleet.Target(target)
	if err != nil {
		return err
	}
	address := known.Host
	if len(args) == 2 {
		address = args[0]
	}
	if address == "" {
		return usagef("no host given, and target.toml of %s names none: stead snapshot HOST %s", target, target)
	}
	if f.reach.dryRun {
		return dryRun(g, address)
	}
	w.limit = f.reach.limit
	h, address, err := openHost(ctx, address, w)
	if err != nil {
		return err
	}
	defer h.Close() //nolint:errcheck // it was only read
	keep, drop := union(known.Keep, f.keep), union(known.Drop, f.drop)
	if keep, drop, err = asBundled(h, w, keep, drop); err != nil {
		return err
	}
	rules, err := scrub.New(keep, drop)
	if err != nil {
		return &usageError{err}
	}
	var pools []archive.Pool
	for _, place := range f.pools {
		p, err := archive.OpenPool(place)
		if err != nil {
			return err
		}
		pools = append(pools, p)
	}
	begun := time.Now()
	res, err := takeSnapshot(ctx, w, h, f, envs.SnapshotOptions{Target: target, Address: address,
		Readers: pkgdb.Readers, Rules: rules, Pools: pools, Accept: accept(g, w, f.yes),
		Architecture: architectureOf(h), Wire: strings.HasPrefix(address, "ssh:")})
	w.meter.close()
	if err != nil {
		return err
	}
	if err := finish(h); err != nil {
		return err
	}
	err = w.fleet.ChangeTarget(target, func(t *envs.Target) {
		t.Host, t.Keep, t.Drop, t.Title = address, keep, drop, cmp.Or(f.title, t.Title)
		if f.note != "" {
			if t.Notes == nil {
				t.Notes = map[string]string{}
			}
			t.Notes[fmt.Sprint(res.Release.Number)] = f.note
		}
	})
	if err != nil {
		return err
	}
	if f.asJSON {
		return g.printJSON(answered{res, trafficOf(h)})
	}
	printSnapshot(g, w, res, time.Since(begun))
	if t := trafficOf(h); t != nil {
		fmt.Fprintf(g.stdout, "%s received from the host, %s sent\n", envs.Bytes(t.Received), envs.Bytes(t.Sent))
	}
	return nil
}

// union is a with what of b isn't in it, in order.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// accept asks a person about what would leave the host, unless they said yes
// beforehand.
func accept(g *globals, w *work, yes bool) func(*envs.Review) error {
	if yes {
		return nil
	}
	return func(r *envs.Review) error {
		if !isTerminal(os.Stdin) || !isTerminal(g.stderr) {
			return &hintError{errors.New("taking a snapshot: nobody is there to look at what would leave the host"),
				"--yes accepts it; stead show TARGET --delta lists it afterwards"}
		}
		w.meter.close()
		printReview(g, r)
		fmt.Fprint(g.stderr, "Take these along? [y/N] ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
			return &hintError{errors.New("taking a snapshot: not accepted, and nothing was written"),
				"--keep PATTERN and --drop PATTERN change what comes along"}
		}
		return nil
	}
}

// summary counts paths of one folder with one fate.
type summary struct {
	dir, fate, reason string
	files, bytes      int64
}

// printReview shows what would leave by folder, and secrets one by one.
func printReview(g *globals, r *envs.Review) {
	at := map[summary]*summary{}
	var order []*summary
	add := func(dir, fate, reason string, files, bytes int64) {
		key := summary{dir: dir, fate: fate, reason: reason}
		s := at[key]
		if s == nil {
			s = &summary{dir: dir, fate: fate, reason: reason}
			at[key], order = s, append(order, s)
		}
		s.files, s.bytes = s.files+files, s.bytes+bytes
	}
	for _, d := range r.Decisions {
		add(path.Dir("/"+d.Path), string(d.Action), d.Reason, 1, d.Size)
	}
	for _, l := range r.Left {
		if l.Class == snapshot.Secret {
			add("/"+l.Path, "left", l.Reason, l.Files, l.Bytes)
		}
	}
	slices.SortStableFunc(order, func(a, b *summary) int { return cmp.Or(cmp.Compare(a.fate, b.fate), cmp.Compare(a.dir, b.dir)) })
	for _, s := range order {
		fmt.Fprintf(g.stderr, "%-8s %7s in %5d  %s  %s\n", s.fate, envs.Bytes(s.bytes), s.files, clean(s.dir), clean(s.reason))
	}
}

func printSnapshot(g *globals, w *work, res *envs.SnapshotResult, took time.Duration) {
	printListChanges(g, res.Changes)
	for _, p := range res.Repacked {
		fmt.Fprintf(g.stderr, "repacked %s %s: %s\n", clean(p.Name), clean(p.Version), clean(p.Reason))
	}
	for i, u := range res.Unreadable {
		if i == 10 {
			fmt.Fprintf(g.stderr, "… and %d more\n", len(res.Unreadable)-i)
			break
		}
		fmt.Fprintf(g.stderr, "could not read /%s: %s\n", clean(u.Path), clean(u.Reason))
	}
	line := fmt.Sprintf("%s; delta %s in %d files", proofs(res.Packages), envs.Bytes(res.Delta.Size), res.Delta.Files)
	if n := len(res.Unreadable); n > 0 {
		line += fmt.Sprintf("; %d files could not be read", n)
	}
	fmt.Fprintln(g.stdout, line)
	for _, line := range res.Forecast.Lines() {
		fmt.Fprintln(g.stdout, clean(line))
	}
	if res.New {
		fmt.Fprintf(g.stdout, "%s is new: %s, in %.1f s\n", res.Name, filepath.Join(w.fleet.Dir(), res.Release.Target,
			path.Base(res.Release.Path)), took.Seconds())
	} else {
		fmt.Fprintf(g.stdout, "%s is unchanged, in %.1f s\n", res.Name, took.Seconds())
	}
	if res.Forecast.Hint != "" {
		fmt.Fprintln(g.stderr, "hint: "+res.Forecast.Hint)
	}
	if n := len(res.Sole); n > 0 {
		fmt.Fprintf(g.stderr, "%d blobs exist only here: stead push %s\n", n, res.Release.Target)
	}
}
