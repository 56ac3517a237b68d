package artifact

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
)

// missing are symbols that one object misses of one other.
type missing struct {
	loader.Problem // the first
	names          []string
}

// missingSymbols makes one reason for all that an object misses in the same way.
func (c *check) missingSymbols(problems []loader.Problem, res *loader.Result) {
	type key struct {
		by, found    *loader.Mapped
		lib, version string
		later        bool
	}
	groups := map[key]*missing{}
	var order []*missing
	for _, p := range problems {
		k := key{p.By, p.Found, p.Library, p.Version, p.Later}
		m := groups[k]
		if m == nil {
			m = &missing{Problem: p}
			groups[k] = m
			order = append(order, m)
		}
		m.names = append(m.names, p.Symbol)
	}
	for _, m := range order {
		slices.Sort(m.names)
		m.Symbol = m.names[0]
		r := c.reasonOf(c.missingSymbol(m, res), m.Problem)
		if len(m.names) > 1 {
			r.Symbols = m.names
		}
	}
}

// missingSymbol judges what it means: a library may be meant to get it from whoever loads
// it, and what a library of the target lacks is its target's own business.
func (c *check) missingSymbol(m *missing, res *loader.Result) *Reason {
	kind, by := string(m.Kind), c.by(m.By)
	what := symbolNames(m.names)
	if m.Version != "" {
		what += " at version " + m.Version
	}
	if c.own(m.By) == nil && m.By != nil {
		if m.Later && !c.shadows(res) {
			return c.unproven(kind, "%s, a library of %s itself, calls %s, which nothing that %s loads has",
				by, c.Name, what, c.name)
		}
		return c.fails(kind, "%s of %s needs %s, which nothing that %s loads has", by, c.Name, what, c.name).
			buildIn(c.Target)
	}
	if c.isLibrary() && (m.Version == "" || m.Found == nil) && !c.whole {
		text := fmt.Sprintf("%s needs %s from whoever loads it: no library that it names has it", by, what)
		if len(c.into) > 0 {
			text = fmt.Sprintf("%s needs %s, which neither a library that it names nor %s has: from whoever else"+
				" loads it", by, what, c.into[0])
		}
		older, prefix := c.alike(m, res)
		if older == nil {
			return c.unproven(kind, "%s", text).way("check the program that loads it together with it")
		}
		r := c.unproven(kind, "%s; %s has others that begin with %s, and may be older than what it was built with", text,
			older.Name+c.inPackage(older.File), prefix)
		return r.way("build in %s", c.Name).way("check the program that loads it together with it")
	}
	text := fmt.Sprintf("%s needs %s, which nothing that it loads on %s has", by, what, c.Name)
	if m.Found != nil {
		text = fmt.Sprintf("%s needs %s, which %s on %s lacks", by, what, m.Found.Name+c.inPackage(m.Found.File), c.Name)
	}
	if m.Later {
		text += "; it starts, and ends when it calls that"
	}
	return c.fails(kind, "%s", text).buildIn(c.Target)
}

// minAlike is how many symbols with the same beginning make a library the likely one.
const minAlike = 5

// alike finds a library of the target that an object is linked with and that has symbols
// like the one that is missing: gst_buffer_list_new for gst_buffer_new_memdup.
func (c *check) alike(m *missing, res *loader.Result) (found *loader.Mapped, prefix string) {
	i := strings.IndexByte(m.Symbol, '_')
	if i < 1 || m.By == nil {
		return nil, ""
	}
	prefix = m.Symbol[:i+1]
	most := minAlike - 1
	for _, lib := range res.Objects {
		if c.own(lib) != nil || !slices.Contains(m.By.Object.Needed, lib.Object.Soname) {
			continue
		}
		all := lib.Object.Exports
		from, _ := slices.BinarySearchFunc(all, prefix, func(e object.Export, p string) int { return strings.Compare(e.Name, p) })
		n := 0
		for from+n < len(all) && strings.HasPrefix(all[from+n].Name, prefix) {
			n++
		}
		if n > most {
			most, found = n, lib
		}
	}
	return found, prefix
}

// shadows tells whether a library of the artifact is loaded, in place of the target's
// perhaps: what the target's own libraries miss then isn't their own business.
func (c *check) shadows(res *loader.Result) bool {
	for _, m := range res.Objects {
		if f := c.own(m); f != nil && f != c.file {
			return true
		}
	}
	return false
}

// symbolNames lists symbols for people.
func symbolNames(names []string) string { return some(names) }

// needs lists what the artifact's objects take from the target's, for grouping targets.
func (c *check) needs(res *loader.Result) {
	var own, others []*loader.Mapped
	for _, m := range res.Objects {
		if c.own(m) != nil {
			own = append(own, m)
		} else {
			others = append(others, m)
		}
	}
	byName := map[string]*Need{}
	var order []*Need
	need := func(m *loader.Mapped) *Need {
		name := m.Object.Soname
		if name == "" {
			name = m.Name
		}
		n := byName[name]
		if n == nil {
			n = &Need{Library: name, Path: m.File.Path, Package: c.brought(m.File)}
			byName[name] = n
			order = append(order, n)
		}
		return n
	}
	for _, m := range own {
		for _, lib := range m.Object.Needed {
			if other := bySoname(others, lib); other != nil {
				need(other)
			}
		}
		for _, r := range m.Object.Requirements {
			other := bySoname(others, r.File)
			if other == nil {
				continue
			}
			n := need(other)
			for _, v := range r.Versions {
				if !v.Weak && !slices.Contains(n.Versions, v.Name) {
					n.Versions = append(n.Versions, v.Name)
				}
			}
		}
		c.needSymbols(m.Object, others, need)
	}
	slices.SortFunc(order, func(a, b *Need) int { return strings.Compare(a.Library, b.Library) })
	for _, n := range order {
		slices.Sort(n.Versions)
		slices.Sort(n.Symbols)
		n.Symbols = slices.Compact(n.Symbols)
		c.answer.Needs = append(c.answer.Needs, *n)
	}
}

// maxLookUps bounds how often symbols of one object are looked up for what it needs.
const maxLookUps = 4 << 20

// needSymbols adds the symbols that an object takes without a version.
func (c *check) needSymbols(o *object.Object, others []*loader.Mapped, need func(*loader.Mapped) *Need) {
	for i := range min(len(o.Imports), maxLookUps/max(len(others), 1)) {
		im := &o.Imports[i]
		if im.Version != "" || im.Weak {
			continue
		}
		for _, m := range others {
			if exports(m.Object, im.Name) {
				n := need(m)
				n.Symbols = append(n.Symbols, im.Name)
				break
			}
		}
	}
}

func bySoname(all []*loader.Mapped, name string) *loader.Mapped {
	for _, m := range all {
		if m.Object.Soname == name || m.Name == name || strings.HasSuffix(m.Name, "/"+name) {
			return m
		}
	}
	return nil
}
