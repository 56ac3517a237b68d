package envs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/tools"
	"github.com/stead-env/stead/snapshot"
)

// maxTried bounds the versions of packages that are fetched for one thing that is missing.
const maxTried = 8

// archives asks the archives of each target that lacks something. What can't be asked is
// told and no error: the verdicts stand.
func (w *ways) archives(ctx context.Context) error {
	byRelease := map[Release][]*lack{}
	var order []Release
	for _, l := range w.lacks {
		if l.kind == loader.NoLoader {
			continue // C libraries aren't exchanged
		}
		if byRelease[l.release] == nil {
			order = append(order, l.release)
		}
		byRelease[l.release] = append(byRelease[l.release], l)
	}
	for _, rel := range order {
		err := w.archivesOf(ctx, rel, byRelease[rel])
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			w.cfg.Progress.Note("searching", fmt.Sprintf("the archives of %s: %v", rel, err))
		}
	}
	return nil
}

// archiveSearch looks through the archives of one release.
type archiveSearch struct {
	*ways
	lock    *lock.Lock
	base    *Root
	on      tools.Base
	objects map[string][]shippedObject // of packages that were fetched, by digest
}

// shippedObject is an object that a package has.
type shippedObject struct {
	name string // of its file
	*object.Object
}

func (w *ways) archivesOf(ctx context.Context, rel Release, lacks []*lack) (err error) {
	l, err := rel.Lock()
	if err != nil {
		return err
	}
	s := &archiveSearch{ways: w, lock: l, objects: map[string][]shippedObject{}, on: tools.Base{Architecture: l.Host.Architecture}}
	text, err := rel.Text()
	if err != nil {
		return err
	}
	s.base = &Root{Release: rel}
	if it, ok := findRoot(w.cfg, lock.Identity(text)); ok {
		s.base.Path = it.Root()
	} else {
		if s.base.Path, err = os.MkdirTemp("", "stead-sources-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.base.Path)) }()
		if err := writeSources(s.base.Path, l); err != nil {
			return err
		}
	}
	w.cfg.Progress.Report(snapshot.Event{Stage: "searching", Item: rel.Target})
	names, err := s.names(ctx, lacks)
	if err != nil || len(names) == 0 {
		return err
	}
	offers, err := offersFor(ctx, w.cfg, *w.options, s.base, l, s.on, names)
	if err != nil {
		return err
	}
	for _, p := range offers.Problems {
		w.cfg.Progress.Note("searching", p.Error())
	}
	for _, l := range lacks {
		if err := s.lowest(ctx, l, offers); err != nil {
			return err
		}
	}
	return nil
}

// writeSources writes down which archives a lock knows, as apt has it, where no root is at
// hand whose own configuration would tell.
func writeSources(root string, l *lock.Lock) error {
	components := map[string][]string{}
	for _, p := range l.Packages {
		// Of Debian's security archive: pool/updates/main/o/openssl.
		parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(p.Path, "pool/"), "updates/"), "/")
		if len(parts) > 1 && !slices.Contains(components[p.Archive], parts[0]) {
			components[p.Archive] = append(components[p.Archive], parts[0])
		}
	}
	var text strings.Builder
	for _, a := range l.Archives {
		if !strings.ContainsAny(a.URI+a.Suite, " \n[]") && len(components[a.Name]) > 0 {
			fmt.Fprintf(&text, "deb %s %s %s\n", a.URI, a.Suite, strings.Join(components[a.Name], " "))
		}
	}
	for name, content := range map[string]string{"etc/apt/sources.list": text.String(), "var/lib/dpkg/arch": l.Host.Architecture + "\n", "var/lib/dpkg/status": ""} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// names are the packages that may have what is missing: the one that has the library
// there, else those that ship one of its name.
func (s *archiveSearch) names(ctx context.Context, lacks []*lack) (names []string, err error) {
	var patterns []string
	for _, l := range lacks {
		switch {
		case l.kind != loader.MissingLibrary && l.pkg != "":
			names = append(names, l.pkg)
		case !strings.Contains(l.library, "/"):
			patterns = append(patterns, "*/"+l.library)
		}
	}
	if len(patterns) > 0 {
		found, err := shippingFor(ctx, s.cfg, *s.options, s.base, s.lock, s.on, patterns)
		if err != nil {
			return nil, err
		}
		for _, p := range found.Problems {
			s.cfg.Progress.Note("searching", p.Error())
		}
		for _, l := range lacks {
			shippers := found.Packages["*/"+l.library]
			l.shippers = shippers[:min(len(shippers), maxTried)]
			names = append(names, l.shippers...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// lowest finds the lowest version of a package that has what is missing.
func (s *archiveSearch) lowest(ctx context.Context, l *lack, offers *toolsOffers) error {
	var offered []lock.Package
	for _, c := range offers.Candidates {
		named := slices.Contains(l.shippers, c.Name) || len(l.shippers) == 0 && c.Name == l.pkg
		if named && c.HasFile() && (c.Name != l.pkg || l.installed == "" || compareVersions(c.Version, l.installed) > 0) {
			offered = append(offered, c.Package)
		}
	}
	slices.SortStableFunc(offered, func(a, b lock.Package) int {
		// The one that Debian's policy calls so comes first.
		named := packageOf(l.library)
		return cmp.Or(cmp.Compare(rank(a.Name == named), rank(b.Name == named)), strings.Compare(a.Name, b.Name),
			compareVersions(a.Version, b.Version))
	})
	for i, p := range offered[:min(len(offered), maxTried)] {
		if i > 0 && p.SHA256 == offered[i-1].SHA256 {
			continue
		}
		objects, err := s.shipped(ctx, p, offers.Archives)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			s.cfg.Progress.Note("searching", err.Error())
			continue
		}
		for _, o := range objects {
			if (o.name == l.library || o.Soname == l.library) && l.grants(o.Object) {
				l.found = append(l.found, spot{artifact.Elsewhere{Archive: p.Archive, Package: p.Name, Version: p.Version}, l.release, s.lock.Host})
				return nil
			}
		}
	}
	return nil
}

// packageOf is the name that a library's package has in Debian: libssl1.1 for
// libssl.so.1.1, libglib2.0-0 for libglib2.0.so.0.
func packageOf(soname string) string {
	name, version, _ := strings.Cut(soname, ".so.")
	if name != "" && name[len(name)-1] >= '0' && name[len(name)-1] <= '9' {
		name += "-"
	}
	return strings.ToLower(strings.ReplaceAll(name+version, "_", "-"))
}

// shipped reads the objects of a package, which is fetched for that.
func (s *archiveSearch) shipped(ctx context.Context, p lock.Package, archives []lock.Archive) ([]shippedObject, error) {
	if known, ok := s.objects[p.SHA256]; ok {
		return known, nil
	}
	fetch := puller{cfg: s.cfg, files: true, who: "an archive", lock: &lock.Lock{Host: s.lock.Host, Archives: archives, Packages: []lock.Package{p}}}
	if err := fetch.blobs(ctx); err != nil {
		return nil, fmt.Errorf("fetching %s %s: %w", p.Name, p.Version, err)
	}
	blob, err := s.cfg.Store.OpenBlob(p.Digest())
	if err != nil {
		return nil, err
	}
	defer blob.Close() //nolint:errcheck // it was only read
	var broken *content.Set
	objects := []shippedObject{}
	err = content.Read(ctx, p.Name, content.Deb, blob, content.Options{}, func(set *content.Set, f *content.File) error {
		if f == nil && set.Within == nil {
			broken = set
		}
		if f == nil || f.Content == nil || !strings.Contains(path.Base(f.Path), ".so") {
			return nil
		}
		if o, err := object.Read(f.Content, f.Size); err == nil {
			objects = append(objects, shippedObject{path.Base(f.Path), o})
		}
		return nil
	})
	if err == nil && broken != nil {
		err = broken.Broken
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", p.Name, p.Version, err)
	}
	s.objects[p.SHA256] = objects
	return objects, nil
}
