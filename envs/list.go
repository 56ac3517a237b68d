package envs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	debversion "github.com/knqyf263/go-deb-version"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// ListOptions say what to make of a list of packages.
type ListOptions struct {
	SnapshotOptions
	Archives []string // lines of sources.list(5); none for those of the list's distribution
	Without  []string // names of packages that are left out
	Again    bool     // although the list is as the newest release says
	Engine   runtime.Engine
	// Folder opens a folder of this machine for reading.
	Folder func(dir string) (snapshot.Host, error)
}

// SnapshotList adds a release to the fleet for a host of which there is only a list of
// its packages: they are installed in a container, once, and what comes out is taken
// like a host. A list that is as the newest release says makes none.
func SnapshotList(ctx context.Context, cfg Config, list *snapshot.Database, opts ListOptions) (*SnapshotResult, error) {
	if err := CheckName(opts.Target); err != nil {
		return nil, err
	}
	previous, err := cfg.Fleet.newest(opts.Target)
	if err != nil {
		return nil, err
	}
	l := &lister{cfg: cfg, opts: opts, arch: cmp.Or(list.Architecture, debArchitecture()), previous: previous}
	if err := l.choose(list.Packages); err != nil {
		return nil, err
	}
	var changes []Change
	if previous != nil {
		if changes = CompareList(previous, l.packages); len(changes) == 0 && !opts.Again {
			return l.unchanged()
		}
	}
	if l.work, err = cfg.Store.WorkDir("list"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(l.work)
	if err := l.listSources(ctx); err != nil {
		return nil, err
	}
	if err := opts.Engine.Check(ctx); err != nil { // before anything is fetched
		return nil, err
	}
	if !cfg.Store.Owners().Any() {
		return nil, &OneOwnerError{}
	}
	if err := runtime.CheckArchitecture(l.arch); err != nil {
		return nil, err
	}
	found, err := l.locate(ctx)
	if err != nil {
		return nil, err
	}
	root, err := l.bootstrap(ctx, found)
	if err != nil {
		return nil, err
	}
	host, err := opts.Folder(root)
	if err != nil {
		return nil, err
	}
	defer closeHost(host)
	o := opts.SnapshotOptions
	o.Take = ""                                             // a list has no more than an index, and nothing in what comes of it is a host's
	o.Origin, o.Accept, o.listed = lock.Derived, nil, found // nothing in it has left a host
	res, err := Snapshot(ctx, cfg, host, o)
	if err == nil {
		res.Changes = changes
	}
	return res, err
}

// OneOwnerError says that packages can't be installed where all files are the user's.
type OneOwnerError struct{}

func (e *OneOwnerError) Error() string {
	return "installing packages: their scripts give files to several users, and only your own id can be had here"
}

// Hint says how to go on.
func (e *OneOwnerError) Hint() string {
	return "ask for ranges in /etc/subuid and /etc/subgid, or run as root; stead doctor says more"
}

func closeHost(h snapshot.Host) {
	if c, ok := h.(io.Closer); ok {
		c.Close() // it was only read
	}
}

// lister makes a release of a list.
type lister struct {
	cfg      Config
	opts     ListOptions
	arch     string // the host's native one
	previous *lock.Lock
	packages []snapshot.Package // that are to be installed
	release  distRelease        // zero where it isn't known
	work     string
	fetching archive.FetchOptions
}

// aptDir is the folder with the apt configuration that the host may have had.
func (l *lister) aptDir() string { return filepath.Join(l.work, "apt") }

// choose takes the packages that are installed on the host and not left out.
func (l *lister) choose(listed []snapshot.Package) error {
	without := map[string]bool{}
	for _, name := range l.opts.Without {
		without[name] = false
	}
	var gone, half []string
	for _, p := range listed {
		full := p.Name + ":" + p.Architecture
		_, byName := without[p.Name]
		_, byFull := without[full]
		switch {
		case byName:
			without[p.Name] = true
		case byFull:
			without[full] = true
		case p.State == "config-files":
			gone = append(gone, p.Name)
		case p.State == "installed" || p.State == "triggers-awaited" || p.State == "triggers-pending":
			l.packages = append(l.packages, p)
		default:
			half = append(half, p.Name+" ("+p.State+")")
		}
	}
	for _, name := range l.opts.Without {
		if !without[name] {
			return fmt.Errorf("leaving out %s: it is not in the list", name)
		}
	}
	if len(gone) > 0 {
		l.cfg.Progress.Note("reading", "removed on the host but for their configuration, and not installed: "+some(gone))
	}
	if len(half) > 0 {
		l.cfg.Progress.Note("reading", "not wholly installed on the host, and not installed: "+some(half))
	}
	return nil
}

// some is the beginning of a list, for people.
func some(names []string) string {
	const n = 10
	if len(names) > n {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
	}
	return strings.Join(names, ", ")
}

// CompareList lists the packages that changed from a lock to a list of installed ones,
// by name and architecture. A version on hold has that behind it.
func CompareList(l *lock.Lock, list []snapshot.Package) []Change {
	described := func(version, want string) string {
		if want == "hold" {
			return version + " (hold)"
		}
		return version
	}
	was := map[string][]lock.Package{}
	for _, p := range l.Packages {
		if p.State != "config-files" {
			was[p.Name] = append(was[p.Name], p)
		}
	}
	var changes []Change
	for _, p := range list {
		c := Change{Name: p.Name, Architecture: p.Architecture, After: described(p.Version, p.Want)}
		i := slices.IndexFunc(was[p.Name], func(w lock.Package) bool {
			return p.Architecture == "" || p.Architecture == w.Architecture
		})
		if i >= 0 {
			w := was[p.Name][i]
			was[p.Name] = slices.Delete(was[p.Name], i, i+1)
			c.Architecture, c.Before = w.Architecture, described(w.Version, w.Want)
		}
		if c.Before != c.After {
			changes = append(changes, c)
		}
	}
	for _, left := range was {
		for _, w := range left {
			changes = append(changes, Change{Name: w.Name, Architecture: w.Architecture, Before: described(w.Version, w.Want)})
		}
	}
	slices.SortFunc(changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Architecture, y.Architecture))
	})
	return changes
}

// unchanged is the newest release, which is what the list says.
func (l *lister) unchanged() (*SnapshotResult, error) {
	releases, err := l.cfg.Fleet.Releases(l.opts.Target)
	if err != nil {
		return nil, err
	}
	rel := releases[len(releases)-1]
	id, err := rel.Identity()
	if err != nil {
		return nil, err
	}
	res := &SnapshotResult{Release: rel, Name: rel.String(), Identity: id, Rootfs: l.previous.Rootfs.Digest,
		Delta: l.previous.Delta, Packages: map[string]int{}}
	for _, p := range l.previous.Packages {
		res.Packages[p.Proof]++
	}
	return res, nil
}

// MissingPackage is a package of a list that can't be had.
type MissingPackage struct {
	Name, Version string
	Nearest       string // version that an archive has instead; "" where it has none
	Gone          bool   // an index names it, and nothing serves it
}

// MissingPackagesError names all packages of a list that can't be had.
type MissingPackagesError struct {
	Packages []MissingPackage
	Problems []*archive.Problem
	old      bool // snapshot archives were asked, too
}

func (e *MissingPackagesError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "looking for the list's packages: %d are in no archive, and nothing was written:", len(e.Packages))
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "\n%s %s", p.Name, p.Version)
		switch {
		case p.Gone:
			b.WriteString(", which an index names and nothing serves any more")
		case p.Nearest != "":
			b.WriteString(", the nearest is " + p.Nearest)
		default:
			b.WriteString(", of which there is no version")
		}
	}
	for _, p := range e.Problems {
		b.WriteString("\n" + p.Error())
	}
	return b.String()
}

// Hint says how to go on.
func (e *MissingPackagesError) Hint() string {
	hint := "--archive names another archive"
	if !e.old {
		hint += ", and $STEAD_SNAPSHOT_ARCHIVE one that keeps old versions"
	}
	var flags []string
	for _, p := range e.Packages[:min(len(e.Packages), 10)] {
		flags = append(flags, "--without "+p.Name)
	}
	if len(e.Packages) <= 10 {
		return hint + "; to leave them out: " + strings.Join(flags, " ")
	}
	return hint + "; --without NAME leaves one out"
}

// locate finds and fetches the file of each package, or names all that have none.
func (l *lister) locate(ctx context.Context) (*archive.Result, error) {
	apt, err := l.opts.Folder(l.aptDir())
	if err != nil {
		return nil, err
	}
	defer closeHost(apt)
	snapshots, err := l.cfg.Fleet.Snapshots()
	if err != nil {
		return nil, err
	}
	l.fetching = archive.FetchOptions{Progress: l.cfg.Progress, Pacer: pacer(snapshots, l.previous)}
	debian := archive.Debian{Host: apt, Store: l.cfg.Store, Architecture: l.arch, Previous: l.previous,
		Mirrors: l.cfg.Fleet.allMirrors(), Pools: l.opts.Pools, Snapshots: snapshots, Indexed: true, Fetch: l.fetching}
	var want []archive.Want
	for _, p := range l.packages {
		want = append(want, l.wants(p, p.Version)...)
	}
	found, err := debian.Locate(ctx, want)
	if err != nil {
		return nil, err
	}
	byWant := map[archive.Want][]archive.Candidate{}
	for _, c := range found.Candidates {
		byWant[c.Want] = append(byWant[c.Want], c)
	}
	var chosen []archive.Candidate
	var missing []snapshot.Package
	for i, p := range l.packages {
		var all []archive.Candidate
		for _, w := range l.wants(p, p.Version) {
			all = append(all, byWant[w]...)
		}
		if len(all) == 0 {
			missing = append(missing, p)
			continue
		}
		l.packages[i].Architecture = all[0].Architecture
		chosen = append(chosen, all[0])
	}
	var unfound []archive.Want
	for _, p := range missing {
		unfound = append(unfound, l.wants(p, p.Version)[0])
	}
	if err := searched(unfound, found); err != nil {
		return nil, err
	}
	var absent []archive.Candidate
	if len(missing) == 0 {
		if absent, err = l.fetch(ctx, chosen); err != nil {
			return nil, err
		}
	}
	if len(missing)+len(absent) > 0 {
		return nil, l.missing(ctx, debian, missing, absent, found.Problems)
	}
	return &archive.Result{Candidates: chosen, Archives: found.Archives}, nil
}

// wants are what a listed package may be in an archive: dpkg-query -W tells the
// architecture of few.
func (l *lister) wants(p snapshot.Package, version string) []archive.Want {
	if p.Architecture != "" {
		return []archive.Want{{Name: p.Name, Version: version, Architecture: p.Architecture}}
	}
	return []archive.Want{{Name: p.Name, Version: version, Architecture: l.arch}, {Name: p.Name, Version: version, Architecture: "all"}}
}

// fetch brings the files of packages, and returns those that are nowhere any more.
func (l *lister) fetch(ctx context.Context, chosen []archive.Candidate) (absent []archive.Candidate, err error) {
	remote := store.Folder{Dir: l.cfg.Fleet.Blobs()}
	var files []archive.File
	for _, c := range chosen {
		switch {
		case l.cfg.Store.HasBlob(c.Digest()):
		case remote.Has(c.Digest()):
			if err := remote.Fetch(ctx, l.cfg.Store, c.Digest()); err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		default:
			files = append(files, c.File())
		}
	}
	err = archive.Fetch(ctx, l.cfg.Store, files, l.fetching)
	var each archive.FetchErrors
	if !errors.As(err, &each) {
		return nil, err
	}
	for _, e := range each {
		if !gone(e) {
			return nil, err
		}
	}
	for _, c := range chosen {
		if !l.cfg.Store.HasBlob(c.Digest()) {
			absent = append(absent, c)
		}
	}
	return absent, nil
}

// missing names what can't be had, each with the nearest version that can.
func (l *lister) missing(ctx context.Context, debian archive.Debian, missing []snapshot.Package, absent []archive.Candidate,
	problems []*archive.Problem) error {
	e := &MissingPackagesError{Problems: problems, old: len(debian.Snapshots) > 0}
	var want []archive.Want
	for _, p := range missing {
		want = append(want, l.wants(p, "")...)
	}
	versions := map[string][]string{}
	if len(want) > 0 {
		debian.Fetch.Progress = nil // its notes were made before
		debian.Previous, debian.Pools, debian.Snapshots = nil, nil, nil
		found, err := debian.Locate(ctx, want)
		if err != nil {
			return err
		}
		for _, c := range found.Candidates {
			versions[c.Name] = append(versions[c.Name], c.Version)
		}
	}
	for _, p := range missing {
		e.Packages = append(e.Packages, MissingPackage{Name: p.Name, Version: p.Version, Nearest: nearest(p.Version, versions[p.Name])})
	}
	for _, c := range absent {
		e.Packages = append(e.Packages, MissingPackage{Name: c.Name, Version: c.Version, Gone: true})
	}
	slices.SortFunc(e.Packages, func(a, b MissingPackage) int { return cmp.Compare(a.Name, b.Name) })
	return e
}

// nearest is the lowest of versions above one, else the highest below it. What is no
// version to the library is passed over.
func nearest(version string, versions []string) string {
	at, err := debversion.NewVersion(version)
	if err != nil {
		return ""
	}
	var above, below string
	for _, s := range versions {
		v, err := debversion.NewVersion(s)
		if err != nil {
			continue
		}
		less := func(other string) bool {
			o, err := debversion.NewVersion(other)
			return err != nil || v.LessThan(o)
		}
		switch {
		case at.LessThan(v) && less(above):
			above = s
		case v.LessThan(at) && (below == "" || !less(below)):
			below = s
		}
	}
	return cmp.Or(above, below)
}
