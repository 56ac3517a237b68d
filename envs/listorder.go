package envs

import (
	"slices"
	"strings"
)

// debControl is what the order of installing a package depends on.
type debControl struct {
	name, arch                    string
	essential                     bool
	preDepends, depends, provides string // as deb-control(5) has them
}

// debGraph are packages with what they need of each other.
type debGraph struct {
	all       []debControl
	byName    map[string][]int
	providers map[string][]int
	pre, deps [][]int // by package
}

func newDebGraph(all []debControl) *debGraph {
	g := &debGraph{all: all, byName: map[string][]int{}, providers: map[string][]int{}}
	for i, c := range all {
		g.byName[c.name] = append(g.byName[c.name], i)
		for _, p := range strings.Split(c.provides, ",") {
			if name := relationName(p); name != "" {
				g.providers[name] = append(g.providers[name], i)
			}
		}
	}
	for _, c := range all {
		g.pre = append(g.pre, g.resolve(c.arch, c.preDepends))
		g.deps = append(g.deps, g.resolve(c.arch, c.depends))
	}
	return g
}

// relationName is the name in "name:any (>= 1.0) [arch]".
func relationName(relation string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(relation), " ")
	name, _, _ = strings.Cut(name, "(")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// resolve finds the packages that satisfy a field: of alternatives the first that is
// among them. Versions aren't looked at, for on the host they were right.
func (g *debGraph) resolve(arch, field string) []int {
	var found []int
	for _, clause := range strings.Split(field, ",") {
		for _, alternative := range strings.Split(clause, "|") {
			name := relationName(alternative)
			list := g.byName[name]
			if len(list) == 0 {
				list = g.providers[name]
			}
			if name == "" || len(list) == 0 {
				continue
			}
			best := list[0]
			for _, i := range list {
				if g.all[i].arch == arch {
					best = i
				}
			}
			found = append(found, best)
			break
		}
	}
	return found
}

// closure is a set of packages with all that they need, in the order of the numbers.
func (g *debGraph) closure(start []int) []int {
	in := map[int]bool{}
	todo := slices.Clone(start)
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if in[i] {
			continue
		}
		in[i] = true
		todo = append(append(todo, g.pre[i]...), g.deps[i]...)
	}
	list := make([]int, 0, len(in))
	for i := range g.all {
		if in[i] {
			list = append(list, i)
		}
	}
	return list
}

// essential are the packages without which no script runs, with all that they need.
func (g *debGraph) essential(native string) []int {
	var start []int
	for i, c := range g.all {
		if c.essential && (c.arch == native || c.arch == "all") {
			start = append(start, i)
		}
	}
	return g.closure(start)
}

// batches puts the other packages into an order in which what a package pre-depends on
// is configured before the package is unpacked. Nearly all are in the last batch.
func (g *debGraph) batches(done []int) [][]int {
	ready := map[int]bool{}
	for _, i := range done {
		ready[i] = true
	}
	var rest []int
	for i := range g.all {
		if !ready[i] {
			rest = append(rest, i)
		}
	}
	var order [][]int
	for len(rest) > 0 {
		var first []int // what others wait for
		for _, i := range rest {
			for _, p := range g.pre[i] {
				if !ready[p] {
					first = append(first, p)
				}
			}
		}
		batch := slices.DeleteFunc(g.closure(first), func(i int) bool {
			return ready[i] || slices.ContainsFunc(g.pre[i], func(p int) bool { return !ready[p] })
		})
		if len(batch) == 0 {
			batch = rest // nobody waits, or all wait in a circle, which dpkg is forced through
		}
		for _, i := range batch {
			ready[i] = true
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(i int) bool { return ready[i] })
		order = append(order, batch)
	}
	return order
}
