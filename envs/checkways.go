package envs

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	debversion "github.com/knqyf263/go-deb-version"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
)

// Bounds of what is looked through for what is missing.
const (
	maxWaySystems = 64 // releases of the fleet
	maxElsewhere  = 10 // places that are told of one reason
)

// notGiven points out libraries that lie here where a file looks for them beside itself,
// and weren't given with it: an artifact is what is checked.
func notGiven(sets []*artifact.Set, answers []artifact.Answer) {
	files := map[string]*artifact.File{}
	for _, set := range sets {
		for i := range set.Files {
			files[set.Files[i].Name] = &set.Files[i]
		}
	}
	for i := range answers {
		f := files[answers[i].File]
		if f == nil || f.Object == nil {
			continue
		}
		dirs := f.Object.RunPath
		if dirs == nil {
			dirs = f.Object.RPath
		}
		for k := range answers[i].Reasons {
			r := &answers[i].Reasons[k]
			if r.Kind != string(loader.MissingLibrary) || r.By != f.Name || strings.Contains(r.Library, "/") {
				continue
			}
			for _, dir := range dirs {
				below, ok := strings.CutPrefix(strings.ReplaceAll(dir, "${ORIGIN}", "$ORIGIN"), "$ORIGIN")
				there := filepath.Join(filepath.Dir(f.Name), below, r.Library)
				if _, err := os.Stat(there); !ok || err != nil {
					continue
				}
				if way := "check it together with " + there; !slices.Contains(r.Ways, way) {
					r.Ways = slices.Insert(r.Ways, 0, way)
				}
				break
			}
		}
	}
}

// knownSystem is a release that may have what another lacks.
type knownSystem struct {
	*system.Index
	host lock.Host
}

// FindWays tells of what is missing where else it is: in which releases of the fleet, the
// lowest version first, and in the archives of the target itself, where there are options
// for asking those. Releases are those that answers name as their targets; their reasons
// are added to.
func FindWays(ctx context.Context, cfg Config, releases []Release, sets []*artifact.Set, answers []artifact.Answer, archives *ToolsOptions) error {
	w := &ways{cfg: cfg, options: archives, byName: map[string]Release{}, machines: map[string]*object.Object{}}
	for _, rel := range releases {
		w.byName[rel.String()] = rel
	}
	for _, set := range sets {
		for i := range set.Files {
			w.machines[set.Files[i].Name] = set.Files[i].Object
		}
	}
	w.collect(answers)
	if len(w.lacks) == 0 {
		return nil
	}
	if err := w.fleet(ctx); err != nil {
		return err
	}
	if archives != nil && cfg.Store != nil {
		if err := w.archives(ctx); err != nil {
			return err
		}
	}
	for _, l := range w.lacks {
		l.tell()
	}
	return nil
}

type ways struct {
	cfg      Config
	options  *ToolsOptions
	byName   map[string]Release
	machines map[string]*object.Object // of the artifact's files, by name
	lacks    []*lack
	finding  sync.Mutex // what lacks have found
}

// lack is one thing that a target doesn't have.
type lack struct {
	kind             loader.Kind
	library, version string
	versions         []string // that are needed of a library which isn't there at all
	symbols          []string
	pkg, installed   string   // that should have it, and its version there
	shippers         []string // packages of the archives that ship a file of its name
	release          Release
	host             lock.Host // of release, once that is known
	machine          *object.Object
	reasons          []*artifact.Reason
	found            []spot
}

// spot is where something is that a target lacks.
type spot struct {
	artifact.Elsewhere
	release Release
	host    lock.Host
}

// collect finds what is missing for which something else would do, each once.
func (w *ways) collect(answers []artifact.Answer) {
	known := map[string]*lack{}
	for i := range answers {
		rel, ok := w.byName[answers[i].Target]
		if !ok {
			continue
		}
		for k := range answers[i].Reasons {
			r := &answers[i].Reasons[k]
			l := lackOf(r)
			if l == nil {
				continue
			}
			l.release, l.machine = rel, w.machines[answers[i].File]
			if l.machine != nil && l.kind == loader.MissingLibrary {
				l.versions = versionsOf(l.machine, l.library)
			}
			key := fmt.Sprintf("%s %s %s %s %q %q", rel, l.kind, l.library, l.version, l.versions, l.symbols)
			if l.machine != nil {
				key += fmt.Sprint(l.machine.Class, l.machine.Machine)
			}
			if known[key] == nil {
				known[key] = l
				w.lacks = append(w.lacks, l)
			}
			known[key].reasons = append(known[key].reasons, r)
		}
	}
}

// lackOf is what a reason says is missing; nil for others.
func lackOf(r *artifact.Reason) *lack {
	l := &lack{kind: loader.Kind(r.Kind), library: r.Library, version: r.Version, symbols: r.Symbols}
	if r.Verdict == artifact.Starts || r.Library == "" {
		return nil
	}
	switch l.kind {
	case loader.NoLoader:
	case loader.MissingLibrary:
		l.library, l.version = path.Base(r.Library), ""
	case loader.MissingVersion:
		if r.Version == "" {
			return nil
		}
	case loader.MissingSymbol:
		if len(l.symbols) == 0 {
			l.symbols = []string{r.Symbol}
		}
	default:
		return nil
	}
	l.pkg, l.installed, _ = strings.Cut(r.Package, " ")
	return l
}

// versionsOf are those that an object needs of a library.
func versionsOf(o *object.Object, library string) (names []string) {
	for _, r := range o.Requirements {
		for _, v := range r.Versions {
			if r.File == library && !v.Weak {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

func defines(o *object.Object, version string) bool {
	return slices.ContainsFunc(o.Definitions, func(d object.Definition) bool { return d.Name == version && !d.Base })
}

// grants tells whether a library has what is missing.
func (l *lack) grants(o *object.Object) bool {
	if m := l.machine; m != nil && (o.Class != m.Class || o.Machine != m.Machine || o.Data != m.Data) {
		return false
	}
	switch l.kind {
	case loader.MissingLibrary:
		return !slices.ContainsFunc(l.versions, func(v string) bool { return !defines(o, v) })
	case loader.MissingVersion:
		return defines(o, l.version)
	case loader.MissingSymbol:
		for _, name := range l.symbols {
			if !slices.ContainsFunc(o.Named(name), func(e object.Export) bool {
				return e.Version == l.version || l.version == "" && !e.Hidden
			}) {
				return false
			}
		}
	}
	return true
}

// in finds which file of a system has what is missing.
func (l *lack) in(s knownSystem) (system.File, bool) {
	for _, p := range placesOf(s.Index, l.library) {
		f, ok := s.Find(p)
		if !ok || f.Dir {
			continue
		}
		if o, err := f.Object(); err == nil && l.grants(o) {
			return f, true
		}
	}
	return system.File{}, false
}

// placesOf are where a system's loaders look for a library by themselves.
func placesOf(s loader.System, library string) (places []string) {
	if strings.Contains(library, "/") {
		return []string{library}
	}
	for _, e := range s.Cached(library) {
		places = append(places, e.Path)
	}
	for _, l := range s.Loaders() {
		for _, dir := range l.SystemDirs {
			places = append(places, path.Join(dir, library))
		}
	}
	return places
}

// fleet looks through the releases of the fleet.
func (w *ways) fleet(ctx context.Context) error {
	candidates, err := w.candidates()
	if err != nil {
		return err
	}
	systems := make([]*knownSystem, len(candidates))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.cfg.jobs())
	for i, rel := range candidates {
		g.Go(func() error {
			index, header, err := OpenIndex(gctx, w.cfg, rel, IndexOptions{})
			if err == nil {
				systems[i] = &knownSystem{index, header.Host}
			}
			return gctx.Err() // one that can't be opened has nothing
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, l := range w.lacks {
		for i, rel := range candidates {
			if s := systems[i]; s != nil && rel == l.release {
				l.host = s.host
			}
		}
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(w.cfg.jobs())
	for i, s := range systems {
		if s == nil {
			continue
		}
		g.Go(func() error {
			w.look(candidates[i], *s)
			return gctx.Err()
		})
	}
	return g.Wait()
}

// candidates are the releases that may have something: all of the targets that are asked
// about, and of others the newest and those that streams point to.
func (w *ways) candidates() ([]Release, error) {
	targets, err := w.cfg.Fleet.Targets()
	if err != nil {
		return nil, err
	}
	own, list := map[string]bool{}, []Release(nil)
	for _, l := range w.lacks {
		own[l.release.Target] = true
	}
	slices.SortStableFunc(targets, func(a, b string) int { return cmp.Compare(rank(own[a]), rank(own[b])) })
	for _, target := range targets {
		releases, err := w.cfg.Fleet.Releases(target)
		if err != nil {
			return nil, err
		}
		slices.Reverse(releases)
		t, err := w.cfg.Fleet.Target(target)
		if err != nil {
			return nil, err
		}
		for i, rel := range releases {
			streamed := false
			for _, number := range t.Streams {
				streamed = streamed || number == rel.Number
			}
			if (own[target] || i == 0 || streamed) && len(list) < maxWaySystems {
				list = append(list, rel)
			}
		}
	}
	return list, nil
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// look notes what a release has of what others lack; several may be looked through at once.
func (w *ways) look(rel Release, s knownSystem) {
	versions := map[string]string{}
	for _, p := range s.Facts().Packages {
		versions[p.Name] = p.Version
	}
	for _, l := range w.lacks {
		if rel == l.release || s.host.Architecture != l.host.Architecture {
			continue
		}
		if f, ok := l.in(s); ok {
			name, _, _ := strings.Cut(f.Package, ":")
			at := spot{artifact.Elsewhere{Release: rel.String(), Package: name, Version: versions[name]}, rel, s.host}
			w.finding.Lock()
			l.found = append(l.found, at)
			w.finding.Unlock()
		}
	}
}

// tell adds what was found to the reasons.
func (l *lack) tell() {
	if len(l.found) == 0 {
		return
	}
	slices.SortStableFunc(l.found, func(a, b spot) int {
		return cmp.Or(strings.Compare(a.Package, b.Package), compareVersions(a.Version, b.Version),
			strings.Compare(a.Release, b.Release))
	})
	ways := l.ways()
	for _, r := range l.reasons {
		r.Ways = append(r.Ways, ways...)
		for _, p := range l.found[:min(len(l.found), maxElsewhere)] {
			r.Elsewhere = append(r.Elsewhere, p.Elsewhere)
		}
	}
}

// ways says in words what was found: in the target's own archive, in its nearest other
// release, and the lowest version of all.
func (l *lack) ways() (list []string) {
	target := l.release.Target
	var archive, own, lowest *spot
	for i := range l.found {
		p := &l.found[i]
		switch {
		case p.Archive != "":
			if archive == nil {
				archive = p
			}
		case p.release.Target == target:
			if own == nil || own.release.Number < l.release.Number && p.release.Number > own.release.Number ||
				p.release.Number > l.release.Number && p.release.Number < own.release.Number {
				own = p
			}
		case lowest == nil || l.alike(p) && !l.alike(lowest):
			lowest = p
		}
	}
	switch {
	case archive == nil:
	case archive.Package == l.pkg:
		list = append(list, fmt.Sprintf("upgrade %s on %s to %s, the lowest version in its archives that has %s (%s)",
			archive.Package, target, archive.Version, l.what(), archive.Archive))
	default:
		list = append(list, fmt.Sprintf("install %s %s on %s: its archives have %s in it (%s)",
			archive.Package, archive.Version, target, l.what(), archive.Archive))
	}
	if own != nil {
		list = append(list, fmt.Sprintf("%s has %s%s", own.Release, l.what(), own.with()))
	}
	if lowest != nil {
		list = append(list, fmt.Sprintf("%s has %s%s: the lowest version among other targets",
			lowest.Release, l.what(), lowest.with()))
	}
	return list
}

// what names what is missing.
func (l *lack) what() string {
	switch l.kind {
	case loader.MissingVersion:
		return l.version
	case loader.MissingSymbol:
		name := l.symbols[0]
		if l.version != "" {
			name += "@" + l.version
		}
		if more := len(l.symbols) - 1; more > 0 {
			name += fmt.Sprintf(" and %d more", more)
		}
		return name
	}
	return l.library
}

// alike tells whether a place is of the same distribution and version of it, so that its
// packages would do there.
func (l *lack) alike(p *spot) bool {
	return l.host.ID != "" && l.host.ID == p.host.ID && l.host.Version == p.host.Version
}

func (p *spot) with() string {
	if p.Package == "" {
		return ""
	}
	return strings.TrimRight(fmt.Sprintf(", in %s %s", p.Package, p.Version), " ")
}

// compareVersions orders versions of one package as Debian does; what is no version comes
// last.
func compareVersions(a, b string) int {
	va, errA := debversion.NewVersion(a)
	vb, errB := debversion.NewVersion(b)
	if errA != nil || errB != nil {
		return cmp.Compare(rank(errA == nil), rank(errB == nil))
	}
	return va.Compare(vb)
}
