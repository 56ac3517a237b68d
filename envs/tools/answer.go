package tools

import (
	"slices"
	"strings"
)

// prune leaves out what turned out to be needed by nobody, the last first: an alternative
// may have been taken before the other was needed anyway. No part of what remains would do.
func (p *problem) prune(w *walk) []*pkg {
	t := &thinner{in: w.in, users: map[*pkg][]*need{}, left: map[*need]int{}}
	t.add(p.wishes)
	for _, q := range w.steps {
		t.add(p.nodes[q].needs)
	}
	for _, q := range slices.Backward(w.steps) {
		if t.in[q] {
			t.drop(q)
		}
	}
	return slices.DeleteFunc(w.steps, func(q *pkg) bool { return !t.in[q] })
}

// A thinner knows how many of those chosen grant each need.
type thinner struct {
	in    map[*pkg]bool
	users map[*pkg][]*need
	left  map[*need]int
}

func (t *thinner) add(needs []*need) {
	for _, n := range needs {
		for _, o := range n.options {
			if t.in[o.pkg] {
				t.users[o.pkg] = append(t.users[o.pkg], n)
				t.left[n]++
			}
		}
	}
}

// drop leaves out a package, and whatever needs it and nothing else: but not where that
// comes to a wish.
func (t *thinner) drop(q *pkg) {
	gone, dropped, less := []*pkg{q}, map[*pkg]bool{q: true}, map[*need]int{}
	for i := 0; i < len(gone); i++ {
		for _, n := range t.users[gone[i]] {
			if less[n]++; less[n] < t.left[n] {
				continue
			}
			if n.owner == nil {
				return
			}
			if !dropped[n.owner] {
				dropped[n.owner] = true
				gone = append(gone, n.owner)
			}
		}
	}
	for _, g := range gone {
		delete(t.in, g)
	}
	for n, by := range less {
		t.left[n] -= by
	}
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
			if n.wish.By != "" {
				needed[by] = append(needed[by], n.wish.By)
			} else if wish[by] == "" {
				wish[by] = n.wish.Text
			}
		}
		if n.wish.By != "" {
			continue
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
