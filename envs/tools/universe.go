package tools

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A pkg is one version of a package, of the base or to be had.
type pkg struct {
	name, version, arch string
	slot                string // arch, with "all" as the native one: one version has the place
	multi               string // Multi-Arch
	rel                 *Relations
	cand                *Candidate // nil for the base's
	works               bool       // of the base, and fully installed
	dropped             bool       // there is another file of this very version
	provides            []relation // with "=" or no version

	parsed  bool
	wants   [][]relation // what must be there: Pre-Depends and Depends
	against []relation   // what may not: Conflicts and Breaks
	bad     error        // why these can't be read
	checked bool
	blocked *block
}

func (p *pkg) inBase() bool { return p.cand == nil }

// A block is why the base has no place for a package.
type block struct {
	by   *pkg   // of the base; nil where the package itself is no good
	text string // "libpq5 13.11 conflicts with libpq (<< 14)"; "" where by has the place
}

// An against is a relation of the base's by which it bears no other package.
type against struct {
	owner *pkg
	relation
	breaks bool
}

// universe is all that is known, found by name. What isn't reached isn't looked at.
type universe struct {
	base     *Base
	native   string
	arches   map[string]bool
	names    map[string][]*pkg    // by name, the preferred first once sorted
	provided map[string][]*pkg    // by what they provide beside their name
	refuses  map[string][]against // the base's, by name

	sorted, sortedVirtual map[string][]*pkg // what was asked for, in order
}

func newUniverse(base *Base, candidates []Candidate) (*universe, error) {
	u := &universe{
		base: base, native: base.Architecture,
		arches:   map[string]bool{"all": true, base.Architecture: true},
		names:    make(map[string][]*pkg, len(candidates)),
		provided: map[string][]*pkg{}, refuses: map[string][]against{},
		sorted: map[string][]*pkg{}, sortedVirtual: map[string][]*pkg{},
	}
	for _, a := range base.Foreign {
		u.arches[a] = true
	}
	for i := range base.Packages {
		if err := u.addInstalled(&base.Packages[i]); err != nil {
			return nil, err
		}
	}
	many := make([]pkg, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		if !u.arches[c.Architecture] {
			continue
		}
		p := &many[i]
		*p = pkg{name: c.Name, version: c.Version, arch: c.Architecture, multi: c.MultiArch, rel: &c.Relations, cand: c}
		if err := u.add(p); err != nil {
			p.bad = err
		}
	}
	return u, nil
}

func (u *universe) addInstalled(i *Installed) error {
	words := strings.Fields(i.State)
	state := "installed"
	if len(words) > 0 {
		state = words[len(words)-1]
	}
	if state == "config-files" || state == "not-installed" {
		return nil
	}
	p := &pkg{name: i.Name, version: i.Version, arch: i.Architecture, multi: i.MultiArch, rel: &i.Relations}
	p.works = state == "installed" || strings.HasPrefix(state, "triggers-")
	if err := u.add(p); err != nil {
		return fmt.Errorf("reading what the base's %s provides: %w", p.name, err)
	}
	for breaks, field := range map[bool]string{false: i.Conflicts, true: i.Breaks} {
		list, err := parseRelations(field, p.slot)
		if err != nil {
			return fmt.Errorf("reading what the base's %s conflicts with: %w", p.name, err)
		}
		for _, alternatives := range list {
			for _, r := range alternatives {
				u.refuses[r.name] = append(u.refuses[r.name], against{p, r, breaks})
			}
		}
	}
	return nil
}

// add enters a package under its name and under what it provides.
func (u *universe) add(p *pkg) error {
	p.slot = p.arch
	if p.arch == "all" || p.arch == "" {
		p.slot = u.native
	}
	p.multi = strings.TrimSpace(p.multi)
	u.names[p.name] = append(u.names[p.name], p)
	if p.rel.Provides == "" {
		return nil
	}
	list, err := parseRelations(p.rel.Provides, p.slot)
	if err != nil {
		return err
	}
	for _, alternatives := range list {
		for _, r := range alternatives {
			if r.op != "" && r.op != "=" {
				continue // dpkg and apt pass over these
			}
			p.provides = append(p.provides, r)
			if byName := u.provided[r.name]; r.name != p.name && (len(byName) == 0 || byName[len(byName)-1] != p) {
				u.provided[r.name] = append(byName, p)
			}
		}
	}
	return nil
}

// parse reads what p needs and conflicts with.
func (p *pkg) parse() {
	if p.parsed {
		return
	}
	p.parsed = true
	read := func(field string) [][]relation {
		list, err := parseRelations(field, p.slot)
		if err != nil && p.bad == nil {
			p.bad = err
		}
		return list
	}
	p.wants = append(read(p.rel.PreDepends), read(p.rel.Depends)...)
	for _, alternatives := range append(read(p.rel.Conflicts), read(p.rel.Breaks)...) {
		p.against = append(p.against, alternatives...)
	}
}

// real are the packages of a name, in order.
func (u *universe) real(name string) []*pkg {
	if list, ok := u.sorted[name]; ok {
		return list
	}
	list := u.names[name]
	slices.SortFunc(list, u.prefer)
	seen := make(map[[2]string]bool, len(list))
	list = slices.DeleteFunc(list, func(p *pkg) bool {
		key := [2]string{p.version, p.slot}
		p.dropped = seen[key]
		seen[key] = true
		return p.dropped
	})
	u.sorted[name] = list
	return list
}

// virtual are the packages that provide a name beside their own, in order.
func (u *universe) virtual(name string) []*pkg {
	if list, ok := u.sortedVirtual[name]; ok {
		return list
	}
	list := u.provided[name]
	for _, p := range list {
		u.real(p.name)
	}
	list = slices.DeleteFunc(list, func(p *pkg) bool { return p.dropped })
	slices.SortFunc(list, u.prefer)
	u.sortedVirtual[name] = list
	return list
}

// prefer orders packages by all that doesn't depend on who asks: by name, the native
// architecture, the base's, what archives offer by themselves, the newest version, the
// lowest rank. The rest is for always having the same order.
func (u *universe) prefer(a, b *pkg) int {
	if c := cmp.Or(strings.Compare(a.name, b.name), falseFirst(a.slot != u.native, b.slot != u.native),
		strings.Compare(a.slot, b.slot), falseFirst(!a.inBase(), !b.inBase())); c != 0 {
		return c
	}
	if a.inBase() {
		return strings.Compare(a.version, b.version)
	}
	x, y := a.cand, b.cand
	return cmp.Or(falseFirst(x.NotAutomatic, y.NotAutomatic), compareVersions(y.Version, x.Version), cmp.Compare(x.Rank, y.Rank),
		strings.Compare(x.Version, y.Version), strings.Compare(x.Architecture, y.Architecture),
		strings.Compare(x.SHA256, y.SHA256), strings.Compare(x.Archive, y.Archive), strings.Compare(x.Path, y.Path))
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
