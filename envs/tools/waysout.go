package tools

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-air/gini/z"
)

// waysOut finds what would help: names that may have been meant, a version that goes with
// the base, packages of the base that would have to move.
func (s *story) waysOut(ctx context.Context, wishes []Wish) (ways []string, err error) {
	for _, c := range s.in {
		if c.need != nil && c.need.wish != nil {
			ways = append(ways, s.kept(c.need)...)
		}
	}
	for _, c := range s.in {
		if c.need != nil && c.need.wish != nil && len(c.need.options) == 0 {
			ways = append(ways, s.meant(c.need)...)
		}
	}
	for _, c := range s.in {
		if c.need != nil {
			ways = append(ways, s.matching(c.need)...)
		}
	}
	moves, err := s.moves(ctx, wishes)
	if err != nil {
		return nil, err
	}
	if len(moves) > 0 {
		ways = append(ways, moved(s.baseName(), moves))
	}
	return slices.Compact(ways), nil
}

// kept finds wishes for another version of what the base has: no version of that can be
// added, and the base's own grants the wish for any.
func (s *story) kept(n *need) (ways []string) {
	for _, r := range n.alts {
		if q := s.own(r); q != nil && r.op != "" && !s.universe.grants(r, s.native, q) {
			name := r.name
			if r.arch != "" {
				name += ":" + r.arch
			}
			ways = append(ways, fmt.Sprintf("ask for %s without a version: %s keeps its %s", name, s.baseName(), q.version))
		}
	}
	return ways
}

// own is the base's package of the name and architecture of a wish; nil for none that works.
func (s *story) own(r relation) *pkg {
	for _, q := range s.real(r.name) {
		if q.inBase() && q.works && s.suits(r, s.native, q) {
			return q
		}
	}
	return nil
}

func moved(base string, moves []string) string {
	const most = 6
	more := ""
	if len(moves) > most {
		more = fmt.Sprintf(", and %d more packages", len(moves)-most)
		moves = moves[:most]
	}
	return fmt.Sprintf("it would fit a release of %s with %s%s", base, strings.Join(moves, ", "), more)
}

// matching finds what is made in lock step with a package of the base, and would fit in the
// base's version: it isn't offered, or it would have been taken.
func (s *story) matching(n *need) (ways []string) {
	if n.owner == nil {
		return nil
	}
	for _, r := range n.alts {
		if r.op != "=" && r.op != ">=" || compareVersions(sourceful(r.version), sourceful(n.owner.version)) != 0 {
			continue
		}
		for _, q := range s.real(r.name) {
			if !q.inBase() || compareVersions(q.version, n.owner.version) == 0 {
				continue
			}
			offered := slices.ContainsFunc(s.real(n.owner.name), func(o *pkg) bool {
				return o.slot == n.owner.slot && compareVersions(sourceful(o.version), sourceful(q.version)) == 0
			})
			if !offered {
				ways = append(ways, fmt.Sprintf("%s %s would fit, and is offered no more: a snapshot archive keeps such versions",
					s.short(n.owner), sourceful(q.version)))
			}
		}
	}
	return ways
}

// sourceful cuts off what a rebuild without a change of the source adds: "+b1".
func sourceful(version string) string {
	if i := strings.LastIndex(version, "+b"); i >= 0 && i+2 < len(version) && digits(version[i+2:]) == len(version)-i-2 {
		return version[:i]
	}
	return version
}

// meant finds what a wish for which there is nothing may have meant.
func (s *story) meant(n *need) (ways []string) {
	for _, r := range n.alts {
		if r.arch != "" && r.arch != "any" && r.arch != "native" && !s.arches[r.arch] {
			ways = append(ways, fmt.Sprintf("%s would have to know the architecture %s (dpkg --add-architecture)", s.baseName(), r.arch))
			continue
		}
		if s.own(r) != nil {
			continue // nothing else of that name can be added
		}
		var versions []string
		for _, q := range s.real(r.name) {
			if !q.inBase() && r.op != "" && s.suits(r, s.native, q) {
				versions = append(versions, q.version)
			}
		}
		if len(versions) > 0 {
			ways = append(ways, fmt.Sprintf("%s is offered as %s", r.name, strings.Join(versions[:min(5, len(versions))], ", ")))
			continue
		}
		var others []string
		for _, q := range s.real(r.name) {
			if !slices.Contains(others, q.arch) {
				others = append(others, q.arch)
			}
		}
		if len(others) > 0 {
			ways = append(ways, fmt.Sprintf("%s is offered for %s", r.name, strings.Join(others, ", ")))
		} else if near := s.near(r.name); len(near) > 0 {
			ways = append(ways, "there is "+strings.Join(near, ", "))
		}
	}
	return ways
}

// near are the names that come nearest to one that nobody has: what makes it of the name
// of a library or source, what is spelled like it, first of what the base has a part of.
func (s *story) near(name string) []string {
	type scored struct {
		name string
		far  int
	}
	var list []scored
	stem := strings.TrimSuffix(name, "-dev")
	bound := 1 + len(name)/5
	akin := s.stems()
	for other, packages := range s.names {
		if other == name {
			continue
		}
		d := distance(name, other, bound)
		switch {
		case len(stem) > 2 && (other == stem || other == stem+"-dev" || other == "lib"+stem+"-dev" || other == "python3-"+stem):
			d = 0
		case strings.HasSuffix(other, "-dev") && slices.ContainsFunc(packages, func(q *pkg) bool {
			return q != nil && q.cand != nil && q.cand.Source == stem
		}):
			d = 0
		}
		if d <= bound {
			far := 2 * d
			if !akin(strings.TrimSuffix(other, "-dev")) {
				far++
			}
			list = append(list, scored{other, far})
		}
	}
	for other := range s.provided {
		if d := distance(name, other, bound); len(s.names[other]) == 0 && other != name && d <= bound {
			list = append(list, scored{other, 2*d + 1})
		}
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(a.far-b.far, strings.Compare(a.name, b.name))
	})
	var names []string
	for _, l := range list[:min(5, len(list))] {
		names = append(names, l.name)
	}
	return names
}

// stems tells whether the base has a package whose name begins like that.
func (s *story) stems() func(stem string) bool {
	var names []string
	for _, p := range s.universe.base.Packages {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return func(stem string) bool {
		i, _ := slices.BinarySearch(names, stem)
		return i < len(names) && strings.HasPrefix(names[i], stem)
	}
}

// distance is how many letters must change to get from one name to the other, or more than
// bound; two that changed places are one.
func distance(a, b string, bound int) int {
	if len(a)-len(b) > bound || len(b)-len(a) > bound || len(a) > 200 {
		return bound + 1
	}
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
			least = min(least, now[j])
		}
		if least > bound {
			return bound + 1
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

// moves solves again with a base whose packages may get other versions, and tells which few
// would have to: "libpq5 13.11 instead of 13.8".
func (s *story) moves(ctx context.Context, wishes []Wish) (moves []string, err error) {
	m, err := newMovable(ctx, s.universe, wishes)
	if err != nil {
		return nil, err
	}
	free, err := m.free(ctx)
	if err != nil || free == nil {
		return nil, err
	}
	stay := slices.DeleteFunc(slices.Clone(m.base), func(q *pkg) bool { return free[q] })
	lits := m.lits(stay)
	for _, q := range m.base {
		if !free[q] {
			continue
		}
		for _, other := range m.real(q.name) {
			if other.inBase() || other.slot != q.slot || m.nodes[other] == nil {
				continue
			}
			ok, _, err := m.solve(ctx, m.grants, lits, []z.Lit{m.nodes[other].lit})
			if err != nil {
				return nil, err
			}
			if ok {
				lits = append(lits, m.nodes[other].lit)
				moves = append(moves, fmt.Sprintf("%s %s instead of %s", s.short(q), other.version, q.version))
				break
			}
		}
	}
	return moves, nil
}
