package tools

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/go-air/gini/z"
)

// A movable is the problem with a base whose packages may get other versions; none may go.
// It is there to tell what is in the way, and never decides what is installed.
type movable struct {
	*problem
	base []*pkg // those that work, sorted
}

func newMovable(ctx context.Context, u *universe, wishes []Wish) (*movable, error) {
	m := &movable{problem: newProblem(u, nil, false)}
	for name := range u.names {
		for _, q := range u.names[name] {
			if q != nil && q.inBase() {
				m.base = append(m.base, q)
			}
		}
	}
	slices.SortFunc(m.base, func(a, b *pkg) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.slot, b.slot))
	})
	for i := range wishes {
		n := &need{wish: &wishes[i]}
		for _, text := range wishes[i].AnyOf {
			r, err := parseWish(text)
			if err != nil {
				return nil, err
			}
			n.alts = append(n.alts, r)
		}
		if !n.wish.There {
			lit := m.lit()
			m.grants = append(m.grants, lit)
			m.demand(n, lit, u.native)
		}
	}
	for _, q := range m.base {
		m.keep(q)
	}
	for i := 0; i < len(m.reached); i++ {
		if i%1000 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if m.full() {
			return nil, errTooMuch
		}
		q := m.reached[i]
		if q.parse(); q.bad != nil && !q.inBase() {
			m.assert(m.nodes[q].lit.Not())
			continue
		}
		if q.inBase() && !q.works {
			continue
		}
		for _, alternatives := range q.wants {
			m.demand(&need{owner: q, alts: alternatives}, m.nodes[q].lit, q.slot)
		}
	}
	return m, m.separate()
}

// keep adds that a package of the base stays, in this version or another.
func (m *movable) keep(q *pkg) {
	lits := []z.Lit{m.reach(q)}
	for _, other := range m.real(q.name) {
		if !other.inBase() && other.slot == q.slot && q.works {
			lits = append(lits, m.reach(other))
		}
	}
	m.assert(lits...)
}

// demand adds that lit asks for one of what grants a need: packages of the base and others
// of their names, or anything where the base has none.
func (m *movable) demand(n *need, lit z.Lit, slot string) {
	var options []*pkg
	names := map[string]bool{}
	for _, r := range n.alts {
		for _, list := range [][]*pkg{m.real(r.name), m.virtual(r.name)} {
			for _, q := range list {
				if (!q.inBase() || q.works) && m.universe.grants(r, slot, q) {
					options = append(options, q)
					names[q.name] = names[q.name] || q.inBase()
				}
			}
		}
	}
	inBase := slices.ContainsFunc(options, (*pkg).inBase)
	if n.owner != nil && n.owner.inBase() && !inBase {
		return // it was broken before
	}
	lits := []z.Lit{lit.Not()}
	for _, q := range options {
		if !inBase || names[q.name] || n.wish != nil {
			lits = append(lits, m.reach(q))
		}
	}
	m.assert(lits...)
}

// separate adds what can't be together, the base's packages among it, but for what there is
// together already.
func (m *movable) separate() error {
	apart := func(a, b *pkg) {
		if x, y := m.nodes[a], m.nodes[b]; x != nil && y != nil && (!a.inBase() || !b.inBase()) {
			m.assert(x.lit.Not(), y.lit.Not())
		}
	}
	for _, q := range m.reached {
		q.parse()
		for _, other := range m.real(q.name) {
			if other == q {
				break
			}
			if !together(q, other) {
				apart(q, other)
			}
		}
		for _, r := range q.against {
			for _, list := range [][]*pkg{m.real(r.name), m.virtual(r.name)} {
				for _, other := range list {
					if m.hits(r, q, other) {
						apart(q, other)
					}
				}
			}
		}
		if m.full() {
			return errTooMuch
		}
	}
	return nil
}

func (m *movable) lits(packages []*pkg) []z.Lit {
	lits := make([]z.Lit, len(packages))
	for i, q := range packages {
		lits[i] = m.nodes[q].lit
	}
	return lits
}

// free finds packages of the base that must not stay as they are, and none too many; nil
// where there is no solution whatever moves.
func (m *movable) free(ctx context.Context) (map[*pkg]bool, error) {
	free := map[*pkg]bool{}
	staying := func() []z.Lit {
		return m.lits(slices.DeleteFunc(slices.Clone(m.base), func(q *pkg) bool { return free[q] }))
	}
	of := map[z.Lit]*pkg{}
	for _, q := range m.base {
		of[m.nodes[q].lit] = q
	}
	for {
		ok, core, err := m.solve(ctx, m.grants, staying())
		if err != nil {
			return nil, err
		}
		if ok {
			break
		}
		before := len(free)
		for _, l := range core {
			if q := of[l]; q != nil {
				free[q] = true
			}
		}
		if len(free) == before {
			return nil, nil
		}
	}
	for _, q := range m.base {
		if !free[q] {
			continue
		}
		delete(free, q)
		ok, _, err := m.solve(ctx, m.grants, staying())
		if err != nil {
			return nil, err
		}
		if !ok {
			free[q] = true
		}
	}
	return free, nil
}
