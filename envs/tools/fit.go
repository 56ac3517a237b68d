package tools

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// suits reports whether a relation of a package for the architecture slot means q by its
// architecture, as dpkg has it: without a qualifier the same one or Multi-Arch: foreign,
// with ":any" what allows that.
func (u *universe) suits(r relation, slot string, q *pkg) bool {
	switch r.arch {
	case "":
		return q.slot == slot || q.multi == "foreign"
	case "any":
		return q.multi == "allowed"
	case "native":
		return q.slot == u.native
	}
	return q.slot == r.arch || r.arch == "all" && q.slot == u.native
}

// grants reports whether q satisfies a relation of a package for the architecture slot.
func (u *universe) grants(r relation, slot string, q *pkg) bool {
	if q.name == r.name && r.allows(q.version) && u.suits(r, slot, q) {
		return true
	}
	for _, v := range q.provides {
		if v.name == r.name && versionOf(r, v) && (u.suits(r, slot, q) || providesFor(r, slot, v)) {
			return true
		}
	}
	return false
}

// versionOf reports whether what is provided has a version that r means.
func versionOf(r, provided relation) bool {
	return r.op == "" || provided.op == "=" && r.allows(provided.version)
}

// providesFor is for what is provided with a qualifier, whoever provides it.
func providesFor(r relation, slot string, provided relation) bool {
	if provided.arch == "" || provided.arch == "any" {
		return provided.arch == "any" && r.arch == "any"
	}
	return r.arch == provided.arch || r.arch == "" && slot == provided.arch
}

// hits reports whether a Conflicts or Breaks of p means q. Without a qualifier it means
// every architecture; it never means packages of p's own name, whose versions exclude each
// other anyway.
func (u *universe) hits(r relation, p, q *pkg) bool {
	if p.name == q.name {
		return false
	}
	switch r.arch {
	case "", "any":
	case "native":
		if q.slot != u.native {
			return false
		}
	default:
		if q.slot != r.arch {
			return false
		}
	}
	if q.name == r.name && r.allows(q.version) {
		return true
	}
	return slices.ContainsFunc(q.provides, func(v relation) bool { return v.name == r.name && versionOf(r, v) })
}

// together reports whether two packages of one name can be installed beside each other:
// one version for several architectures, where both say so.
func together(p, q *pkg) bool {
	return p.slot != q.slot && p.multi == "same" && q.multi == "same" && compareVersions(p.version, q.version) == 0
}

// block finds why the base has no place for p, or nil. Every relation between p and the
// base counts, whatever state the base's package is in.
func (u *universe) block(p *pkg) *block {
	if !p.checked {
		p.checked = true
		p.blocked = u.findBlock(p)
	}
	return p.blocked
}

func (u *universe) findBlock(p *pkg) *block {
	for _, q := range u.real(p.name) {
		if q.inBase() && !together(p, q) {
			return &block{by: q}
		}
	}
	p.parse()
	if p.bad != nil {
		return &block{text: fmt.Sprintf("what %s says of other packages can't be read: %v", u.label(p), p.bad)}
	}
	for _, r := range p.against {
		for _, list := range [][]*pkg{u.real(r.name), u.virtual(r.name)} {
			for _, q := range list {
				if q.inBase() && u.hits(r, p, q) {
					return &block{by: q, text: fmt.Sprintf("%s conflicts with %s", u.label(p), described(r, q))}
				}
			}
		}
	}
	if b := u.refused(p, p.name); b != nil {
		return b
	}
	for _, v := range p.provides {
		if b := u.refused(p, v.name); b != nil {
			return b
		}
	}
	return nil
}

// refused looks among what the base's packages conflict with.
func (u *universe) refused(p *pkg, name string) *block {
	for _, a := range u.refuses[name] {
		if !u.hits(a.relation, a.owner, p) {
			continue
		}
		verb := "conflicts with"
		if a.breaks {
			verb = "breaks"
		}
		return &block{by: a.owner, text: fmt.Sprintf("%s's %s %s %s", u.baseName(), u.label(a.owner), verb, described(a.relation, p))}
	}
	return nil
}

// described names a relation, and who is meant where that is by what it provides.
func described(r relation, q *pkg) string {
	if r.name == q.name {
		return r.String()
	}
	return fmt.Sprintf("%s, which %s provides", r, q.name)
}

// A need is what a package, or a wish, asks for: one of the options, or nothing where the
// base grants it.
type need struct {
	owner   *pkg  // nil for a wish
	wish    *Wish // nil for a package
	alts    []relation
	base    *pkg // a package of the base that grants it
	options []option
}

// An option is a package that could grant a need. A class are those of one alternative
// that are real, or that provide it: the lower, the better.
type option struct {
	*pkg
	class int
}

// resolve finds the options of a need in the order of preference, for a package of the
// architecture slot. Where the base grants it there are none: it stays so.
func (u *universe) resolve(n *need, slot string) {
	for _, r := range n.alts {
		if n.base = u.granter(r, slot); n.base != nil {
			return
		}
	}
	seen := map[*pkg]bool{}
	for i, r := range n.alts {
		for virtual, list := range [][]*pkg{u.real(r.name), u.virtual(r.name)} {
			from := len(n.options)
			for _, q := range list {
				if !q.inBase() && !seen[q] && u.grants(r, slot, q) {
					seen[q] = true
					n.options = append(n.options, option{q, 2*i + virtual})
				}
			}
			slices.SortStableFunc(n.options[from:], func(a, b option) int {
				return cmp.Or(strings.Compare(a.name, b.name), falseFirst(a.slot != slot, b.slot != slot))
			})
		}
	}
}

// granter is a package of the base that satisfies a relation.
func (u *universe) granter(r relation, slot string) *pkg {
	for _, list := range [][]*pkg{u.real(r.name), u.virtual(r.name)} {
		for _, q := range list {
			if q.inBase() && q.works && u.grants(r, slot, q) {
				return q
			}
		}
	}
	return nil
}

// label names a package with its version, and its architecture where it isn't the native.
func (u *universe) label(p *pkg) string { return u.short(p) + " " + p.version }

func (u *universe) short(p *pkg) string {
	if p.slot == u.native {
		return p.name
	}
	return p.name + ":" + p.slot
}

func (u *universe) baseName() string {
	if u.base.Name == "" {
		return "the base"
	}
	return u.base.Name
}
