package tools

import (
	"context"

	"github.com/go-air/gini/z"
)

// A problem is the part of the universe that the wishes reach, as clauses: a package needs
// one of its options, a place has one version, what conflicts isn't together. The base is
// no part of it: what it grants is no question, what it has no place for isn't reached.
type problem struct {
	*universe
	*sat
	wishes  []*need
	grants  []z.Lit // per wish: that it is to be granted
	reached []*pkg
	nodes   map[*pkg]*node

	// explain has what blocks a package, too, and each constraint under a literal of its
	// own, so that those can be told that are in the way of each other.
	explain     bool
	constraints []*constraint
	byGuard     map[z.Lit]*constraint
}

// A node is a package that was reached.
type node struct {
	lit       z.Lit
	needs     []*need
	conflicts []*pkg
}

// A constraint is one sentence about packages.
type constraint struct {
	guard z.Lit
	need  *need  // a wish's or a package's
	p, q  *pkg   // these exclude each other
	text  string // why, where it isn't that they have one place
	block *block // the base has no place for p
}

func newProblem(u *universe, wishes []*need, explain bool) *problem {
	return &problem{universe: u, sat: newSAT(), wishes: wishes, nodes: map[*pkg]*node{}, explain: explain, byGuard: map[z.Lit]*constraint{}}
}

// encode reaches what the wishes may lead to, and adds the clauses.
func (p *problem) encode(ctx context.Context) error {
	for _, w := range p.wishes {
		lit := p.lit()
		p.grants = append(p.grants, lit)
		p.require(w, lit)
	}
	for i := 0; i < len(p.reached); i++ {
		if i%1000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		q := p.reached[i]
		if b := p.block(q); b != nil { // only to explain
			p.clause(&constraint{p: q, block: b}, p.nodes[q].lit.Not())
			continue
		}
		for _, alternatives := range q.wants {
			n := &need{owner: q, alts: alternatives}
			p.resolve(n, q.slot)
			if n.base == nil {
				p.nodes[q].needs = append(p.nodes[q].needs, n)
				p.require(n, p.nodes[q].lit)
			}
			if p.full() {
				return errTooMuch
			}
		}
	}
	return p.exclude(ctx)
}

// require adds that lit asks for one of the options.
func (p *problem) require(n *need, lit z.Lit) {
	if n.base != nil || n.wish != nil && n.wish.There {
		return
	}
	lits := []z.Lit{lit.Not()}
	kept := n.options[:0]
	for _, o := range n.options {
		if p.explain || p.block(o.pkg) == nil {
			kept = append(kept, o)
			lits = append(lits, p.reach(o.pkg))
		}
	}
	n.options = kept
	p.clause(&constraint{need: n}, lits...)
}

func (p *problem) reach(q *pkg) z.Lit {
	if n := p.nodes[q]; n != nil {
		return n.lit
	}
	n := &node{lit: p.lit()}
	p.nodes[q] = n
	p.reached = append(p.reached, q)
	return n.lit
}

// exclude adds what can't be together of what was reached.
func (p *problem) exclude(ctx context.Context) error {
	for i, q := range p.reached {
		if i%1000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.block(q) != nil {
			continue
		}
		for _, other := range p.real(q.name) {
			if other == q {
				break // the pair is met once, from the later one
			}
			if !together(q, other) {
				p.apart(q, other, "")
			}
		}
		for _, r := range q.against {
			for _, list := range [][]*pkg{p.real(r.name), p.virtual(r.name)} {
				for _, other := range list {
					if p.nodes[other] != nil && p.hits(r, q, other) {
						p.apart(q, other, p.label(q)+" conflicts with "+described(r, other))
					}
				}
			}
		}
		if p.full() {
			return errTooMuch
		}
	}
	return nil
}

func (p *problem) apart(a, b *pkg, text string) {
	x, y := p.nodes[a], p.nodes[b]
	if y == nil || b.inBase() || p.block(b) != nil {
		return
	}
	x.conflicts = append(x.conflicts, b)
	y.conflicts = append(y.conflicts, a)
	p.clause(&constraint{p: a, q: b, text: text}, x.lit.Not(), y.lit.Not())
}

// clause adds a constraint as a clause.
func (p *problem) clause(c *constraint, lits ...z.Lit) {
	if p.explain {
		c.guard = p.lit()
		p.constraints = append(p.constraints, c)
		p.byGuard[c.guard] = c
		lits = append(lits, c.guard.Not())
	}
	p.assert(lits...)
}
