package envs

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/envs/tools"
	"github.com/stead-env/stead/snapshot"
)

// ToolsOptions are what choosing tools needs beside a Config.
type ToolsOptions struct {
	// OpenRoot opens a folder of this machine for reading.
	OpenRoot func(dir string) (snapshot.Host, error)
	Readers  []snapshot.Reader // of a root's package database
	Offline  bool              // no archive is asked: what is at hand has to do
	// Known are tools that were chosen before: their files are offered, as far as they
	// are at hand.
	Known []*Tools
}

// toolsOffers is what tools for a release can be chosen from.
type toolsOffers struct {
	Candidates []tools.Candidate
	Archives   []lock.Archive // those that candidates name
	// Problems are archives that could not be read: what they have isn't among the
	// candidates.
	Problems []*archive.Problem
}

// toolsBase is what tools are added to: the packages of a root, by its own database.
func toolsBase(ctx context.Context, host snapshot.Host, readers []snapshot.Reader) (tools.Base, error) {
	db, err := snapshot.ReadDatabase(ctx, host, readers)
	if err != nil {
		return tools.Base{}, err
	}
	base := tools.Base{Architecture: db.Architecture, Foreign: db.Foreign}
	for _, p := range db.Packages {
		in := tools.Installed{Name: p.Name, Version: p.Version, Architecture: p.Architecture, State: p.State}
		if p.State != "config-files" {
			about, err := controlRelations(p.Control)
			if err != nil {
				return tools.Base{}, fmt.Errorf("reading what %s %s says of others: %w", p.Name, p.Version, err)
			}
			in.Relations = about.Relations
		}
		base.Packages = append(base.Packages, in)
	}
	return base, nil
}

// about is what a control file says.
type about struct {
	tools.Relations
	source string
}

func controlRelations(control []byte) (a about, err error) {
	fields, err := image.ControlFields(control)
	if err != nil {
		return a, err
	}
	get := func(name string) string { return strings.Join(fields[name], ", ") }
	a.Relations = tools.Relations{MultiArch: get("Multi-Arch"), PreDepends: get("Pre-Depends"), Depends: get("Depends"),
		Conflicts: get("Conflicts"), Breaks: get("Breaks"), Replaces: get("Replaces"), Provides: get("Provides"),
		Recommends: get("Recommends")}
	a.source, _, _ = strings.Cut(get("Source"), " ")
	return a, nil
}

// offersFor finds what can be added to a release whose root is base and whose packages
// are on: the packages of those names, or which provide them, and all that these may
// come to need. Without names it is all that archives have.
func offersFor(ctx context.Context, cfg Config, opts ToolsOptions, base *Root, l *lock.Lock, on tools.Base, names []string) (*toolsOffers, error) {
	debian, done, err := opts.archives(ctx, cfg, base, l, on)
	if err != nil {
		return nil, err
	}
	defer done()
	installed := map[[2]string]string{}
	for _, p := range on.Packages {
		if p.State != "config-files" {
			installed[[2]string{p.Name, p.Architecture}] = p.Version
		}
	}
	machine, err := opts.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	defer closeHost(machine)
	h := holdings{cfg: cfg, opts: opts, lock: l, installed: installed}
	held := h.find
	if len(names) == 0 {
		held = nil // all that is at hand would take long to read
	}
	found, err := debian.Offers(ctx, archive.OfferOptions{Foreign: on.Foreign, Names: names, Machine: machine, Held: held,
		Installed: func(name, arch string) string { return installed[[2]string{name, arch}] }})
	if err != nil {
		return nil, err
	}
	all := &toolsOffers{Archives: found.Archives, Problems: found.Problems}
	for _, o := range found.Packages {
		all.Candidates = append(all.Candidates, tools.Candidate{Package: o.Package, Source: o.Source, Rank: o.Rank, NotAutomatic: o.NotAutomatic,
			Relations: tools.Relations{MultiArch: o.MultiArch, PreDepends: o.PreDepends, Depends: o.Depends,
				Conflicts: o.Conflicts, Breaks: o.Breaks, Replaces: o.Replaces, Provides: o.Provides, Recommends: o.Recommends}})
	}
	return all, nil
}

// archives are the archives of a release, as its root's own configuration names them. The
// caller calls done when it is through.
func (o ToolsOptions) archives(ctx context.Context, cfg Config, base *Root, l *lock.Lock, on tools.Base) (d archive.Debian, done func(), err error) {
	snapshots, err := cfg.Fleet.Snapshots()
	if err != nil {
		return d, nil, err
	}
	remote := store.Folder{Dir: cfg.Fleet.Blobs()}
	for _, a := range l.Archives {
		if !cfg.Store.HasBlob(a.InRelease) && remote.Has(a.InRelease) {
			if err := remote.Fetch(ctx, cfg.Store, a.InRelease); err != nil {
				cfg.Progress.Note("fetching", err.Error())
			}
		}
	}
	root, err := o.OpenRoot(base.Path)
	if err != nil {
		return d, nil, err
	}
	return archive.Debian{Host: root, Store: cfg.Store, Architecture: on.Architecture, Previous: l,
		Mirrors: cfg.Fleet.allMirrors(), Snapshots: snapshots, Offline: o.Offline,
		Fetch: archive.FetchOptions{Progress: cfg.Progress, Pacer: pacer(snapshots, l)}}, func() { closeHost(root) }, nil
}

// holdings are package files in the store that some lock names.
type holdings struct {
	cfg       Config
	opts      ToolsOptions
	lock      *lock.Lock
	installed map[[2]string]string // versions, by name and architecture
	wanted    func(name string) bool
	found     []archive.Held
	seen      map[string]bool // by digest
}

// find looks through the locks of the fleet that are of the same distribution, and
// through the tools that were chosen before.
func (h *holdings) find(ctx context.Context, wanted func(string) bool) ([]archive.Held, error) {
	h.wanted, h.found, h.seen = wanted, nil, map[string]bool{}
	for _, t := range h.opts.Known {
		if err := h.take(ctx, t.Packages, t.Archives); err != nil {
			return nil, err
		}
	}
	targets, err := h.cfg.Fleet.Targets()
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		releases, err := h.cfg.Fleet.Releases(target)
		if err != nil {
			return nil, err
		}
		for _, rel := range releases {
			if err := h.release(ctx, rel); err != nil {
				return nil, err
			}
		}
	}
	return h.found, nil
}

// release takes what a release names. One that can't be read offers nothing.
func (h *holdings) release(ctx context.Context, rel Release) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	text, err := rel.Text()
	if err != nil || !h.mentions(text) {
		return nil
	}
	l, err := lock.Read(text)
	if err != nil || l.Host.ID != h.lock.Host.ID || l.Host.Codename != h.lock.Host.Codename {
		return nil
	}
	return h.take(ctx, l.Packages, l.Archives)
}

// mentions reports whether a lock has a package that matters: reading all of one takes a
// while. Its spelling is canonical.
func (h *holdings) mentions(text []byte) bool {
	for line := range bytes.Lines(text) {
		if name, ok := bytes.CutPrefix(line, []byte(`name = "`)); ok && h.matters(string(bytes.TrimRight(name, "\"\n")), "") {
			return true
		}
	}
	return false
}

// matters reports whether a package may be chosen; arch is "" where it isn't known.
func (h *holdings) matters(name, arch string) bool {
	if !h.wanted(name) {
		return false
	}
	for _, a := range []string{arch, "all", h.lock.Host.Architecture} {
		if h.installed[[2]string{name, a}] != "" && (arch == "" || a == arch) {
			return false
		}
	}
	return true
}

// take adds the packages whose files are in the store.
func (h *holdings) take(ctx context.Context, packages []lock.Package, archives []lock.Archive) error {
	for _, p := range packages {
		if !p.HasFile() || h.seen[p.SHA256] || !h.matters(p.Name, p.Architecture) || !h.cfg.Store.HasBlob(p.Digest()) {
			continue
		}
		h.seen[p.SHA256] = true
		members, err := image.Control(ctx, h.cfg.Store, p.Digest())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var a about
		if err == nil {
			a, err = controlRelations(members["control"])
		}
		if err != nil {
			h.cfg.Progress.Note("locating", fmt.Sprintf("%s %s in the store isn't offered: %v", p.Name, p.Version, err))
			continue
		}
		held := archive.Held{Offer: archive.Offer{Package: p, Source: a.source, MultiArch: a.MultiArch, PreDepends: a.PreDepends,
			Depends: a.Depends, Conflicts: a.Conflicts, Breaks: a.Breaks, Replaces: a.Replaces, Provides: a.Provides, Recommends: a.Recommends}}
		if i := slices.IndexFunc(archives, func(a lock.Archive) bool { return a.Name == p.Archive }); i >= 0 {
			held.From = archives[i]
		}
		h.found = append(h.found, held)
	}
	return nil
}

// shippingFor finds which packages of a release's archives ship files: see
// archive.Debian.Shipping.
func shippingFor(ctx context.Context, cfg Config, opts ToolsOptions, base *Root, l *lock.Lock, on tools.Base, paths []string) (*archive.Shipped, error) {
	debian, done, err := opts.archives(ctx, cfg, base, l, on)
	if err != nil {
		return nil, err
	}
	defer done()
	machine, err := opts.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	defer closeHost(machine)
	return debian.Shipping(ctx, paths, archive.OfferOptions{Machine: machine})
}
