package tools

import (
	"slices"
	"strings"
)

// needsOf are the wishes that the base doesn't grant, and all needs of the packages.
func (p *problem) needsOf(packages []*pkg) (list []*need) {
	for _, n := range p.wishes {
		if n.base == nil && !n.wish.There {
			list = append(list, n)
		}
	}
	for _, q := range packages {
		list = append(list, p.nodes[q].needs...)
	}
	return list
}

// prune leaves out what turned out to be needed by nobody, the last first: an alternative
// may have been taken before the other was needed anyway.
func (p *problem) prune(w *walk) []*pkg {
	in := w.in
	steps := slices.Clone(w.steps)
	for {
		alone := map[*pkg]bool{} // what is the only one to grant something
		for _, n := range p.needsOf(steps) {
			var by []*pkg
			for _, o := range n.options {
				if in[o.pkg] {
					by = append(by, o.pkg)
				}
			}
			if len(by) == 1 {
				alone[by[0]] = true
			}
		}
		drop := -1
		for i, q := range steps {
			if !alone[q] {
				drop = i
			}
		}
		if drop < 0 {
			before := len(steps)
			if steps = p.reachable(steps, in); len(steps) == before {
				return steps
			}
			continue
		}
		delete(in, steps[drop])
		steps = slices.Delete(steps, drop, drop+1)
	}
}

// reachable are the packages that the wishes lead to: two that need each other and nobody
// else does are not among them.
func (p *problem) reachable(steps []*pkg, in map[*pkg]bool) (list []*pkg) {
	seen := map[*pkg]bool{}
	open := p.needsOf(nil)
	for i := 0; i < len(open); i++ {
		if q := granting(open[i], in); !seen[q] {
			seen[q] = true
			open = append(open, p.nodes[q].needs...)
		}
	}
	return slices.DeleteFunc(steps, func(q *pkg) bool {
		if !seen[q] {
			delete(in, q)
		}
		return !seen[q]
	})
}

// granting is the package that grants a need: the preferred of those chosen.
func granting(n *need, in map[*pkg]bool) *pkg {
	for _, o := range n.options {
		if in[o.pkg] {
			return o.pkg
		}
	}
	return nil
}

func (p *problem) answer(chosen []*pkg) *Answer {
	in := map[*pkg]bool{}
	for _, q := range chosen {
		in[q] = true
	}
	a := &Answer{}
	wish, needed := map[*pkg]string{}, map[*pkg][]string{}
	for _, n := range p.wishes {
		g := Grant{Wish: n.wish.Text}
		by := n.base
		if g.Base = by != nil || n.wish.There; !g.Base {
			by = granting(n, in)
			if wish[by] == "" {
				wish[by] = n.wish.Text
			}
		}
		if by != nil {
			g.Name, g.Version, g.Architecture = by.name, by.version, by.arch
		}
		a.Granted = append(a.Granted, g)
	}
	for _, q := range chosen {
		for _, n := range p.nodes[q].needs {
			by := granting(n, in)
			needed[by] = append(needed[by], p.short(q))
		}
	}
	for _, q := range chosen {
		slices.Sort(needed[q])
		a.Packages = append(a.Packages, Chosen{Candidate: *q.cand, Wish: wish[q], For: slices.Compact(needed[q])})
	}
	slices.SortFunc(a.Packages, func(a, b Chosen) int {
		return strings.Compare(a.Name+"\x00"+a.Architecture, b.Name+"\x00"+b.Architecture)
	})
	return a
}
