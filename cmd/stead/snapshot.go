package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

type snapshotFlags struct {
	yes, asJSON bool
	keep, drop  []string
	note, title string
	take        string
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
			"list:FILE for what dpkg -l or dpkg-query -W wrote, of which the packages are installed in a container\n" +
			"here, or session:NAME for what a named session made of its release; the one of the last snapshot when\n" +
			"left out. In the place of TARGET, bundle:FILE writes such a file instead of a release. Nothing is\n" +
			"written to the host. A host that didn't change makes no release.",
		Example: "  stead snapshot / acme\n  stead snapshot /srv/acme-root acme --yes --drop '/opt/licenses/**'\n" +
			"  stead snapshot ssh://root@prod-7.acme.example acme --limit-rate 2M\n" +
			"  stead snapshot image:acme.tar#1.2 acme\n  stead snapshot session:upgrade acme",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return runSnapshot(cmd.Context(), g, f, args) },
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.yes, "yes", "y", false, "accept what would leave the host without asking")
	flags.StringArrayVar(&f.keep, "keep", nil, "take paths along that match this pattern; kept in target.toml")
	flags.StringArrayVar(&f.drop, "drop", nil, "leave paths behind that match this pattern; kept in target.toml")
	flags.StringArrayVar(&f.pools, "pool", nil, "a folder or web address that offers package files before the archives are asked")
	flags.StringVar(&f.take, "take", "", "how much may leave the host: index (names, versions, facts, and what programs and libraries\n"+
		"need and export), minimal (and what loaders and compilers read) or standard; kept in target.toml")
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
	if s, ok := h.(*sessionHost); ok {
		if known, err = s.inherit(w.fleet, known, target); err != nil {
			return err
		}
	}
	return snapshotOf(ctx, g, w, h, f, known, envs.SnapshotOptions{Target: target, Address: address,
		Readers: pkgdb.Readers, Accept: forgetful(h, accept(g, w, f.yes)), Architecture: architectureOf(h), Wire: strings.HasPrefix(address, "ssh:")})
}

// snapshotOf takes the snapshot of a host that is open, keeps in target.toml what was
// asked for, and says what came of it.
func snapshotOf(ctx context.Context, g *globals, w *work, h openedHost, f snapshotFlags, known envs.Target, opts envs.SnapshotOptions) error {
	keep, drop := union(without(known.Keep, f.drop), f.keep), union(without(known.Drop, f.keep), f.drop)
	keepNow, dropNow, err := asBundled(g, h, w, keep, drop)
	if err != nil {
		return err
	}
	if opts.Take = cmp.Or(f.take, known.Take); opts.Take == string(scrub.Standard) {
		opts.Take = "" // which a lock doesn't name
	}
	level := opts.Take
	if level == lock.TakeIndex {
		level, keepNow = "", nil // the index tells of what might leave, of which nothing does
	}
	if opts.Rules, err = rulesAt(level, keepNow, dropNow); err != nil {
		return err
	}
	if opts.Pools, err = openPools(f.pools); err != nil {
		return err
	}
	begun := time.Now()
	res, err := takeSnapshot(ctx, w, h, f, opts)
	w.meter.close()
	if err != nil {
		return err
	}
	if err := finish(h); err != nil {
		return err
	}
	err = w.fleet.ChangeTarget(opts.Target, func(t *envs.Target) {
		t.Keep, t.Drop, t.Take = keep, drop, opts.Take
		if _, derived := h.(*sessionHost); !derived { // nobody reaches the host by a session
			t.Host = opts.Address
		}
		f.remember(t, res.Release.Number)
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

// remember puts what was said about a release into target.toml.
func (f snapshotFlags) remember(t *envs.Target, number int) {
	t.Title = cmp.Or(f.title, t.Title)
	if f.note == "" {
		return
	}
	if t.Notes == nil {
		t.Notes = map[string]string{}
	}
	t.Notes[fmt.Sprint(number)] = f.note
}

// rulesAt are the rules of a level, "" for standard.
func rulesAt(level string, keep, drop []string) (*scrub.Rules, error) {
	rules, err := scrub.New(keep, drop)
	if err == nil {
		rules, err = rules.At(scrub.Level(cmp.Or(level, string(scrub.Standard))))
	}
	if err != nil {
		return nil, &usageError{err}
	}
	return rules, nil
}

func openPools(places []string) ([]archive.Pool, error) {
	var pools []archive.Pool
	for _, place := range places {
		p, err := archive.OpenPool(place)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// without is a but for what is in b: a new answer takes the place of an old one.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
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
	line := proofs(res.Packages) + "; " + deltaLine(res.Delta)
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
